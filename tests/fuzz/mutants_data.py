# SPDX-License-Identifier: LGPL-3.0-or-later
"""Mutants of data and input files, and what may become of them.

Run as a program, in a process of its own because a library may end it: ``mutants_data.py FIRST LAST
KIND FOLDER`` makes and opens mutants, and prints their rows.
"""

import copy
import json
import logging
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from fuzz.rows import SECONDS, Row, begin, end

from deepmd.base.errors import InputError
from deepmd.data.neighbor_stat import neighbor_stat
from deepmd.data.search import open_systems
from deepmd.dpmodel.label import Label
from deepmd.schema import load_input, normalize, upgrade
from deepmd.testing.systems import save_system

TYPES = ["A", "B"]
LABELS = [
    Label("energy", 1, atomic=False),
    Label("force", 3, atomic=True),
    Label("virial", 9, atomic=False),
    Label("fparam", 2, atomic=False),
]


# -- mutants of bytes -----------------------------------------------------------------------------

EXTREMES = [
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
]


def mutated(data: bytes, rng: np.random.Generator, words: list[bytes]) -> bytes:
    """Return bytes with a change or several."""
    out = bytearray(data)
    for _ in range(rng.geometric(0.6)):
        # Half of the changes are near the beginning, where headers are.
        end = len(out) if rng.random() < 0.5 else min(len(out), 256)
        at = int(rng.integers(0, end + 1))
        kind = rng.integers(0, 8)
        size = int(2 ** rng.integers(0, 9))
        if kind == 0 and at < len(out):
            out[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            out[at : at + size] = rng.bytes(size)
        elif kind == 2:
            del out[at : len(out) if rng.random() < 0.3 else at + size]
        elif kind == 3:
            other = int(rng.integers(0, len(out) + 1))
            out[at:at] = out[other : other + size]
        elif kind == 4:
            width = int(rng.choice([1, 2, 4, 8]))
            value = int(EXTREMES[rng.integers(0, len(EXTREMES))]) % 256**width
            out[at : at + width] = value.to_bytes(width, "little")
        elif kind in (5, 6):
            word = words[rng.integers(0, len(words))]
            out[at : at + (len(word) if kind == 5 else 0)] = word
        else:
            out[at : at + size] = bytes(size)
    return bytes(out)


WORDS_OF_DATA = [
    b"0 1", b"-1", b"9" * 30, b"A", b"\n", b"\0", b"\xff", b"nan", b"(4, 15)", b"(400000000000, 15)",
    b"(-4, 15)", b"(4, 15, 0)", b"'<f8'", b"'|O'", b"'<f4'", b"'<U9'", b"'>i8'", b"True", b"(" * 300,
    b"{'descr': '<f8'}", b"0x10", "\u0663".encode(),
]  # fmt: skip


# -- mutants of inputs ----------------------------------------------------------------------------

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**63, 10**400, 1e308, -1e-300, "", "x", "x" * 300, "\0", "\ud800",
    [], {}, [[]], [None], {"type": None}, {"type": "no"}, [1, "a"], "auto", "auto:x", [[[[1]]]],
    {"": 1}, float("inf"), float("nan"), "se_e2_a", {"_x": 1}, ["O", "O"],
]  # fmt: skip
WORDS_OF_INPUT = [
    b"{", b"}", b"[", b"]", b"[" * 2000, b"{\"a\":" * 500, b'"', b":", b",", b"null", b"1e999", b"NaN",
    b"-", b"9" * 5000, b"\\ud800", b"\\u0000", b"# c", b"&a ", b"*a", b"<<: *a", b"!!binary ", b"- ",
    b"!!python/object:os.system ", b"2020-01-01", b"? ", b"|\n", b"%YAML 9.9\n", b"---\n", b"\t",
    b"1:30:00", b"0o17", b".inf", b"\xef\xbb\xbf", b"!!set ", b"yes", b"\n  ",
]  # fmt: skip


def mutated_tree(tree: Any, rng: np.random.Generator) -> Any:
    """Return an input with one to three values replaced, removed, added or exchanged."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.integers(1, 4)):
        holders = list(_holders(tree))
        holder = holders[rng.integers(0, len(holders))]
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        value = copy.deepcopy(VALUES[rng.integers(0, len(VALUES))])
        if not keys:
            continue
        key = keys[rng.integers(0, len(keys))]
        kind = rng.integers(0, 5)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[str(key)[:-1]] = value
        elif kind == 2:
            other = holders[rng.integers(0, len(holders))]
            holder[key] = json.loads(json.dumps(other))
        else:
            holder[key] = value
    return tree


def _holders(tree: Any) -> Iterator[Any]:
    if isinstance(tree, (dict, list)):
        yield tree
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _holders(part)


# -- good files -----------------------------------------------------------------------------------


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid([0.0, 2.0], [0.0, 2.0], [0.0], indexing="ij"), -1).reshape(4, 3)
    return {
        "coord": (grid + rng.uniform(-0.3, 0.3, (5, 4, 3))).reshape(5, 12),
        "box": np.tile((4.0 * np.eye(3)).ravel(), (5, 1)),
        "energy": rng.normal(size=5),
        "force": rng.normal(size=(5, 12)).astype("f4"),
        "virial": rng.normal(size=(5, 9)),
    }


def write_folder(path: Path) -> Path:
    return save_system(path, [0, 1, 1, 0], ["A", "B"], arrays())


def write_mixed(path: Path) -> Path:
    write_folder(path)
    np.save(path / "set.000/real_atom_types.npy", np.tile([0, 1, 1, -1], (5, 1)))
    return path


def write_hdf5(path: Path) -> Path:
    import h5py

    path = path.with_suffix(".h5")
    with h5py.File(path, "w") as file:
        file["s/type.raw"] = [0, 1, 1, 0]
        file["s/type_map.raw"] = np.array(["A", "B"], "S1")
        for name, value in arrays().items():
            packed = {"compression": "gzip", "chunks": True} if name == "force" else {}
            file.create_dataset(f"s/set.000/{name}.npy", data=value, **packed)
        file["link"] = h5py.SoftLink("/s")
    return path


def write_lmdb(path: Path) -> Path:
    import lmdb
    import msgpack

    def packed(value: Any) -> Any:
        value = np.asarray(value)
        return {"type": str(value.dtype), "shape": list(value.shape), "data": value.tobytes()}

    path = path.with_suffix(".lmdb")
    about = {"nframes": 40, "frame_idx_fmt": "06d", "type_map": TYPES, "frame_nlocs": [4] * 40}
    known = arrays()
    with (
        lmdb.open(str(path), subdir=False, lock=False, map_size=1 << 22) as file,
        file.begin(write=True) as transaction,
    ):
        transaction.put(b"__metadata__", msgpack.packb(about))
        for k in range(40):
            frame = {name: packed(value[k % 5]) for name, value in known.items()}
            frame["atom_types"] = packed([0, 1, 1, 0])
            frame["fparam"] = packed(np.zeros(2))
            frame["more"] = packed(np.zeros(700))
            transaction.put(f"{k:06d}".encode(), msgpack.packb(frame))
    return path


INPUT: dict[str, Any] = {
    "model": {
        "type_map": ["O", "H"],
        "descriptor": {
            "type": "hybrid",
            "list": [
                {"type": "se_e2_a", "sel": [4, 8], "rcut": 6.0, "rcut_smth": 0.5, "neuron": [2, 4]},
                {"type": "dpa1", "sel": 20, "rcut": 6.0, "rcut_smth": 0.5, "attn_layer": 1},
            ],
        },
        "fitting_net": {"neuron": [4, 4], "seed": 1, "resnet_dt": True},
    },
    "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-8, "decay_steps": 10},
    "loss": {"type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000},
    "optimizer": {"type": "AdamW", "weight_decay": 0.1},
    "training": {
        "training_data": {"systems": ["a", "b"], "batch_size": "auto", "auto_prob": "prob_uniform"},
        "validation_data": {"systems": "c", "batch_size": [1], "numb_btch": 2},
        "numb_steps": 10, "seed": 3, "disp_freq": 1, "save_freq": 2, "_comment": "none",
    },
}  # fmt: skip
OLD_INPUT: dict[str, Any] = {
    "model": {
        "type_map": ["O"],
        "descriptor": {"type": "se_a", "sel": [4], "rcut": 6.0},
        "fitting_net": {"neuron": [4]},
    },
    "learning_rate": {"type": "exp", "start_lr": 0.005, "decay_steps": 500, "decay_rate": 0.95},
    "loss": {"start_pref_e": 0.02},
    "training": {"systems": ["d"], "set_prefix": "set", "stop_batch": 100, "batch_size": [4],
                 "numb_test": 2, "warmup_steps": 3, "opt_type": "AdamW"},
}  # fmt: skip


# -- opening --------------------------------------------------------------------------------------


def open_data(path: Path) -> None:
    """Open, read everything, and count neighbors; what is read must be finite and complete."""
    for system in open_systems([str(path)], type_map=TYPES):
        system.check(LABELS)
        system.scan(LABELS)
        neighbor_stat([system], 3.0, len(TYPES))
        batch = system.load([0, system.nframes - 1], LABELS)
        assert batch.coord.shape == (batch.natoms.sum(), 3)
        assert np.isin(batch.atype, (0, 1)).all()
        for value in (batch.coord, batch.cell, *batch.labels.values()):
            assert np.isfinite(value).all()


def open_input(path: Path) -> None:
    """Read and check an input; what comes out can be written, and is stable."""
    given = upgrade(load_input(path))
    done = normalize(given)
    json.dumps(done, allow_nan=False).encode("utf-8")


def mutate_file(path: Path, rng: np.random.Generator) -> None:
    """Change one file, one of those of a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    file = files[rng.integers(0, len(files))]
    file.write_bytes(mutated(file.read_bytes(), rng, WORDS_OF_DATA))


def data_mutant(write: Callable[[Path], Path]) -> Callable[[Path, np.random.Generator], None]:
    def make(folder: Path, rng: np.random.Generator) -> None:
        good = folder / "good"
        if not list(folder.glob("good*")):
            write(good)
        (good,) = folder.glob("good*")
        bad = folder / f"bad{good.suffix}"
        copy = shutil.copytree if good.is_dir() else shutil.copyfile
        copy(good, bad)
        mutate_file(bad, rng)
        open_data(bad)

    return make


def input_mutant(folder: Path, rng: np.random.Generator) -> None:
    import yaml

    tree = OLD_INPUT if rng.random() < 0.3 else INPUT
    as_yaml, by_tree = rng.random() < 0.4, rng.random() < 0.6
    tree = mutated_tree(tree, rng) if by_tree else tree
    text = yaml.safe_dump(tree, allow_unicode=False) if as_yaml else json.dumps(tree, indent=1)
    data = text.encode("utf-8", "surrogatepass")
    if not by_tree:
        data = mutated(data, rng, WORDS_OF_INPUT)
    path = folder / ("bad.yaml" if as_yaml else "bad.json")
    path.write_bytes(data)
    open_input(path)


KINDS: dict[str, Callable[[Path, np.random.Generator], None]] = {
    "folder": data_mutant(write_folder),
    "mixed": data_mutant(write_mixed),
    "hdf5": data_mutant(write_hdf5),
    "lmdb": data_mutant(write_lmdb),
    "input": input_mutant,
}


def _late(*_: Any) -> None:
    raise TimeoutError(f"took more than {SECONDS} s")


def outcome(kind: str, number: int, folder: Path) -> tuple[str, str]:
    """Make and open a mutant; return the outcome, and what was raised."""
    for old in folder.glob("bad*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        KINDS[kind](folder, np.random.default_rng([sum(kind.encode()), number]))
    except InputError as error:
        cause: BaseException | None = error
        while cause is not None:  # the timer must not be taken for a damaged file
            if isinstance(cause, TimeoutError):
                return "raised", str(cause)
            cause = cause.__cause__ or cause.__context__
        text = str(error)
        clean = text and len(text) < 2000 and len(text.splitlines()) == 1
        clean = clean and "more memory" not in text
        return ("refused" if clean else "raised"), text
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
        at = traceback.extract_tb(error.__traceback__)[-1]
        return "raised", f"{type(error).__name__}: {error} ({at.name})"[:500]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "right", ""


def peak() -> float:
    """Largest resident memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(first: int, last: int, kind: str, folder: Path) -> None:
    """Print the rows of mutants."""
    logging.disable()
    warnings.simplefilter("error")
    signal.signal(signal.SIGPROF, _late)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 30),) * 2)
    for number in range(first, last):
        before, start = peak(), time.process_time()
        begin(number)
        found, what = outcome(kind, number, folder)
        seconds, grown = time.process_time() - start, peak() - before
        end(Row(number, kind, found, what, round(seconds, 3), round(grown)))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
