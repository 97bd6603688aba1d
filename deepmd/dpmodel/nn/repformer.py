# SPDX-License-Identifier: LGPL-3.0-or-later
"""The layer of DPA-2: atoms (g1), pairs (g2) and directions (h2) update each other.

Zhang et al., "DPA-2: a large atomic model as a multi-task learner", npj Comput. Mater. 10, 293
(2024).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.nn.activation import activation, numpy_dtype, precision_name
from deepmd.dpmodel.nn.attention import SHIFT, masked_softmax, smooth_softmax
from deepmd.dpmodel.nn.layers import Dense
from deepmd.dpmodel.nn.norm import LayerNorm
from deepmd.dpmodel.nn.random import Seed, child_seed, stream
from deepmd.utils.errors import InputError


class Pairs(NamedTuple):
    """The slots of every atom.

    Attributes
    ----------
    j : (n, K) int
        Neighbour's number; any number in an empty slot.
    mask, switch : (n, K)
    more : int
        Empty slots of the definition beyond K.
    nsel : int
        Slots of the definition.
    """

    j: Any
    mask: Any
    switch: Any
    more: Any
    nsel: int


def plain_layer(n_in: int, n_out: int, *, bias: bool, precision: str, seed: Seed) -> Dense:
    """Return a linear layer without activation."""
    return Dense(
        n_in,
        n_out,
        activation_function="none",
        bias=bias,
        precision=precision_name(precision),
        seed=seed,
    )


class PairAttentionMap(Module):
    """Attention weights between the neighbours of an atom, gated by their directions."""

    serial = Serial(
        layout="@class @version input_dim hidden_dim head_num has_gate smooth attnw_shift precision"
        " mapqk",
        name="Atten2Map",
        children=("mapqk",),
        constants=("attnw_shift",),
    )
    attnw_shift = SHIFT

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        head_num: int,
        *,
        has_gate: bool = False,
        smooth: bool = True,
        precision: str = "default",
        seed: Seed = None,
    ) -> None:
        self.input_dim, self.hidden_dim, self.head_num = input_dim, hidden_dim, head_num
        self.has_gate, self.smooth, self.precision = has_gate, smooth, precision
        self.mapqk = plain_layer(
            input_dim, 2 * hidden_dim * head_num, bias=False, precision=precision, seed=seed
        )

    def call(self, g2: Any, h2: Any, pairs: Pairs) -> Any:
        """Weights of every head: (n, K, ng2), (n, K, 3) -> (n, heads, K, K)."""
        space = ops.xp(g2)
        n, k = ops.shape(pairs.j)
        qk = space.reshape(self.mapqk(g2), (n, k, self.hidden_dim, 2 * self.head_num))
        qk = space.permute_dims(qk, (0, 3, 1, 2))
        q, key = qk[:, : self.head_num], qk[:, self.head_num :]
        s = space.matmul(q, ops.matrix_transpose(key)) * (1.0 / math.sqrt(self.hidden_dim))
        gate = space.matmul(h2, ops.matrix_transpose(h2))[:, None, :, :]
        if self.has_gate:
            s = s * gate
        if self.smooth:
            mask = pairs.mask[:, None, :]
            p = smooth_softmax(s, pairs.switch[:, None, :], pairs.more)
            p = p * mask[..., :, None] * mask[..., None, :]
        else:
            p = masked_softmax(s, pairs.mask[:, None, :])
        return p * gate * (1.0 / math.sqrt(3.0))


class PairAttentionApply(Module):
    """Mix pair features with the weights of :class:`PairAttentionMap`."""

    serial = Serial(
        layout="@class @version input_dim head_num precision mapv head_map",
        name="Atten2MultiHeadApply",
        children=("mapv", "head_map"),
    )

    def __init__(
        self, input_dim: int, head_num: int, *, precision: str = "default", seed: Seed = None
    ) -> None:
        self.input_dim, self.head_num, self.precision = input_dim, head_num, precision
        self.mapv = plain_layer(
            input_dim,
            input_dim * head_num,
            bias=False,
            precision=precision,
            seed=child_seed(seed, "v"),
        )
        self.head_map = plain_layer(
            input_dim * head_num,
            input_dim,
            bias=True,
            precision=precision,
            seed=child_seed(seed, "head"),
        )

    def call(self, weights: Any, g2: Any) -> Any:
        """Apply: (n, heads, K, K), (n, K, ng2) -> (n, K, ng2)."""
        space = ops.xp(g2)
        n, k = ops.shape(g2)[:2]
        v = space.reshape(self.mapv(g2), (n, k, self.input_dim, self.head_num))
        mixed = space.matmul(weights, space.permute_dims(v, (0, 3, 1, 2)))
        mixed = space.permute_dims(mixed, (0, 2, 3, 1))
        return self.head_map(space.reshape(mixed, (n, k, self.input_dim * self.head_num)))


class DirectionAttentionApply(Module):
    """Mix directions with the weights of :class:`PairAttentionMap`."""

    serial = Serial(
        layout="@class @version input_dim head_num precision head_map",
        name="Atten2EquiVarApply",
        children=("head_map",),
    )

    def __init__(
        self, input_dim: int, head_num: int, *, precision: str = "default", seed: Seed = None
    ) -> None:
        self.input_dim, self.head_num, self.precision = input_dim, head_num, precision
        self.head_map = plain_layer(head_num, 1, bias=False, precision=precision, seed=seed)

    def call(self, weights: Any, h2: Any) -> Any:
        """Apply: (n, heads, K, K), (n, K, 3) -> (n, K, 3)."""
        space = ops.xp(h2)
        mixed = space.matmul(weights, h2[:, None, :, :])
        return self.head_map(space.permute_dims(mixed, (0, 2, 3, 1)))[..., 0]


class LocalAttention(Module):
    """Attention of an atom to its neighbours."""

    serial = Serial(
        layout="@class @version input_dim hidden_dim head_num smooth attnw_shift precision mapq"
        " mapkv head_map",
        name="LocalAtten",
        children=("mapq", "mapkv", "head_map"),
        constants=("attnw_shift",),
    )
    attnw_shift = SHIFT

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        head_num: int,
        *,
        smooth: bool = True,
        precision: str = "default",
        seed: Seed = None,
    ) -> None:
        self.input_dim, self.hidden_dim, self.head_num = input_dim, hidden_dim, head_num
        self.smooth, self.precision = smooth, precision
        self.mapq = plain_layer(
            input_dim,
            hidden_dim * head_num,
            bias=False,
            precision=precision,
            seed=child_seed(seed, "q"),
        )
        self.mapkv = plain_layer(
            input_dim,
            (hidden_dim + input_dim) * head_num,
            bias=False,
            precision=precision,
            seed=child_seed(seed, "kv"),
        )
        self.head_map = plain_layer(
            input_dim * head_num,
            input_dim,
            bias=True,
            precision=precision,
            seed=child_seed(seed, "head"),
        )

    def call(self, g1: Any, near: Any, pairs: Pairs) -> Any:
        """Attend: (n, ng1), (n, K, ng1) -> (n, ng1)."""
        space = ops.xp(g1)
        n, k = ops.shape(pairs.j)
        q = space.reshape(self.mapq(g1), (n, self.hidden_dim, self.head_num))
        q = space.permute_dims(q, (0, 2, 1))[:, :, None, :]
        kv = space.reshape(
            self.mapkv(near), (n, k, self.hidden_dim + self.input_dim, self.head_num)
        )
        kv = space.permute_dims(kv, (0, 3, 1, 2))
        key, v = kv[..., : self.hidden_dim], kv[..., self.hidden_dim :]
        s = space.matmul(q, ops.matrix_transpose(key)) * (1.0 / math.sqrt(self.hidden_dim))
        p = self.weights(s, pairs)
        out = space.matmul(p, v)  # (n, heads, 1, ng1)
        return self.head_map(space.reshape(out, (n, self.head_num * self.input_dim)))

    def weights(self, s: Any, pairs: Pairs) -> Any:
        """Softmax over the neighbours of logits (n, heads, 1, K)."""
        space = ops.xp(s)
        mask, sw = pairs.mask[:, None, None, :], pairs.switch[:, None, None, :]
        if self.smooth:
            s = (s + SHIFT) * sw - SHIFT
            top = ops.stop_gradient(space.maximum(ops.amax(s), 0.0 * ops.amax(s) - SHIFT))
            e = space.exp(s - top)
            total = space.sum(e, axis=-1, keepdims=True) + pairs.more * space.exp(-SHIFT - top)
            return e / total * mask * sw
        low = s * mask + (mask - 1.0) * 1e30
        e = space.exp((s - ops.stop_gradient(ops.amax(low))) * mask) * mask
        total = space.sum(e, axis=-1, keepdims=True)
        return e / (total + (1.0 - space.sign(total)))


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
        children=(
            "linear1",
            "linear2",
            "proj_g1g2",
            "proj_g1g1g2",
            "attn2g_map",
            "attn2_mh_apply",
            "attn2_lm",
            "attn2_ev_apply",
            "loc_attn",
            "g1_self_mlp",
        ),
        optional=(
            "linear2",
            "proj_g1g2",
            "proj_g1g1g2",
            "attn2g_map",
            "attn2_mh_apply",
            "attn2_lm",
            "attn2_ev_apply",
            "loc_attn",
            "g1_self_mlp",
        ),
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
        near = ops.take(g1, pairs.j) * pairs.mask[..., None]
        new_g1 = self.combine([g1, *self._atom_terms(g1, near, g2, h2, pairs)], self.g1_residual)
        if not self.update_chnnl_2:
            return new_g1, g2, h2
        act = activation(self.activation_function)
        pair_terms = [g2, act(self.linear2(g2))]
        if self.proj_g1g1g2 is not None:
            product = g1[:, None, :] * near
            if self.smooth:
                product = product * pairs.switch[..., None]
            pair_terms.append(self.proj_g1g1g2(product))
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
        weight = pairs.switch if self.smooth else pairs.mask
        if self.g1_out_conv:
            product = self.proj_g1g2(g2) * near * weight[..., None]
        else:
            product = g2 * self.proj_g1g2(near * weight[..., None])
        total = space.sum(product, axis=1)
        if self.smooth:
            return total * (1.0 / pairs.nsel)
        return total / (space.sum(pairs.mask, axis=1)[:, None] + 1e-4)

    def moments(self, g: Any, h2: Any, pairs: Pairs) -> Any:
        """Weighted sum of h ⊗ g over neighbours: (n, K, ng), (n, K, 3) -> (n, 3, ng)."""
        space = ops.xp(g)
        weight = pairs.mask * pairs.switch if self.smooth else pairs.mask
        total = ops.contract(h2, g * weight[..., None])
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


def check_update_style(style: str) -> None:
    """Raise InputError for an unknown way to join updates."""
    if style not in ("res_avg", "res_incr", "res_residual"):
        raise InputError(
            f'update_style "{style}" is unknown',
            where="model/descriptor",
            fix="use res_avg, res_incr or res_residual",
        )


def combine_updates(terms: Sequence[Any], residuals: Sequence[Any], style: str) -> Any:
    """Join the old value, first, and its updates.

    ``res_avg``: sum over the root of their number; ``res_incr``: old value plus the sum of the
    updates over the root of theirs; ``res_residual``: updates weighted by trained vectors.
    """
    old, *updates = terms
    if style == "res_residual":
        return sum((r * u for r, u in zip(residuals, updates, strict=True)), start=old)
    total = sum(updates[1:], start=updates[0])
    if style == "res_avg":
        return (old + total) * (len(terms) ** -0.5)
    return old + total * (len(updates) ** -0.5)


def residual(width: int, size: float, kind: str, precision: str, seed: Seed) -> np.ndarray:
    """Initial weights of an update: all ``size`` (const), or normal with that deviation (norm)."""
    dtype = numpy_dtype(precision)
    if kind == "const":
        return np.full(width, size, dtype)
    if kind == "norm":
        return stream(seed).normal(0.0, size, width).astype(dtype)
    raise InputError(
        f'update_residual_init "{kind}" is unknown',
        where="model/descriptor",
        fix='use "norm" or "const"',
    )
