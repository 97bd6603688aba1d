# SPDX-License-Identifier: LGPL-3.0-or-later
"""Long run of the fuzz tests: thousands of mutants of every kind of file, and a table.

``python tests/fuzz/long.py [KIND ...] [--count 10000] [--first 0] [--record FILE]``

One process at a time opens a chunk of mutants of one kind, then one of the next. With a record,
which holds every mutant that may not be, and the counts of each chunk, a run goes on where the one
before it ended. The status is 1 if there was any. ``--only NUMBERS`` opens single mutants again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz import sources
from fuzz.mutants_data import KINDS as DATA
from fuzz.rows import FINE, Row, run

#: Model files that are opened through the C interface, too.
NATIVE = {f"c++ {name}": name for name in ("model.pth", "model.pb", "model.dp", "model.yaml")}
#: Model files whose edited content gets a right checksum.
SIGNED = {f"signed {name}": name for name in sources.SIGNED}
#: Programs that are edited and get right checksums.
PROGRAMS = "edited program.dp"
KINDS = (*sources.WRITERS, *DATA, *NATIVE, *SIGNED, PROGRAMS)
COLUMNS = ("right", "refused", "edited", "wrong", "raised", "crashed", "slow", "large")


def mutants(kind: str, first: int, last: int, folder: Path) -> list[Row]:
    """Open the mutants of a kind from first to last."""
    if kind in DATA:
        place = folder / kind
        place.mkdir(exist_ok=True)
        return run("mutants_data.py", first, last, [kind, place])
    source = folder / (NATIVE | SIGNED | {PROGRAMS: "program.dp"}).get(kind, kind)
    if not source.exists():
        subprocess.run([sys.executable, sources.__file__, str(source)], check=True)
    if kind == PROGRAMS:
        return run("mutants_programs.py", first, last, [source])
    if kind in NATIVE:
        from cxx import backend_abi

        library = backend_abi.find_library("libdeepmd_backend_torch.so")
        assert library is not None, "the C++ libraries were not built"
        return run(
            "../cxx/open_mutants.py", first, last, [library.with_name("libdeepmd_c.so"), source]
        )
    return run("child.py", first, last, [source, folder, *["signed"] * (kind in SIGNED)])


def summary(kind: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the counts of a chunk, and its mutants that may not be."""
    fine = sources.fine(kind) if kind in sources.WRITERS else FINE
    counts = Counter(row.fault(fine) or row.outcome for row in rows)
    return {
        "kind": kind,
        "first": rows[0].number,
        "last": rows[-1].number + 1,
        "counts": counts,
        "seconds": max(row.seconds for row in rows),
        "mebibytes": max(row.mebibytes for row in rows),
        "faults": [row for row in rows if row.fault(fine)],
    }


def table(chunks: Sequence[dict[str, Any]]) -> str:
    """Return the table of all chunks by kind."""
    lines = [f"{'':18}{'mutants':>8}" + "".join(f"{c:>8}" for c in COLUMNS) + "   max s  max MiB"]
    for kind in dict.fromkeys(chunk["kind"] for chunk in chunks):
        of_kind = [chunk for chunk in chunks if chunk["kind"] == kind]
        counts = sum((Counter(chunk["counts"]) for chunk in of_kind), Counter())
        seconds, mebibytes = (max(c[k] for c in of_kind) for k in ("seconds", "mebibytes"))
        numbers = "".join(f"{counts[c]:8}" for c in COLUMNS)
        lines.append(f"{kind:18}{counts.total():8}{numbers}{seconds:8.2f}{mebibytes:9}")
    return "\n".join(lines)


def _chunks(
    kinds: Sequence[str], done: Sequence[dict], first: int, last: int, size: int
) -> Iterator:
    """Iterate over (kind, first, last) of what is not done, the kinds in turn."""
    begun = {(chunk["kind"], chunk["first"]) for chunk in done}
    for start in range(first, last, size):
        for kind in kinds:
            if (kind, start) not in begun:
                yield kind, start, min(start + size, last)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and return the status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--count", type=int, default=10_000, help="mutants of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--chunk", type=int, default=500, help="mutants in one process")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of mutants to open")
    parser.add_argument("--record", type=Path, help="file of counts and faults, which is continued")
    options = parser.parse_args(arguments)
    unknown = set(options.kinds) - set(KINDS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(KINDS)}")
    kinds, record, done = options.kinds or KINDS, options.record, []
    if record is not None and record.exists():
        done = [json.loads(line) for line in record.read_text().splitlines()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.only is not None:
            for kind in kinds:
                for number in options.only:
                    print(kind, *mutants(kind, number, number + 1, folder), flush=True)
            return 0
        last = options.first + options.count
        for kind, start, end in _chunks(kinds, done, options.first, last, options.chunk):
            chunk = summary(kind, mutants(kind, start, end, folder))
            done.append(chunk)
            if record is not None:
                with record.open("a") as file:
                    print(json.dumps(chunk), file=file)
            for fault in chunk["faults"]:
                print(kind, fault, flush=True)
    done = [chunk for chunk in done if chunk["kind"] in kinds]
    print(table(done))
    return int(any(chunk["faults"] for chunk in done))


if __name__ == "__main__":
    sys.exit(main())
