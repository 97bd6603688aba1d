# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp plan``: what a training and its model will cost on this machine."""

import datetime
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepmd.backend.backend import choose_backend
from deepmd.base.errors import InputError
from deepmd.base.files import write_text
from deepmd.schema import load_input, normalize, upgrade

log = logging.getLogger(__name__)


def plan(
    *,
    INPUT: str,
    alternatives: Sequence[str] | None = None,
    seconds: float = 60.0,
    timestep: float = 1.0,
    json_file: str | None = None,
    backend: str | None = None,
    **_: Any,
) -> list[dict[str, Any]]:
    """Measure an input and alternatives to it, and log a table; options are those of the command.

    Alternatives run in processes of their own, since memory is that of a process.
    """
    for name, value in (("--seconds", seconds), ("--timestep", timestep)):
        if not 0.0 < value < float("inf"):
            raise InputError(f"found {value}, expected a positive number", where=name)
    given = upgrade(load_input(INPUT))
    config = normalize(given, file=INPUT)
    chosen, why = choose_backend(backend)
    log.info("Backend: %s (%s); measuring for %g s", chosen.name, why, seconds)
    rows = [_own(config, chosen, seconds, timestep, alternatives or ())]
    from deepmd.insight.planning import COMPRESSED, alternative  # after the log line: it takes long

    for name in alternatives or ():
        if name != COMPRESSED:
            other = alternative(given, name)
            normalize(other, file=f"{INPUT} with {name}")
            rows.append(_in_process(name, other, chosen.key, seconds, timestep))
    found = [row for group in rows for row in group]
    text = json.dumps(found, indent=2) + "\n"
    if json_file == "-":
        sys.stdout.write(text)
        return found
    for line in table(found, timestep):
        log.info("%s", line)
    if json_file is not None:
        write_text(json_file, text)
    return found


def _own(
    config: Mapping[str, Any], chosen: Any, seconds: float, timestep: float, wanted: Sequence[str]
) -> list[dict[str, Any]]:
    """Measure the input itself, without log lines of the training."""
    from deepmd.insight.planning import COMPRESSED, measure

    logger = logging.getLogger("deepmd")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        found = measure(config, chosen(), seconds)
    finally:
        logger.setLevel(level)
    if COMPRESSED not in wanted:
        found = found[:1]
    elif len(found) < 2:
        log.warning("nothing of this model can be compressed")
    return [cost.to_dict(timestep) for cost in found]


def _in_process(
    name: str, config: Mapping[str, Any], backend: str, seconds: float, timestep: float
) -> list[dict[str, Any]]:
    """Measure an input with this command in another process."""
    with tempfile.TemporaryDirectory(prefix="dp-plan-") as folder:
        path = Path(folder) / "input.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        command = [sys.executable, "-m", "deepmd", "--backend", backend, "plan", str(path)]
        command += ["--seconds", repr(seconds), "--timestep", repr(timestep), "--json", "-"]
        done = subprocess.run(
            [*command, "--log-level", "ERROR"], capture_output=True, text=True, check=False
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        log.warning("%s: %s", name, lines[-1])
        return []
    return [row | {"name": name} for row in json.loads(done.stdout)]


def table(rows: Sequence[Mapping[str, Any]], timestep: float) -> Iterator[str]:
    """Lines of the table."""
    first = rows[0]
    yield (
        f"{'':<12}{'steps/h':>10}{'to the end':>16}{'memory MiB':>12}{'parameters':>12}"
        f"{'model MiB':>11}{'µs/atom/step':>14}{'ns/day':>9}"
    )
    for row in rows:
        end = str(datetime.timedelta(seconds=round(3600.0 * row["hours"])))
        yield (
            f"{row['name']:<12}{row['steps_per_hour']:>10.0f}{end:>16}{row['memory']:>12.0f}"
            f"{row['parameters']:>12}{row['size']:>11.2f}{row['us_per_atom_step']:>14.2f}"
            f"{row['ns_per_day']:>9.3g}"
        )
    yield (
        f"{first['numb_steps']} steps; dynamics of {first['md_atoms']} atoms with steps of "
        f"{timestep:g} fs, {first['engine']}"
    )
