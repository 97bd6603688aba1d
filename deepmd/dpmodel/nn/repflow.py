# SPDX-License-Identifier: LGPL-3.0-or-later
"""Layer of DPA-3: updates of atoms, edges and angles of a line graph series.

Zhang et al., "A graph neural network for the era of large atomistic models", arXiv:2506.01686.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from deepmd.base.errors import InputError
from deepmd.dpmodel import ops
from deepmd.dpmodel.module import Serial
from deepmd.dpmodel.nn.activation import activation
from deepmd.dpmodel.nn.layers import Dense
from deepmd.dpmodel.nn.updates import MessageLayer, MessageSettings, activated_sum, linear
from deepmd.schema.common import NOT_NEGATIVE, POSITIVE
from deepmd.schema.descriptor import SEL
from deepmd.schema.network import ACTIVATION
from deepmd.schema.settings import setting

SILU = dataclasses.replace(ACTIVATION, default="silu")


class Graph(NamedTuple):
    """Edges of the atoms, and angles between two edges of one atom.

    Attributes
    ----------
    i, j : (n_edges,) int
        Center and neighbor.
    h2 : (n_edges, 3)
        Directions, as the normalized environment has them.
    sw : (n_edges,)
    k, l : (n_angles,) int
        Edges of an angle: j's side and k's side of the sum.
    asw_k, asw_l : (n_angles,)
        Their angular switches.
    angle_edges : (n_edges,)
        1 for edges that take part in angles.
    n_atoms : int
    order : int
        Highest derivative that will be asked for, see :mod:`deepmd.dpmodel.ops`.
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
    order: int = 3


#: Parts that exist only where the settings need them.
_OPTIONAL = (
    "edge_angle_linear1",
    "edge_angle_linear2",
    "angle_self_linear",
    "a_compress_n_linear",
    "a_compress_e_linear",
)


class RepFlowSettings(MessageSettings):
    """Settings of the layers of DPA-3."""

    n_dim: int = setting(128, "Width of atom features.", rule=POSITIVE)
    e_dim: int = setting(64, "Width of edge features.", rule=POSITIVE)
    a_dim: int = setting(64, "Width of angle features.", rule=POSITIVE)
    e_rcut: float = setting(..., "Cutoff of edges, Å.", rule=POSITIVE)
    e_rcut_smth: float = setting(..., "Start of their switch, Å.", rule=NOT_NEGATIVE)
    e_sel: Any = setting(
        ...,
        'Number of edges of an atom, or "auto".',
        kind=[int, str],
        rule=SEL,
        within="e_rcut",
    )
    a_rcut: float = setting(..., "Cutoff of edges that form angles, Å.", rule=POSITIVE)
    a_rcut_smth: float = setting(..., "Start of their switch, Å.", rule=NOT_NEGATIVE)
    a_sel: int = setting(
        ...,
        'Number of such edges of an atom, or "auto".',
        kind=[int, str],
        rule=SEL,
        within="a_rcut",
    )
    a_compress_rate: int = setting(
        0, "Compress atom and edge parts of the angles' input; 0 is off.", rule=NOT_NEGATIVE
    )
    a_compress_e_rate: int = setting(
        1, "Multiplies the width of the compressed edge part.", rule=POSITIVE
    )
    a_compress_use_split: bool = setting(False, "Compress by taking the first components.")
    n_multi_edge_message: int = setting(
        1, "Heads of the messages of edges to atoms.", rule=POSITIVE
    )
    activation_function: str = SILU
    update_angle: bool = setting(True, "Update angles.")
    update_style: str = setting("res_residual")
    update_residual: float = setting(0.1)
    update_residual_init: str = setting("const")
    optim_update: bool = setting(True, "Has no effect on results; the faster way is always taken.")
    smooth_edge_update: bool = setting(
        False, "Edges without angles get no message instead of their own features."
    )
    use_dynamic_sel: bool = setting(False, "Normalize by sel / sel_reduce_factor.")
    sel_reduce_factor: float = setting(10.0, "See use_dynamic_sel.", rule=POSITIVE)
    sequential_update: bool = setting(False, "Each update of a layer sees the ones before it.")


class RepFlowLayer(RepFlowSettings, MessageLayer):
    """Layer of DPA-3."""

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

    e_sel: list[int] = setting(..., "Number of edges of an atom, in a list.", rule=SEL)
    ntypes: int = setting(..., "Number of types.")

    def build(self) -> None:
        if self.sequential_update and not (self._has_residuals and self.update_angle):
            raise InputError(
                "sequential_update needs update_style res_residual and update_angle",
                where="model/descriptor/repflow/sequential_update",
                fix="change one of the three",
            )
        self._make_layers()
        self.make_residuals(
            n=(self.n_dim, 2 + self.n_multi_edge_message),
            e=(self.e_dim, 1 + self.update_angle),
            a=(self.a_dim, int(self.update_angle)),
        )

    def _make_layers(self) -> None:
        n, e, a = self.n_dim, self.e_dim, self.a_dim
        self.node_self_mlp = linear(self, n, n, "node_self", bias=True)
        self.node_sym_linear = linear(self, (n + e) * self.axis_neuron, n, "node_sym", bias=True)
        self.node_edge_linear = linear(
            self, 2 * n + e, n * self.n_multi_edge_message, "node_edge", bias=True
        )
        self.edge_self_linear = linear(self, 2 * n + e, e, "edge_self", bias=True)
        self.edge_angle_linear1 = self.edge_angle_linear2 = self.angle_self_linear = None
        self.a_compress_n_linear = self.a_compress_e_linear = None
        if not self.update_angle:
            return
        n_angle, e_angle = self.compressed_widths()
        if self.a_compress_rate and not self.a_compress_use_split:
            self.a_compress_n_linear = linear(self, n, n_angle, "compress_n", bias=False)
            self.a_compress_e_linear = linear(self, e, e_angle, "compress_e", bias=False)
        width = a + n_angle + 2 * e_angle
        self.edge_angle_linear1 = linear(self, width, e, "edge_angle1", bias=True)
        self.edge_angle_linear2 = linear(self, e, e, "edge_angle2", bias=True)
        self.angle_self_linear = linear(self, width, a, "angle_self", bias=True)

    def compressed_widths(self) -> tuple[int, int]:
        """Widths of the atom and the edge part of the angles' input."""
        c = self.a_compress_rate
        if not c:
            return self.n_dim, self.e_dim
        return self.a_dim // c, self.a_dim // (2 * c) * self.a_compress_e_rate

    @property
    def edge_count(self) -> float:
        """Number by which sums over edges are normalized."""
        e_sel = float(sum(self.e_sel))
        return e_sel / self.sel_reduce_factor if self.use_dynamic_sel else e_sel

    @property
    def angle_count(self) -> float:
        """Number by which sums over angles are normalized."""
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
            new_angle = self.combine("a", [angle, own])
        return self._node(node, edge, message, graph), self.combine("e", edge_terms), new_angle

    def updated_atoms(self, node: Any, edge: Any, angle: Any, graph: Graph) -> Any:
        """Return the atoms (n, n_dim) of :meth:`call`, and leave out what they do not depend on."""
        if self.sequential_update:
            return self._in_sequence(node, edge, angle, graph)[0]
        message = self._edge_messages([self.node_edge_linear], node, edge, graph)[0]
        return self._node(node, edge, message, graph)

    def _in_sequence(self, node: Any, edge: Any, angle: Any, graph: Graph) -> tuple[Any, Any, Any]:
        """Update in sequence, each update from the results of the ones before it."""
        own = self._edge_messages([self.edge_self_linear], node, edge, graph)[1]
        edge = edge + self.e_residual[0] * own
        own = self._angle_messages([self.angle_self_linear], node, edge, angle, graph)[1]
        angle = angle + self.a_residual[0] * own
        total = self._angle_messages([self.edge_angle_linear1], node, edge, angle, graph)[0]
        edge = edge + self.e_residual[1] * self._angle_to_edge(total, edge, graph)
        message = self._edge_messages([self.node_edge_linear], node, edge, graph)[0]
        return self._node(node, edge, message, graph), edge, angle

    def _act(self, x: Any) -> Any:
        return activation(self.activation_function)(x)

    def _node(self, node: Any, edge: Any, message: Any, graph: Graph) -> Any:
        """Atoms from themselves, symmetrized neighbors, and messages of their edges."""
        space = ops.xp(node)
        near = ops.take(node, graph.j)
        joined = [self.symmetrized(self.moments(g, graph)) for g in (edge, near)]
        terms = [
            node,
            self._act(self.node_self_mlp(node)),
            self._act(self.node_sym_linear(space.concat(joined, axis=-1))),
        ]
        total = message * (1.0 / self.edge_count)
        heads, width = self.n_multi_edge_message, self.n_dim
        terms += [total[:, k * width : (k + 1) * width] for k in range(heads)]
        return self.combine("n", terms)

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
        given = z, graph.sw, graph.i, graph.n_atoms, summed
        return activated_sum(*given, self.activation_function, order=graph.order)

    def moments(self, g: Any, graph: Graph) -> Any:
        """Weighted sum of h ⊗ g over the edges of an atom: (n_edges, w) -> (n, 3, w)."""
        space = ops.xp(g)
        weighted = g * graph.sw[:, None]
        parts = [
            ops.segment_sum(weighted * graph.h2[:, c : c + 1], graph.i, graph.n_atoms)
            for c in range(3)
        ]
        return space.stack(parts, axis=1) * (self.edge_count**-0.5)

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
        given = z, weight, graph.k, n_edges, summed
        return activated_sum(*given, self.activation_function, order=graph.order)

    def _angle_to_edge(self, total: Any, fallback: Any, graph: Graph) -> Any:
        """Update of edges by the sums over their angles; those without take ``fallback`` or zero."""
        total = total * (self.angle_count**-0.5)
        if not self.smooth_edge_update:
            total = total + fallback * (1.0 - graph.angle_edges)[:, None]
        return self._act(self.edge_angle_linear2(total))


def _side_by_side(layers: Sequence[Dense]) -> tuple[Any, Any]:
    """Weights and biases of layers on the same input, as those of one."""

    def joined(name: str) -> Any:
        return ops.xp(layers[0].w).concat([getattr(layer, name) for layer in layers], axis=-1)

    return joined("weight"), joined("b")
