# SPDX-License-Identifier: LGPL-3.0-or-later
"""Edited programs with right checksums, opened by the native engine; see :mod:`fuzz.rows`.

``python mutants_programs.py FIRST LAST MODEL`` prints the rows of mutants.
"""

import copy
import logging
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import h5py
import numpy as np
from fuzz.child import peak
from fuzz.rows import Row, begin, end

from deepmd.base.errors import InputError
from deepmd.base.files import hdf5_bytes
from deepmd.io import dp
from deepmd.io.files import OPERATIONS
from deepmd.np.engine import NativeModel

COORD = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.1], [2.5, 0.3, 0.2]])
NUMBERS = (-1, 0, 1, 2, 3, 7, 1 << 20, 1 << 41, -(1 << 62), 1.5, 1e300, "nan", "edges", "nothing")
NUMBERS += ([], {}, None, [[1 << 39, "edges"]], [[1, *["edges"] * 12]], [[2, "edges"], [-40]], True)
NAMES = ("float32", "int64", "bool", "complex")


def edit_number(program: dict[str, Any], rng: random.Random) -> None:
    """Exchange a number, size or type of an operation."""
    node = rng.choice(program["nodes"])
    key = rng.choice([k for k in node if k != "op"])
    if isinstance(node[key], list) and node[key] and rng.random() < 0.9:
        node[key][rng.randrange(len(node[key]))] = rng.choice(NUMBERS)
    else:
        node[key] = rng.choice((*NUMBERS, *NAMES))


def edit_operation(program: dict[str, Any], rng: random.Random) -> None:
    """Exchange an operation by another one, or by one that is unknown."""
    others = sorted({node["op"] for node in program["nodes"]})
    rng.choice(program["nodes"])["op"] = rng.choice([*others, "scatter", "eval", ""])


def edit_args(program: dict[str, Any], rng: random.Random) -> None:
    """Let an operation use another array, one more or one less."""
    node = rng.choice([n for n in program["nodes"] if n["args"]])
    args, other = node["args"], rng.randrange(len(program["nodes"]))
    place = rng.randrange(len(args))
    rng.choice(
        (
            lambda: args.__setitem__(place, other),
            lambda: args.insert(place, other),
            lambda: args.pop(place),
        )
    )()


def edit_lists(program: dict[str, Any], rng: random.Random) -> None:
    """Take something out, put it in twice, or exchange two."""
    items = program[rng.choice(("nodes", "inputs", "constants"))]
    a, b = (rng.randrange(len(items)) for _ in range(2))
    rng.choice(
        (
            lambda: items.pop(a),
            lambda: items.insert(b, copy.deepcopy(items[a])),
            lambda: items.__setitem__(a, items[b]),
        )
    )()


def edit_declarations(program: dict[str, Any], rng: random.Random) -> None:
    """Change what is said about inputs, constants and outputs."""
    kind = rng.choice(("inputs", "constants", "outputs", "metadata"))
    if kind in ("outputs", "metadata"):
        program[kind][rng.choice(sorted(program[kind]))] = rng.choice(NUMBERS)
        return
    one = rng.choice(program[kind])
    one[rng.choice(sorted(one))] = rng.choice((*NUMBERS, ["descriptor"], "slot_99", *NAMES))


def edit_arrays(program: dict[str, Any], rng: random.Random) -> None:
    """Change the numbers of an array, or its shape."""
    arrays = program["@variables"]
    name = rng.choice(sorted(arrays))
    array = np.array(arrays[name])
    change = rng.choice((lambda: array[:-1], lambda: array * np.nan, lambda: array.astype("f4")))
    arrays[name] = change()


EDITS: tuple[Callable[[dict[str, Any], random.Random], None], ...] = (
    edit_number,
    edit_operation,
    edit_args,
    edit_lists,
    edit_declarations,
    edit_arrays,
)


def whole_tree(path: Path) -> dict[str, Any]:
    """Return the dictionary of a file, with the program."""
    with h5py.File(path) as handle:
        return dp.read_tree(handle)


def outcome(content: bytes, right: np.ndarray | None) -> tuple[str, str, np.ndarray]:
    """Open a file and evaluate a frame; return the outcome, the message and the force."""
    force = np.zeros((4, 3))
    try:
        model = NativeModel("mutant.dp", content)
        given = {
            "natoms": np.array([4]),
            "coord": COORD,
            "cell": np.zeros((1, 9)),
            "atype": np.array([0, 1, 1, 0], np.int32),
        }
        found = {"value": np.zeros(1), "atom_value": np.zeros(4), "force": force}
        model.evaluate(given, {**found, "virial": np.zeros(9)})
    except InputError as error:
        clean = "\n" not in str(error) and len(str(error)) < 1000
        return ("refused" if clean else "raised"), str(error), force
    if right is not None and not np.allclose(force, right, 0, 1e-12):
        return "edited", "", force
    return "right", "", force


def main(first: int, last: int, path: Path) -> None:
    """Open the mutants from first to last."""
    logging.disable(logging.CRITICAL)
    tree = whole_tree(path)
    found, message, right = outcome(path.read_bytes(), None)
    assert found == "right", message
    for number in range(first, last):
        rng, program = random.Random(number), copy.deepcopy(tree[OPERATIONS])
        edit = EDITS[number % len(EDITS)]
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            edit(program, rng)
        mutant = {**tree, OPERATIONS: program}
        content = hdf5_bytes(lambda handle, mutant=mutant: dp.write_tree(handle, mutant))
        before, start = peak(), time.process_time()
        begin(number)
        found, message, _ = outcome(content, right)
        seconds, grown = time.process_time() - start, peak() - before
        end(Row(number, edit.__name__, found, message[:200], round(seconds, 3), round(grown)))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["OMP_NUM_THREADS"] = "1"
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
