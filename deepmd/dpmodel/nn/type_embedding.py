# SPDX-License-Identifier: LGPL-3.0-or-later
"""A trained vector for every type."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.nn.activation import precision_name
from deepmd.dpmodel.nn.electronic_configuration import LENGTH, electronic_configuration
from deepmd.dpmodel.nn.layers import EmbeddingNetwork
from deepmd.dpmodel.nn.random import Seed


def _with_bias(data: dict) -> dict:
    """Version 1 always had a bias."""
    return {"use_tebd_bias": True, **data}


class TypeEmbedding(Module):
    """Embedding of one-hot vectors, or of electronic configurations, of the types.

    Parameters
    ----------
    ntypes : int
        Number of types.
    neuron : list of int
        Widths of the network; the last is the length of the vectors.
    padding : bool
        Append a zero vector for the type of empty slots.
    use_econf_tebd : bool
        Start from electronic configurations; ``type_map`` must name elements.
    use_tebd_bias : bool
        Whether the network has biases.
    """

    serial = Serial(
        layout="@class @version ntypes neuron resnet_dt precision activation_function trainable"
        " padding use_econf_tebd use_tebd_bias type_map embedding",
        name="TypeEmbedNet",
        version=2,
        accepts=(1, 2),
        children=("embedding",),
        upgrades={1: _with_bias},
    )

    def __init__(
        self,
        ntypes: int,
        neuron: Sequence[int],
        *,
        resnet_dt: bool = False,
        activation_function: str = "Linear",
        precision: str = "default",
        trainable: bool = True,
        padding: bool = True,
        use_econf_tebd: bool = False,
        use_tebd_bias: bool = False,
        type_map: Sequence[str] | None = None,
        seed: Seed = None,
    ) -> None:
        self.ntypes, self.neuron, self.resnet_dt = ntypes, list(neuron), resnet_dt
        self.activation_function, self.precision = activation_function, precision
        self.trainable, self.padding = trainable, padding
        self.use_econf_tebd, self.use_tebd_bias = use_econf_tebd, use_tebd_bias
        self.type_map = None if type_map is None else list(type_map)
        if use_econf_tebd:
            electronic_configuration(self.type_map or [])
        self.embedding = EmbeddingNetwork(
            LENGTH if use_econf_tebd else ntypes,
            neuron,
            activation_function=activation_function,
            resnet_dt=resnet_dt,
            bias=use_tebd_bias,
            precision=precision_name(precision),
            seed=seed,
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
