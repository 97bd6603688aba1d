# SPDX-License-Identifier: LGPL-3.0-or-later
"""DPA-3: message passing on atoms, edges and angles.

Zhang et al., "A graph neural network for the era of large atomistic models", arXiv:2506.01686.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from dargs import Argument

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots, edge_ends
from deepmd.dpmodel.descriptor.environment import EnvironmentDescriptor
from deepmd.dpmodel.module import Serial
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.nn.activation import activation
from deepmd.dpmodel.nn.environment import environment, exponential_switch, switch
from deepmd.dpmodel.nn.random import Seed, child_seed
from deepmd.dpmodel.nn.repflow import Graph, RepFlowLayer
from deepmd.dpmodel.nn.type_embedding import TypeEmbedding
from deepmd.dpmodel.nn.updates import plain_layer
from deepmd.schema.common import option
from deepmd.schema.registry import descriptor_args
from deepmd.utils.errors import InputError

REPFLOW_DEFAULTS: dict[str, Any] = {
    "n_dim": 128,
    "e_dim": 64,
    "a_dim": 64,
    "nlayers": 6,
    "e_rcut": None,
    "e_rcut_smth": None,
    "e_sel": None,
    "a_rcut": None,
    "a_rcut_smth": None,
    "a_sel": None,
    "a_compress_rate": 0,
    "a_compress_e_rate": 1,
    "a_compress_use_split": False,
    "n_multi_edge_message": 1,
    "axis_neuron": 4,
    "update_angle": True,
    "update_style": "res_residual",
    "update_residual": 0.1,
    "update_residual_init": "const",
    "fix_stat_std": 0.3,
    "optim_update": True,
    "smooth_edge_update": False,
    "edge_init_use_dist": False,
    "use_exp_switch": False,
    "use_dynamic_sel": False,
    "sel_reduce_factor": 10.0,
    "sequential_update": False,
}
# Keys of the section that are not arguments of a layer.
_OF_THE_BLOCK = ("nlayers", "fix_stat_std", "edge_init_use_dist", "use_exp_switch")
# Numbers of charges (from -100) and multiplicities with an embedding.
CHARGES, MULTIPLICITIES = 200, 100


class RepFlows(EnvironmentDescriptor):
    """The message-passing block of DPA-3."""

    serial = Serial(
        buffers=("davg", "dstd"), children=("edge_embd", "angle_embd", "repflow_layers")
    )
    mixed_types = True
    set_davg_zero = True

    def __init__(
        self,
        args: Mapping[str, Any],
        *,
        ntypes: int,
        activation_function: str,
        seed: Seed,
        **environment_settings: Any,
    ) -> None:
        self._ntypes, self.args = ntypes, dict(args)
        self._init_environment(
            rcut=args["e_rcut"],
            rcut_smth=args["e_rcut_smth"],
            sel=[args["e_sel"]],
            set_davg_zero=True,
            activation_function=activation_function,
            **environment_settings,
        )
        if args["fix_stat_std"]:
            self.dstd = np.full((ntypes, 4), float(args["fix_stat_std"]))
        precision = environment_settings["precision"]
        self.edge_embd = plain_layer(
            1, args["e_dim"], bias=True, precision=precision, seed=child_seed(seed, "edge")
        )
        self.angle_embd = plain_layer(
            1, args["a_dim"], bias=False, precision=precision, seed=child_seed(seed, "angle")
        )
        given = {k: v for k, v in args.items() if k not in _OF_THE_BLOCK}
        given["e_sel"] = [given["e_sel"]]
        self.repflow_layers = [
            RepFlowLayer(
                ntypes=ntypes,
                activation_function=activation_function,
                precision=precision,
                seed=child_seed(seed, k),
                **given,
            )
            for k in range(args["nlayers"])
        ]

    @property
    def ntypes(self) -> int:
        """Number of types."""
        return self._ntypes

    @property
    def edge_packing(self) -> Packing:
        """The edges."""
        pairs = tuple((int(a), int(b)) for a, b in self.exclude_types)
        return Packing("flat", self.ntypes, self.rcut, (self.nnei,), exclude=pairs)

    @property
    def angle_packing(self) -> Packing:
        """Pairs of edges of one centre within the angular cutoff."""
        edges = self.edge_packing
        return Packing(
            "angles",
            self.ntypes,
            float(self.args["a_rcut"]),
            (min(int(self.args["a_sel"]), self.nnei),),
            exclude=edges.exclude,
            edge_rcut=edges.rcut,
            edge_sel=self.nnei,
        )

    def packings(self) -> list[Packing]:
        """Edges, and angles where they are updated."""
        angles = [self.angle_packing] if self.args["update_angle"] else []
        return [self.edge_packing, *angles]

    def statistics_parts(self) -> list[Descriptor]:
        """Nothing to measure when the deviation is fixed."""
        return [] if self.args["fix_stat_std"] else [self]

    def _switch(self, r: Any, rcut: float, rcut_smth: float) -> Any:
        if self.args["use_exp_switch"]:
            return exponential_switch(r, rcut, rcut_smth)
        return switch(r, rcut, rcut_smth)

    def call(self, atoms: Atoms, slots: Slots, node: Any) -> tuple[Any, Any]:  # type: ignore[override]
        """Update atom features (n, n_dim); return them and the equivariant part (n, e_dim, 3)."""
        space, act = ops.xp(node), activation(self.activation_function)
        flat = slots[self.edge_packing][0]
        i, j = edge_ends(atoms, flat)
        d = ops.take(atoms.padded, flat)
        env = environment(d, self.rcut, self.rcut_smth, self.env_protection, switch=self._switch)
        types = ops.take(atoms.atype, i)
        rows = (env.rows - ops.take(self.davg, types)) / ops.take(self.dstd, types)
        rows = ops.cast(rows, self.precision)
        if self.args["edge_init_use_dist"]:
            edge = self.edge_embd(ops.cast(env.r, self.precision))
        else:
            edge = act(self.edge_embd(rows[:, :1]))
        sw = ops.cast(env.switch[:, 0], self.precision)
        graph = self._graph(i, j, rows[:, 1:], sw, d, env.r, slots, ops.shape(atoms.atype)[0])
        angle = None
        if self.args["update_angle"]:
            u = d / (env.r + 1e-6)
            cosine = space.sum(ops.take(u, graph.k) * ops.take(u, graph.l), axis=-1, keepdims=True)
            cosine = cosine * ((1.0 - 1e-6) / math.sqrt(math.pi))
            angle = self.angle_embd(ops.cast(cosine, self.precision))
        for layer in self.repflow_layers:
            node, edge, angle = layer(node, edge, angle, graph)
        return node, ops.matrix_transpose(self.repflow_layers[-1].moments(edge, graph))

    def _graph(
        self, i: Any, j: Any, h2: Any, sw: Any, d: Any, r: Any, slots: Slots, n_atoms: Any
    ) -> Graph:
        if not self.args["update_angle"]:
            return Graph(i, j, h2, sw, None, None, None, None, None, n_atoms)
        a_rcut, a_smth = float(self.args["a_rcut"]), float(self.args["a_rcut_smth"])
        k, l = slots[self.angle_packing]  # noqa: E741
        asw = ops.cast(self._switch(r, a_rcut, a_smth)[:, 0], self.precision)
        # Every angle neighbour makes an angle with itself, so that k names all of them.
        ones = ops.cast(k * 0 + 1, self.precision)
        taking_part = ops.segment_sum(ops.cast(k == l, self.precision) * ones, k, ops.shape(i)[0])
        return Graph(i, j, h2, sw, k, l, ops.take(asw, k), ops.take(asw, l), taking_part, n_atoms)


@Descriptor.register("dpa3")
class DescrptDPA3(Descriptor):
    r"""Type embeddings refined by messages of edges and angles.

    Parameters
    ----------
    ntypes : int, optional
        Number of types; that of ``type_map``.
    repflow : dict
        The section of the input.
    concat_output_tebd : bool
        Append the centre's type embedding.
    add_chg_spin_ebd : bool
        Add an embedding of the frame's charge and spin multiplicity to the types'.
    default_chg_spin : list of float, optional
        Charge and multiplicity of frames that have none.
    """

    serial = Serial(
        name="Descriptor",
        type="dpa3",
        version=2,
        accepts=(1, 2),
        children=("type_embedding", "chg_embedding", "spin_embedding", "mix_cs_mlp", "repflows"),
    )
    mixed_types = True
    chg_embedding: Any
    spin_embedding: Any
    mix_cs_mlp: Any
    _CONFIG = (
        "concat_output_tebd activation_function precision exclude_types env_protection trainable"
        " use_econf_tebd use_tebd_bias use_loc_mapping add_chg_spin_ebd default_chg_spin type_map"
    ).split()

    def __init__(
        self,
        ntypes: int | None = None,
        *,
        repflow: Mapping[str, Any],
        concat_output_tebd: bool = False,
        activation_function: str = "silu",
        precision: str = "default",
        exclude_types: Sequence[Sequence[int]] = (),
        env_protection: float = 0.0,
        trainable: bool = True,
        use_econf_tebd: bool = False,
        use_tebd_bias: bool = False,
        use_loc_mapping: bool = True,
        add_chg_spin_ebd: bool = False,
        default_chg_spin: Sequence[float] | None = None,
        type_map: Sequence[str] | None = None,
        seed: Seed = None,
    ) -> None:
        self._ntypes = ntypes if ntypes is not None else len(type_map or [])
        given = dict(repflow)
        if given.pop("skip_stat", False):
            given["fix_stat_std"] = 0.3
        self.repflow_args = {k: given.get(k, v) for k, v in REPFLOW_DEFAULTS.items()}
        args = self.repflow_args
        if args["a_rcut"] > args["e_rcut"]:
            raise InputError(
                f"a_rcut {args['a_rcut']} is larger than e_rcut {args['e_rcut']}",
                where="model/descriptor/repflow/a_rcut",
                fix="take at most e_rcut",
            )
        self.concat_output_tebd, self.activation_function = concat_output_tebd, activation_function
        self.precision, self.exclude_types = precision, [list(p) for p in exclude_types]
        self.env_protection, self.trainable = env_protection, trainable
        self.use_econf_tebd, self.use_tebd_bias = use_econf_tebd, use_tebd_bias
        self.use_loc_mapping, self.add_chg_spin_ebd = use_loc_mapping, add_chg_spin_ebd
        self.default_chg_spin = None if default_chg_spin is None else list(default_chg_spin)
        self.type_map = None if type_map is None else list(type_map)
        n_dim = args["n_dim"]
        common: dict[str, Any] = {
            "precision": precision,
            "trainable": trainable,
            "use_tebd_bias": use_tebd_bias,
        }
        self.type_embedding = TypeEmbedding(
            self._ntypes,
            [n_dim],
            use_econf_tebd=use_econf_tebd,
            type_map=self.type_map,
            seed=child_seed(seed, "types"),
            **common,
        )
        self.chg_embedding = self.spin_embedding = self.mix_cs_mlp = None
        if add_chg_spin_ebd:
            common["use_tebd_bias"] = False
            self.chg_embedding = TypeEmbedding(
                CHARGES, [n_dim], seed=child_seed(seed, "charge"), **common
            )
            self.spin_embedding = TypeEmbedding(
                MULTIPLICITIES, [n_dim], seed=child_seed(seed, "spin"), **common
            )
            self.mix_cs_mlp = plain_layer(
                2 * n_dim, n_dim, bias=True, precision=precision, seed=child_seed(seed, "mix")
            )
        self.repflows = RepFlows(
            args,
            ntypes=self._ntypes,
            activation_function=activation_function,
            seed=child_seed(seed, "repflows"),
            exclude_types=exclude_types,
            env_protection=env_protection,
            precision=precision,
            type_map=type_map,
            trainable=trainable,
        )

    # -- sizes --------------------------------------------------------------------------------

    @property
    def ntypes(self) -> int:
        """Number of types."""
        return self._ntypes

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
        return self.repflow_args["n_dim"] * (1 + self.concat_output_tebd)

    @property
    def dim_embed(self) -> int:
        """Width of the rotation matrix."""
        return self.repflow_args["e_dim"]

    @property
    def message_passing(self) -> bool:
        """Whether atoms beyond the cutoff matter."""
        return True

    @property
    def dim_chg_spin(self) -> int:
        """Numbers of charge and spin expected per frame."""
        return 2 if self.add_chg_spin_ebd else 0

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
        if self.concat_output_tebd:
            node = ops.xp(node).concat([node, own], axis=-1)
        return DescriptorOutput(node, rotation)

    def _charge_and_spin(self, atoms: Atoms) -> Any:
        """Embedding of the frame's charge and multiplicity, for every atom (n, n_dim)."""
        space = ops.xp(atoms.padded)
        numbers = space.astype(atoms.fparam[:, -2:], space.int64)
        charge = ops.take(self.chg_embedding(), numbers[:, 0] + CHARGES // 2)
        spin = ops.take(self.spin_embedding(), numbers[:, 1])
        mixed = self.mix_cs_mlp(space.concat([charge, spin], axis=-1))
        return ops.take(activation(self.activation_function)(mixed), atoms.frame)

    # -- dictionaries -------------------------------------------------------------------------

    def serialize(self) -> dict:
        """Return the neutral dictionary, its block split into settings and variables."""
        block = self.repflows
        out: dict[str, Any] = {
            "@class": "Descriptor",
            "type": "dpa3",
            "@version": 2,
            "ntypes": self._ntypes,
            "repflow_args": dict(self.repflow_args),
            **{k: getattr(self, k) for k in self._CONFIG},
            "type_embedding": self.type_embedding.serialize(),
        }
        for name in ("chg_embedding", "spin_embedding", "mix_cs_mlp"):
            if getattr(self, name) is not None:
                out[name] = getattr(self, name).serialize()
        out["repflow_variable"] = {
            "edge_embd": block.edge_embd.serialize(),
            "angle_embd": block.angle_embd.serialize(),
            "repflow_layers": [layer.serialize() for layer in block.repflow_layers],
            "env_mat": {**block.env_mat, "protection": 0.0},
            "@variables": {name: block.stored_array(name) for name in ("davg", "dstd")},
        }
        return out

    @classmethod
    def deserialize(cls, data: dict) -> Any:
        """Build the descriptor from its dictionary."""
        data = cls.upgraded(dict(data))
        settings = {k: data[k] for k in cls._CONFIG if k in data}
        new = cls(data["ntypes"], repflow=data["repflow_args"], **settings)
        for name in ("type_embedding", "chg_embedding", "spin_embedding", "mix_cs_mlp"):
            part = getattr(new, name)
            if part is not None:
                setattr(new, name, type(part).deserialize(data[name]))
        stored, block = data["repflow_variable"], new.repflows
        for name in ("edge_embd", "angle_embd"):
            setattr(block, name, type(getattr(block, name)).deserialize(stored[name]))
        block.repflow_layers = [RepFlowLayer.deserialize(d) for d in stored["repflow_layers"]]
        for name in ("davg", "dstd"):
            setattr(block, name, block.restore_array(name, stored["@variables"][name]))
        return new


_DOCS = {
    "n_dim": "Width of atom features.",
    "e_dim": "Width of edge features.",
    "a_dim": "Width of angle features.",
    "nlayers": "Number of layers.",
    "e_rcut": "Cutoff of edges, Å.",
    "e_rcut_smth": "Start of their switch, Å.",
    "e_sel": 'Number of edges of an atom, or "auto".',
    "a_rcut": "Cutoff of edges that form angles, Å.",
    "a_rcut_smth": "Start of their switch, Å.",
    "a_sel": 'Number of such edges of an atom, or "auto".',
    "a_compress_rate": "Compress atom and edge parts of the angles' input; 0 is off.",
    "a_compress_e_rate": "Multiplies the width of the compressed edge part.",
    "a_compress_use_split": "Compress by taking the first components.",
    "n_multi_edge_message": "Heads of the messages of edges to atoms.",
    "axis_neuron": "Columns of the symmetrised products.",
    "update_angle": "Update angles.",
    "update_style": "How updates are joined: res_avg, res_incr or res_residual.",
    "update_residual": "Initial size of the residual vectors.",
    "update_residual_init": '"norm" (random) or "const".',
    "fix_stat_std": "Fixed deviation of the environment; 0 takes the data's.",
    "optim_update": "Has no effect on results; the faster way is always taken.",
    "smooth_edge_update": "Edges without angles get no message instead of their own features.",
    "edge_init_use_dist": "Start from distances.",
    "use_exp_switch": "Exponential switch.",
    "use_dynamic_sel": "Normalise by sel / sel_reduce_factor.",
    "sel_reduce_factor": "See use_dynamic_sel.",
    "sequential_update": "Each update of a layer sees the ones before it.",
}
_ALIASES = {"edge_init_use_dist": ["edge_use_dist"], "use_exp_switch": ["use_env_envelope"]}


def _repflow_arguments() -> list[Argument]:
    out = [option("skip_stat", bool, False, "Older way to say fix_stat_std 0.3.")]
    for name, value in REPFLOW_DEFAULTS.items():
        if value is None:
            kinds: Any = [int, str] if name.endswith("sel") else float
            out.append(Argument(name, kinds, doc=_DOCS[name]))
        else:
            kinds = float if isinstance(value, float) else type(value)
            out.append(option(name, kinds, value, _DOCS[name], alias=_ALIASES.get(name)))
    return out


@descriptor_args.register("dpa3")
def dpa3_arguments() -> list[Argument]:
    """Keys of DPA-3."""
    return [
        Argument("repflow", dict, _repflow_arguments(), doc="The message passing."),
        option("concat_output_tebd", bool, False, "Append the centre's type embedding."),
        option("add_chg_spin_ebd", bool, False, "Embed the frame's charge and multiplicity."),
        option(
            "default_chg_spin", [list[float], None], None, "Charge and multiplicity by default."
        ),
        option("activation_function", str, "silu", "Activation."),
        option("precision", str, "default", "Number format of the networks."),
        option("exclude_types", list, [], "Pairs of types that do not see each other."),
        option("env_protection", float, 0.0, "Length added to distances in denominators, Å."),
        option("trainable", bool, True, "Whether the parameters are trained."),
        option("seed", [int, None], None, "Seed of the initial values."),
        option("use_econf_tebd", bool, False, "Start from electronic configurations."),
        option("use_tebd_bias", bool, False, "Bias in the type embedding."),
        option("use_loc_mapping", bool, True, "Has no effect here: ghosts are always mapped."),
    ]
