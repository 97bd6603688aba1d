# SPDX-License-Identifier: LGPL-3.0-or-later
"""The report of a training: one HTML file with everything inside."""

import html
import json
import os
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from deepmd.data.fingerprint import fingerprints
from deepmd.data.frames import Frame, Frames
from deepmd.insight.charts import COLORS, line_chart, scatter
from deepmd.insight.evaluation import Compared, compare, rmse
from deepmd.insight.run import Run

#: Systems with a color of their own, and frames that are shown as structures.
_SYSTEMS, _WORST = 6, 6
_UNITS = {"e": "eV/atom", "f": "eV/Å", "v": "eV/atom"}
_STYLE = """
:root{color-scheme:light}*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:#1a1a1a;background:#fff;margin:0 auto;max-width:1200px;padding:1rem}
h1{font-size:1.6rem;margin:.2rem 0}h2{font-size:1.2rem;border-bottom:1px solid #999;margin-top:2rem}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:1rem}
figure{margin:0;border:1px solid #ccc;border-radius:6px;padding:.6rem;min-width:0}
figcaption{font-size:.9rem;overflow-wrap:anywhere}svg{width:100%;height:auto;display:block}
svg text{font:12px system-ui,sans-serif;fill:#333}.area{fill:#fff;stroke:#767676}.grid{stroke:#e4e4e4}
.tick{stroke:#767676}.diagonal{stroke:#767676;stroke-dasharray:4 3}
.dots{stroke-width:4;stroke-linecap:round;stroke-opacity:.55;fill:none}
.key{margin-left:.7em;display:inline-block;font-size:.85rem}.key i{display:inline-block;width:.8em;height:.8em;margin-right:.3em;border-radius:2px}
.note{display:block}.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #ddd}th:first-child,td:first-child{text-align:left;overflow-wrap:anywhere;min-width:9rem}
canvas{width:100%;height:260px;display:block;touch-action:none;cursor:grab}
canvas:focus-visible{outline:3px solid #0072B2}
pre{overflow-x:auto;background:#f4f4f4;padding:.8rem;border-radius:6px;font-size:.8rem}
@media print{body{max-width:none;padding:0;font-size:12px}figure,tr{break-inside:avoid}h2{break-after:avoid}.plots{grid-template-columns:1fr 1fr 1fr;gap:.5rem}h2{margin-top:1rem}canvas{height:170px}figure{padding:.4rem}svg text{font-size:15px}details,h2:has(+details),p:has(#by-error){display:none}}
"""


def make_report(run: Run, most: int = 300) -> str:
    """Return the page.

    Parameters
    ----------
    run : Run
        With a checkpoint its errors are shown, too.
    most : int
        Frames of training and of validation data that are evaluated.
    """
    frames = evaluated(run, most)
    names = run.config["model"].get("type_map") or []
    parts = [
        "<h2>Learning curves</h2>", _plots(_curves(run)),
        *(["<h2>Errors</h2>", _table_of_errors(frames)] if frames else []),
        *(["<h2>Predictions against labels</h2>", _plots(_parities(frames, names))] if frames else []),
        *(["<h2>Error against distance to the training data</h2>", _plots(_distances(frames, names))] if frames else []),
        *(["<h2>Worst frames</h2>", _worst(frames, names)] if frames else []),
        "<h2>Speed</h2>", _plots(_speed(run)) or "<p>run.json has no times.</p>",
        "<h2>Model</h2>", _facts(run),
        "<h2>Input</h2>",
        f"<details><summary>out.json</summary><pre tabindex=\"0\">{html.escape(json.dumps(run.config, indent=2, ensure_ascii=False))}</pre></details>",
    ]  # fmt: skip
    script = resources.files("deepmd.insight").joinpath("viewer.js").read_text(encoding="utf-8")
    title = html.escape(f"Training {os.path.basename(os.path.abspath(run.folder))}")
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main><h1>{title}</h1>"
        + "\n".join(parts)
        + f"</main><script>{script}</script></body></html>\n"
    )


def evaluated(run: Run, most: int) -> list[Compared]:
    """Evaluate training and validation data with the newest checkpoint; nothing without one."""
    frames: list[Compared] = []
    if run.model is not None:
        with run.inside():
            for kind in ("training", "validation"):
                systems = run.systems(f"{kind}_data")
                frames += compare(run.model, systems, kind, most, run.head) if systems else []
    return frames


def _plots(plots: Sequence[str]) -> str:
    return f'<div class="plots">{"".join(plots)}</div>' if plots else ""


def _curves(run: Run) -> list[str]:
    out = []
    steps = run.column("step")
    if steps is None:
        return ["<p>There is no learning curve.</p>"]
    shown = [c.removesuffix("_trn") for c in run.columns if c.endswith("_trn")]
    for name in shown:
        series = {}
        for side, title in (("trn", "training"), ("val", "validation")):
            values = run.column(f"{name}_{side}")
            if values is not None and (values > 0).any():
                series[title] = steps, values
        if series:
            unit = _UNITS.get(name.rpartition("_")[2], "")
            label = f"{name} [{unit}]" if unit and name != "rmse" else name
            out.append(line_chart(name, series, "step", label, log=True))
    rate = run.column("lr")
    if rate is not None and (rate > 0).any():
        out.append(line_chart("Learning rate", {"lr": (steps, rate)}, "step", "lr", log=True))
    return out


def _table_of_errors(frames: Sequence[Compared]) -> str:
    rows = []
    groups: dict[tuple[str, str], list[Compared]] = {}
    for f in frames:
        groups.setdefault((f.kind, "all"), []).append(f)
        groups.setdefault((f.kind, f.system), []).append(f)
    for (kind, system), part in list(groups.items())[:60]:
        cells = "".join(
            f"<td>{_number(rmse(part, what))}</td>" for what in ("energy", "force", "virial")
        )
        rows.append(f"<tr><td>{kind}: {html.escape(system)}</td><td>{len(part)}</td>{cells}</tr>")
    head = "<th>data</th><th>frames</th><th>energy RMSE [eV/atom]</th><th>force RMSE [eV/Å]</th><th>virial RMSE [eV/atom]</th>"
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "–"


def _parities(frames: Sequence[Compared], names: Sequence[str]) -> list[str]:
    out = []
    for what, title, unit in (
        ("energy", "Energy", "eV/atom"),
        ("force", "Force", "eV/Å"),
        ("virial", "Virial", "eV/atom"),
    ):
        for by in ("system", "element") if what == "force" else ("system",):
            series: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}
            for f in frames:
                pair = getattr(f, what)
                if pair is None:
                    continue
                if by == "element":
                    for t in np.unique(f.types):
                        _add(series, names[t], pair[0][f.types == t], pair[1][f.types == t])
                else:
                    _add(series, f"{f.kind}: {f.system}", pair[0], pair[1])
            joined = {
                k: (np.concatenate(a), np.concatenate(b)) for k, (a, b) in _few(series).items()
            }
            if joined:
                error = rmse(frames, what)
                out.append(
                    scatter(
                        f"{title} by {by}", joined, f"label [{unit}]", f"prediction [{unit}]",
                        diagonal=True, note=f'<span class="note">RMSE of all {error:.3g} {unit}</span>',
                    )
                )  # fmt: skip
    return out


def _add(series: dict[str, tuple[list[Any], list[Any]]], name: str, one: Any, two: Any) -> None:
    first, second = series.setdefault(name, ([], []))
    first.append(np.ravel(one))
    second.append(np.ravel(two))


def _few(series: dict[str, tuple[list[Any], list[Any]]]) -> dict[str, tuple[list[Any], list[Any]]]:
    """Join what would have no color of its own."""
    if len(series) <= len(COLORS):
        return series
    largest = sorted(series, key=lambda k: -sum(len(p) for p in series[k][0]))
    out = {k: series[k] for k in series if k in largest[:_SYSTEMS]}
    rest = [series[k] for k in series if k not in out]
    out[f"{len(rest)} others"] = [p for a, _ in rest for p in a], [p for _, b in rest for p in b]
    return out


def _distances(frames: Sequence[Compared], names: Sequence[str]) -> list[str]:
    """Force error of validation frames, or of all, against the distance of fingerprints."""
    train = [f for f in frames if f.kind == "training"]
    other = [f for f in frames if f.kind == "validation"] or train
    points = _fingerprints(train, names)
    mine = points if other is train else _fingerprints(other, names)
    distance = []
    for k, point in enumerate(mine):
        d = np.sqrt(np.square(points - point).sum(axis=1))
        if other is train:
            d[k] = np.inf
        distance.append(d.min(initial=np.inf))
    error = np.array([f.force_error() for f in other])
    if not np.isfinite(error).any():
        error = np.abs([f.energy_error() for f in other])
    good = np.isfinite(distance) & np.isfinite(error) & (error > 0)
    if not good.any():
        return []
    kind = "validation" if other is not train else "training"
    series = {kind: (np.array(distance)[good], error[good])}
    return [scatter("Frame by frame", series, "distance of pair distributions to the nearest training frame", "force RMSE [eV/Å]", log=True)]  # fmt: skip


def _fingerprints(frames: Sequence[Compared], names: Sequence[str]) -> np.ndarray:
    made = [Frame(f.types, f.coord, f.cell, {}) for f in frames]
    return fingerprints(Frames(list(names), {}, made))


def _worst(frames: Sequence[Compared], names: Sequence[str]) -> str:
    with_error = [f for f in frames if np.isfinite(f.force_error())]
    worst = sorted(with_error, key=lambda f: -f.force_error())[:_WORST]
    parts = []
    for number, f in enumerate(worst):
        assert f.force is not None
        error = np.linalg.norm(f.force[1] - f.force[0], axis=1)
        structure = {
            "coord": np.round(f.coord, 4).tolist(),
            "cell": None if f.cell is None else np.round(f.cell, 4).tolist(),
            "color": [_color(names[t]) for t in f.types],
            "radius": [_radius(names[t]) for t in f.types],
            "error": np.round(error, 5).tolist(),
        }
        atom = int(np.argmax(error))
        energy = f.energy_error()
        caption = (
            f"{html.escape(f.system)}, frame {f.number} ({f.kind}): force RMSE {f.force_error():.3g} eV/Å, "
            f"worst atom {atom} ({html.escape(names[f.types[atom]])}) {error[atom]:.3g} eV/Å"
            + (f", energy {1000 * energy:+.3g} meV/atom" if np.isfinite(energy) else "")
        )
        parts.append(
            f'<figure><canvas data-structure="s{number}" tabindex="0" role="img" aria-label="Structure: {caption}"></canvas>'
            f'<script type="application/json" id="s{number}">{json.dumps(structure)}</script>'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    box = '<p><label><input type="checkbox" id="by-error"> color atoms by their force error</label></p>'
    return (box + _plots(parts)) if parts else "<p>No frame has forces.</p>"


def _color(name: str) -> str:
    known = {"H": "#f2f2f2", "C": "#606060", "N": "#3050f8", "O": "#e02020", "Cu": "#c88033", "Au": "#ffd123", "Si": "#d0a878", "Na": "#ab5cf2", "Cl": "#1fb01f"}  # fmt: skip
    return known.get(name, COLORS[sum(map(ord, name)) % len(COLORS)])


def _radius(name: str) -> float:
    return {"H": 0.6, "C": 1.0, "N": 1.0, "O": 1.0}.get(name, 1.5)


def _speed(run: Run) -> list[str]:
    speed = run.record.get("speed") or {}
    steps, seconds = np.array(speed.get("steps", [])), np.array(speed.get("seconds_per_step", []))
    if len(steps) == 0:
        return []
    wait = 100.0 * float(speed.get("data_wait", 0.0))
    return [
        line_chart(f"Time per step (median {np.median(seconds):.3g} s, data wait {wait:.0f} %)", {"time": (steps, seconds)}, "step", "s", log=True)
    ]  # fmt: skip


def _facts(run: Run) -> str:
    model, record = run.config["model"], run.record
    descriptor = model.get("descriptor", {})
    rows = {
        "types": ", ".join(model.get("type_map") or []),
        "descriptor": descriptor.get("type"),
        "cutoff": f"{descriptor['rcut']} Å" if "rcut" in descriptor else None,
        "sel": descriptor.get("sel"),
        "fitting": (model.get("fitting_net") or {}).get("neuron"),
        "checkpoint": None if run.model is None else run.model.name,
        "backend": record.get("backend"),
        "versions": ", ".join(f"{k} {v}" for k, v in (record.get("versions") or {}).items()),
        "machine": (record.get("machine") or {}).get("cpu"),
        "command": " ".join(record.get("command") or []),
        "seed": record.get("seed"),
        "smallest distance": record.get("min_nbor_dist"),
    }
    cells = "".join(
        f'<tr><td>{k}</td><td style="text-align:left;overflow-wrap:anywhere">{html.escape(str(v))}</td></tr>'
        for k, v in rows.items()
        if v not in (None, "")
    )
    return f'<div class="wide"><table>{cells}</table></div>'
