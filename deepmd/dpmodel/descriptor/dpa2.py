# SPDX-License-Identifier: LGPL-3.0-or-later
"""DPA-2: an initial representation refined by message passing.

Zhang et al., "DPA-2: a large atomic model as a multi-task learner", npj Comput. Mater. 10, 293
(2024).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots, edge_ends
from deepmd.dpmodel.descriptor.dpa1 import DescrptDPA1
from deepmd.dpmodel.descriptor.dpa2_input import (
    REPFORMER_DEFAULTS,
    REPINIT_DEFAULTS,
    dpa2_arguments,
)
from deepmd.dpmodel.descriptor.mixed import MixedDescriptor
from deepmd.dpmodel.descriptor.se_e3_tebd import DescrptSeTTebd
from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.nn.activation import activation
from deepmd.dpmodel.nn.layers import NetworkCollection
from deepmd.dpmodel.nn.norm import Identity
from deepmd.dpmodel.nn.pair_attention import Pairs
from deepmd.dpmodel.nn.random import Seed, child_seed
from deepmd.dpmodel.nn.repformer import RepformerLayer
from deepmd.dpmodel.nn.type_embedding import TypeEmbedding
from deepmd.dpmodel.nn.updates import plain_layer
from deepmd.schema.registry import descriptor_args

# Keys of the section that are not arguments of a layer.
_OF_THE_BLOCK = ("rcut", "rcut_smth", "nsel", "nlayers", "direct_dist", "set_davg_zero")


class Repformers(MixedDescriptor):
    """The message-passing block of DPA-2."""

    serial = Serial(params=(), buffers=("davg", "dstd"), children=("g2_embd", "repformer_layers"))
    tebd_input_mode = "none"  # types do not enter here

    def __init__(
        self, args: Mapping[str, Any], *, ntypes: int, smooth: bool, seed: Seed, **environment: Any
    ) -> None:
        self._ntypes, self.smooth = ntypes, smooth
        self.direct_dist, self.g2_dim = args["direct_dist"], args["g2_dim"]
        self._init_environment(
            rcut=args["rcut"],
            rcut_smth=args["rcut_smth"],
            sel=[args["nsel"]],
            set_davg_zero=args["set_davg_zero"],
            activation_function=args["activation_function"],
            **environment,
        )
        precision = environment["precision"]
        self.g2_embd = plain_layer(
            1, self.g2_dim, bias=True, precision=precision, seed=child_seed(seed, "g2")
        )
        given = {k: v for k, v in args.items() if k not in _OF_THE_BLOCK}
        self.repformer_layers = [
            RepformerLayer(
                args["rcut"],
                args["rcut_smth"],
                [args["nsel"]],
                ntypes,
                update_chnnl_2=k != args["nlayers"] - 1,
                smooth=smooth,
                precision=precision,
                seed=child_seed(seed, k),
                **given,
            )
            for k in range(args["nlayers"])
        ]

    def call(self, atoms: Atoms, slots: Slots, g1: Any) -> tuple[Any, Any]:  # type: ignore[override]
        """Refine atom features (n, g1_dim); return them and the equivariant part (n, g2_dim, 3)."""
        near = self.neighbourhood(atoms, slots)
        table = slots[self.packing][0]
        space, act = ops.xp(g1), activation(self.activation_function)
        _, j = edge_ends(atoms, table)
        pairs = Pairs(j, near.mask, near.switch, near.more, self.nnei)
        radial, h2 = near.rows[..., :1], near.rows[..., 1:]
        if self.direct_dist:
            d = ops.cast(ops.take(atoms.padded, table), self.precision) * (1.0 / self.rcut)
            radial, h2 = space.sqrt(space.sum(d * d, axis=-1, keepdims=True)), d
        g1, g2 = act(g1), act(self.g2_embd(radial))
        for layer in self.repformer_layers:
            g1, g2, h2 = layer(g1, g2, h2, pairs)
        moments = self.repformer_layers[-1].moments(g2, h2, pairs)
        return g1, ops.matrix_transpose(moments)


@Descriptor.register("dpa2")
class DescrptDPA2(Descriptor):
    r"""Repinit, optionally with three-body terms, then repformer layers.

    Parameters
    ----------
    ntypes : int, optional
        Number of types; that of ``type_map``.
    repinit, repformer : dict
        The two sections of the input.
    concat_output_tebd : bool
        Append the centre's type embedding.
    smooth : bool
        Smooth attention and messages.
    add_tebd_to_repinit_out : bool
        Add the projected type embedding before the repformer.
    """

    serial = Serial(
        name="Descriptor",
        type="dpa2",
        version=3,
        accepts=(1, 2, 3),
        children=(
            "type_embedding",
            "repinit",
            "three_body",
            "g1_shape_tranform",
            "tebd_transform",
            "repformers",
        ),
    )
    mixed_types = True
    _CONFIG = (
        "concat_output_tebd precision smooth exclude_types env_protection trainable"
        " add_tebd_to_repinit_out use_econf_tebd use_tebd_bias type_map"
    ).split()

    def __init__(
        self,
        ntypes: int | None = None,
        *,
        repinit: Mapping[str, Any],
        repformer: Mapping[str, Any],
        concat_output_tebd: bool = True,
        precision: str = "default",
        smooth: bool = True,
        exclude_types: Sequence[Sequence[int]] = (),
        env_protection: float = 0.0,
        trainable: bool = True,
        add_tebd_to_repinit_out: bool = False,
        use_econf_tebd: bool = False,
        use_tebd_bias: bool = False,
        type_map: Sequence[str] | None = None,
        seed: Seed = None,
    ) -> None:
        self._ntypes = ntypes if ntypes is not None else len(type_map or [])
        self.repinit_args = _with_defaults(repinit, REPINIT_DEFAULTS)
        self.repformer_args = _with_defaults(repformer, REPFORMER_DEFAULTS)
        self.concat_output_tebd, self.precision, self.smooth = concat_output_tebd, precision, smooth
        self.exclude_types = [list(p) for p in exclude_types]
        self.env_protection, self.trainable = env_protection, trainable
        self.add_tebd_to_repinit_out = add_tebd_to_repinit_out
        self.use_econf_tebd, self.use_tebd_bias = use_econf_tebd, use_tebd_bias
        self.type_map = None if type_map is None else list(type_map)
        environment: dict[str, Any] = {
            "exclude_types": exclude_types,
            "env_protection": env_protection,
            "precision": precision,
            "type_map": type_map,
            "trainable": trainable,
        }
        a = self.repinit_args
        self.type_embedding = TypeEmbedding(
            self._ntypes,
            [a["tebd_dim"]],
            precision=precision,
            trainable=trainable,
            use_econf_tebd=use_econf_tebd,
            use_tebd_bias=use_tebd_bias,
            type_map=self.type_map,
            seed=child_seed(seed, "types"),
        )
        self.repinit = DescrptDPA1(
            a["rcut"],
            a["rcut_smth"],
            a["nsel"],
            self._ntypes,
            attn_layer=0,
            smooth_type_embedding=smooth,
            concat_output_tebd=False,
            seed=child_seed(seed, "repinit"),
            **{k: a[k] for k in _SHARED_KEYS},
            **environment,
        )
        self.repinit.type_embedding = self.type_embedding
        self.three_body = self._make_three_body(seed, environment)
        width = self.repinit.dim_out
        if self.three_body is not None:
            width += a["three_body_neuron"][-1]
        g1 = self.repformer_args["g1_dim"]
        self.g1_shape_tranform: Module = (
            Identity()
            if width == g1
            else plain_layer(
                width, g1, bias=False, precision=precision, seed=child_seed(seed, "shape")
            )
        )
        self.tebd_transform = None
        if add_tebd_to_repinit_out:
            self.tebd_transform = plain_layer(
                a["tebd_dim"], g1, bias=False, precision=precision, seed=child_seed(seed, "tebd")
            )
        self.repformers = Repformers(
            self.repformer_args,
            ntypes=self._ntypes,
            smooth=smooth,
            seed=child_seed(seed, "repformers"),
            **environment,
        )

    def _make_three_body(self, seed: Seed, environment: dict[str, Any]) -> Any:
        a = self.repinit_args
        if not a["use_three_body"]:
            return None
        block = DescrptSeTTebd(
            a["three_body_rcut"],
            a["three_body_rcut_smth"],
            a["three_body_sel"],
            self._ntypes,
            neuron=a["three_body_neuron"],
            tebd_dim=a["tebd_dim"],
            tebd_input_mode=a["tebd_input_mode"],
            set_davg_zero=a["set_davg_zero"],
            activation_function=a["activation_function"],
            resnet_dt=a["resnet_dt"],
            smooth=self.smooth,
            concat_output_tebd=False,
            seed=child_seed(seed, "three_body"),
            **environment,
        )
        block.type_embedding = self.type_embedding
        return block

    # -- sizes --------------------------------------------------------------------------------

    @property
    def ntypes(self) -> int:
        """Number of types."""
        return self._ntypes

    @property
    def rcut(self) -> float:  # type: ignore[override]
        """Largest cutoff [Å]."""
        return max(b.rcut for b in self._blocks())

    @property
    def rcut_smth(self) -> float:  # type: ignore[override]
        """Start of the first switch [Å]."""
        return self.repinit.rcut_smth

    @property
    def sel(self) -> list[int]:  # type: ignore[override]
        """Largest number of neighbours."""
        return [max(b.nnei for b in self._blocks())]

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        tebd = self.repinit_args["tebd_dim"] if self.concat_output_tebd else 0
        return self.repformer_args["g1_dim"] + tebd

    @property
    def dim_embed(self) -> int:
        """Width of the rotation matrix."""
        return self.repformer_args["g2_dim"]

    @property
    def message_passing(self) -> bool:
        """Whether atoms beyond the cutoff matter."""
        return True

    def _blocks(self) -> list[MixedDescriptor]:
        three = [] if self.three_body is None else [self.three_body]
        return [self.repinit, *three, self.repformers]

    def packings(self) -> list[Packing]:
        """Return the blocks' layouts, each once."""
        return list(dict.fromkeys(p for b in self._blocks() for p in b.packings()))

    def statistics_parts(self) -> list[Descriptor]:
        """Return the blocks."""
        return list(self._blocks())

    # -- evaluation ---------------------------------------------------------------------------

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor of every atom.

        Returns
        -------
        DescriptorOutput
            value (n_atoms, g1_dim [+ tebd_dim]), rotation (n_atoms, g2_dim, 3).
        """
        types = self.type_embedding()
        space = ops.xp(types)
        g1 = self.repinit.block(atoms, slots, types).value
        if self.three_body is not None:
            g1 = space.concat([g1, self.three_body.block(atoms, slots, types)], axis=-1)
        g1 = self.g1_shape_tranform(g1)
        own = ops.take(types, atoms.atype)
        if self.tebd_transform is not None:
            g1 = g1 + self.tebd_transform(own)
        g1, rotation = self.repformers(atoms, slots, g1)
        if self.concat_output_tebd:
            g1 = space.concat([g1, own], axis=-1)
        return DescriptorOutput(g1, rotation)

    # -- dictionaries -------------------------------------------------------------------------

    def serialize(self) -> dict:
        """Return the neutral dictionary, whose blocks are split into settings and variables."""
        out: dict[str, Any] = {
            "@class": "Descriptor",
            "type": "dpa2",
            "@version": 3,
            "ntypes": self._ntypes,
            "repinit_args": dict(self.repinit_args),
            "repformer_args": dict(self.repformer_args),
            **{k: getattr(self, k) for k in self._CONFIG},
            "type_embedding": self.type_embedding.serialize(),
            "g1_shape_tranform": self.g1_shape_tranform.serialize(),
        }
        if self.tebd_transform is not None:
            out["tebd_transform"] = self.tebd_transform.serialize()
        out["repinit_variable"] = _block_variables(self.repinit)
        block = self.repformers
        out["repformers_variable"] = {
            "g2_embd": block.g2_embd.serialize(),
            "repformer_layers": [layer.serialize() for layer in block.repformer_layers],
            **_environment_variables(block),
        }
        if self.three_body is not None:
            out["repinit_three_body_variable"] = _block_variables(self.three_body)
        return out

    @classmethod
    def deserialize(cls, data: dict) -> Any:
        """Build the descriptor from its dictionary."""
        data = cls.upgraded(dict(data))
        settings = {k: data[k] for k in cls._CONFIG if k in data}
        new = cls(
            data["ntypes"],
            repinit=data["repinit_args"],
            repformer=data["repformer_args"],
            **settings,
        )
        new.type_embedding = TypeEmbedding.deserialize(data["type_embedding"])
        for block in (new.repinit, new.three_body):
            if block is not None:
                block.type_embedding = new.type_embedding
        kind = type(new.g1_shape_tranform)
        new.g1_shape_tranform = kind.deserialize(data["g1_shape_tranform"])
        _restore_block(new.repinit, data["repinit_variable"])
        if new.three_body is not None:
            _restore_block(new.three_body, data["repinit_three_body_variable"])
        if new.tebd_transform is not None:
            new.tebd_transform = type(new.tebd_transform).deserialize(data["tebd_transform"])
        stored, block = data["repformers_variable"], new.repformers
        block.g2_embd = type(block.g2_embd).deserialize(stored["g2_embd"])
        block.repformer_layers = [
            RepformerLayer.deserialize(layer) for layer in stored["repformer_layers"]
        ]
        restore_environment(block, stored)
        return new


_SHARED_KEYS = (
    "neuron axis_neuron tebd_dim tebd_input_mode set_davg_zero activation_function resnet_dt"
    " type_one_side"
).split()


def _with_defaults(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a block in the order of the dictionary, ``ln_eps`` null filled in."""
    head = {k: given[k] for k in ("rcut", "rcut_smth", "nsel")}
    out = {**head, **{k: given.get(k, v) for k, v in defaults.items()}}
    if out.get("ln_eps", 0) is None:
        out["ln_eps"] = 1e-5
    return out


def _environment_variables(block: MixedDescriptor) -> dict[str, Any]:
    arrays = {name: block.stored_array(name) for name in ("davg", "dstd")}
    return {"env_mat": {**block.env_mat, "protection": 0.0}, "@variables": arrays}


def restore_environment(block: MixedDescriptor, stored: Mapping[str, Any]) -> None:
    """Put stored statistics into a block."""
    for name in ("davg", "dstd"):
        setattr(block, name, block.restore_array(name, stored["@variables"][name]))


def _block_variables(block: Any) -> dict[str, Any]:
    out = {"embeddings": block.embeddings.serialize(), **_environment_variables(block)}
    if block.embeddings_strip is not None:
        out["embeddings_strip"] = block.embeddings_strip.serialize()
    return out


def _restore_block(block: Any, stored: Mapping[str, Any]) -> None:
    block.embeddings = NetworkCollection.deserialize(stored["embeddings"])
    if block.embeddings_strip is not None:
        block.embeddings_strip = NetworkCollection.deserialize(stored["embeddings_strip"])
    restore_environment(block, stored)


descriptor_args.register("dpa2")(dpa2_arguments)
