# SPDX-License-Identifier: LGPL-3.0-or-later
"""What is wrong with a training: findings with the number each rests on and the key to change."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from deepmd.data.checks.finding import LEVELS, Finding
from deepmd.data.checks.report import check_data
from deepmd.data.neighbor_stat import model_selections
from deepmd.insight.evaluation import Compared, rmse
from deepmd.insight.page import evaluated
from deepmd.insight.run import Run

#: Validation errors that are so many times those of training data are overfit.
_OVERFIT = 1.6
#: Share of the spread of the forces that a model must explain to have learned something.
_LEARNED = 0.85
#: Learning rates of Adam that are suspicious.
_SMALL_RATE, _LARGE_RATE = 2e-5, 2e-2
#: Passes through the data below which a training is short.
_FEW_PASSES = 3.0
#: Neighbors within the cutoff on average, below which it is short.
_FEW_NEIGHBORS = 6.0
#: Terms of the loss with less of it at both ends are not trained.
_NO_SHARE = 1e-5
#: Energies of a system off by more [eV/atom], and by so many times their scatter, are shifted.
_SHIFT, _SHIFTED = 0.02, 4.0
#: Errors so close to the noise of the labels are at their floor.
_FLOOR = 1.5
#: Causes of what comes later: these explain why nothing was learned.
_FIRST = (
    "units",
    "virial",
    "diverged",
    "sel",
    "leak",
    "untrained-element",
    "overlap",
    "prefactor",
    "rcut",
    "noise",
)


def diagnose(run: Run, most: int = 200) -> list[Finding]:
    """Return what is wrong, causes before symptoms; nothing for a good training.

    Of a training of several branches it is what is wrong with each.
    """
    if run.branches:
        return [
            _of_branch(name, finding)
            for name in run.branches
            for finding in diagnose(run.branch(name), most)
        ]
    frames = evaluated(run, most)
    out = list(_data(run))
    out += _diverged(run)
    out += _prefactors(run, frames)
    if not any(f.code == "diverged" for f in out):
        out += _learning(run, frames)
    out += _shifts(frames)
    known = {f.code for f in out}
    if not known & {"not-learned", "rate-large", "rate-small", "few-steps"}:
        out += _overfit(run, frames)
    out += _floor(out, frames)
    if any(f.code != "not-learned" for f in out):  # a symptom of the others
        out = [f for f in out if f.code != "not-learned"]
    return sorted(out, key=lambda f: (LEVELS.index(f.level), f.code not in _FIRST))


def _of_branch(name: str, finding: Finding) -> Finding:
    """Return a finding with its keys where an input of several branches has them."""
    places = {
        "model/": f"model/model_dict/{name}/",
        "loss/": f"loss_dict/{name}/",
        "training/training_data/": f"training/data_dict/{name}/training_data/",
        "training/validation_data/": f"training/data_dict/{name}/validation_data/",
    }
    keys = finding.where.split(", ")
    for old, new in places.items():
        keys = [new + key.removeprefix(old) if key.startswith(old) else key for key in keys]
    text = f"{name}: {finding.text}"
    return dataclasses.replace(finding, text=text, where=", ".join(keys))


def _data(run: Run) -> Iterator[Finding]:
    """Faults of the data, and of cutoff and ``sel`` for them."""
    model = run.config["model"]
    selection = next(iter(model_selections(model)), None)
    sel = None if selection is None or isinstance(selection.value, str) else selection.value
    rcut = 6.0 if selection is None else selection.rcut
    with run.inside():
        report = check_data(
            run.systems("training_data"),
            run.systems("validation_data") or None,
            rcut=rcut,
            sel=sel,
            type_map=model["type_map"],
        )
    yield from (f for f in report.findings if f.level != "note")
    counts = report.facts.get("mean_neighbors")
    # Other labels may depend on the nearest neighbors alone.
    of_energies = run.config["loss"].get("type", "ener").startswith("ener")
    few = counts is not None and of_energies and counts < _FEW_NEIGHBORS
    if few and report.facts["atoms"][0] > _FEW_NEIGHBORS:
        text = f"atoms have {counts:.1f} neighbors within {rcut:g} Å on average"
        yield Finding("warning", "rcut", text, counts, "model/descriptor/rcut", "write 6.0")


def _diverged(run: Run) -> Iterator[Finding]:
    found = sorted(run.folder.glob("diverged-step-*.npz"))
    total = run.column("rmse_trn")
    broken = total is not None and not np.isfinite(total).all()
    if found or broken:
        rate = run.config["learning_rate"].get("start_lr", 0.0)
        where = found[-1].name if found else "learning curve"
        text = f"the loss became infinite or NaN ({where}); the learning rate begins with {rate:g}"
        yield Finding("error", "diverged", text, rate, "learning_rate/start_lr", "write 0.001")


def _shares(run: Run, frames: Sequence[Compared], end: str) -> dict[str, float]:
    """Terms of the loss (energy, force) with the prefactors of one end of the training."""
    loss = run.config["loss"]
    natoms = float(np.mean([len(f.types) for f in frames])) if frames else 1.0
    out = {}
    for what, key, scale in (("energy", "e", natoms), ("force", "f", 1.0)):
        error = rmse(frames, what)
        if np.isfinite(error):
            out[what] = float(loss.get(f"{end}_pref_{key}", 0.0)) * error**2 * scale
    return out


def _prefactors(run: Run, frames: Sequence[Compared]) -> Iterator[Finding]:
    if run.config["loss"].get("type", "ener") != "ener":
        return
    ends = [_shares(run, frames, end) for end in ("start", "limit")]
    for what, key in (("energy", "e"), ("force", "f")):
        if not all(what in terms for terms in ends):
            continue
        shares = [terms[what] / max(sum(terms.values()), 1e-300) for terms in ends]
        if max(shares) < _NO_SHARE:
            text = (
                f"the {what} makes at most {max(shares):.1e} of the loss, from beginning to end: "
                "it is not trained"
            )
            usual = "0.02 and 1" if key == "e" else "1000 and 1"
            where = f"loss/start_pref_{key}, loss/limit_pref_{key}"
            yield Finding("error", "prefactor", text, max(shares), where, f"write {usual}")


def _learning(run: Run, frames: Sequence[Compared]) -> Iterator[Finding]:
    """Nothing learned, and why: rate too large or small, too few steps."""
    train = [f for f in frames if f.kind == "training"]
    what, spread = _spread(train)
    if not np.isfinite(spread) or spread <= 0.0:
        return
    left = rmse(train, what) / spread
    passes = _passes(run)
    if passes is not None and passes < _FEW_PASSES:
        text = f"every training frame was used {passes:.2g} times; {100 * left:.0f} % of the spread is left"
        yield Finding("error", "few-steps", text, passes, "training/numb_steps", "raise it")
        return
    if left < _LEARNED:
        return
    rate = float(run.config["learning_rate"].get("start_lr", 0.001))
    text = f"the error of the {what} is {100 * left:.0f} % of its spread: nothing was learned"
    where = "learning_rate/start_lr"
    if rate >= _LARGE_RATE:
        yield Finding(
            "error",
            "rate-large",
            f"{text}; the learning rate begins with {rate:g}",
            rate,
            where,
            "write 0.001",
        )
    elif rate <= _SMALL_RATE:
        yield Finding(
            "error",
            "rate-small",
            f"{text}; the learning rate begins with {rate:g}",
            rate,
            where,
            "write 0.001",
        )
    else:
        yield Finding(
            "warning", "not-learned", text, left, "model", "check data and prefactors first"
        )


def _spread(frames: Sequence[Compared]) -> tuple[str, float]:
    """Quantity that shows whether a model learned, and the spread of its labels."""
    forces = [f.force[0].reshape(-1) for f in frames if f.force is not None]
    if forces:
        return "force", float(np.sqrt(np.mean(np.square(np.concatenate(forces)))))
    energies = [f.energy[0] for f in frames if f.energy is not None]
    return "energy", float(np.std(energies)) if energies else np.nan


def _passes(run: Run) -> float | None:
    """Return how often every frame was used."""
    step = int(run.record.get("step") or (run.curve[-1, 0] if len(run.curve) else 0))
    data = (run.record.get("data") or {}).get("Default", {}).get("training", [])
    batch = run.config["training"]["training_data"].get("batch_size", "auto")
    if not data or not step or not isinstance(batch, int):
        return None
    return step * batch / max(sum(d["frames"] for d in data), 1)


def _overfit(run: Run, frames: Sequence[Compared]) -> Iterator[Finding]:
    train, valid = ([f for f in frames if f.kind == k] for k in ("training", "validation"))
    if not train or not valid:
        return
    what, _ = _spread(train)
    one, two = rmse(train, what), rmse(valid, what)
    if not (np.isfinite(one + two) and two > _OVERFIT * one > 0.0):
        return
    count = sum(
        d["frames"] for d in (run.record.get("data") or {}).get("Default", {}).get("training", [])
    )
    natoms = float(np.mean([len(f.types) for f in train]))
    text = (
        f"the {what} error of validation data is {two / one:.1f} times that of training data "
        f"({two:.3g} against {one:.3g})"
    )
    if count:
        text += f"; {count} frames of {natoms:.0f} atoms were trained on"
    fix = "add training data (dp data split --by similarity), fewer neurons, or fewer steps"
    yield Finding("warning", "overfit", text, two / one, "training/training_data/systems", fix)


def _shifts(frames: Sequence[Compared]) -> Iterator[Finding]:
    """Systems whose energies are all off by the same amount."""
    groups: dict[tuple[str, str], list[float]] = {}
    for f in frames:
        if f.energy is not None:
            groups.setdefault((f.kind, f.system), []).append(f.energy_error())
    middle = {key: float(np.median(v)) for key, v in groups.items()}
    train = [m for (kind, _), m in middle.items() if kind == "training"]
    common = float(np.median(train)) if train else 0.0
    for (kind, system), errors in groups.items():
        shift = middle[kind, system] - common
        scatter = 1.4826 * float(np.median(np.abs(np.array(errors) - middle[kind, system])))
        all_train = [e for (k, _), v in groups.items() if k == "training" for e in v]
        scatter = max(
            scatter,
            1.4826 * float(np.median(np.abs(np.array(all_train) - common))) if all_train else 0.0,
        )
        if len(errors) >= 3 and abs(shift) > max(_SHIFT, _SHIFTED * scatter):
            text = (
                f"energies of {system} ({kind}) are off by {-shift:+.3g} eV/atom, all alike "
                f"(scatter {scatter:.2g})"
            )
            fix = "another reference energy? make them alike, or dp change-bias"
            yield Finding("error", "bias", text, shift, f"training/{kind}_data/systems", fix)


def _floor(known: Sequence[Finding], frames: Sequence[Compared]) -> Iterator[Finding]:
    """Say where errors are those of the labels."""
    net = next((f for f in known if f.code == "net-force"), None)
    error = rmse([f for f in frames if f.kind == "training"], "force")
    if net is None or net.value is None or not np.isfinite(error):
        return
    component = net.value / np.sqrt(3.0)
    if error < _FLOOR * component:
        text = f"the force error {error:.3g} eV/Å is that of the labels (noise about {component:.3g} eV/Å)"
        yield Finding(
            "warning",
            "noise",
            text,
            error / component,
            "training/training_data/systems",
            "converge the labels",
        )


def as_lines(found: Sequence[Finding], config: dict[str, Any]) -> list[str]:
    """Return the findings for a terminal, with the present values of the keys to change."""
    if not found:
        return ["nothing wrong was found"]
    out = []
    for finding in found:
        values = [
            f"{key} = {value}"
            for key in finding.where.split(", ")
            if (value := _value(config, key)) is not None
        ]
        now = f" (now {', '.join(values)})" if values else ""
        out.append(finding.line() + now)
    return out


def _value(config: dict[str, Any], path: str) -> Any:
    """Value of a key of the input, None where the path is none."""
    node: Any = config
    for word in path.split("/"):
        if not isinstance(node, dict) or word not in node:
            return None
        node = node[word]
    return None if isinstance(node, dict | list) and len(str(node)) > 60 else node
