# SPDX-License-Identifier: LGPL-3.0-or-later
"""DPA-1: attention over neighbours, types through an embedding.

Zhang et al., "Pretraining of attention-based deep learning potential model for molecular
simulation", npj Comput. Mater. 10, 94 (2024).
"""

from collections.abc import Sequence
from typing import Any

from dargs import Argument

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots
from deepmd.dpmodel.descriptor.environment import environment_serial
from deepmd.dpmodel.descriptor.mixed import (
    MixedDescriptor,
    Neighbourhood,
    type_pairs,
)
from deepmd.dpmodel.nn.attention import NeighborGatedAttention, NeighbourSlots, outer
from deepmd.dpmodel.nn.random import Seed, child_seed
from deepmd.schema.common import common_network_arguments, option, widths_argument
from deepmd.schema.descriptor import (
    axis_neuron_argument,
    cutoff_arguments,
    environment_arguments,
    sel_argument,
)
from deepmd.schema.registry import descriptor_args
from deepmd.utils.errors import InputError, ModelFileError

_LAYOUT = (
    "rcut rcut_smth sel ntypes neuron axis_neuron tebd_dim tebd_input_mode"
    " set_davg_zero attn attn_layer attn_dotr attn_mask activation_function resnet_dt"
    " scaling_factor normalize temperature trainable_ln ln_eps smooth_type_embedding type_one_side"
    " concat_output_tebd use_econf_tebd use_tebd_bias type_map precision embeddings"
    " attention_layers env_mat type_embedding exclude_types env_protection @variables trainable"
    " spin embeddings_strip"
)
_CHILDREN = ("embeddings", "attention_layers", "type_embedding", "embeddings_strip")


@Descriptor.register("dpa1", "se_atten")
class DescrptDPA1(MixedDescriptor):
    r"""``D_i = T T_<ᵀ`` with ``T = (1/N) Σ_j G_ij ⊗ R_ij``; G embeds geometry and types.

    With ``concat`` the network of G sees the radial component and the type embeddings side by
    side; with ``strip`` a second network of the types gates that of the geometry,
    ``G = N_s(s) (1 + N_t)``. Attention layers then mix the G of an atom's neighbours.

    Parameters
    ----------
    axis_neuron : int
        Rows of T in the second factor.
    attn, attn_layer, attn_dotr, scaling_factor, normalize, temperature, trainable_ln, ln_eps
        Of the attention layers, see :class:`NeighborGatedAttention`.
    smooth_type_embedding : bool
        Let the attention, and in strip mode the gate, vanish at the cutoff.
    type_one_side : bool
        Put in the neighbour's type only.
    stripped_type_embedding : bool, optional
        Older way to say ``tebd_input_mode``: true is strip, false is concat.
    rcut, rcut_smth, sel, ntypes, precision, seed, options
        See :meth:`MixedDescriptor._init_common`.
    """

    serial = environment_serial("dpa1", _LAYOUT, children=_CHILDREN, optional=("embeddings_strip",))
    spin = None

    def __init__(
        self,
        rcut: float,
        rcut_smth: float,
        sel: int | Sequence[int],
        ntypes: int | None = None,
        *,
        axis_neuron: int = 4,
        attn: int = 128,
        attn_layer: int = 2,
        attn_dotr: bool = True,
        attn_mask: bool = False,
        scaling_factor: float = 1.0,
        normalize: bool = True,
        temperature: float | None = None,
        trainable_ln: bool = True,
        ln_eps: float | None = 1e-5,
        smooth_type_embedding: bool = False,
        type_one_side: bool = False,
        stripped_type_embedding: bool | None = None,
        precision: str = "default",
        seed: Seed = None,
        **options: Any,
    ) -> None:
        if attn_mask:
            raise InputError(
                "masking the diagonal of the attention is not defined here",
                where="model/descriptor/attn_mask",
                fix="leave it false",
            )
        if stripped_type_embedding is not None:
            options["tebd_input_mode"] = "strip" if stripped_type_embedding else "concat"
        of_types = 1 if type_one_side else 2
        self._init_common(
            rcut,
            rcut_smth,
            sel,
            ntypes,
            type_inputs=of_types,
            precision=precision,
            seed=seed,
            **options,
        )
        self.axis_neuron = axis_neuron
        self.attn, self.attn_layer, self.attn_dotr = attn, attn_layer, attn_dotr
        self.attn_mask, self.scaling_factor = attn_mask, scaling_factor
        self.normalize, self.temperature = normalize, temperature
        self.trainable_ln, self.ln_eps = trainable_ln, 1e-5 if ln_eps is None else ln_eps
        self.smooth_type_embedding, self.type_one_side = smooth_type_embedding, type_one_side
        self.attention_layers = NeighborGatedAttention(
            attn_layer,
            self.nnei,
            self.neuron[-1],
            attn,
            dotr=attn_dotr,
            scaling_factor=scaling_factor,
            normalize=normalize,
            temperature=temperature,
            trainable_ln=trainable_ln,
            ln_eps=self.ln_eps,
            smooth=smooth_type_embedding,
            precision=precision,
            seed=child_seed(seed, "attention"),
        )

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return self.neuron[-1] * self.axis_neuron + self.tebd_dim * self.concat_output_tebd

    @property
    def dim_embed(self) -> int:
        """Width of the rotation matrix."""
        return self.neuron[-1]

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor of every atom.

        Returns
        -------
        DescriptorOutput
            value (n_atoms, ng * axis_neuron [+ tebd_dim]), rotation (n_atoms, ng, 3).
        """
        types = self.type_embedding()
        output = self.block(atoms, slots, types)
        if not self.concat_output_tebd:
            return output
        own = ops.take(types, atoms.atype)
        value = ops.xp(own).concat([output.value, own], axis=-1)
        return DescriptorOutput(value, output.rotation)

    def block(self, atoms: Atoms, slots: Slots, types: Any) -> DescriptorOutput:
        """Evaluate without the centre's own embedding, given those of all types (nt + 1, dim)."""
        near = self.neighbourhood(atoms, slots)
        network = self.embeddings.networks[0]
        if self.attn_layer or self.tebd_input_mode != "concat" or network.adds_input:
            sums = self.sums(near, atoms, types)
        else:  # only sums of features are needed, and the types' part is one of few rows
            table = self.first_layer(types)
            sums = [
                ops.embed_contract(rows, network, table, self.kinds(atoms, of))
                for rows, of in ((near.rows, near.types), (near.empty, near.empty_type))
            ]
        t = sums[0] + near.more * sums[1]
        t = t * (1.0 / self.nnei)  # (n, ng, 4)
        d = ops.xp(t).matmul(t, ops.matrix_transpose(t[:, : self.axis_neuron, :]))
        width = self.neuron[-1] * self.axis_neuron
        return DescriptorOutput(ops.xp(d).reshape(d, (ops.shape(d)[0], width)), t[:, :, 1:])

    def sums(self, near: Neighbourhood, atoms: Atoms, types: Any) -> list[Any]:
        """Sums of ``G ⊗ R`` over the slots (n, ng, 4), and the term of an empty one."""
        g = self.features(near.rows, near.types, near.switch, atoms, types)
        empty = self.features(near.empty, near.empty_type, 0.0 * near.switch[:, :1], atoms, types)
        if self.attn_layer:
            g, empty = self.attention_layers(g, empty, self.attention_slots(near))
        return [ops.contract(g, near.rows), ops.contract(empty, near.empty)]

    def kinds(self, atoms: Atoms, neighbour: Any) -> Any:
        """Row of a table over neighbour types, or pairs centre-neighbour, for every slot (n, K)."""
        if self.type_one_side:
            return neighbour
        return atoms.atype[:, None] * (self.ntypes + 1) + neighbour

    def first_layer(self, types: Any) -> Any:
        """What the types give to the first layer of the embedding, bias included, per kind."""
        layer = self.embeddings.networks[0].layers[0]
        if self.type_one_side:
            return ops.linear(types, layer.w[1:], layer.b)
        centre, neighbour = type_pairs(types)
        both = ops.xp(types).concat([neighbour, centre], axis=-1)
        return ops.linear(both, layer.w[1:], layer.b)

    def features(self, rows: Any, neighbour: Any, sw: Any, atoms: Atoms, types: Any) -> Any:
        """Embed geometry (n, K, 4) and neighbour types (n, K): (n, K, ng)."""
        space = ops.xp(rows)
        s, network = rows[..., :1], self.embeddings.networks[0]
        n, k = ops.shape(neighbour)
        if self.tebd_input_mode == "concat":
            parts = [s, ops.take(types, neighbour)]
            if not self.type_one_side:
                own = ops.take(types, atoms.atype)[:, None, :]
                parts.append(space.broadcast_to(own, (n, k, self.tebd_dim)))
            return network(space.concat(parts, axis=-1))
        gate = ops.take(self.type_gate(types), self.kinds(atoms, neighbour))
        if self.smooth_type_embedding:
            gate = gate * sw[..., None]
        g = network(s)
        return g * gate + g

    def type_gate(self, types: Any) -> Any:
        """Output of the types' network for every neighbour type, or pair centre-neighbour.

        Returns (nt + 1, ng) one-sided, ((nt + 1)², ng) with row ``centre (nt + 1) + neighbour``.
        """
        network = self.embeddings_strip.networks[0]
        if self.type_one_side:
            return network(types)
        centre, neighbour = type_pairs(types)
        return network(ops.xp(types).concat([neighbour, centre], axis=-1))

    def attention_slots(self, near: Neighbourhood) -> NeighbourSlots:
        """What the attention layers must know."""
        space = ops.xp(near.rows)
        angular = near.rows[..., 1:]
        squared = space.sum(angular * angular, axis=-1, keepdims=True)
        flat = squared <= 1e-24
        length = space.sqrt(space.where(flat, 0.0 * squared + 1.0, squared))
        direction = space.where(flat, angular * 1e12, angular / length)
        cosine = space.matmul(direction, ops.matrix_transpose(direction))
        return NeighbourSlots(near.mask, outer(near.switch, near.switch), cosine, near.more)

    @classmethod
    def construct(cls, config: dict, data: dict) -> Any:
        """Take what only the attention layers' dictionaries say into account."""
        module = cls(**config)
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

    def __init__(
        self,
        rcut: float,
        rcut_smth: float,
        sel: int | Sequence[int],
        ntypes: int | None = None,
        *,
        set_davg_zero: bool = False,
        **others: Any,
    ) -> None:
        super().__init__(
            rcut,
            rcut_smth,
            sel,
            ntypes,
            tebd_input_mode="strip",
            smooth_type_embedding=True,
            set_davg_zero=set_davg_zero,
            **others,
        )


def _shared_arguments(*, set_davg_zero: bool) -> list[Argument]:
    return [
        sel_argument(mixed=True),
        *cutoff_arguments(),
        widths_argument(
            [10, 20, 40], "Widths of the embedding network; residual if same or twice."
        ),
        axis_neuron_argument(),
        option("type_one_side", bool, False, "Put in the neighbour's type only."),
        *common_network_arguments(),
        *environment_arguments(set_davg_zero=set_davg_zero),
        option("attn", int, 128, "Width of the attention."),
        option("attn_layer", int, 2, "Number of attention layers."),
        option("attn_dotr", bool, True, "Multiply weights by cosines between neighbours."),
        option("attn_mask", bool, False, "Must be false."),
        option("trainable_ln", bool, True, "Train scale and shift of the layer norms."),
        option("ln_eps", [float, None], None, "Epsilon of the layer norms; null means 1e-5."),
        option("tebd_dim", int, 8, "Length of the type embeddings."),
        option("use_econf_tebd", bool, False, "Start from electronic configurations."),
        option("use_tebd_bias", bool, False, "Bias in the type embedding."),
        option("scaling_factor", float, 1.0, "Scale of the attention."),
        option("normalize", bool, True, "Divide q, k and v by their lengths."),
        option("temperature", [float, None], None, "Replaces the scale of the attention."),
        option("concat_output_tebd", bool, True, "Append the centre's type embedding."),
    ]


@descriptor_args.register("se_atten", alias=["dpa1"])
def se_atten_arguments() -> list[Argument]:
    """Keys of DPA-1."""
    return [
        *_shared_arguments(set_davg_zero=True),
        option(
            "stripped_type_embedding",
            [bool, None],
            None,
            "Older way to say tebd_input_mode: true is strip, false is concat.",
        ),
        option(
            "smooth_type_embedding",
            bool,
            False,
            "Let attention, and in strip mode the gate, vanish at the cutoff.",
            alias=["smooth_type_embdding"],
        ),
        option("tebd_input_mode", str, "concat", 'How types are put in: "concat" or "strip".'),
    ]


@descriptor_args.register("se_atten_v2")
def se_atten_v2_arguments() -> list[Argument]:
    """Keys of DPA-1 with stripped, smooth type embeddings."""
    return _shared_arguments(set_davg_zero=False)
