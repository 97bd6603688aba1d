# SPDX-License-Identifier: LGPL-3.0-or-later
"""Dense layers and the networks made of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.nn.activation import activation, numpy_dtype
from deepmd.dpmodel.nn.random import Seed, child_seed, stream


def _layer_v1(data: dict) -> dict:
    """Version 1 did not say whether the layer is trained."""
    return {"trainable": True, **data}


class Dense(Module):
    r"""One layer, ``y = act(x @ w + b) * idt``, plus ``x`` (or ``[x, x]``) with ``resnet``.

    The residual is added when the layer keeps or doubles the width, and left out otherwise.

    Parameters
    ----------
    n_in, n_out : int
        Widths.
    activation_function : str
        Name of the activation.
    bias : bool
        Whether there is ``b``.
    use_timestep : bool
        Whether there is a trained factor per channel ``idt``; only where a residual is possible.
    resnet : bool
        Whether the input is added.
    precision : str
        Number format of the parameters.
    seed : int or tuple, optional
        Seed of the initial values, ``w ~ N(0, 1/(n_in + n_out))``, ``b ~ N(0, 1)``,
        ``idt ~ N(0.1, 0.001²)``.
    """

    serial = Serial(
        layout="@class @version bias use_timestep activation_function resnet precision trainable"
        " @variables",
        name="Layer",
        version=2,
        accepts=(1, 2),
        params=("w", "b", "idt"),
        upgrades={1: _layer_v1},
    )

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        activation_function: str = "tanh",
        bias: bool = True,
        use_timestep: bool = False,
        resnet: bool = False,
        precision: str = "float64",
        trainable: bool = True,
        seed: Seed = None,
    ) -> None:
        dtype = numpy_dtype(precision)
        self.precision = dtype.name
        self.activation_function = activation_function or "none"
        self.resnet, self.trainable, self.bias = resnet, trainable, bias
        self.use_timestep = use_timestep and n_out in (n_in, 2 * n_in)
        self.w = stream(child_seed(seed, "w")).normal(0, 1 / np.sqrt(n_in + n_out), (n_in, n_out))
        self.w = self.w.astype(dtype)
        self.b = stream(child_seed(seed, "b")).normal(0, 1, n_out).astype(dtype) if bias else None
        self.idt = None
        if self.use_timestep:
            self.idt = stream(child_seed(seed, "idt")).normal(0.1, 0.001, n_out).astype(dtype)
        activation(self.activation_function)

    def call(self, x: Any) -> Any:
        """Apply the layer: (..., n_in) -> (..., n_out)."""
        return self.finish(x, ops.linear(x, self.w, self.b))

    def finish(self, x: Any, z: Any) -> Any:
        """Apply what comes after the linear part z of the layer, for input x."""
        y = activation(self.activation_function)(z)
        if self.idt is not None:
            y = y * self.idt
        if self.resnet:
            n_in, n_out = self.w.shape
            if n_out == n_in:
                y = y + x
            elif n_out == 2 * n_in:
                y = y + ops.xp(x).concat([x, x], axis=-1)
        return y

    @classmethod
    def construct(cls, config: dict, data: dict) -> "Dense":
        n_in, n_out = np.shape(data["@variables"]["w"])
        return cls(n_in, n_out, **config)


def _run(layers: Sequence[Dense], x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def _network_v1(data: dict) -> dict:
    """Version 1 of the embedding network always had biases."""
    return {"bias": True, **data}


class EmbeddingNetwork(Module):
    """Layers with residuals, all activated: (..., in_dim) -> (..., neuron[-1])."""

    serial = Serial(
        layout="@class @version in_dim neuron activation_function resnet_dt bias precision layers",
        name="EmbeddingNetwork",
        version=2,
        accepts=(1, 2),
        children=("layers",),
        upgrades={1: _network_v1},
    )

    def __init__(
        self,
        in_dim: int,
        neuron: Sequence[int],
        *,
        activation_function: str = "tanh",
        resnet_dt: bool = False,
        bias: bool = True,
        precision: str = "default",
        seed: Seed = None,
    ) -> None:
        self.in_dim, self.neuron, self.bias = in_dim, list(neuron), bias
        self.activation_function, self.resnet_dt = activation_function, resnet_dt
        self.precision = precision
        widths = [in_dim, *neuron]
        self.layers = [
            Dense(
                widths[k],
                widths[k + 1],
                activation_function=activation_function,
                bias=bias,
                use_timestep=resnet_dt,
                resnet=True,
                precision=precision,
                seed=child_seed(seed, k),
            )
            for k in range(len(neuron))
        ]

    def call(self, x: Any) -> Any:
        """Apply all layers."""
        return _run(self.layers, x)

    def embed(self, s: Any, table: Any, index: Any) -> Any:
        """Apply all layers to s (..., 1) and the rows of a table, see :func:`ops.embed_contract`."""
        if table is None:
            return self.call(s)
        first, *others = self.layers
        z = ops.linear(s, first.w[:1]) + ops.take(table, index)
        return _run(others, first.finish(s, z))

    @property
    def adds_input(self) -> bool:
        """Whether the first layer has a residual."""
        n_in, n_out = self.layers[0].w.shape
        return n_out in (n_in, 2 * n_in)


class FittingNetwork(Module):
    """Hidden layers with residuals, then a linear one: (..., in_dim) -> (..., out_dim)."""

    serial = Serial(
        layout="@class @version in_dim out_dim neuron activation_function resnet_dt precision"
        " bias_out layers",
        name="FittingNetwork",
        children=("layers",),
    )

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        neuron: Sequence[int],
        *,
        activation_function: str = "tanh",
        resnet_dt: bool = False,
        precision: str = "default",
        bias_out: bool = True,
        seed: Seed = None,
        trainable: Sequence[bool] | bool = True,
    ) -> None:
        self.in_dim, self.out_dim, self.neuron = in_dim, out_dim, list(neuron)
        self.activation_function, self.resnet_dt = activation_function, resnet_dt
        self.precision, self.bias_out = precision, bias_out
        widths = [in_dim, *neuron]
        flags = [trainable] * (len(neuron) + 1) if isinstance(trainable, bool) else list(trainable)
        self.layers = [
            Dense(
                widths[k],
                widths[k + 1],
                activation_function=activation_function,
                use_timestep=resnet_dt,
                resnet=True,
                precision=precision,
                trainable=flags[k],
                seed=child_seed(seed, k),
            )
            for k in range(len(neuron))
        ]
        self.layers.append(
            Dense(
                widths[-1],
                out_dim,
                activation_function="none",
                bias=bias_out,
                precision=precision,
                trainable=flags[-1],
                seed=child_seed(seed, "out"),
            )
        )

    def hidden(self, x: Any) -> Any:
        """Apply the hidden layers: (..., in_dim) -> (..., neuron[-1])."""
        return _run(self.layers[:-1], x)

    def call(self, x: Any) -> Any:
        """Apply all layers."""
        return _run(self.layers, x)


class NetworkCollection(Module):
    """Networks numbered by no, one or two types: key (t0, t1) has number ``t0 + t1 * ntypes``."""

    networks: list[Any]

    serial = Serial(
        layout="@class @version ndim ntypes network_type networks",
        name="NetworkCollection",
        children=("networks",),
    )

    def __init__(
        self, ndim: int, ntypes: int, network_type: str, networks: Sequence[Module | None] = ()
    ) -> None:
        self.ndim, self.ntypes, self.network_type = ndim, ntypes, network_type
        self.networks = list(networks)

    def at(self, *types: int) -> Any:
        """Return the network of a key of ``ndim`` types."""
        return self.networks[sum(t * self.ntypes**k for k, t in enumerate(types))]
