# SPDX-License-Identifier: LGPL-3.0-or-later
"""Layer of DPA-2: updates of atoms (g1), pairs (g2) and directions (h2).

Zhang et al., "DPA-2: a large atomic model as a multi-task learner", npj Comput. Mater. 10, 293
(2024).
"""

from typing import Any

from deepmd.base.errors import InputError
from deepmd.dpmodel import ops
from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.nn.activation import activation
from deepmd.dpmodel.nn.norm import LayerNorm
from deepmd.dpmodel.nn.pair_attention import (
    DirectionAttentionApply,
    LocalAttention,
    PairAttentionApply,
    PairAttentionMap,
    Pairs,
    mixed_pairs,
    pair_attention,
)
from deepmd.dpmodel.nn.random import child_seed
from deepmd.dpmodel.nn.updates import MessageLayer, MessageSettings, convolution, linear
from deepmd.schema.common import NOT_NEGATIVE, POSITIVE
from deepmd.schema.descriptor import SEL
from deepmd.schema.network import ACTIVATION
from deepmd.schema.settings import setting

#: Parts that exist only where the settings need them.
_OPTIONAL = (
    "linear2",
    "proj_g1g2",
    "proj_g1g1g2",
    "attn2g_map",
    "attn2_mh_apply",
    "attn2_lm",
    "attn2_ev_apply",
    "loc_attn",
    "g1_self_mlp",
)


class RepformerSettings(MessageSettings):
    """Settings of the layers of DPA-2."""

    g1_dim: int = setting(128, "Width of atom features.", rule=POSITIVE)
    g2_dim: int = setting(16, "Width of pair features.", rule=POSITIVE)
    update_g1_has_conv: bool = setting(True, "Convolution of pair and atom features.")
    update_g1_has_drrd: bool = setting(
        True, "Symmetrized products of the neighbors' atom features."
    )
    update_g1_has_grrg: bool = setting(True, "Symmetrized products of pair features.")
    update_g1_has_attn: bool = setting(True, "Attention to the neighbors.")
    update_g2_has_g1g1: bool = setting(True, "Products of atom features in pairs.")
    update_g2_has_attn: bool = setting(True, "Gated attention between pairs.")
    update_h2: bool = setting(False, "Update directions.")
    attn1_hidden: int = setting(64, "Width of a head of the atoms' attention.", rule=POSITIVE)
    attn1_nhead: int = setting(4, "Its heads.", rule=POSITIVE)
    attn2_hidden: int = setting(16, "Width of a head of the pairs' attention.", rule=POSITIVE)
    attn2_nhead: int = setting(4, "Its heads.", rule=POSITIVE)
    attn2_has_gate: bool = setting(False, "Multiply its logits by h2·h2.")
    activation_function: str = ACTIVATION
    trainable_ln: bool = setting(True, "Train scale and shift of the layer norms.")
    use_sqrt_nnei: bool = setting(True, "Divide by the root of the number of neighbors.")
    g1_out_conv: bool = setting(True, "The convolution is a term of its own.")
    g1_out_mlp: bool = setting(True, "The atom's own network is a term of its own.")
    ln_eps: float = setting(
        1e-5,
        "Epsilon of the layer norms; null means 1e-5.",
        kind=[float, None],
        rule=NOT_NEGATIVE,
    )


class RepformerLayer(RepformerSettings, MessageLayer):
    """Layer of DPA-2; the terms are those of its parts."""

    serial = Serial(
        layout="@class @version rcut rcut_smth sel ntypes g1_dim g2_dim axis_neuron update_chnnl_2"
        " update_g1_has_conv update_g1_has_drrd update_g1_has_grrg update_g1_has_attn"
        " update_g2_has_g1g1 update_g2_has_attn update_h2 attn1_hidden attn1_nhead attn2_hidden"
        " attn2_nhead attn2_has_gate activation_function update_style smooth precision trainable_ln"
        " use_sqrt_nnei g1_out_conv g1_out_mlp ln_eps linear1 linear2 proj_g1g2 proj_g1g1g2"
        " attn2g_map attn2_mh_apply attn2_lm attn2_ev_apply loc_attn g1_self_mlp @variables",
        name="RepformerLayer",
        version=2,
        accepts=(1, 2),
        params=("g1_residual", "g2_residual", "h2_residual"),
        children=("linear1", *_OPTIONAL),
        optional=_OPTIONAL,
    )

    linear2: Any
    proj_g1g2: Any
    proj_g1g1g2: Any
    attn2g_map: Any
    attn2_mh_apply: Any
    attn2_lm: Any
    attn2_ev_apply: Any
    loc_attn: Any
    g1_self_mlp: Any
    g1_residual: Any
    g2_residual: Any
    h2_residual: Any

    rcut: float = setting(..., "Cutoff radius, Å.", rule=POSITIVE)
    rcut_smth: float = setting(..., "Start of the smooth switch, Å.", rule=NOT_NEGATIVE)
    sel: list[int] = setting(..., "Number of slots, in a list.", rule=SEL)
    ntypes: int = setting(..., "Number of types.")
    update_chnnl_2: bool = setting(True, "Whether pair features are updated.")
    smooth: bool = setting(True, "Smooth attention and messages.")

    def build(self) -> None:
        for name in ("update_g2_has_g1g1", "update_g2_has_attn", "update_h2"):
            setattr(self, name, getattr(self, name) and self.update_chnnl_2)
        self._make_atom_parts()
        self._make_pair_parts()
        conv = self.update_g1_has_conv and self.g1_out_conv
        pair_terms = 1 + self.update_g2_has_g1g1 + self.update_g2_has_attn
        self.make_residuals(
            g1=(self.g1_dim, 1 + self.g1_out_mlp + conv + self.update_g1_has_attn),
            g2=(self.g2_dim, self.update_chnnl_2 * pair_terms),
            h2=(1, int(self.update_h2)),
        )

    def _make_atom_parts(self) -> None:
        g1, g2, conv = self.g1_dim, self.g2_dim, self.update_g1_has_conv
        width = (0 if self.g1_out_mlp else g1) + (g2 if conv and not self.g1_out_conv else 0)
        width += self.axis_neuron * (g2 * self.update_g1_has_grrg + g1 * self.update_g1_has_drrd)
        if not width:
            raise InputError(
                "atoms receive nothing from their neighbors",
                where="model/descriptor/repformer",
                fix="set update_g1_has_grrg or update_g1_has_drrd to true",
            )
        used = [g2] * self.update_g1_has_grrg + [g1] * self.update_g1_has_drrd
        if used and self.axis_neuron > min(used):
            raise InputError(
                f"{self.axis_neuron} is more than the {min(used)} channels of atoms or pairs",
                where="model/descriptor/repformer/axis_neuron",
            )
        self.linear1 = linear(self, width, g1, "linear1", bias=True)
        self.g1_self_mlp = linear(self, g1, g1, "self", bias=True) if self.g1_out_mlp else None
        ends = (g2, g1) if self.g1_out_conv else (g1, g2)
        self.proj_g1g2 = linear(self, *ends, "g1g2", bias=False) if conv else None
        self.loc_attn = None
        if self.update_g1_has_attn:
            heads = {"hidden_dim": self.attn1_hidden, "head_num": self.attn1_nhead}
            self.loc_attn = self._attention(LocalAttention, "local", g1, **heads)

    def _make_pair_parts(self) -> None:
        g1, g2, attends = self.g1_dim, self.g2_dim, self.update_g2_has_attn
        self.linear2 = linear(self, g2, g2, "linear2", bias=True) if self.update_chnnl_2 else None
        self.proj_g1g1g2 = (
            linear(self, g1, g2, "g1g1g2", bias=False) if self.update_g2_has_g1g1 else None
        )
        self.attn2g_map = self.attn2_mh_apply = self.attn2_lm = self.attn2_ev_apply = None
        heads = {"head_num": self.attn2_nhead}
        if attends or self.update_h2:
            given = {**heads, "hidden_dim": self.attn2_hidden, "has_gate": self.attn2_has_gate}
            self.attn2g_map = self._attention(PairAttentionMap, "map", g2, **given)
        if attends:
            self.attn2_mh_apply = self._attention(PairAttentionApply, "apply", g2, **heads)
            self.attn2_lm = self.part(LayerNorm, n=g2, eps=self.ln_eps, trainable=self.trainable_ln)
        if self.update_h2:
            self.attn2_ev_apply = self._attention(DirectionAttentionApply, "direction", g2, **heads)

    def _attention(self, kind: type[Module], name: str, width: int, **given: Any) -> Any:
        return self.part(kind, input_dim=width, seed=child_seed(self.seed, name), **given)

    # -- evaluation ---------------------------------------------------------------------------

    def call(self, g1: Any, g2: Any, h2: Any, pairs: Pairs) -> tuple[Any, Any, Any]:
        """Update (n, ng1), (n, K, ng2), (n, K, 3); every term takes the layer's inputs."""
        near = ops.take(g1, pairs.j)  # of empty slots, too: their weights are 0 everywhere
        new_g1 = self.combine("g1", [g1, *self._atom_terms(g1, near, g2, h2, pairs)])
        if not self.update_chnnl_2:
            return new_g1, g2, h2
        act = activation(self.activation_function)
        pair_terms = [g2, act(self.linear2(g2))]
        if self.proj_g1g1g2 is not None:
            product = self.proj_g1g1g2(g1[:, None, :] * near)
            pair_terms.append(product * self.weight(pairs)[..., None])
        attended, turned = self._attention_terms(g2, h2, pairs)
        new_g2 = self.combine("g2", pair_terms + [self.attn2_lm(x) for x in attended])
        return new_g1, new_g2, self.combine("h2", [h2, *turned]) if turned else h2

    def _attention_terms(self, g2: Any, h2: Any, pairs: Pairs) -> tuple[list[Any], list[Any]]:
        """What pairs and directions receive from the attention between pairs, if they do."""
        attention, apply, turn = self.attn2g_map, self.attn2_mh_apply, self.attn2_ev_apply
        if turn is None:
            if apply is None:
                return [], []
            given = apply.arrays(attention), attention.options
            return [pair_attention(g2, h2, pairs, *given, order=pairs.order)], []
        weights = attention(g2, h2, pairs)  # they serve twice
        attended = [] if apply is None else [mixed_pairs(weights, g2, apply.arrays(attention))]
        return attended, [turn(weights, h2)]

    def _atom_terms(self, g1: Any, near: Any, g2: Any, h2: Any, pairs: Pairs) -> list[Any]:
        space, act = ops.xp(g1), activation(self.activation_function)
        terms, joined = [], []
        if self.g1_self_mlp is not None:
            terms.append(act(self.g1_self_mlp(g1)))
        else:
            joined.append(g1)
        conv, near_moments = self._of_neighbors(near, g2, h2, pairs)
        if conv is not None:
            (terms if self.g1_out_conv else joined).append(conv)
        if self.update_g1_has_grrg:
            joined.append(self.symmetrized(self.moments(g2, h2, pairs)))
        if near_moments is not None:
            joined.append(self.symmetrized(near_moments))
        terms.append(act(self.linear1(space.concat(joined, axis=-1))))
        if self.loc_attn is not None:
            terms.append(self.loc_attn(g1, near, pairs))
        return terms

    def _of_neighbors(self, near: Any, g2: Any, h2: Any, pairs: Pairs) -> tuple[Any, Any]:
        """Sum over neighbors of projected pair times atom features, and moments of the latter.

        (n, c), (n, 3, c); None where the layer has no such term.
        """
        space, conv, moments = ops.xp(near), None, None
        weight = self.weight(pairs)[..., None]
        weighted, turned = g2 * weight, h2 * weight
        # The narrow factor takes the weight: the projections have no bias.
        if self.proj_g1g2 is not None and self.g1_out_conv and self.update_g1_has_drrd:
            given = near, weighted, turned, self.proj_g1g2.weight
            conv, moments = convolution(*given, order=pairs.order)
        elif self.proj_g1g2 is not None:
            pair, atom = (
                (self.proj_g1g2(weighted), near)
                if self.g1_out_conv
                else (weighted, self.proj_g1g2(near))
            )
            conv = space.sum(pair * atom, axis=1)
        if self.update_g1_has_drrd and moments is None:
            moments = ops.contract(turned, near)
        if conv is not None:
            conv = self._mean(conv, pairs)
        return conv, None if moments is None else self._scaled(moments, pairs)

    def _mean(self, total: Any, pairs: Pairs) -> Any:
        """Mean over the slots, or over the neighbors, from a sum (n, c)."""
        if self.smooth:
            return total * (1.0 / pairs.nsel)
        return total / (ops.xp(total).sum(pairs.mask, axis=1)[:, None] + 1e-4)

    def weight(self, pairs: Pairs) -> Any:
        """Weight of every slot (n, K), 0 in empty ones."""
        return pairs.switch if self.smooth else pairs.mask

    def moments(self, g: Any, h2: Any, pairs: Pairs) -> Any:
        """Weighted sum of h ⊗ g over neighbors: (n, K, ng), (n, K, 3) -> (n, 3, ng)."""
        total = ops.contract(h2 * self.weight(pairs)[..., None], g)
        return self._scaled(total, pairs)

    def _scaled(self, total: Any, pairs: Pairs) -> Any:
        """Moments (n, 3, ng) from the sums over neighbors."""
        if self.smooth:
            scale = pairs.nsel**-0.5 if self.use_sqrt_nnei else 1.0 / pairs.nsel
            return total * scale
        count = ops.xp(total).sum(pairs.mask, axis=1)[:, None, None]
        root = _safe_sqrt(count) if self.use_sqrt_nnei else count
        return total / (root + 1e-4)


def _safe_sqrt(x: Any) -> Any:
    """Square root of counts, non-differentiable by design."""
    return ops.xp(x).sqrt(ops.stop_gradient(x))
