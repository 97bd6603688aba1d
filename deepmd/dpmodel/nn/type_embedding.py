# SPDX-License-Identifier: LGPL-3.0-or-later
"""Type embedding: a trained vector for every type."""

from typing import Any

import numpy as np

from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel import ops
from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.nn.activation import precision_name
from deepmd.dpmodel.nn.electronic_configuration import LENGTH, electronic_configuration
from deepmd.dpmodel.nn.layers import EmbeddingNetwork
from deepmd.dpmodel.nn.random import Seed, child_seed
from deepmd.schema.network import PRECISION, SEED, timestep
from deepmd.schema.settings import setting


def _with_bias(data: dict) -> dict:
    """Upgrade of version 1, which always has a bias."""
    return {"use_tebd_bias": True, **data}


class TypeEmbedding(Module):
    """Embedding of one-hot vectors, or of electronic configurations, of the types."""

    serial = Serial(
        layout="@class @version ntypes neuron resnet_dt precision activation_function trainable"
        " padding use_econf_tebd use_tebd_bias type_map embedding",
        name="TypeEmbedNet",
        version=2,
        accepts=(1, 2),
        children=("embedding",),
        upgrades={1: _with_bias},
    )
    torch_names = {"embedding": "embedding.embedding_net"}

    ntypes: int = setting(..., "Number of types.")
    neuron: list[int] = setting(..., "Widths of the network; the last is that of the vectors.")
    resnet_dt: bool = timestep(False)
    activation_function: str = setting("Linear", "Name of the activation.")
    precision: str = PRECISION
    trainable: bool = setting(True, "Whether the vectors are trained.")
    padding: bool = setting(True, "Append a zero vector for the type of empty slots.")
    use_econf_tebd: bool = setting(
        False, "Start from electronic configurations; the types must be elements."
    )
    use_tebd_bias: bool = setting(False, "Bias in the type embedding.")
    type_map: list[str] | None = setting(None, "Names of the types.")
    seed: Seed = SEED

    def build(self) -> None:
        if self.use_econf_tebd:
            electronic_configuration(self.type_map or [])
        self.embedding = EmbeddingNetwork(
            LENGTH if self.use_econf_tebd else self.ntypes,
            self.neuron,
            activation_function=self.activation_function,
            resnet_dt=self.resnet_dt,
            bias=self.use_tebd_bias,
            precision=self.precision,
            seed=self.seed,
        )

    def change_types(self, change: Any) -> None:
        """Reorder the rows; those of new types have initial values."""
        if self.use_econf_tebd:
            electronic_configuration(change.new)
        else:
            self._change_rows(change)
        self.ntypes = len(change.new)
        if self.type_map is not None:
            self.type_map = list(change.new)

    def _change_rows(self, change: Any) -> None:
        """Reorder the rows of the first layer, on which the one-hot vectors act."""
        old: EmbeddingNetwork = self.embedding
        new = EmbeddingNetwork(
            len(change.new),
            old.neuron,
            activation_function=old.activation_function,
            resnet_dt=old.resnet_dt,
            bias=old.bias,
            precision=old.precision,
            seed=child_seed(change.seed, "types"),
        )
        first, fresh = old.layers[0], new.layers[0]
        before, after = _residual(first.w.shape), _residual(fresh.w.shape)
        adds = before.any() or after.any()
        if adds and first.activation_function.lower() not in ("linear", "none"):
            raise NotAvailableError("a type embedding with an activation cannot be changed")
        if adds and first.idt is not None and first.idt.size:
            raise NotAvailableError("a type embedding with time steps cannot be changed")
        index, there = np.maximum(change.index, 0), change.index >= 0
        # The layer adds its input where the widths fit: that part is not in the weights.
        rows = np.asarray(first.w, np.float64)[index] + before[index] - after
        w = np.where(there[:, None], rows, fresh.w).astype(first.w.dtype)
        self.embedding = new
        new.layers = old.layers
        first.w = w

    def call(self) -> Any:
        """Return the vectors of all types: (ntypes, dim), one row more with padding."""
        names = self.type_map or []
        start = electronic_configuration(names) if self.use_econf_tebd else np.eye(self.ntypes)
        weight = self.embedding.layers[0].w
        x = self.embedding(ops.cast(ops.like(start, weight), precision_name(self.precision)))
        if not self.padding:
            return x
        return ops.xp(x).concat([x, 0.0 * x[:1]], axis=0)


def _residual(shape: tuple[int, ...]) -> np.ndarray:
    """Residual part of a layer of this shape for one-hot vectors: (n_in, n_out)."""
    n_in, n_out = shape
    unit = np.eye(n_in)
    if n_out == n_in:
        return unit
    return np.hstack([unit, unit]) if n_out == 2 * n_in else np.zeros(shape)
