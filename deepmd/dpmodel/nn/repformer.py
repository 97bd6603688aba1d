# SPDX-License-Identifier: LGPL-3.0-or-later
"""The layer of DPA-2: atoms (g1), pairs (g2) and directions (h2) update each other.

Zhang et al., "DPA-2: a large atomic model as a multi-task learner", npj Comput. Mater. 10, 293
(2024).
"""

from collections.abc import Sequence
from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.nn.activation import activation
from deepmd.dpmodel.nn.layers import Dense
from deepmd.dpmodel.nn.norm import LayerNorm
from deepmd.dpmodel.nn.pair_attention import (
    DirectionAttentionApply,
    LocalAttention,
    PairAttentionApply,
    PairAttentionMap,
    Pairs,
)
from deepmd.dpmodel.nn.random import Seed, child_seed
from deepmd.dpmodel.nn.updates import check_update_style, combine_updates, plain_layer, residual

#: Parts that a layer has only where its settings need them.
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


class RepformerLayer(Module):
    """One layer; see math of the class's parts for every term.

    Parameters
    ----------
    rcut, rcut_smth, sel, ntypes
        Kept for the dictionary.
    g1_dim, g2_dim : int
        Widths of atom and pair features.
    axis_neuron : int
        Columns of the symmetrised products.
    update_chnnl_2 : bool
        Whether pair features are updated.
    others
        Which terms there are, see the input's ``repformer`` section.
    """

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

    def __init__(
        self,
        rcut: float,
        rcut_smth: float,
        sel: Sequence[int],
        ntypes: int,
        *,
        g1_dim: int = 128,
        g2_dim: int = 16,
        axis_neuron: int = 4,
        update_chnnl_2: bool = True,
        update_g1_has_conv: bool = True,
        update_g1_has_drrd: bool = True,
        update_g1_has_grrg: bool = True,
        update_g1_has_attn: bool = True,
        update_g2_has_g1g1: bool = True,
        update_g2_has_attn: bool = True,
        update_h2: bool = False,
        attn1_hidden: int = 64,
        attn1_nhead: int = 4,
        attn2_hidden: int = 16,
        attn2_nhead: int = 4,
        attn2_has_gate: bool = False,
        activation_function: str = "tanh",
        update_style: str = "res_avg",
        update_residual: float = 0.001,
        update_residual_init: str = "norm",
        smooth: bool = True,
        precision: str = "default",
        trainable_ln: bool = True,
        use_sqrt_nnei: bool = True,
        g1_out_conv: bool = True,
        g1_out_mlp: bool = True,
        ln_eps: float = 1e-5,
        seed: Seed = None,
    ) -> None:
        self.rcut, self.rcut_smth, self.sel, self.ntypes = rcut, rcut_smth, list(sel), ntypes
        self.g1_dim, self.g2_dim, self.axis_neuron = g1_dim, g2_dim, axis_neuron
        self.update_chnnl_2 = update_chnnl_2
        self.update_g1_has_conv, self.update_g1_has_drrd = update_g1_has_conv, update_g1_has_drrd
        self.update_g1_has_grrg, self.update_g1_has_attn = update_g1_has_grrg, update_g1_has_attn
        self.update_g2_has_g1g1 = update_g2_has_g1g1 and update_chnnl_2
        self.update_g2_has_attn = update_g2_has_attn and update_chnnl_2
        self.update_h2 = update_h2 and update_chnnl_2
        self.attn1_hidden, self.attn1_nhead = attn1_hidden, attn1_nhead
        self.attn2_hidden, self.attn2_nhead = attn2_hidden, attn2_nhead
        self.attn2_has_gate, self.activation_function = attn2_has_gate, activation_function
        self.update_style, self.smooth, self.precision = update_style, smooth, precision
        self.trainable_ln, self.use_sqrt_nnei = trainable_ln, use_sqrt_nnei
        self.g1_out_conv, self.g1_out_mlp, self.ln_eps = g1_out_conv, g1_out_mlp, ln_eps
        check_update_style(update_style)
        self._make_atom_parts(seed)
        self._make_pair_parts(seed)
        self._make_residuals(update_residual, update_residual_init, seed)

    def _linear(self, n_in: int, n_out: int, *, bias: bool, seed: Seed, name: str) -> Dense:
        return plain_layer(
            n_in, n_out, bias=bias, precision=self.precision, seed=child_seed(seed, name)
        )

    def _make_atom_parts(self, seed: Seed) -> None:
        g1, g2, conv = self.g1_dim, self.g2_dim, self.update_g1_has_conv
        width = (0 if self.g1_out_mlp else g1) + (g2 if conv and not self.g1_out_conv else 0)
        width += self.axis_neuron * (g2 * self.update_g1_has_grrg + g1 * self.update_g1_has_drrd)
        self.linear1 = self._linear(width, g1, bias=True, seed=seed, name="linear1")
        self.g1_self_mlp = (
            self._linear(g1, g1, bias=True, seed=seed, name="self") if self.g1_out_mlp else None
        )
        ends = (g2, g1) if self.g1_out_conv else (g1, g2)
        self.proj_g1g2 = self._linear(*ends, bias=False, seed=seed, name="g1g2") if conv else None
        self.loc_attn = None
        if self.update_g1_has_attn:
            self.loc_attn = LocalAttention(
                g1,
                self.attn1_hidden,
                self.attn1_nhead,
                smooth=self.smooth,
                precision=self.precision,
                seed=child_seed(seed, "local"),
            )

    def _make_pair_parts(self, seed: Seed) -> None:
        g1, g2, precision = self.g1_dim, self.g2_dim, self.precision
        attends = self.update_g2_has_attn or self.update_h2
        self.linear2 = (
            self._linear(g2, g2, bias=True, seed=seed, name="linear2")
            if self.update_chnnl_2
            else None
        )
        self.proj_g1g1g2 = (
            self._linear(g1, g2, bias=False, seed=seed, name="g1g1g2")
            if self.update_g2_has_g1g1
            else None
        )
        self.attn2g_map = self.attn2_mh_apply = self.attn2_lm = self.attn2_ev_apply = None
        if attends:
            self.attn2g_map = PairAttentionMap(
                g2,
                self.attn2_hidden,
                self.attn2_nhead,
                has_gate=self.attn2_has_gate,
                smooth=self.smooth,
                precision=precision,
                seed=child_seed(seed, "map"),
            )
        if self.update_g2_has_attn:
            self.attn2_mh_apply = PairAttentionApply(
                g2, self.attn2_nhead, precision=precision, seed=child_seed(seed, "apply")
            )
            self.attn2_lm = LayerNorm(
                g2, eps=self.ln_eps, trainable=self.trainable_ln, precision=precision
            )
        if self.update_h2:
            self.attn2_ev_apply = DirectionAttentionApply(
                g2, self.attn2_nhead, precision=precision, seed=child_seed(seed, "direction")
            )

    def _make_residuals(self, size: float, kind: str, seed: Seed) -> None:
        """Vectors r_k of the style res_residual, one per term of an update."""
        conv = self.update_g1_has_conv and self.g1_out_conv
        counts = {
            "g1": (self.g1_dim, 1 + self.g1_out_mlp + conv + self.update_g1_has_attn),
            "g2": (
                self.g2_dim,
                self.update_chnnl_2 * (1 + self.update_g2_has_g1g1 + self.update_g2_has_attn),
            ),
            "h2": (1, int(self.update_h2)),
        }
        for name, (width, count) in counts.items():
            used = count if self.update_style == "res_residual" else 0
            vectors = [
                residual(width, size, kind, self.precision, child_seed(seed, f"{name}{k}"))
                for k in range(used)
            ]
            setattr(self, f"{name}_residual", vectors)

    # -- evaluation ---------------------------------------------------------------------------

    def call(self, g1: Any, g2: Any, h2: Any, pairs: Pairs) -> tuple[Any, Any, Any]:
        """Update (n, ng1), (n, K, ng2), (n, K, 3); every term sees the layer's inputs."""
        near = ops.take(g1, pairs.j)  # of empty slots, too: their weights are 0 everywhere
        new_g1 = self.combine([g1, *self._atom_terms(g1, near, g2, h2, pairs)], self.g1_residual)
        if not self.update_chnnl_2:
            return new_g1, g2, h2
        act = activation(self.activation_function)
        pair_terms = [g2, act(self.linear2(g2))]
        if self.proj_g1g1g2 is not None:
            product = self.proj_g1g1g2(g1[:, None, :] * near)
            pair_terms.append(product * self.weight(pairs)[..., None])
        weights = None if self.attn2g_map is None else self.attn2g_map(g2, h2, pairs)
        if self.attn2_mh_apply is not None:
            pair_terms.append(self.attn2_lm(self.attn2_mh_apply(weights, g2)))
        new_g2 = self.combine(pair_terms, self.g2_residual)
        if self.attn2_ev_apply is not None:
            h2 = self.combine([h2, self.attn2_ev_apply(weights, h2)], self.h2_residual)
        return new_g1, new_g2, h2

    def _atom_terms(self, g1: Any, near: Any, g2: Any, h2: Any, pairs: Pairs) -> list[Any]:
        space, act = ops.xp(g1), activation(self.activation_function)
        terms, joined = [], []
        if self.g1_self_mlp is not None:
            terms.append(act(self.g1_self_mlp(g1)))
        else:
            joined.append(g1)
        if self.proj_g1g2 is not None:
            (terms if self.g1_out_conv else joined).append(self._convolution(near, g2, pairs))
        if self.update_g1_has_grrg:
            joined.append(self.symmetrised(g2, h2, pairs))
        if self.update_g1_has_drrd:
            joined.append(self.symmetrised(near, h2, pairs))
        terms.append(act(self.linear1(space.concat(joined, axis=-1))))
        if self.loc_attn is not None:
            terms.append(self.loc_attn(g1, near, pairs))
        return terms

    def _convolution(self, near: Any, g2: Any, pairs: Pairs) -> Any:
        """Sum over neighbours of projected pair times atom features."""
        space = ops.xp(near)
        # The narrow factor takes the weight: the projections have no bias.
        weighted = g2 * self.weight(pairs)[..., None]
        if self.g1_out_conv:
            product = self.proj_g1g2(weighted) * near
        else:
            product = weighted * self.proj_g1g2(near)
        total = space.sum(product, axis=1)
        if self.smooth:
            return total * (1.0 / pairs.nsel)
        return total / (space.sum(pairs.mask, axis=1)[:, None] + 1e-4)

    def weight(self, pairs: Pairs) -> Any:
        """Weight of every slot (n, K), 0 in empty ones."""
        return pairs.switch if self.smooth else pairs.mask

    def moments(self, g: Any, h2: Any, pairs: Pairs) -> Any:
        """Weighted sum of h ⊗ g over neighbours: (n, K, ng), (n, K, 3) -> (n, 3, ng)."""
        space = ops.xp(g)
        total = ops.contract(h2 * self.weight(pairs)[..., None], g)
        if self.smooth:
            scale = pairs.nsel**-0.5 if self.use_sqrt_nnei else 1.0 / pairs.nsel
            return total * scale
        count = space.sum(pairs.mask, axis=1)[:, None, None]
        root = _safe_sqrt(count) if self.use_sqrt_nnei else count
        return total / (root + 1e-4)

    def symmetrised(self, g: Any, h2: Any, pairs: Pairs) -> Any:
        """Invariant product of the moments: (n, axis_neuron * ng)."""
        m = self.moments(g, h2, pairs)
        product = ops.xp(m).matmul(ops.matrix_transpose(m[:, :, : self.axis_neuron]), m)
        n, width = ops.shape(g)[0], g.shape[-1]
        return ops.xp(m).reshape(product * (1.0 / 3.0), (n, self.axis_neuron * width))

    def combine(self, terms: Sequence[Any], residuals: Sequence[Any]) -> Any:
        """Join the old value, first, and its updates."""
        return combine_updates(terms, residuals, self.update_style)

    # -- dictionaries -------------------------------------------------------------------------

    def serialize(self) -> dict:
        out = super().serialize()
        if self.update_style != "res_residual":
            del out["@variables"]
        return out

    @classmethod
    def deserialize(cls, data: dict) -> Any:
        empty: dict[str, list] = {"g1_residual": [], "g2_residual": [], "h2_residual": []}
        return super().deserialize({"@variables": empty, **data})


def _safe_sqrt(x: Any) -> Any:
    """Square root of counts, whose derivative nobody asks for."""
    return ops.xp(x).sqrt(ops.stop_gradient(x))
