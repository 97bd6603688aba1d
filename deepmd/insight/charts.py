# SPDX-License-Identifier: LGPL-3.0-or-later
"""Plots as SVG, drawn here, so that a page needs neither a library nor the network."""

import html
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

#: Colors that people of any color vision tell apart on white (Okabe and Ito, darkened where too light).
COLORS = ("#0072B2", "#B34700", "#007A5A", "#9A4F7E", "#5B5B00", "#1F6F8B", "#000000")
_W, _H, _LEFT, _RIGHT, _TOP, _BOTTOM = 460, 320, 62, 14, 14, 46


class Axis:
    """Places of values along a line.

    Parameters
    ----------
    values : array
        What must fit.
    low, high : float
        Ends in the drawing.
    log : bool
    """

    def __init__(self, values: np.ndarray, low: float, high: float, *, log: bool = False) -> None:
        values = np.asarray(values, dtype=np.float64)
        values = values[np.isfinite(values) & ((values > 0) | (not log))]
        first, last = (values.min(), values.max()) if len(values) else (1.0, 2.0)
        if log:
            first, last = math.log10(first), math.log10(last)
        pad = 0.04 * (last - first) or 0.5 * abs(last) or 0.5
        self.first, self.last, self.low, self.high, self.log = (
            first - pad,
            last + pad,
            low,
            high,
            log,
        )

    def place(self, values: np.ndarray) -> np.ndarray:
        """Return where values are drawn; NaN where they cannot be."""
        values = np.asarray(values, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.log10(values) if self.log else values
        return self.low + (values - self.first) / (self.last - self.first) * (self.high - self.low)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Iterate over places and texts."""
        span = self.last - self.first
        if self.log and span >= 1.5:
            step = max(1, math.ceil(span / 6))
            for power in range(math.ceil(self.first), math.floor(self.last) + 1, step):
                yield float(self.place(np.array(10.0**power))), f"1e{power}"
            return
        if self.log:
            powers = range(math.floor(self.first), math.ceil(self.last) + 1)
            for value in (m * 10.0**p for p in powers for m in (1, 2, 3, 5, 7)):
                if self.first <= math.log10(value) <= self.last:
                    yield float(self.place(np.array(value))), f"{value:.3g}"
            return
        size = 10.0 ** math.floor(math.log10(span / 4))
        step = next(size * f for f in (1, 2, 5, 10) if span / (size * f) <= 6)
        for k in range(math.ceil(self.first / step), math.floor(self.last / step) + 1):
            place = self.low + (k * step - self.first) / span * (self.high - self.low)
            yield place, f"{k * step:.4g}"


def frame(title: str, x: Axis, y: Axis, xlabel: str, ylabel: str, body: str, note: str = "") -> str:
    """Return a whole plot."""
    lines = [
        f'<svg viewBox="0 0 {_W} {_H}" role="img" aria-label="{html.escape(title)}">',
        f"<title>{html.escape(title)}</title>",
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_W - _LEFT - _RIGHT}" height="{_H - _TOP - _BOTTOM}" class="area"/>',
    ]
    for place, text in x.ticks():
        lines.append(f'<path d="M{place:.1f} {_H - _BOTTOM}v4" class="tick"/>')
        lines.append(
            f'<text x="{place:.1f}" y="{_H - _BOTTOM + 17}" text-anchor="middle">{text}</text>'
        )
    for place, text in y.ticks():
        lines.append(f'<path d="M{_LEFT} {place:.1f}H{_W - _RIGHT}" class="grid"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{text}</text>')
    middle = (_TOP + _H - _BOTTOM) / 2
    lines += [
        body,
        f'<text x="{(_LEFT + _W - _RIGHT) / 2}" y="{_H - 8}" text-anchor="middle">{html.escape(xlabel)}</text>',
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{html.escape(ylabel)}</text>',
        "</svg>",
    ]
    caption = f"<figcaption><b>{html.escape(title)}</b> {note}</figcaption>"
    return f"<figure>{caption}{''.join(lines)}</figure>"


def _legend(names: Sequence[str]) -> str:
    parts = []
    for k, name in enumerate(names):
        color = COLORS[k % len(COLORS)]
        parts.append(
            f'<span class="key"><i style="background:{color}"></i>{html.escape(name)}</span>'
        )
    return "".join(parts) if len(names) > 1 else ""


def line_chart(
    title: str,
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    xlabel: str,
    ylabel: str,
    *,
    log: bool = False,
) -> str:
    """Return lines over a common axis."""
    x = Axis(np.concatenate([s[0] for s in series.values()]), _LEFT, _W - _RIGHT)
    y = Axis(np.concatenate([s[1] for s in series.values()]), _H - _BOTTOM, _TOP, log=log)
    body = []
    for k, (a, b) in enumerate(series.values()):
        points = [(p, q) for p, q in zip(x.place(a), y.place(b), strict=True) if math.isfinite(q)]
        path = "L".join(f"{p:.1f} {q:.1f}" for p, q in points)
        dash = ' stroke-dasharray="5 3"' if k % 2 else ""
        if path:
            body.append(
                f'<path d="M{path}" fill="none" stroke="{COLORS[k % len(COLORS)]}" stroke-width="1.6"{dash}/>'
            )
    return frame(title, x, y, xlabel, ylabel, "".join(body), _legend(list(series)))


def scatter(
    title: str,
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    xlabel: str,
    ylabel: str,
    *,
    diagonal: bool = False,
    log: bool = False,
    most: int = 1500,
    note: str = "",
) -> str:
    """Return points; of many, some chosen at random and the farthest from the diagonal."""
    both = np.concatenate([np.concatenate(s) for s in series.values()]) if diagonal else None
    x = Axis(
        both if both is not None else np.concatenate([s[0] for s in series.values()]),
        _LEFT,
        _W - _RIGHT,
    )
    ys = both if both is not None else np.concatenate([s[1] for s in series.values()])
    y = Axis(ys, _H - _BOTTOM, _TOP, log=log)
    body = []
    if diagonal:
        ends = np.array([x.first, x.last])
        (a, b), (c, d) = x.place(ends), y.place(ends)
        body.append(f'<path d="M{a:.1f} {c:.1f}L{b:.1f} {d:.1f}" class="diagonal"/>')
    for k, (a, b) in enumerate(series.values()):
        chosen = np.arange(len(a))
        if len(a) > most:
            some = np.random.default_rng(0).permutation(len(a))[:most]
            far = np.argsort(np.abs(b - a) if diagonal else b)[-50:]
            chosen = np.union1d(some, far)
        points = zip(x.place(a[chosen]), y.place(b[chosen]), strict=True)
        dots = "".join(f"M{p:.1f} {q:.1f}h0" for p, q in points if math.isfinite(p + q))
        body.append(f'<path d="{dots}" class="dots" stroke="{COLORS[k % len(COLORS)]}"/>')
    return frame(title, x, y, xlabel, ylabel, "".join(body), _legend(list(series)) + note)
