# SPDX-License-Identifier: LGPL-3.0-or-later
"""The layer of DPA-3: atoms, edges and angles of a line graph series update each other.

Zhang et al., "A graph neural network for the era of large atomistic models", arXiv:2506.01686.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from deepmd.dpmodel import ops
from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.nn.activation import activation
from deepmd.dpmodel.nn.layers import Dense
from deepmd.dpmodel.nn.random import Seed, child_seed
from deepmd.dpmodel.nn.updates import (
    activated_sum,
    check_update_style,
    combine_updates,
    plain_layer,
    residual,
)
from deepmd.utils.errors import InputError


class Graph(NamedTuple):
    """Edges of the atoms, and angles between two edges of one atom.

    Attributes
    ----------
    i, j : (n_edges,) int
        Centre and neighbour.
    h2 : (n_edges, 3)
        Directions, as the normalised environment has them.
    sw : (n_edges,)
    k, l : (n_angles,) int
        Edges of an angle: j's side and k's side of the sum.
    asw_k, asw_l : (n_angles,)
        Their angular switches.
    angle_edges : (n_edges,)
        1 for edges that take part in angles.
    n_atoms : int
    """

    i: Any
    j: Any
    h2: Any
    sw: Any
    k: Any
    l: Any  # noqa: E741
    asw_k: Any
    asw_l: Any
    angle_edges: Any
    n_atoms: Any


#: Parts that a layer has only where its settings need them.
_OPTIONAL = (
    "edge_angle_linear1",
    "edge_angle_linear2",
    "angle_self_linear",
    "a_compress_n_linear",
    "a_compress_e_linear",
)


class RepFlowLayer(Module):
    """One layer.

    Parameters
    ----------
    e_rcut, e_rcut_smth, e_sel, a_rcut, a_rcut_smth, a_sel, ntypes
        Kept for the dictionary; ``e_sel`` and ``a_sel`` also normalise sums.
    n_dim, e_dim, a_dim : int
        Widths of atom, edge and angle features.
    others
        See the input's ``repflow`` section.
    """

    serial = Serial(
        layout="@class @version e_rcut e_rcut_smth e_sel a_rcut a_rcut_smth a_sel ntypes n_dim e_dim"
        " a_dim a_compress_rate a_compress_e_rate a_compress_use_split n_multi_edge_message"
        " axis_neuron activation_function update_angle update_style update_residual"
        " update_residual_init precision optim_update smooth_edge_update use_dynamic_sel"
        " sel_reduce_factor sequential_update node_self_mlp node_sym_linear node_edge_linear"
        " edge_self_linear edge_angle_linear1 edge_angle_linear2 angle_self_linear"
        " a_compress_n_linear a_compress_e_linear @variables",
        name="RepFlowLayer",
        version=2,
        accepts=(1, 2),
        params=("n_residual", "e_residual", "a_residual"),
        children=(
            "node_self_mlp",
            "node_sym_linear",
            "node_edge_linear",
            "edge_self_linear",
            *_OPTIONAL,
        ),
        optional=_OPTIONAL,
    )

    edge_angle_linear1: Any
    edge_angle_linear2: Any
    angle_self_linear: Any
    a_compress_n_linear: Any
    a_compress_e_linear: Any
    n_residual: Any
    e_residual: Any
    a_residual: Any

    def __init__(
        self,
        e_rcut: float,
        e_rcut_smth: float,
        e_sel: Sequence[int],
        a_rcut: float,
        a_rcut_smth: float,
        a_sel: int,
        ntypes: int,
        *,
        n_dim: int = 128,
        e_dim: int = 64,
        a_dim: int = 64,
        a_compress_rate: int = 0,
        a_compress_e_rate: int = 1,
        a_compress_use_split: bool = False,
        n_multi_edge_message: int = 1,
        axis_neuron: int = 4,
        activation_function: str = "silu",
        update_angle: bool = True,
        update_style: str = "res_residual",
        update_residual: float = 0.1,
        update_residual_init: str = "const",
        precision: str = "default",
        optim_update: bool = True,
        smooth_edge_update: bool = False,
        use_dynamic_sel: bool = False,
        sel_reduce_factor: float = 10.0,
        sequential_update: bool = False,
        seed: Seed = None,
    ) -> None:
        self.e_rcut, self.e_rcut_smth, self.e_sel = e_rcut, e_rcut_smth, list(e_sel)
        self.a_rcut, self.a_rcut_smth, self.a_sel = a_rcut, a_rcut_smth, a_sel
        self.ntypes, self.n_dim, self.e_dim, self.a_dim = ntypes, n_dim, e_dim, a_dim
        self.a_compress_rate, self.a_compress_e_rate = a_compress_rate, a_compress_e_rate
        self.a_compress_use_split = a_compress_use_split
        self.n_multi_edge_message, self.axis_neuron = n_multi_edge_message, axis_neuron
        self.activation_function, self.update_angle = activation_function, update_angle
        self.update_style, self.update_residual = update_style, update_residual
        self.update_residual_init, self.precision = update_residual_init, precision
        self.optim_update, self.smooth_edge_update = optim_update, smooth_edge_update
        self.use_dynamic_sel, self.sel_reduce_factor = use_dynamic_sel, sel_reduce_factor
        self.sequential_update = sequential_update
        check_update_style(update_style)
        if sequential_update and (update_style != "res_residual" or not update_angle):
            raise InputError(
                "sequential_update needs update_style res_residual and update_angle",
                where="model/descriptor/repflow/sequential_update",
                fix="change one of the three",
            )
        self._make_layers(seed)
        counts = {"n": (n_dim, 2 + n_multi_edge_message), "e": (e_dim, 1 + update_angle)}
        counts["a"] = (a_dim, int(update_angle))
        for name, (width, count) in counts.items():
            used = count if update_style == "res_residual" else 0
            vectors = [
                residual(
                    width,
                    update_residual,
                    update_residual_init,
                    precision,
                    child_seed(seed, f"{name}{k}"),
                )
                for k in range(used)
            ]
            setattr(self, f"{name}_residual", vectors)

    def _make_layers(self, seed: Seed) -> None:
        def layer(n_in: int, n_out: int, name: str, *, bias: bool = True) -> Dense:
            return plain_layer(
                n_in, n_out, bias=bias, precision=self.precision, seed=child_seed(seed, name)
            )

        n, e, a = self.n_dim, self.e_dim, self.a_dim
        self.node_self_mlp = layer(n, n, "node_self")
        self.node_sym_linear = layer((n + e) * self.axis_neuron, n, "node_sym")
        self.node_edge_linear = layer(2 * n + e, n * self.n_multi_edge_message, "node_edge")
        self.edge_self_linear = layer(2 * n + e, e, "edge_self")
        self.edge_angle_linear1 = self.edge_angle_linear2 = self.angle_self_linear = None
        self.a_compress_n_linear = self.a_compress_e_linear = None
        if not self.update_angle:
            return
        n_angle, e_angle = self.compressed_widths()
        if self.a_compress_rate and not self.a_compress_use_split:
            self.a_compress_n_linear = layer(n, n_angle, "compress_n", bias=False)
            self.a_compress_e_linear = layer(e, e_angle, "compress_e", bias=False)
        width = a + n_angle + 2 * e_angle
        self.edge_angle_linear1 = layer(width, e, "edge_angle1")
        self.edge_angle_linear2 = layer(e, e, "edge_angle2")
        self.angle_self_linear = layer(width, a, "angle_self")

    def compressed_widths(self) -> tuple[int, int]:
        """Widths of the atom and the edge part of the angles' input."""
        c = self.a_compress_rate
        if not c:
            return self.n_dim, self.e_dim
        return self.a_dim // c, self.a_dim // (2 * c) * self.a_compress_e_rate

    @property
    def edge_count(self) -> float:
        """Number by which sums over edges are normalised."""
        e_sel = float(sum(self.e_sel))
        return e_sel / self.sel_reduce_factor if self.use_dynamic_sel else e_sel

    @property
    def angle_count(self) -> float:
        """Number by which sums over angles are normalised."""
        a_sel = float(self.a_sel)
        return a_sel / self.sel_reduce_factor if self.use_dynamic_sel else a_sel

    # -- evaluation ---------------------------------------------------------------------------

    def call(self, node: Any, edge: Any, angle: Any, graph: Graph) -> tuple[Any, Any, Any]:
        """Update atoms (n, n_dim), edges (n_edges, e_dim) and angles (n_angles, a_dim)."""
        if self.sequential_update:
            return self._in_sequence(node, edge, angle, graph)
        message, own = self._edge_messages(
            [self.node_edge_linear, self.edge_self_linear], node, edge, graph
        )
        edge_terms, new_angle = [edge, own], angle
        if self.update_angle:
            layers = [self.edge_angle_linear1, self.angle_self_linear]
            total, own = self._angle_messages(layers, node, edge, angle, graph)
            edge_terms.append(self._angle_to_edge(total, edge, graph))
            new_angle = self._combine("a", [angle, own])
        return self._node(node, edge, message, graph), self._combine("e", edge_terms), new_angle

    def _in_sequence(self, node: Any, edge: Any, angle: Any, graph: Graph) -> tuple[Any, Any, Any]:
        """Each update sees the ones before it."""
        own = self._edge_messages([self.edge_self_linear], node, edge, graph)[1]
        edge = edge + self.e_residual[0] * own
        own = self._angle_messages([self.angle_self_linear], node, edge, angle, graph)[1]
        angle = angle + self.a_residual[0] * own
        total = self._angle_messages([self.edge_angle_linear1], node, edge, angle, graph)[0]
        edge = edge + self.e_residual[1] * self._angle_to_edge(total, edge, graph)
        message = self._edge_messages([self.node_edge_linear], node, edge, graph)[0]
        return self._node(node, edge, message, graph), edge, angle

    def _combine(self, kind: str, terms: Sequence[Any]) -> Any:
        return combine_updates(terms, getattr(self, f"{kind}_residual"), self.update_style)

    def _act(self, x: Any) -> Any:
        return activation(self.activation_function)(x)

    def _node(self, node: Any, edge: Any, message: Any, graph: Graph) -> Any:
        """Atoms from themselves, symmetrised neighbours, and messages of their edges."""
        space = ops.xp(node)
        near = ops.take(node, graph.j)
        joined = [self.symmetrised(edge, graph), self.symmetrised(near, graph)]
        terms = [
            node,
            self._act(self.node_self_mlp(node)),
            self._act(self.node_sym_linear(space.concat(joined, axis=-1))),
        ]
        total = message * (1.0 / self.edge_count)
        heads, width = self.n_multi_edge_message, self.n_dim
        terms += [total[:, k * width : (k + 1) * width] for k in range(heads)]
        return self._combine("n", terms)

    def _edge_messages(
        self, layers: Sequence[Dense], node: Any, edge: Any, graph: Graph
    ) -> tuple[Any, Any]:
        """Activated layers on [n_i, n_j, e_ij]: sums of ``node_edge_linear``, and the other one.

        The atom parts are evaluated per atom and gathered.
        """
        w, b = _side_by_side(layers)
        n = self.n_dim
        z = (
            ops.linear(edge, w[2 * n :], b)
            + ops.take(ops.linear(node, w[:n]), graph.i)
            + ops.take(ops.linear(node, w[n : 2 * n]), graph.j)
        )
        summed = self.n_dim * self.n_multi_edge_message * (layers[0] is self.node_edge_linear)
        return activated_sum(z, graph.sw, graph.i, graph.n_atoms, summed, self.activation_function)

    def moments(self, g: Any, graph: Graph) -> Any:
        """Weighted sum of h ⊗ g over the edges of an atom: (n_edges, w) -> (n, 3, w)."""
        space = ops.xp(g)
        weighted = g * graph.sw[:, None]
        parts = [
            ops.segment_sum(weighted * graph.h2[:, c : c + 1], graph.i, graph.n_atoms)
            for c in range(3)
        ]
        return space.stack(parts, axis=1) * (self.edge_count**-0.5)

    def symmetrised(self, g: Any, graph: Graph) -> Any:
        """Invariant product of the moments: (n, axis_neuron * w)."""
        m = self.moments(g, graph)
        product = ops.xp(m).matmul(ops.matrix_transpose(m[:, :, : self.axis_neuron]), m)
        shape = (ops.shape(m)[0], self.axis_neuron * g.shape[-1])
        return ops.xp(m).reshape(product * (1.0 / 3.0), shape)

    def _angle_messages(
        self, layers: Sequence[Dense], node: Any, edge: Any, angle: Any, graph: Graph
    ) -> tuple[Any, Any]:
        """Activated layers on [a_kl, n_i, e_l, e_k]: sums of ``edge_angle_linear1``, and the other.

        The atom and edge parts are evaluated per atom and edge, and gathered.
        """
        n_angle, e_angle = self.compressed_widths()
        if self.a_compress_n_linear is not None:
            node, edge = self.a_compress_n_linear(node), self.a_compress_e_linear(edge)
        else:
            node, edge = node[:, :n_angle], edge[:, :e_angle]
        w, b = _side_by_side(layers)
        a = self.a_dim
        second = a + n_angle
        own = ops.linear(node, w[a:second])
        of_l = ops.linear(edge, w[second : second + e_angle])
        of_k = ops.linear(edge, w[second + e_angle :]) + ops.take(own, graph.i)
        z = ops.linear(angle, w[:a], b) + ops.take(of_l, graph.l) + ops.take(of_k, graph.k)
        summed = self.e_dim * (layers[0] is self.edge_angle_linear1)
        weight, n_edges = graph.asw_k * graph.asw_l, ops.shape(edge)[0]
        return activated_sum(z, weight, graph.k, n_edges, summed, self.activation_function)

    def _angle_to_edge(self, total: Any, fallback: Any, graph: Graph) -> Any:
        """Update of edges by the sums over their angles; those without take ``fallback`` or zero."""
        total = total * (self.angle_count**-0.5)
        if not self.smooth_edge_update:
            total = total + fallback * (1.0 - graph.angle_edges)[:, None]
        return self._act(self.edge_angle_linear2(total))

    # -- dictionaries -------------------------------------------------------------------------

    def serialize(self) -> dict:
        out = super().serialize()
        if self.update_style != "res_residual":
            del out["@variables"]
        return out

    @classmethod
    def deserialize(cls, data: dict) -> Any:
        empty: dict[str, list] = {"n_residual": [], "e_residual": [], "a_residual": []}
        return super().deserialize({"@variables": empty, **data})


def _side_by_side(layers: Sequence[Dense]) -> tuple[Any, Any]:
    """Weights and biases of layers on the same input, as those of one."""

    def joined(name: str) -> Any:
        return ops.xp(layers[0].w).concat([getattr(layer, name) for layer in layers], axis=-1)

    return joined("w"), joined("b")
