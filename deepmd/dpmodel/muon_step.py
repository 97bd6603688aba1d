# SPDX-License-Identifier: LGPL-3.0-or-later
"""Steps of AdaMuon and HybridMuon, on arrays of NumPy or of a framework; see :mod:`deepmd.dpmodel.muon`.

The moments have the places of those of Adam: the first of a matrix is its momentum, the second that of its
steps (AdaMuon), or the mean of its alignment (HybridMuon).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.dpmodel.muon import AdaMuon, HybridMuon, Muon

#: Coefficients of the quintic iteration ``X <- a X + (b S + c S²) X``, ``S = X Xᵀ`` (Jordan et al.).
QUINTIC = (3.4445, -4.7750, 2.0315)
POLISH = (2.0, -1.5, 0.5)
#: Amsel et al., "The polar express", arXiv:2505.16932, for arguments that are divided by 1.05.
_POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)
_SAFETY = 1.05
_SMALL = 1e-7
_EPSILON = 1e-8


class Arithmetic:
    """Operations whose rounding depends on the package, here on NumPy.

    Numbers of half precision are held in single precision, and rounded after every operation.

    Attributes
    ----------
    xp : module
        Functions without a choice.
    """

    xp: Any = np

    def rounded(self, x: Any, kind: str) -> Any:
        """Return ``x`` with the digits of ``float32``, ``float16`` or ``bfloat16``."""
        x = np.asarray(x, dtype=np.float32)
        if kind == "float32":
            return x
        if kind == "float16":
            return x.astype(np.float16).astype(np.float32)
        # The upper half of the bits, to the nearest, of two equally near ones to the even.
        bits = x.view(np.uint32)
        upper = (bits + (0x7FFF + (bits >> 16 & 1))) & np.uint32(0xFFFF0000)
        return np.where(np.isfinite(x), upper.view(np.float32), x)

    def like(self, x: Any, other: Any) -> Any:
        """Return ``x`` in the precision of another array."""
        return np.asarray(x, dtype=other.dtype)

    def between(self, a: Any, b: Any, weight: float) -> Any:
        """Return ``a + weight (b - a)``."""
        return a + weight * (b - a)

    def added(self, x: Any, y: Any, factor: float) -> Any:
        """Return ``x + factor y``."""
        return x + factor * y

    def logistic(self, x: Any) -> Any:
        """Return ``1 / (1 + exp(-x))``."""
        return 1.0 / (1.0 + np.exp(-x))

    def product(
        self, kind: str, x: Any, y: Any, z: Any = None, *, add: float = 1.0, times: float = 1.0
    ) -> Any:
        """Return the matrix ``add z + times x y``, rounded once.

        Sums are in double precision here: no order of the terms changes what they are rounded to.
        """
        made = times * (x.astype(np.float64) @ y)
        return self.rounded(made if z is None else add * z + made, kind)


class MuonRule:
    """Base of both: momentum of matrices, Adam of everything else.

    Parameters
    ----------
    chosen : Muon
    arithmetic : Arithmetic
    """

    def __init__(self, chosen: Any, arithmetic: Arithmetic) -> None:
        self.chosen, self.arithmetic = chosen, arithmetic

    def is_matrix(self, p: Any) -> bool:
        """Whether the momentum of a parameter is orthogonalized."""
        return p.ndim == 2

    def step(
        self, p: Any, grad: Any, count: int, first: Any, second: Any, lr: float
    ) -> tuple[Any, Any, Any]:
        """Return a parameter and its moments after a step.

        Parameters
        ----------
        p, grad : array
        count : int
            Number of this step, from 1.
        first, second : array or None
            Moments; None before they are known.
        lr : float
        """
        first = self.arithmetic.xp.zeros_like(p) if first is None else first
        if self.is_matrix(p):
            return self._matrix_step(p, grad, first, second, lr)
        return self._adam_step(p, grad, count, first, second, lr)

    def direction(self, update: Any, grad: Any, momentum: Any, second: Any) -> tuple[Any, Any]:
        """Return the direction of the step of a matrix from its Nesterov momentum, and the second moment."""
        raise TypeError(f"{type(self).__name__} does not state its direction")

    def _matrix_step(
        self, p: Any, grad: Any, momentum: Any, second: Any, lr: float
    ) -> tuple[Any, Any, Any]:
        s, ar = self.chosen, self.arithmetic
        if s.weight_decay:
            p = p * (1.0 - lr * s.weight_decay)
        momentum = ar.between(momentum, grad, 1.0 - s.momentum)
        update = ar.between(grad, momentum, s.momentum)
        step, second = self.direction(update, grad, momentum, second)
        second = None if second is None else ar.like(second, p)
        return ar.added(p, ar.like(step, p), -lr), momentum, second

    def factor(self, shape: Sequence[int]) -> float:
        """Size of the steps of a matrix, by its shape."""
        rows, columns = shape
        if self.chosen.lr_adjust <= 0:
            return self.chosen.lr_adjust_coeff * max(rows, columns) ** 0.5
        return max(1.0, rows / columns) ** 0.5

    def _adam_step(
        self, p: Any, grad: Any, count: int, first: Any, second: Any, lr: float
    ) -> tuple[Any, Any, Any]:
        """Take a step of Adam, whose moments have single precision."""
        s, ar, xp = self.chosen, self.arithmetic, self.arithmetic.xp
        lr = lr / s.lr_adjust if s.lr_adjust > 0 else lr
        g = ar.rounded(grad, "float32")
        second = xp.zeros_like(p) if second is None else second
        m = ar.between(ar.rounded(first, "float32"), g, 1.0 - s.adam_beta1)
        v = ar.between(ar.rounded(second, "float32"), g * g, 1.0 - s.adam_beta2)
        # Held in the precision of the parameter, which does not change the numbers.
        first, second = ar.like(m, p), ar.like(v, p)
        m, v = ar.rounded(first, "float32"), ar.rounded(second, "float32")
        first_scale, second_scale = (1.0 - b**count for b in (s.adam_beta1, s.adam_beta2))
        direction = m / (xp.sqrt(v / second_scale) + _EPSILON)
        return ar.added(p, ar.like(direction, p), -lr / first_scale), first, second


class AdaMuonRule(MuonRule):
    """Orthogonalized sign of the momentum over the root of its second moment."""

    chosen: AdaMuon

    def direction(self, update: Any, grad: Any, momentum: Any, second: Any) -> tuple[Any, Any]:
        """Return the direction, whose root mean square is 0.2 before the factor of the shape."""
        ar, xp = self.arithmetic, self.arithmetic.xp
        made = ar.rounded(orthogonal(ar, xp.sign(update), [QUINTIC] * 5), "float32")
        old = xp.zeros_like(made) if second is None else ar.rounded(second, "float32")
        second = ar.between(old, made * made, 1.0 - self.chosen.adam_beta2)
        made = made / (xp.sqrt(second) + _EPSILON)
        rows, columns = made.shape
        size = 0.2 * (rows * columns) ** 0.5 / (xp.linalg.vector_norm(made) + _EPSILON)
        return made * (size * self.factor(made.shape)), second


class HybridMuonRule(MuonRule):
    """Orthogonalized momentum, smaller where gradient and momentum are not aligned."""

    chosen: HybridMuon

    def is_matrix(self, p: Any) -> bool:
        """Whether the momentum of a parameter is orthogonalized."""
        return p.ndim == 2 and min(p.shape) > 1

    def direction(self, update: Any, grad: Any, momentum: Any, second: Any) -> tuple[Any, Any]:
        """Return the direction, orthogonal up to the rounding of half precision."""
        ar, (rows, columns) = self.arithmetic, update.shape
        if self.chosen.enable_gram and rows != columns:
            kind, made = "float16", orthogonal_by_gram(ar, update)
        else:
            kind, made = "bfloat16", orthogonal(ar, update, [QUINTIC] * 8 + [POLISH] * 2)
        made = ar.rounded(made * self.factor(update.shape), kind)
        if not self.chosen.magma_muon:
            return made, second
        old = 0.5 if second is None else ar.rounded(second, "float32")
        mean = 0.9 * old + 0.1 * self._alignment(grad, momentum)
        return ar.rounded(made * ar.rounded(0.1 + 0.9 * mean, kind), kind), mean

    def _alignment(self, g: Any, momentum: Any) -> Any:
        """Logistic function of half the cosine between gradient and momentum, scaled to [0, 1]; (1,)."""
        ar, xp = self.arithmetic, self.arithmetic.xp
        g, momentum = ar.rounded(g, "float32"), ar.rounded(momentum, "float32")
        norm = xp.linalg.vector_norm
        cosine = xp.sum(g * momentum) / xp.clip(norm(g) * norm(momentum), 1e-12, None)
        zero = xp.zeros_like(cosine)
        low, high = (ar.logistic(zero + end) for end in (-0.5, 0.5))
        return ((ar.logistic(0.5 * cosine) - low) / (high - low)).reshape((1,))


def orthogonal(
    ar: Arithmetic, matrix: Any, coefficients: Sequence[tuple[float, float, float]]
) -> Any:
    """Return the nearest orthogonal matrix by iteration, in bfloat16."""
    kind = "bfloat16"
    high = matrix.shape[0] > matrix.shape[1]
    x = ar.rounded(matrix.mT if high else matrix, kind)
    norm = ar.rounded(ar.xp.linalg.vector_norm(x), kind)
    x = ar.rounded(x / ar.rounded(norm + _SMALL, kind), kind)
    for a, b, c in coefficients:
        gram = ar.product(kind, x, x.mT)
        x = ar.product(kind, ar.product(kind, gram, gram, gram, add=b, times=c), x, x, add=a)
    return x.mT if high else x


def orthogonal_by_gram(ar: Arithmetic, matrix: Any) -> Any:
    """Return the same by products of the smaller square matrix, in float16."""
    kind, high = "float16", matrix.shape[0] > matrix.shape[1]
    x = ar.rounded(matrix.mT if high else matrix, "float32")
    xp = ar.xp
    x = ar.rounded(x / (xp.linalg.vector_norm(x) + _SMALL), kind)
    gram, made = ar.product(kind, x, x.mT), None
    last = len(_POLAR_EXPRESS) - 1
    for k, (a, b, c) in enumerate(_POLAR_EXPRESS):
        a, b, c = a / _SAFETY, b / _SAFETY**3, c / _SAFETY**5
        if k == 3:  # the products have lost digits: begin anew with what they made
            x, made = ar.product(kind, made, x), None
            gram = ar.product(kind, x, x.mT)
        z = ar.product(kind, gram, gram, gram, add=b, times=c)
        if made is None:
            unit = xp.eye(z.shape[0], dtype=z.dtype, device=z.device)
            made = ar.rounded(z + ar.rounded(a * unit, kind), kind)
        else:
            made = ar.product(kind, z, made, made, add=a)
        if k not in (2, last):
            half = ar.product(kind, gram, z, gram, add=a)
            gram = ar.product(kind, z, half, half, add=a)
    x = ar.product(kind, made, x)
    return x.mT if high else x


def muon_rule(chosen: Muon, arithmetic: Arithmetic) -> MuonRule:
    """Return the rule of some choices."""
    kind = AdaMuonRule if isinstance(chosen, AdaMuon) else HybridMuonRule
    return kind(chosen, arithmetic)
