# SPDX-License-Identifier: LGPL-3.0-or-later
"""DPA-2: an initial representation refined by message passing.

Zhang et al., "DPA-2: a large atomic model as a multi-task learner", npj Comput. Mater. 10, 293
(2024).
"""

from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots, edge_ends
from deepmd.dpmodel.descriptor.dpa1 import SymmetrizedBlock
from deepmd.dpmodel.descriptor.environment import with_tables
from deepmd.dpmodel.descriptor.mixed import EmbeddedTypes, MixedNeighbors, agreed
from deepmd.dpmodel.descriptor.se_e3_tebd import ThreeBodyBlock
from deepmd.dpmodel.module import Serial
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.nn.activation import activation
from deepmd.dpmodel.nn.norm import Identity
from deepmd.dpmodel.nn.pair_attention import Pairs
from deepmd.dpmodel.nn.random import child_seed
from deepmd.dpmodel.nn.repformer import RepformerLayer, RepformerSettings
from deepmd.dpmodel.nn.updates import linear
from deepmd.schema.common import NOT_NEGATIVE, POSITIVE
from deepmd.schema.cross import demand
from deepmd.schema.descriptor import SEL
from deepmd.schema.network import widths
from deepmd.schema.settings import setting

_EMBEDDED: dict[str, Any] = {
    "buffers": ("davg", "dstd"),
    "children": ("embeddings", "embeddings_strip"),
    "constants": ("env_mat",),
    "optional": ("embeddings_strip",),
}


class _Block(MixedNeighbors):
    """A part of DPA-2 with a cutoff of its own."""

    rcut: float = setting(..., "Cutoff radius, Å.", rule=POSITIVE)
    rcut_smth: float = setting(..., "Start of the smooth switch, Å.", rule=NOT_NEGATIVE)
    nsel: int = setting(
        ..., 'Number of neighbors, or "auto".', kind=[int, str], rule=SEL, within="rcut"
    )
    set_davg_zero: bool = setting(True)

    @property
    def sel(self) -> list[int]:  # type: ignore[override]
        """The number of neighbors in a list."""
        return [self.nsel]


class Repinit(_Block, SymmetrizedBlock):
    """The initial representation of DPA-2."""

    serial = with_tables(
        Serial(
            layout="rcut rcut_smth nsel neuron axis_neuron tebd_dim tebd_input_mode set_davg_zero"
            " activation_function resnet_dt type_one_side use_three_body three_body_neuron"
            " three_body_sel three_body_rcut three_body_rcut_smth"
            " embeddings env_mat @variables embeddings_strip",
            **_EMBEDDED,
        )
    )

    smooth_type_embedding: bool = setting(False, key=False)
    neuron: list[int] = setting((25, 50, 100))
    axis_neuron: int = setting(16)
    use_three_body: bool = setting(False, "Append a three-body block.")
    three_body_neuron: list[int] = widths((2, 4, 8), "Widths of its network.", least=1)
    three_body_sel: int = setting(
        40, "Its number of neighbors.", kind=[int, str], rule=SEL, within="three_body_rcut"
    )
    three_body_rcut: float = setting(4.0, "Its cutoff radius, Å.", rule=POSITIVE)
    three_body_rcut_smth: float = setting(0.5, "Start of its switch, Å.", rule=NOT_NEGATIVE)


class RepinitThreeBody(ThreeBodyBlock):
    """The three-body terms of the initial representation."""

    serial = with_tables(
        Serial(layout="embeddings env_mat @variables embeddings_strip", **_EMBEDDED)
    )


class Repformers(RepformerSettings, _Block):
    """The message-passing block of DPA-2."""

    serial = Serial(
        layout="rcut rcut_smth nsel nlayers g1_dim g2_dim axis_neuron direct_dist"
        " update_g1_has_conv update_g1_has_drrd update_g1_has_grrg update_g1_has_attn"
        " update_g2_has_g1g1 update_g2_has_attn update_h2 attn1_hidden attn1_nhead attn2_hidden"
        " attn2_nhead attn2_has_gate activation_function update_style update_residual"
        " update_residual_init set_davg_zero trainable_ln use_sqrt_nnei g1_out_conv g1_out_mlp"
        " ln_eps g2_embd repformer_layers env_mat @variables",
        buffers=("davg", "dstd"),
        children=("g2_embd", "repformer_layers"),
        constants=("env_mat",),
    )

    nlayers: int = setting(3, "Number of layers.", rule=POSITIVE)
    direct_dist: bool = setting(False, "Start from r/rcut and d/rcut instead of the environment.")
    smooth: bool = setting(True, "Smooth attention and messages.")

    def build(self) -> None:
        super().build()
        self.ln_eps = 1e-5 if self.ln_eps is None else self.ln_eps
        self.g2_embd = linear(self, 1, self.g2_dim, "g2", bias=True)
        self.repformer_layers = [
            self.part(
                RepformerLayer,
                sel=self.sel,
                update_chnnl_2=k != self.nlayers - 1,
                seed=child_seed(self.seed, k),
            )
            for k in range(self.nlayers)
        ]

    def call(self, atoms: Atoms, slots: Slots, g1: Any) -> tuple[Any, Any]:  # type: ignore[override]
        """Refine atom features (n, g1_dim); return them and the equivariant part (n, g2_dim, 3)."""
        near = self.neighborhood(atoms, slots)
        table = slots[self.packing][0]
        space, act = ops.xp(g1), activation(self.activation_function)
        _, j = edge_ends(atoms, table)
        pairs = Pairs(j, near.mask, near.switch, near.more, self.nnei, atoms.order)
        radial, h2 = near.rows[..., :1], near.rows[..., 1:]
        if self.direct_dist:
            d = ops.cast(ops.take(atoms.padded, table), self.dtype) * (1.0 / self.rcut)
            radial, h2 = space.sqrt(space.sum(d * d, axis=-1, keepdims=True)), d
        g1, g2 = act(g1), act(self.g2_embd(radial))
        for layer in self.repformer_layers:
            g1, g2, h2 = layer(g1, g2, h2, pairs)
        if not atoms.directions:
            return g1, None
        moments = self.repformer_layers[-1].moments(g2, h2, pairs)
        return g1, ops.matrix_transpose(moments)


@Descriptor.register("dpa2")
class DescrptDPA2(EmbeddedTypes):
    """Repinit, optionally with three-body terms, then repformer layers."""

    serial = Serial(
        layout="@class type @version ntypes repinit_args repformer_args concat_output_tebd precision"
        " smooth exclude_types env_protection trainable add_tebd_to_repinit_out use_econf_tebd"
        " use_tebd_bias type_map type_embedding g1_shape_tranform tebd_transform repinit_variable"
        " repformers_variable repinit_three_body_variable",
        name="Descriptor",
        type="dpa2",
        version=3,
        accepts=(1, 2, 3, 4),
        grows=True,
        children=(
            "type_embedding",
            "repinit",
            "three_body",
            "g1_shape_tranform",
            "tebd_transform",
            "repformers",
        ),
        optional=("tebd_transform", "three_body"),
        parts={
            "repinit": ("repinit_args", "repinit_variable"),
            "three_body": (None, "repinit_three_body_variable"),
            "repformers": ("repformer_args", "repformers_variable"),
        },
        arguments={"repinit_args": "repinit", "repformer_args": "repformer"},
    )
    torch_names = {
        "repinit_variable": "repinit",
        "repinit_three_body_variable": "repinit_three_body",
        "repformers_variable": "repformers",
        "repformer_layers": "layers",
    }

    repinit: Any = setting(..., "The initial representation.", part=Repinit)
    repformer: dict[str, Any] = setting(..., "The message passing.", part=Repformers)
    smooth: bool = setting(True, "Smooth attention and messages.")
    add_tebd_to_repinit_out: bool = setting(
        False,
        "Add the projected type embedding before the message passing.",
        alias=["repformer_add_type_ebd_to_seq"],
    )

    def build(self) -> None:
        super().build()
        seed, smooth = child_seed(self.seed, "repinit"), self.smooth
        self.repinit = self.part(Repinit, seed=seed, smooth_type_embedding=smooth, **self.repinit)
        seed = child_seed(self.seed, "repformers")
        self.repformers = self.part(Repformers, seed=seed, **self.repformer)
        self.three_body = self._three_body() if self.repinit.use_three_body else None
        for block, key in (
            (self.three_body, "repinit/three_body_rcut"),
            (self.repformers, "repformer/rcut"),
        ):
            demand(
                block is None or block.rcut <= self.repinit.rcut,
                f"{block and block.rcut} is larger than the rcut of repinit, {self.repinit.rcut}",
                f"model/descriptor/{key}",
            )
        self.type_embedding = self.make_type_embedding(self.repinit.tebd_dim)
        width = sum(b.dim_out for b in self._blocks()[:-1])
        g1 = self.repformers.g1_dim
        self.g1_shape_tranform = (
            Identity() if width == g1 else linear(self, width, g1, "shape", bias=False)
        )
        self.tebd_transform = None
        if self.add_tebd_to_repinit_out:
            self.tebd_transform = linear(self, self.repinit.tebd_dim, g1, "tebd", bias=False)

    @classmethod
    def with_type_width(cls, section: dict[str, Any], width: int) -> dict[str, Any]:
        """Return the section with the length of the vectors in its initial representation."""
        given, where = section["repinit"], "model/descriptor/repinit"
        own = {"tebd_dim": agreed(Repinit, given, "tebd_dim", width, where)}
        return {**section, "repinit": {**given, **own}}

    def _three_body(self) -> RepinitThreeBody:
        given = self.repinit
        return given.part(
            RepinitThreeBody,
            rcut=given.three_body_rcut,
            rcut_smth=given.three_body_rcut_smth,
            sel=given.three_body_sel,
            neuron=given.three_body_neuron,
            smooth=self.smooth,
            seed=child_seed(self.seed, "three_body"),
        )

    @property
    def stored_version(self) -> int:
        """Version of the dictionary: a later one with tables."""
        return self.serial.version + (self.repinit.tables is not None)

    # -- sizes --------------------------------------------------------------------------------

    @property
    def rcut(self) -> float:  # type: ignore[override]
        """Largest cutoff [Å]."""
        return max(b.rcut for b in self._blocks())

    @property
    def interaction_range(self) -> float:
        """Reach of the initial representation, and of the messages on top of it [Å]."""
        return self.repinit.rcut + self.repformers.nlayers * self.repformers.rcut

    @property
    def rcut_smth(self) -> float:  # type: ignore[override]
        """Start of the first switch [Å]."""
        return self.repinit.rcut_smth

    @property
    def sel(self) -> list[int]:  # type: ignore[override]
        """Largest number of neighbors."""
        return [max(b.nnei for b in self._blocks())]

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return self.repformers.g1_dim + self.repinit.tebd_dim * self.concat_output_tebd

    @property
    def dim_embed(self) -> int:
        """Width of the rotation matrix."""
        return self.repformers.g2_dim

    @property
    def message_passing(self) -> bool:
        """Whether atoms beyond the cutoff matter."""
        return True

    def _blocks(self) -> list[MixedNeighbors]:
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
        return DescriptorOutput(self.with_types(g1, own), rotation)
