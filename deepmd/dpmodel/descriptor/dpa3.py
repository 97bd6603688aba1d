# SPDX-License-Identifier: LGPL-3.0-or-later
"""DPA-3: message passing on atoms, edges and angles.

Zhang et al., "A graph neural network for the era of large atomistic models", arXiv:2506.01686.
"""

import math
from typing import Any

import numpy as np

from deepmd.base.errors import InputError
from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots, edge_ends
from deepmd.dpmodel.descriptor.environment import EnvironmentDescriptor
from deepmd.dpmodel.descriptor.mixed import EmbeddedTypes, MixedTypes
from deepmd.dpmodel.input_def import InputDef
from deepmd.dpmodel.label import CHARGES, MULTIPLICITIES, check_charge_spin
from deepmd.dpmodel.module import Serial
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.nn.activation import activation
from deepmd.dpmodel.nn.environment import environment, exponential_switch, switch
from deepmd.dpmodel.nn.random import child_seed
from deepmd.dpmodel.nn.repflow import SILU, Graph, RepFlowLayer, RepFlowSettings
from deepmd.dpmodel.nn.type_embedding import TypeEmbedding
from deepmd.dpmodel.nn.updates import linear
from deepmd.dpmodel.output_def import Level
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.common import NOT_NEGATIVE, POSITIVE
from deepmd.schema.settings import setting


class RepFlows(RepFlowSettings, EnvironmentDescriptor, MixedTypes):
    """The message-passing block of DPA-3."""

    serial = Serial(
        layout="n_dim e_dim a_dim nlayers e_rcut e_rcut_smth e_sel a_rcut a_rcut_smth a_sel"
        " a_compress_rate a_compress_e_rate a_compress_use_split n_multi_edge_message axis_neuron"
        " update_angle update_style update_residual update_residual_init fix_stat_std optim_update"
        " smooth_edge_update edge_init_use_dist use_exp_switch use_dynamic_sel sel_reduce_factor"
        " sequential_update edge_embd angle_embd repflow_layers env_mat @variables",
        buffers=("davg", "dstd"),
        children=("edge_embd", "angle_embd", "repflow_layers"),
        constants=("env_mat",),
    )
    set_davg_zero = True

    nlayers: int = setting(6, "Number of layers.", rule=POSITIVE)
    fix_stat_std: float = setting(
        0.3, "Fixed deviation of the environment; 0 takes the data's.", rule=NOT_NEGATIVE
    )
    skip_stat: bool = setting(False, "Older way to say fix_stat_std 0.3.")
    edge_init_use_dist: bool = setting(False, "Start from distances.", alias=["edge_use_dist"])
    use_exp_switch: bool = setting(False, "Exponential switch.", alias=["use_env_envelope"])

    def build(self) -> None:
        if self.a_rcut > self.e_rcut:
            raise InputError(
                f"a_rcut {self.a_rcut} is larger than e_rcut {self.e_rcut}",
                where="model/descriptor/repflow/a_rcut",
                fix="take at most e_rcut",
            )
        if self.a_sel > self.e_sel:
            raise InputError(
                f"a_sel {self.a_sel} is larger than e_sel {self.e_sel}",
                where="model/descriptor/repflow/a_sel",
                fix="take at most e_sel",
            )
        narrow = min(self.n_dim, self.e_dim)
        if self.axis_neuron > narrow:
            raise InputError(
                f"{self.axis_neuron} is more than the {narrow} channels of atoms or edges",
                where="model/descriptor/repflow/axis_neuron",
            )
        self._check_compression()
        super().build()
        if self.skip_stat:
            self.fix_stat_std = 0.3
        if self.fix_stat_std:
            self.dstd = np.full((self.ntypes, 4), self.fix_stat_std)
        self.edge_embd = linear(self, 1, self.e_dim, "edge", bias=True)
        self.angle_embd = linear(self, 1, self.a_dim, "angle", bias=False)
        self.repflow_layers = [
            self.part(RepFlowLayer, e_sel=self.sel, seed=child_seed(self.seed, k))
            for k in range(self.nlayers)
        ]

    def _check_compression(self) -> None:
        """Refuse widths that cannot be compressed: a_dim / rate for atoms, half of it for edges."""
        rate, wide = self.a_compress_rate, self.a_dim * self.a_compress_e_rate
        if not rate:
            return
        if wide % (2 * rate):
            raise InputError(
                f"a_dim times a_compress_e_rate, {wide}, is no multiple of {2 * rate}",
                where="model/descriptor/repflow/a_compress_rate",
                fix="change a_dim",
            )
        taken = {
            "atoms": (self.a_dim // rate, self.n_dim),
            "edges": (wide // (2 * rate), self.e_dim),
        }
        for what, (part, width) in taken.items():
            if self.a_compress_use_split and part > width:
                raise InputError(
                    f"{part} of the {width} components of {what} cannot be taken",
                    where="model/descriptor/repflow/a_compress_use_split",
                    fix="raise a_compress_rate",
                )

    @property
    def std_of_new_types(self) -> float:
        """Deviation of types that a change of the type map adds."""
        return self.fix_stat_std or 1.0

    @property
    def rcut(self) -> float:  # type: ignore[override]
        """Cutoff of the edges [Å]."""
        return self.e_rcut

    @property
    def rcut_smth(self) -> float:  # type: ignore[override]
        """Start of their switch [Å]."""
        return self.e_rcut_smth

    @property
    def sel(self) -> list[int]:  # type: ignore[override]
        """Number of edges of an atom, in a list."""
        return [self.e_sel]

    @property
    def edge_packing(self) -> Packing:
        """The edges."""
        pairs = tuple((int(a), int(b)) for a, b in self.exclude_types)
        return Packing("flat", self.ntypes, self.rcut, (self.nnei,), exclude=pairs)

    @property
    def angle_packing(self) -> Packing:
        """Pairs of edges of one center within the angular cutoff."""
        edges = self.edge_packing
        return Packing(
            "angles",
            self.ntypes,
            self.a_rcut,
            (min(self.a_sel, self.nnei),),
            exclude=edges.exclude,
            edge_rcut=edges.rcut,
            edge_sel=self.nnei,
        )

    def packings(self) -> list[Packing]:
        """Edges, and angles where they are updated."""
        angles = [self.angle_packing] if self.update_angle else []
        return [self.edge_packing, *angles]

    def statistics_parts(self) -> list[Descriptor]:
        """Nothing to measure when the deviation is fixed."""
        return [] if self.fix_stat_std else [self]

    def _switch(self, r: Any, rcut: float, rcut_smth: float) -> Any:
        if self.use_exp_switch:
            return exponential_switch(r, rcut, rcut_smth)
        return switch(r, rcut, rcut_smth)

    def call(self, atoms: Atoms, slots: Slots, node: Any) -> tuple[Any, Any]:  # type: ignore[override]
        """Update atom features (n, n_dim); return them and the equivariant part (n, e_dim, 3).

        Without the equivariant part nothing reads the edges and angles of the last layer.
        """
        space, act = ops.xp(node), activation(self.activation_function)
        flat = slots[self.edge_packing][0]
        i, j = edge_ends(atoms, flat)
        d = ops.take(atoms.padded, flat)
        env = environment(d, self.rcut, self.rcut_smth, self.env_protection, switch=self._switch)
        types = ops.take(atoms.atype, i)
        rows = (env.rows - ops.take(self.davg, types)) / ops.take(self.dstd, types)
        rows = ops.cast(rows, self.dtype)
        if self.edge_init_use_dist:
            edge = self.edge_embd(ops.cast(env.r, self.dtype))
        else:
            edge = act(self.edge_embd(rows[:, :1]))
        sw = ops.cast(env.switch[:, 0], self.dtype)
        graph = self._graph(i, j, rows[:, 1:], sw, d, env.r, slots, ops.shape(atoms.atype)[0])
        graph = graph._replace(order=atoms.order)
        angle = None
        if self.update_angle:
            u = d / (env.r + 1e-6)
            cosine = space.sum(ops.take(u, graph.k) * ops.take(u, graph.l), axis=-1, keepdims=True)
            cosine = cosine * ((1.0 - 1e-6) / math.sqrt(math.pi))
            angle = self.angle_embd(ops.cast(cosine, self.dtype))
        *layers, last = self.repflow_layers
        for layer in layers:
            node, edge, angle = layer(node, edge, angle, graph)
        if not atoms.directions:
            return last.updated_atoms(node, edge, angle, graph), None
        node, edge, angle = last(node, edge, angle, graph)
        return node, ops.matrix_transpose(last.moments(edge, graph))

    def _graph(
        self, i: Any, j: Any, h2: Any, sw: Any, d: Any, r: Any, slots: Slots, n_atoms: Any
    ) -> Graph:
        if not self.update_angle:
            return Graph(i, j, h2, sw, None, None, None, None, None, n_atoms)
        a_rcut, a_smth = self.a_rcut, self.a_rcut_smth
        k, l = slots[self.angle_packing]  # noqa: E741
        asw = ops.cast(self._switch(r, a_rcut, a_smth)[:, 0], self.dtype)
        # Every angle neighbor makes an angle with itself, so that k names all of them.
        ones = ops.cast(k * 0 + 1, self.dtype)
        taking_part = ops.segment_sum(ops.cast(k == l, self.dtype) * ones, k, ops.shape(i)[0])
        return Graph(i, j, h2, sw, k, l, ops.take(asw, k), ops.take(asw, l), taking_part, n_atoms)


@Descriptor.register("dpa3")
class DescrptDPA3(EmbeddedTypes):
    """Type embeddings refined by messages of edges and angles."""

    serial = Serial(
        layout="@class type @version ntypes repflow_args concat_output_tebd activation_function"
        " precision exclude_types env_protection trainable use_econf_tebd use_tebd_bias"
        " use_loc_mapping add_chg_spin_ebd default_chg_spin type_map type_embedding chg_embedding"
        " spin_embedding mix_cs_mlp repflow_variable",
        name="Descriptor",
        type="dpa3",
        version=2,
        accepts=(1, 2),
        grows=True,
        children=("type_embedding", "chg_embedding", "spin_embedding", "mix_cs_mlp", "repflows"),
        optional=("chg_embedding", "spin_embedding", "mix_cs_mlp"),
        parts={"repflows": ("repflow_args", "repflow_variable")},
        arguments={"repflow_args": "repflow"},
    )
    torch_names = {"repflow_variable": "repflows", "repflow_layers": "layers"}
    chg_embedding: Any
    spin_embedding: Any
    mix_cs_mlp: Any

    repflow: dict[str, Any] = setting(..., "The message passing.", part=RepFlows)
    concat_output_tebd: bool = setting(False)
    activation_function: str = SILU
    add_chg_spin_ebd: bool = setting(False, "Embed the frame's charge and multiplicity.")
    default_chg_spin: list[float] | None = setting(
        None, "Charge and multiplicity of frames that have none."
    )
    use_loc_mapping: bool = setting(True, "Has no effect here: ghosts are always mapped.")

    def build(self) -> None:
        super().build()
        if self.default_chg_spin is not None and len(self.default_chg_spin) != 2:
            raise InputError(
                f"found {len(self.default_chg_spin)} numbers, expected charge and multiplicity",
                where="model/descriptor/default_chg_spin",
            )
        if self.default_chg_spin is not None:
            check_charge_spin([self.default_chg_spin], "model/descriptor/default_chg_spin")
        seed = child_seed(self.seed, "repflows")
        self.repflows = self.part(RepFlows, seed=seed, **self.repflow)
        n = self.repflows.n_dim
        self.type_embedding = self.make_type_embedding(n)
        self.chg_embedding = self.spin_embedding = self.mix_cs_mlp = None
        if self.add_chg_spin_ebd:
            self.chg_embedding = self._embedding(CHARGES, "charge")
            self.spin_embedding = self._embedding(MULTIPLICITIES, "spin")
            self.mix_cs_mlp = linear(self, 2 * n, n, "mix", bias=True)

    @classmethod
    def with_type_width(cls, section: dict[str, Any], width: int) -> dict[str, Any]:
        """Return the section; the vectors are the first node features and must be as long."""
        n = section["repflow"].get("n_dim", RepFlows.settings["n_dim"].default)
        if n != width:
            raise InputError(
                f"the last width is {width}, the nodes of dpa3 have {n} features",
                where="model/type_embedding/neuron",
                fix=f"let it end with {n}, the n_dim of model/descriptor/repflow",
            )
        return section

    def _embedding(self, count: int, name: str) -> TypeEmbedding:
        """Vectors for whole numbers."""
        seed, precision = child_seed(self.seed, name), self.precision
        neuron = [self.repflows.n_dim]
        return TypeEmbedding(
            count, neuron, precision=precision, trainable=self.trainable, seed=seed
        )

    def change_types(self, change: TypeChange) -> np.ndarray | None:
        """Adopt another type map; charges and multiplicities are no types."""
        change.done.update({id(self.chg_embedding), id(self.spin_embedding)})
        return super().change_types(change)

    # -- sizes --------------------------------------------------------------------------------

    @property
    def rcut(self) -> float:  # type: ignore[override]
        """Cutoff of the edges [Å]."""
        return self.repflows.rcut

    @property
    def rcut_smth(self) -> float:  # type: ignore[override]
        """Start of the edges' switch [Å]."""
        return self.repflows.rcut_smth

    @property
    def sel(self) -> list[int]:  # type: ignore[override]
        """Largest number of edges of an atom."""
        return list(self.repflows.sel)

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return self.repflows.n_dim * (1 + self.concat_output_tebd)

    @property
    def dim_embed(self) -> int:
        """Width of the rotation matrix."""
        return self.repflows.e_dim

    @property
    def message_passing(self) -> bool:
        """Whether atoms beyond the cutoff matter."""
        return True

    @property
    def interaction_range(self) -> float:
        """Reach of the messages: a cutoff for each layer [Å]."""
        return self.rcut * self.repflows.nlayers

    def inputs(self) -> tuple[InputDef, ...]:
        """Charge [e] and spin multiplicity of the frame, if they are embedded."""
        if not self.add_chg_spin_ebd:
            return ()
        given = self.default_chg_spin
        default = None if given is None else tuple(float(x) for x in given)
        return (InputDef("charge_spin", Level.FRAME, 2, default),)

    def packings(self) -> list[Packing]:
        """Edges and angles."""
        return self.repflows.packings()

    def statistics_parts(self) -> list[Descriptor]:
        """Return the block, unless its deviation is fixed."""
        return self.repflows.statistics_parts()

    # -- evaluation ---------------------------------------------------------------------------

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor of every atom.

        Returns
        -------
        DescriptorOutput
            value (n_atoms, n_dim [* 2]), rotation (n_atoms, e_dim, 3).
        """
        own = ops.take(self.type_embedding(), atoms.atype)
        if self.add_chg_spin_ebd:
            own = own + self._charge_and_spin(atoms)
        node, rotation = self.repflows(atoms, slots, activation(self.activation_function)(own))
        return DescriptorOutput(self.with_types(node, own), rotation)

    def _charge_and_spin(self, atoms: Atoms) -> Any:
        """Embedding of the frame's charge and multiplicity, for every atom (n, n_dim)."""
        space = ops.xp(atoms.padded)
        numbers = space.astype(atoms.frame_inputs["charge_spin"], space.int64)
        charge = ops.take(self.chg_embedding(), numbers[:, 0] + CHARGES // 2)
        spin = ops.take(self.spin_embedding(), numbers[:, 1])
        mixed = self.mix_cs_mlp(space.concat([charge, spin], axis=-1))
        return ops.take(activation(self.activation_function)(mixed), atoms.frame)
