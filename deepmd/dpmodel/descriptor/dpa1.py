# SPDX-License-Identifier: LGPL-3.0-or-later
"""DPA-1: attention over neighbors, types through an embedding.

Zhang et al., "Pretraining of attention-based deep learning potential model for molecular
simulation", npj Comput. Mater. 10, 94 (2024).
"""

from typing import Any

from deepmd.base.errors import ModelFileError
from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots
from deepmd.dpmodel.descriptor.environment import environment_serial, symmetrized
from deepmd.dpmodel.descriptor.mixed import EmbeddedTypes, MixedDescriptor, Neighborhood
from deepmd.dpmodel.nn.attention import NeighborGatedAttention, NeighborSlots
from deepmd.dpmodel.nn.random import child_seed
from deepmd.schema.common import NOT_NEGATIVE, POSITIVE, Rule
from deepmd.schema.descriptor import AXIS_NEURON
from deepmd.schema.settings import setting

_LAYOUT = (
    "rcut rcut_smth sel ntypes neuron axis_neuron tebd_dim tebd_input_mode"
    " set_davg_zero attn attn_layer attn_dotr attn_mask activation_function resnet_dt"
    " scaling_factor normalize temperature trainable_ln ln_eps smooth_type_embedding type_one_side"
    " concat_output_tebd use_econf_tebd use_tebd_bias type_map precision embeddings"
    " attention_layers env_mat type_embedding exclude_types env_protection @variables trainable"
    " spin embeddings_strip"
)
_CHILDREN = ("embeddings", "attention_layers", "type_embedding", "embeddings_strip")


class SymmetrizedBlock(MixedDescriptor):
    r"""``D_i = T T_<ᵀ`` with ``T = (1/N) Σ_j G_ij ⊗ R_ij``; G embeds geometry and types.

    With ``concat`` the network of G sees the radial component and the type embeddings side by
    side; with ``strip`` a second network of the types gates that of the geometry,
    ``G = N_s(s) (1 + N_t)``.
    """

    axis_neuron: int = AXIS_NEURON
    type_one_side: bool = setting(False, "Put in the neighbor's type only.")
    smooth_type_embedding: bool = setting(
        False,
        "Let attention, and in strip mode the gate, vanish at the cutoff.",
        alias=["smooth_type_embdding"],
    )
    attn_layer = 0
    attention_layers: Any

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return self.neuron[-1] * self.axis_neuron

    @property
    def dim_embed(self) -> int:
        """Width of the rotation matrix."""
        return self.neuron[-1]

    @property
    def depends_on_order(self) -> bool:
        """Whether empty slots count and take the type of the frame's first atom.

        The definition's own oddity: with a mean that is not zero, energies depend on which atom
        comes first, unless the gate of the types vanishes in empty slots.
        """
        return self.embeds_empty_types and not self.set_davg_zero

    @property
    def embeds_empty_types(self) -> bool:
        """Whether types count where the switch is 0."""
        return self.tebd_input_mode == "concat" or not self.smooth_type_embedding

    @property
    def reads_beyond_cutoff(self) -> bool:
        """Whether neighbors beyond the cutoff take part in attention, or embed their types."""
        if self.attn_layer and not self.smooth_type_embedding:
            return True
        mean = self.embeds_empty_types and not self.set_davg_zero
        return mean or super().reads_beyond_cutoff

    def block(self, atoms: Atoms, slots: Slots, types: Any) -> DescriptorOutput:
        """Evaluate every atom, given the embeddings of all types (nt + 1, dim).

        Returns
        -------
        DescriptorOutput
            value (n_atoms, ng * axis_neuron), rotation (n_atoms, ng, 3).
        """
        near = self.neighborhood(atoms, slots)
        network = self.embeddings.networks[0]
        residual = network.layers[0].adds_input
        if self.attn_layer or self.tebd_input_mode != "concat" or residual:
            sums = self.sums(near, atoms, types)
        else:  # only sums of features are needed, and the types' part is one of few rows
            table = self.first_layer(types)
            sums = [
                network.contract(rows, table, self.type_index(atoms, of), order=atoms.order)
                for rows, of in ((near.rows, near.types), (near.empty, near.empty_type))
            ]
        total = sums[0] + ops.times(sums[1], near.more)
        return symmetrized(total, self.nnei, self.axis_neuron)

    def sums(self, near: Neighborhood, atoms: Atoms, types: Any) -> list[Any]:
        """Sums of ``G ⊗ R`` over the slots (n, ng, 4), and the term of an empty one."""
        g = self.features(near.rows, near.types, near.switch, atoms, types)
        empty = self.features(near.empty, near.empty_type, 0.0 * near.switch[:, :1], atoms, types)
        if self.attn_layer:
            seen = self.attention_slots(near)
            g, empty = self.attention_layers(g, empty, seen, order=atoms.order)
        return [ops.contract(g, near.rows), ops.contract(empty, near.empty)]

    @property
    def attends(self) -> bool:  # type: ignore[override]
        """Whether there is attention."""
        return self.attn_layer > 0

    def features(self, rows: Any, neighbor: Any, sw: Any, atoms: Atoms, types: Any) -> Any:
        """Embed geometry (n, K, 4) and neighbor types (n, K): (n, K, ng)."""
        space = ops.xp(rows)
        s, network = rows[..., :1], self.geometry
        n, k = ops.shape(neighbor)
        if self.tebd_input_mode == "concat":
            parts = [s, ops.take(types, neighbor)]
            if not self.type_one_side:
                own = ops.take(types, atoms.atype)[:, None, :]
                parts.append(space.broadcast_to(own, (n, k, self.tebd_dim)))
            return network(space.concat(parts, axis=-1))
        gate = ops.take(self.type_gate(types), self.type_index(atoms, neighbor))
        if self.smooth_type_embedding:
            gate = gate * sw[..., None]
        g = network(s)
        return g * gate + g

    def attention_slots(self, near: Neighborhood) -> NeighborSlots:
        """Geometry and masks for the attention layers."""
        space = ops.xp(near.rows)
        angular = near.rows[..., 1:]
        squared = space.sum(angular * angular, axis=-1, keepdims=True)
        flat = squared <= 1e-24
        length = space.sqrt(space.where(flat, 0.0 * squared + 1.0, squared))
        direction = space.where(flat, angular * 1e12, angular / length)
        return NeighborSlots(near.mask, near.switch, direction, near.more)


@Descriptor.register("se_atten", "dpa1")
class DescrptDPA1(EmbeddedTypes, SymmetrizedBlock):
    """Attention over neighbors, types through an embedding.

    Attention layers mix the G of an atom's neighbors, see :class:`SymmetrizedBlock`.
    """

    serial = environment_serial("dpa1", _LAYOUT, children=_CHILDREN, optional=("embeddings_strip",))
    torch_prefix = "se_atten."
    torch_names = {"attention_layers": "dpa1_attention"}
    spin = None

    set_davg_zero: bool = setting(True)
    stripped_type_embedding: bool | None = setting(
        None, "Older way to say tebd_input_mode: true is strip, false is concat."
    )
    attn: int = setting(128, "Width of the attention.", rule=POSITIVE)
    attn_layer: int = setting(2, "Number of attention layers.", rule=NOT_NEGATIVE)
    attn_dotr: bool = setting(True, "Multiply weights by cosines between neighbors.")
    attn_mask: bool = setting(
        False,
        "Must be false.",
        rule=Rule(lambda v: not v, "must be false: masking the diagonal is not defined here"),
    )
    trainable_ln: bool = setting(True, "Train scale and shift of the layer norms.")
    ln_eps: float | None = setting(
        None, "Epsilon of the layer norms; null means 1e-5.", rule=NOT_NEGATIVE
    )
    scaling_factor: float = setting(1.0, "Scale of the attention.", rule=POSITIVE)
    normalize: bool = setting(True, "Divide q, k and v by their lengths.")
    temperature: float | None = setting(None, "Replaces the scale of the attention.", rule=POSITIVE)

    def build(self) -> None:
        if self.stripped_type_embedding is not None:
            self.tebd_input_mode = "strip" if self.stripped_type_embedding else "concat"
        super().build()
        self.ln_eps = 1e-5 if self.ln_eps is None else self.ln_eps
        self.type_embedding = self.make_type_embedding(self.tebd_dim)
        self.attention_layers = self.part(
            NeighborGatedAttention,
            layer_num=self.attn_layer,
            nnei=self.nnei,
            embed_dim=self.neuron[-1],
            hidden_dim=self.attn,
            dotr=self.attn_dotr,
            smooth=self.smooth_type_embedding,
            seed=child_seed(self.seed, "attention"),
        )

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return super().dim_out + self.tebd_dim * self.concat_output_tebd

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor of every atom.

        Returns
        -------
        DescriptorOutput
            value (n_atoms, ng * axis_neuron [+ tebd_dim]), rotation (n_atoms, ng, 3).
        """
        types = self.type_embedding()
        output = self.block(atoms, slots, types)
        value = self.with_types(output.value, ops.take(types, atoms.atype))
        return DescriptorOutput(value, output.rotation)

    @classmethod
    def construct(cls, config: dict, data: dict) -> Any:
        """Take what only the attention layers' dictionaries say into account."""
        module = super().construct(config, data)
        for layer in data["attention_layers"]["attention_layers"]:
            if layer["attention_layer"]["smooth"] != module.smooth_type_embedding:
                raise ModelFileError("attention and type embedding are not both smooth")
        return module


@Descriptor.register("se_atten_v2")
class DescrptSeAttenV2(DescrptDPA1):
    """DPA-1 with stripped, smooth type embeddings."""

    serial = environment_serial(
        "se_atten_v2",
        _LAYOUT.replace(" tebd_input_mode", "")
        .replace(" smooth_type_embedding", "")
        .replace(" embeddings_strip", "")
        .replace(" embeddings", " embeddings embeddings_strip"),
        children=_CHILDREN,
    )
    tebd_input_mode = "strip"
    stripped_type_embedding = None
    smooth_type_embedding = True

    set_davg_zero: bool = setting(False)
