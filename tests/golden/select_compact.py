# SPDX-License-Identifier: LGPL-3.0-or-later
"""Selection of the compact golden set from the full one.

``python tests/golden/select_compact.py ../shared/reference`` makes ``tests/golden/compact`` again, and
``--check`` compares instead of writing. Files are copied byte by byte; of the lists of cases only the
entries that were chosen stay. The same full set gives the same files.
"""

import argparse
import json
import shutil
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COMPACT = Path(__file__).resolve().parent / "compact"
#: Upper limit of the size, every file compressed by itself, as git stores it [bytes].
LIMIT = 6_000_000

#: Cases and the formats kept of each. One case per component has every format there is of it that is
#: not large; the others of a component differ in settings.
CASES = {
    "se_e2_a_oneside": "dp yaml pth pb hlo",
    "se_e2_a_twoside": "dp",
    "se_e2_a_exclude_twoside": "dp",
    "se_e2_r_twoside": "dp yaml pth pb",
    "se_e3_basic": "dp yaml pth",
    "se_e3_tebd_concat": "dp yaml",
    "se_e3_tebd_strip": "dp pth",
    "dpa1_l0_concat": "dp yaml pth pb",
    "dpa1_l2_smooth": "dp pth",
    "dpa1_davg_nonzero_prot": "dp",
    "se_atten_v2_l0": "dp yaml pth",
    "dpa2_basic": "dp yaml pth",
    "dpa2_three_body": "dp",
    "dpa3_basic": "dp yaml",
    "dpa3_chg_spin": "dp pth",
    "hybrid_a_r": "dp yaml pth",
    "act_silut_3p0": "dp",
    "ener_fparam_aparam_default": "dp pth",
    "ener_atom_exclude": "dp",
    "ener_pair_exclude": "dp",
    "dipole_se_e2_a": "dp yaml pth pb",
    "polar_se_e2_a": "dp yaml pth",
    "dos_se_e2_a": "dp yaml pth pb",
    "property_intensive": "dp yaml pth",
    "property_extensive": "dp",
    "zbl_dpa1_l0": "dp pth",
    "linear_dp_tab_mean": "dp",
    "pairtab_single": "dp pth",
    "hessian_se_e2_a": "dp pt",
    "spin_se_e2_a": "dp pth",
    "spin_dpa1": "dp",
    "spin_dpa3": "dp",
}
EXTRA = (
    "hybrid_short_attention_typed",
    "spin_dpa3_few_angles",
    "spin_dpa3_few_edges",
)
CHECKPOINTS = ("pt_single", "pt_multitask_waterA", "pt_multitask_waterB", "tf_checkpoint")
#: Runs of LAMMPS. Left out: 100 steps of a second model and cell, TensorFlow's files, two ranks with a
#: model that passes messages.
RUNS = (
    "water_se_e2_a_pth",
    "water_se_e2_a_mpi2",
    "water_dpa1_tri",
    "water_dpa2",
    "water_dpa3",
    "water_fparam_aparam",
    "water_model_devi",
    "water_model_devi_rel",
    "nio_spin",
)
#: Models of these runs as TorchScript files, too; the others are large.
SCRIPTS = ("water_dpa2", "nio_spin")
#: Other files, by patterns. Everything of a training, and the data that it reads.
FILES = (
    "tab/*",
    "train/loss_values.*",
    "train/step_se_e2_a/in*",
    "train/step_se_e2_a/steps.json",
    "train/step_se_e2_a_virial/*",
    "train/step_dpa1_mixed_padded/*",
    "train/step_dipole/*",
    "train/step_dos/*",
    "train/step_property/*",
    "train/step_spin/*",
    "train/water_se_e2_a/*",
    "dplr/dipole.dp",
    "dplr/dipole.json",
    "dplr/dipole.npz",
    "data/water/**/*",
    "data/nopbc/**/*",
    "data/mixed_type/**/*",
    "data/hdf5/*",
    "data/lmdb/**/*",
    "data/fparam_aparam/**/*",
    "data/dplr_water/**/*",
    "data/dipole/training_*/**/*",
    "data/dos/**/*",
    "data/property/**/*",
    "data/polar/validation_global/**/*",
    "data/spin/**/*",
    "data/tables/*",
)


def dump(data: Any) -> bytes:
    """Write a list of cases as the full set has it."""
    return (json.dumps(data, indent=1) + "\n").encode()


def expand(root: Path, *patterns: str) -> Iterator[str]:
    """Return the files that patterns name, a folder standing for all in it; none is an error."""
    for pattern in patterns:
        found = sorted(root.glob(pattern))
        files = [f for p in found for f in ([p] if p.is_file() else sorted(p.rglob("*")))]
        if not files:
            raise SystemExit(f"{root / pattern}: no such files")
        yield from (str(f.relative_to(root)) for f in files if f.is_file())


def choose_cases(root: Path) -> tuple[dict[str, Any], set[str]]:
    """Return the list of cases and checkpoints that stay, and their files."""
    manifest = json.loads((root / "manifest.json").read_text())
    cases, files = {c["name"]: c for c in manifest["cases"]}, set()
    chosen = []
    for name in (n for n in cases if n in CASES):
        kinds = CASES[name].split()
        cases[name]["files"] = {k: cases[name]["files"][k] for k in kinds}
        files |= {*cases[name]["files"].values(), cases[name]["npz"]}
        chosen.append(cases[name])
    if missing := set(CASES) - set(cases):
        raise SystemExit(f"{root / 'manifest.json'}: no case is called {sorted(missing)}")
    kept = [c for c in manifest["checkpoints"] if c["name"] in CHECKPOINTS]
    files |= {c[key] for c in kept for key in ("file", "input", "npz") if key in c}
    return {**manifest, "checkpoints": kept, "cases": chosen}, files


def choose_extra(root: Path) -> tuple[list[dict[str, Any]], set[str]]:
    """Return the list of further cases that stay, and their files."""
    chosen = [
        c for c in json.loads((root / "extra/manifest.json").read_text()) if c["name"] in EXTRA
    ]
    files = {f for c in chosen for f in (*c["files"].values(), c["npz"])}
    return chosen, {f"extra/{name}" for name in files}


def choose_runs(root: Path) -> tuple[dict[str, Any], set[str]]:
    """Return the list of LAMMPS runs that stay, and their files with the models of both kinds."""
    listed = json.loads((root / "lammps/lammps.json").read_text())
    runs = [r for r in listed["runs"] if r["name"] in RUNS]
    files = {f for r in runs for f in (r["input"], r["data"], r["outputs"], *r["files"])}
    models = {Path(w).stem for r in runs for w in r["pair_style"].split() if w.endswith(".pth")}
    files |= {f"{m}.dp" for m in models} | {f"{m}.pth" for m in SCRIPTS} | {"water_tri.data"}
    return {**listed, "runs": runs}, {f"lammps/{name}" for name in files}


def select(root: Path) -> dict[str, bytes]:
    """Return the whole compact set: path, content."""
    manifest, files = choose_cases(root)
    extra, more = choose_extra(root)
    runs, others = choose_runs(root)
    files |= more | others | {"checkpoints/pt_single.lcurve.out"}
    out = {name: (root / name).read_bytes() for name in expand(root, *sorted(files), *FILES)}
    out["manifest.json"] = dump(manifest)
    out["extra/manifest.json"] = dump(extra)
    out["lammps/lammps.json"] = dump(runs)
    return dict(sorted(out.items()))


def packed_size(files: dict[str, bytes]) -> int:
    """Return the size of the files when each is compressed by itself [bytes]."""
    return sum(len(zlib.compress(content)) for content in set(files.values()))


def differences(files: dict[str, bytes]) -> list[str]:
    """Return the files of the compact set that are missing, changed, or too many."""
    there = {str(p.relative_to(COMPACT)): p for p in COMPACT.rglob("*") if p.is_file()}
    there.pop("README.md", None)
    changed = (n for n, c in files.items() if n not in there or there[n].read_bytes() != c)
    return sorted({*changed, *(set(there) - set(files))})


def write(files: dict[str, bytes]) -> None:
    """Replace the compact set."""
    readme = COMPACT / "README.md"
    text = readme.read_bytes() if readme.is_file() else b""
    shutil.rmtree(COMPACT, ignore_errors=True)
    for name, content in {**files, "README.md": text}.items():
        target = COMPACT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def main() -> int:
    """Make the compact set, or compare it with its source."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("full", type=Path, help="folder of the full set")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    args = parser.parse_args()
    files = select(args.full)
    size = packed_size(files)
    print(f"{len(files)} files, {size / 1e6:.2f} MB packed")
    if size > LIMIT:
        print(f"more than {LIMIT / 1e6:.0f} MB", file=sys.stderr)
        return 1
    if not args.check:
        write(files)
    wrong = differences(files)
    print(*(f"differs: {name}" for name in wrong), sep="\n", end="\n" if wrong else "")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
