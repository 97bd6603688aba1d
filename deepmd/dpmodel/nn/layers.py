# SPDX-License-Identifier: LGPL-3.0-or-later
"""Dense layers, and networks of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.construction import claim, is_replaced
from deepmd.dpmodel.module import Module, Serial, to_numpy
from deepmd.dpmodel.nn.activation import activation, numpy_dtype, precision_name
from deepmd.dpmodel.nn.random import Seed, child_seed, stream
from deepmd.schema.network import PRECISION, SEED, timestep
from deepmd.schema.settings import setting


def _layer_v1(data: dict) -> dict:
    """Upgrade of version 1, which has no key ``trainable``."""
    return {"trainable": True, **data}


class DenseArrays(NamedTuple):
    """Arrays of a layer: w (n_in, n_out), b (n_out,) or None, idt (n_out,) or None."""

    w: Any
    b: Any = None
    idt: Any = None


class DenseOptions(NamedTuple):
    """Options of a layer.

    Attributes
    ----------
    activation_function : str
    copies : int
        How often the input is added to the output: 0, 1, or 2 where the width doubles.
    """

    activation_function: str
    copies: int = 0


def activated(x: Any, z: Any, arrays: DenseArrays, options: DenseOptions) -> Any:
    """Output of a layer from its input x and its linear part z."""
    y = activation(options.activation_function)(z)
    if arrays.idt is not None:
        y = y * arrays.idt
    if options.copies == 1:
        y = y + x
    elif options.copies == 2:
        y = ops.add_twice(y, x)
    return y


class Dense(Module):
    r"""Dense layer, ``y = act(x @ w + b) * idt``, plus ``x`` (or ``[x, x]``) with ``resnet``.

    The residual is added when the layer keeps or doubles the width, and left out otherwise.

    Initial values are ``w ~ N(0, 1/(n_in + n_out))``, ``b ~ N(0, 1)``, ``idt ~ N(0.1, 0.001²)``.
    """

    serial = Serial(
        layout="@class @version bias use_timestep activation_function resnet precision trainable"
        " @variables",
        name="Layer",
        version=2,
        accepts=(1, 2),
        params=("w", "b", "idt"),
        children=("adapter",),
        optional=("adapter",),
        rows=("b", "idt"),  # as of models that come from TensorFlow
        upgrades={1: _layer_v1},
    )
    torch_names = {"w": "matrix", "b": "bias"}

    n_in: int = setting(..., "Width of the input.")
    n_out: int = setting(..., "Width of the output.")
    activation_function: str = setting("tanh", "Name of the activation.")
    bias: bool = setting(True, "Whether there is b.")
    use_timestep: bool = setting(
        False, "Whether there is a trained factor per channel, where a residual is possible."
    )
    resnet: bool = setting(False, "Whether the input is added.")
    precision: str = setting("float64", "Number format of the parameters.")
    trainable: bool = setting(True, "Whether the parameters are trained.")
    seed: Seed = SEED
    #: A :class:`deepmd.dpmodel.nn.low_rank.LowRank` while it is trained in place of the layer.
    adapter: Any

    def build(self) -> None:
        n_in, n_out, dtype = self.n_in, self.n_out, numpy_dtype(self.precision)
        self.precision = dtype.name
        self.activation_function = self.activation_function or "none"
        activation(self.activation_function)
        self.use_timestep = self.use_timestep and n_out in (n_in, 2 * n_in)
        self.w = self._normal("w", (n_in, n_out), deviation=1 / np.sqrt(n_in + n_out))
        self.b = self._normal("b", (n_out,)) if self.bias else None
        self.idt = self.adapter = None
        if self.use_timestep:
            self.idt = self._normal("idt", (n_out,), mean=0.1, deviation=0.001)

    def _normal(
        self, name: str, shape: tuple[int, ...], *, mean: float = 0.0, deviation: float = 1.0
    ) -> np.ndarray:
        claim(*shape)
        if is_replaced():
            return np.zeros(shape, self.precision)
        values = stream(child_seed(self.seed, name)).normal(mean, deviation, shape)
        return values.astype(self.precision)

    def call(self, x: Any) -> Any:
        """Apply the layer: (..., n_in) -> (..., n_out)."""
        arrays = self.arrays
        return activated(x, ops.linear(x, arrays.w, arrays.b), arrays, self.options)

    @property
    def arrays(self) -> DenseArrays:
        """Arrays of the layer, as operations take them."""
        return DenseArrays(self.weight, self.b, self.idt)

    @property
    def weight(self) -> Any:
        """Weight (n_in, n_out) that acts: w, and what an adapter adds."""
        return self.w if self.adapter is None else self.w + self.adapter()

    def stored_array(self, name: str) -> Any:
        """Return an array in the form it has in files: an adapter is part of the weight."""
        if name == "w" and self.adapter is not None:
            return to_numpy(self.w) + to_numpy(self.adapter())
        return super().stored_array(name)

    @property
    def options(self) -> DenseOptions:
        """Options of the layer, as operations take them."""
        copies = 0
        if self.resnet:
            n_in, n_out = self.w.shape
            copies = n_out // n_in if n_out in (n_in, 2 * n_in) else 0
        return DenseOptions(self.activation_function, copies)

    @property
    def adds_input(self) -> bool:
        """Whether there is a residual."""
        return self.options.copies > 0

    @classmethod
    def construct(cls, config: dict, data: dict) -> "Dense":
        n_in, n_out = np.shape(data["@variables"]["w"])
        return cls(n_in, n_out, **config)


def _run(layers: Sequence[Dense], x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def _hidden_layers(network: Any, flags: Sequence[bool] | None = None, **given: Any) -> list[Dense]:
    """Return layers with residuals of the widths ``[in_dim, *neuron]``; flags: which are trained."""
    widths = [network.in_dim, *network.neuron]
    return [
        Dense(
            widths[k],
            widths[k + 1],
            activation_function=network.activation_function,
            use_timestep=network.resnet_dt,
            resnet=True,
            precision=network.precision,
            trainable=flags is None or flags[k],
            seed=child_seed(network.seed, k),
            **given,
        )
        for k in range(len(network.neuron))
    ]


def _network_v1(data: dict) -> dict:
    """Upgrade of version 1 of the embedding network, which always has biases."""
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

    in_dim: int = setting(..., "Width of the input.")
    neuron: list[int] = setting(..., "Widths of the layers.")
    activation_function: str = setting("tanh", "Name of the activation.")
    resnet_dt: bool = timestep(False)
    bias: bool = setting(True, "Whether the layers have biases.")
    precision: str = PRECISION
    seed: Seed = SEED

    def build(self) -> None:
        self.precision = precision_name(self.precision)
        self.layers = _hidden_layers(self, bias=self.bias)

    def call(self, x: Any) -> Any:
        """Apply all layers."""
        return _run(self.layers, x)

    def contract(self, r: Any, table: Any = None, index: Any = None, *, order: int = 3) -> Any:
        """Sum over neighbors of G(s) ⊗ r: (n, k, c) -> (n, m, c); see :func:`embed_contract`."""
        arrays = [layer.arrays for layer in self.layers]
        options = [layer.options for layer in self.layers]
        return embed_contract(r, arrays, options, table, index, order=order)


@ops.op
def embed_contract(
    r: Any,
    layers: Sequence[DenseArrays],
    options: Sequence[DenseOptions],
    table: Any = None,
    index: Any = None,
    *,
    order: int = 3,
) -> Any:
    """Sum over neighbors of ``G(s) ⊗ r``, s the first component of the row r, G dense layers.

    Parameters
    ----------
    r : (n, k, c)
    layers, options : sequences of DenseArrays and DenseOptions
        Of all layers, from one number to m; with a table, the other inputs of the first one are
        in the table.
    table : (t, width of the first layer), optional
        Addends of the first layer beside s, its bias included: a row per kind of neighbor.
    index : (n, k) int, optional
        Kind of every neighbor.
    order : int
        Highest derivative that will be asked for, see :mod:`deepmd.dpmodel.ops`.

    Returns
    -------
    (n, m, c)
    """
    x = r[..., :1]
    for k, (arrays, its) in enumerate(zip(layers, options, strict=True)):
        if k == 0 and table is not None:
            z = ops.linear(x, arrays.w[:1]) + ops.take(table, index)
        else:
            z = ops.linear(x, arrays.w, arrays.b)
        x = activated(x, z, arrays, its)
    return ops.contract(x, r)


class FittingNetwork(Module):
    """Hidden layers with residuals, then a linear one: (..., in_dim) -> (..., out_dim)."""

    serial = Serial(
        layout="@class @version in_dim out_dim neuron activation_function resnet_dt precision"
        " bias_out layers",
        name="FittingNetwork",
        children=("layers",),
    )

    in_dim: int = setting(..., "Width of the input.")
    out_dim: int = setting(..., "Width of the output.")
    neuron: list[int] = setting(..., "Widths of the hidden layers.")
    activation_function: str = setting("tanh", "Name of the activation.")
    resnet_dt: bool = timestep(False)
    precision: str = PRECISION
    bias_out: bool = setting(True, "Whether the last layer has a bias.")
    seed: Seed = SEED
    trainable: bool | list[bool] = setting(True, "Whether the layers are trained, all or each.")

    def build(self) -> None:
        flags = self.trainable
        if isinstance(flags, bool):
            flags = [flags] * (len(self.neuron) + 1)
        self.layers = _hidden_layers(self, flags)
        self.layers.append(
            Dense(
                [self.in_dim, *self.neuron][-1],
                self.out_dim,
                activation_function="none",
                bias=self.bias_out,
                precision=self.precision,
                trainable=flags[-1],
                seed=child_seed(self.seed, "out"),
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

    serial = Serial(
        layout="@class @version ndim ntypes network_type networks",
        name="NetworkCollection",
        children=("networks",),
    )

    ndim: int = setting(..., "Number of types in a key.")
    ntypes: int = setting(..., "Number of types.")
    network_type: str = setting(..., "Kind of the networks.")
    networks: list[Any] = setting((), "By number, None where none is needed.")

    def at(self, *types: int) -> Any:
        """Return the network of a key of ``ndim`` types."""
        return self.networks[sum(t * self.ntypes**k for k, t in enumerate(types))]
