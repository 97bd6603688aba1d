# SPDX-License-Identifier: LGPL-3.0-or-later
"""Make the water data set of this example with GFN1-xTB (tblite through ASE).

Each run starts from its own random arrangement of molecules, in its own strained
cell, is mixed by a Monte Carlo run of rigid TIP3P molecules and then followed by Langevin
dynamics with GFN1-xTB.  After the equilibration, every ``STRIDE`` steps one frame is kept; the energy, the forces and
the virial that the dynamics itself used are its labels.

Usage::

    python make_data.py            # sample all runs that are not there yet, then assemble
    python make_data.py --check    # only compare the virial with finite strains

Finished runs are kept in ``--work`` and skipped when the script is started again.  The
settings are the constants below; the strains multiply row vectors from the right, r' = r (1 + e).
"""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.tip3p import angleHOH, epsilon0, qH, rOH, sigma0
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from tblite.ase import TBLite

N_MOLECULES = 22  # 66 atoms
DENSITY = 0.997  # g/cm3 of the undeformed cell
TYPE_MAP = ("O", "H")

METHOD = "GFN1-xTB"
ACCURACY = 0.01  # of the self-consistent cycle; 1 is the library's default

# Masses moved from oxygen to hydrogen slow the O-H stretch down and so permit a longer step.
# Classical averages over positions do not depend on the masses.
MASS_O, MASS_H = 12.0, 3.0  # amu
TIMESTEP = 1.25  # fs
FRICTION = 0.04  # 1/fs
EQUILIBRATION = 40  # GFN1-xTB steps before the first frame
STRIDE = 8  # steps between frames
FRAMES_PER_RUN = 9
MIX_SWEEPS = 1500  # Monte Carlo moves per molecule, half of them at twice the temperature

TEMPERATURES = (300.0, 330.0, 360.0)  # K
O_H_LIMITS = (0.75, 1.35)  # Å, a frame with a bond outside is refused


def _strain(*entries: tuple[int, int, float]) -> np.ndarray:
    """Build a 3x3 strain from (row, column, value) entries."""
    strain = np.zeros((3, 3))
    for row, column, value in entries:
        strain[row, column] = value
    return strain


STRAINS = {
    "none": np.zeros((3, 3)),
    "compressed": -0.02 * np.eye(3),
    "expanded": 0.02 * np.eye(3),
    "shear_yx": _strain((1, 0, 0.05)),
    "shear_zy": _strain((2, 1, -0.05)),
    "shear_zx": _strain((2, 0, 0.04)) + 0.01 * np.eye(3),
    "uniaxial": _strain((0, 0, -0.02), (1, 1, -0.01), (2, 2, 0.03)),
    "general": np.array([[0.01, 0.02, -0.015], [-0.02, -0.015, 0.03], [0.025, -0.01, 0.005]]),
    "slight": np.array([[0.005, -0.01, 0.0], [0.015, 0.01, 0.02], [-0.02, 0.0, -0.01]]),
}
VALIDATION = (
    (300.0, "none"),
    (330.0, "slight"),
    (360.0, "expanded"),
    (300.0, "shear_zx"),
    (330.0, "compressed"),
)


@dataclass(frozen=True)
class Run:
    """One trajectory: the system it goes to, its temperature [K], strain and seed."""

    system: str
    temperature: float
    strain: str
    seed: int

    @property
    def name(self) -> str:
        """File name stem of the run."""
        return f"{self.system}-{self.temperature:.0f}K-{self.strain}"


def all_runs() -> list[Run]:
    """List the runs; validation first, then training strain by strain over the temperatures."""
    runs = [Run("valid_0", t, s, 1000 + i) for i, (t, s) in enumerate(VALIDATION)]
    for i, strain in enumerate(name for name in STRAINS if name != "slight"):
        for k, temperature in enumerate(TEMPERATURES):
            runs.append(Run(f"train_{k}", temperature, strain, 10 * i + k))
    return runs


def calculator() -> TBLite:
    """Return the GFN1-xTB calculator of the labels."""
    return TBLite(method=METHOD, accuracy=ACCURACY, verbosity=0)


def random_turn(rng: np.random.Generator) -> np.ndarray:
    """Return a uniformly distributed rotation matrix (3, 3)."""
    turn, upper = np.linalg.qr(rng.normal(size=(3, 3)))
    turn = turn * np.sign(np.diag(upper))
    return turn * np.sign(np.linalg.det(turn))


def random_start(strain: np.ndarray, rng: np.random.Generator) -> Atoms:
    """Put randomly turned molecules on some sites of a lattice in the strained cell."""
    edge = (N_MOLECULES * 18.015 / (DENSITY * 0.602214)) ** (1 / 3)
    cell = edge * (np.eye(3) + strain)
    half = np.deg2rad(angleHOH) / 2
    molecule = rOH * np.array(
        [[0, 0, 0], [np.sin(half), np.cos(half), 0], [-np.sin(half), np.cos(half), 0]]
    )
    side = int(np.ceil(N_MOLECULES ** (1 / 3)))
    sites = rng.permutation(side**3)[:N_MOLECULES]
    positions = []
    for site in sites:
        center = (np.array(np.unravel_index(site, (side,) * 3)) + 0.5) / side @ cell
        positions.append(center + molecule @ random_turn(rng).T)
    return Atoms("OHH" * N_MOLECULES, positions=np.concatenate(positions), cell=cell, pbc=True)


def tip3p_energy(moved: np.ndarray, others: np.ndarray, cell: np.ndarray) -> float:
    """Return the energy [eV] of one molecule (3, 3) with the others (n, 3, 3), nearest images."""
    inverse = np.linalg.inv(cell)
    cutoff = 0.5 / np.linalg.norm(inverse, axis=0).max()
    delta = moved[None, :, None, :] - others[:, None, :, :]
    delta -= np.rint(delta @ inverse) @ cell
    distance = np.sqrt((delta**2).sum(-1))
    charges = np.array([-2 * qH, qH, qH])
    coulomb = 1 / distance - 1 / cutoff + (distance - cutoff) / cutoff**2
    coulomb = np.where(distance < cutoff, coulomb, 0.0) * charges[:, None] * charges[None, :]
    sixth = (sigma0 / distance[:, 0, 0]) ** 6
    lennard_jones = 4 * epsilon0 * (sixth**2 - sixth)
    return units.Hartree * units.Bohr * coulomb.sum() + lennard_jones.sum()


def mix(atoms: Atoms, temperature: float, rng: np.random.Generator) -> None:
    """Move rigid TIP3P molecules in place by Monte Carlo, hot first, to forget the lattice."""
    cell = atoms.cell[:]
    molecules = atoms.get_positions().reshape(N_MOLECULES, 3, 3)
    for kelvin in (2 * temperature, temperature):
        for _ in range(MIX_SWEEPS // 2 * N_MOLECULES):
            chosen = rng.integers(N_MOLECULES)
            old = molecules[chosen]
            others = np.delete(molecules, chosen, axis=0)
            turn, upper = np.linalg.qr(np.eye(3) + 0.25 * rng.normal(size=(3, 3)))
            turn = turn * np.sign(np.diag(upper))
            new = old[0] + 0.15 * rng.normal(size=3) + (old - old[0]) @ turn
            rise = tip3p_energy(new, others, cell) - tip3p_energy(old, others, cell)
            if rise < 0 or rng.random() < np.exp(-rise / (units.kB * kelvin)):
                molecules[chosen] = new
    atoms.set_positions(molecules.reshape(-1, 3))


def label(atoms: Atoms) -> dict[str, np.ndarray]:
    """Return one frame: coord (n_atoms, 3) [Å], box (9,), energy, force and virial (9,) [eV]."""
    volume = atoms.get_volume()
    virial = -volume * atoms.get_stress(voigt=False)  # ASE: stress = (dE/d strain) / V
    return {
        "coord": atoms.get_positions(),
        "box": atoms.cell[:].reshape(9).copy(),
        "energy": np.array(atoms.get_potential_energy()),
        "force": atoms.get_forces(),
        "virial": virial.reshape(9),
    }


def check_bonds(atoms: Atoms) -> None:
    """Refuse a frame whose molecules are broken."""
    positions = atoms.get_positions().reshape(N_MOLECULES, 3, 3)
    bonds = np.linalg.norm(positions[:, 1:] - positions[:, :1], axis=-1)
    if bonds.min() < O_H_LIMITS[0] or bonds.max() > O_H_LIMITS[1]:
        raise RuntimeError(f"O-H bonds of {bonds.min():.3f} to {bonds.max():.3f} Å")


def sample(run: Run) -> dict[str, np.ndarray]:
    """Sample one run; arrays with a leading axis of frames."""
    rng = np.random.default_rng(run.seed)
    atoms = random_start(STRAINS[run.strain], rng)
    mix(atoms, run.temperature, rng)
    atoms.calc = calculator()
    atoms.set_masses([MASS_O, MASS_H, MASS_H] * N_MOLECULES)
    MaxwellBoltzmannDistribution(atoms, temperature_K=run.temperature, rng=rng)
    dynamics = Langevin(
        atoms,
        TIMESTEP * units.fs,
        temperature_K=run.temperature,
        friction=FRICTION / units.fs,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(EQUILIBRATION)
    frames = []
    for _ in range(FRAMES_PER_RUN):
        dynamics.run(STRIDE)
        check_bonds(atoms)
        frames.append(label(atoms))
    return {key: np.array([frame[key] for frame in frames]) for key in frames[0]}


def save(path: Path, write, mode: str = "wb") -> None:
    """Write a file under another name first, so that a stopped script leaves none half-written."""
    part = path.with_name(path.name + ".part")
    with open(part, mode) as handle:
        write(handle)
    os.replace(part, path)


def assemble(work: Path, target: Path) -> None:
    """Join the finished runs of every system into the NumPy layout."""
    for system in sorted({run.system for run in all_runs()}):
        files = [work / f"{run.name}.npz" for run in all_runs() if run.system == system]
        parts = [dict(np.load(file)) for file in files if file.exists()]
        if not parts:
            continue
        folder = target / system / "set.000"
        folder.mkdir(parents=True, exist_ok=True)
        types = " ".join(["0 1 1"] * N_MOLECULES) + "\n"
        save(target / system / "type.raw", lambda handle, text=types: handle.write(text), "w")
        names = "\n".join(TYPE_MAP) + "\n"
        save(target / system / "type_map.raw", lambda handle, text=names: handle.write(text), "w")
        for key in parts[0]:
            array = np.concatenate([part[key] for part in parts])
            if key in ("coord", "force"):
                array = array.reshape(len(array), -1)
            save(folder / f"{key}.npy", lambda handle, a=array: np.save(handle, a))
        energies = np.concatenate([part["energy"] for part in parts])
        print(
            f"{system}: {len(energies)} frames, energy {energies.min():.3f} to "
            f"{energies.max():.3f} eV"
        )


def strained_energy(atoms: Atoms, strain: np.ndarray) -> float:
    """Return the energy [eV] after a homogeneous strain of the cell and all atoms."""
    moved = atoms.copy()
    moved.set_cell(atoms.cell[:] @ (np.eye(3) + strain), scale_atoms=True)
    moved.calc = calculator()
    return moved.get_potential_energy()


def check_virial(system: Path, step: float = 1e-3, tolerance: float = 5e-3) -> None:
    """Compare the stored virial of the first frame with -dE/d strain, all nine entries."""
    arrays = {
        key: np.load(system / "set.000" / f"{key}.npy")[0] for key in ("coord", "box", "virial")
    }
    types = np.loadtxt(system / "type.raw", dtype=int)
    atoms = Atoms(
        [TYPE_MAP[t] for t in types],
        positions=arrays["coord"].reshape(-1, 3),
        cell=arrays["box"].reshape(3, 3),
        pbc=True,
    )
    numeric = np.zeros((3, 3))
    for a, b in np.ndindex(3, 3):
        strain = _strain((a, b, step))
        numeric[a, b] = (strained_energy(atoms, -strain) - strained_energy(atoms, strain)) / (
            2 * step
        )
    error = np.abs(numeric.reshape(9) - arrays["virial"]).max()
    print(f"{system.name}: largest difference of the virial from finite strains {error:.1e} eV")
    if error > tolerance:
        raise SystemExit("the stored virial is not -dE/d strain")


def main() -> None:
    """Sample, assemble and check."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=here / "data", help="where the systems go")
    parser.add_argument("--work", type=Path, default=here / "runs", help="finished runs")
    parser.add_argument("--check", action="store_true", help="only check the virial")
    parser.add_argument("--assemble", action="store_true", help="only join the finished runs")
    options = parser.parse_args()
    if not (options.check or options.assemble):
        options.work.mkdir(parents=True, exist_ok=True)
        for run in all_runs():
            file = options.work / f"{run.name}.npz"
            if file.exists():
                continue
            start = time.time()
            try:
                arrays = sample(run)
            except RuntimeError as error:
                print(f"{run.name} is left out: {error}", flush=True)
                continue
            save(file, lambda handle, a=arrays: np.savez(handle, **a))
            print(
                f"{run.name}: {time.time() - start:.0f} s, {arrays['energy'].round(2)}", flush=True
            )
    if not options.check:
        assemble(options.work, options.data)
    for system in sorted(options.data.iterdir()):
        check_virial(system)


if __name__ == "__main__":
    main()
