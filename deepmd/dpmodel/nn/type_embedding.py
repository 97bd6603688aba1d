# SPDX-License-Identifier: LGPL-3.0-or-later
"""Type embedding: a trained vector for every type."""

from typing import Any

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.nn.activation import precision_name
from deepmd.dpmodel.nn.electronic_configuration import LENGTH, electronic_configuration
from deepmd.dpmodel.nn.layers import EmbeddingNetwork
from deepmd.dpmodel.nn.random import Seed
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

    def call(self) -> Any:
        """Return the vectors of all types: (ntypes, dim), one row more with padding."""
        names = self.type_map or []
        start = electronic_configuration(names) if self.use_econf_tebd else np.eye(self.ntypes)
        weight = self.embedding.layers[0].w
        x = self.embedding(ops.cast(ops.like(start, weight), precision_name(self.precision)))
        if not self.padding:
            return x
        return ops.xp(x).concat([x, 0.0 * x[:1]], axis=0)
