# SPDX-License-Identifier: LGPL-3.0-or-later
"""Open damaged copies of a model file through the C interface, and report what became of each.

``python open_mutants.py FIRST LAST LIBRARY MODEL`` prints the rows of mutants. A process of its own, because
a crash would end it, and without PyTorch's Python, whose memory would count.
"""

import ctypes as ct
import io
import random
import sys
import time
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from fuzz import mutants
from fuzz.rows import Row, begin, end

ATYPE = np.array([0, 1, 1, 0, 1], np.int32)
COORD = np.array(
    [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.1], [2.5, 0.3, 0.2], [2.9, 1.2, 0.1]]
)


def flip_bits(raw: bytes, rng: random.Random) -> bytes:
    """Flip some bits."""
    data = bytearray(raw)
    for _ in range(rng.choice([1, 1, 1, 2, 8, 64])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def cut(raw: bytes, rng: random.Random) -> bytes:
    """Leave the end away."""
    return raw[: rng.randrange(len(raw))]


def overwrite(raw: bytes, rng: random.Random) -> bytes:
    """Write zeros, ones or random bytes over a part."""
    n = min(len(raw), 1 << rng.randrange(13))
    start = rng.randrange(len(raw) - n + 1)
    new = rng.choice([bytes(n), b"\xff" * n, rng.randbytes(n)])
    return raw[:start] + new + raw[start + n :]


def move(raw: bytes, rng: random.Random) -> bytes:
    """Take a part out, or put it in twice."""
    a, b = sorted(rng.randrange(len(raw) + 1) for _ in range(2))
    b = min(b, a + 4096)
    return rng.choice([raw[:a] + raw[b:], raw[:b] + raw[a:]])


def edit_text(raw: bytes, rng: random.Random) -> bytes:
    """Exchange a number or a word, or take a line out or put it in elsewhere."""
    lines = raw.split(b"\n")
    k = rng.randrange(len(lines))
    words = lines[k].split(b" ")
    if rng.random() < 0.5 and len(words) > 1:
        words[rng.randrange(len(words))] = rng.choice(
            [
                b"9223372036854775807",
                b"-1",
                b"1e400",
                b"None",
                b"self",
                b"(((((",
                b"torch.save",
                b"",
            ]
        )
        lines[k] = b" ".join(words)
    else:
        lines.insert(rng.randrange(len(lines) + 1), lines.pop(k))
    return b"\n".join(lines)


def repack(raw: bytes, rng: random.Random) -> bytes:
    """Change one record of the archive, and make its checksum right: not damage, but malice."""
    with zipfile.ZipFile(io.BytesIO(raw)) as source:
        records = {name: source.read(name) for name in source.namelist()}
    texts = [name for name in records if name.endswith((".py", ".pkl"))]
    chosen = rng.choice(texts if rng.random() < 0.8 else sorted(records))
    if records[chosen]:
        change = rng.choice([flip_bits, cut, overwrite, move, edit_text])
        records[chosen] = change(records[chosen], rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for name, content in records.items():
            target.writestr(name, content)
    return out.getvalue()


def edit_graph(raw: bytes, rng: random.Random) -> bytes:
    """Change a node of a graph of TensorFlow."""
    return mutants.edit_graph(raw, np.random.default_rng(rng.getrandbits(32)))


def edit_hdf5(raw: bytes, rng: random.Random) -> bytes:
    """Change the JSON or an array of an HDF5 file."""
    return mutants.edit_hdf5(raw, np.random.default_rng(rng.getrandbits(32)))


def edit_yaml(raw: bytes, rng: random.Random) -> bytes:
    """Change a word or a line of a text."""
    return mutants.edit_yaml(raw, np.random.default_rng(rng.getrandbits(32)))


#: Edits that keep checksums right, or leave them out; what opens may give other numbers.
EDITS = {".pth": repack, ".pb": edit_graph, ".dp": edit_hdf5, ".yaml": edit_yaml}


def mutated(raw: bytes, suffix: str, number: int) -> tuple[str, bytes]:
    """Return the name of the change, and the bytes of the mutant with a number."""
    rng = random.Random(number)
    changes = [flip_bits, cut, overwrite, move, EDITS[suffix]]
    change = changes[number % len(changes)]
    return change.__name__, change(raw, rng)


class Opener:
    """The C interface, as far as it is needed here."""

    def __init__(self, library: str, suffix: str) -> None:
        self.c, self.name = ct.CDLL(library), f"mutant{suffix}"
        self.c.DP_NewDeepPotWithParam2.restype = ct.c_void_p
        self.c.DP_DeepPotCheckOK.restype = ct.c_void_p

    def message(self, handle: ct.c_void_p) -> str:
        """Return the message of the last call."""
        text = self.c.DP_DeepPotCheckOK(handle)
        message = ct.string_at(text).decode(errors="replace")
        self.c.DP_DeleteChar(ct.c_void_p(text))
        return message

    def evaluate(self, content: bytes) -> tuple[str, np.ndarray]:
        """Open a file's content and evaluate a frame: a message, or energy and forces."""
        handle = ct.c_void_p(
            self.c.DP_NewDeepPotWithParam2(self.name.encode(), 0, content, len(content))
        )
        message = self.message(handle)
        result = np.zeros(1 + COORD.size)
        if not message:
            pointers = [ct.c_void_p(x.ctypes.data) for x in (COORD, ATYPE, result[:1], result[1:])]
            self.c.DP_DeepPotCompute(
                handle, len(ATYPE), *pointers[:2], None, *pointers[2:], None, None, None
            )
            message = self.message(handle)
        self.c.DP_DeleteDeepPot(handle)
        return message, result


def peak() -> int:
    """Largest resident memory of this program so far, MiB."""
    # Not by getrusage, which starts with that of the process that made this one.
    status = dict(x.split(":", 1) for x in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) // 1024


def main(first: int, last: int, library: str, model: str) -> None:
    """Report on mutants."""
    suffix, raw = Path(model).suffix, Path(model).read_bytes()
    opener = Opener(library, suffix)
    message, right = opener.evaluate(raw)
    assert not message, message
    for k in range(first, last):
        change, mutant = mutated(raw, suffix, k)
        before, start = peak(), time.process_time()
        begin(k)
        message, found = opener.evaluate(mutant)
        seconds = time.process_time() - start
        if message:
            clean = message.startswith(f"DeePMD-kit Error: {opener.name}") and "\n" not in message
            outcome = "refused" if clean else "raised"
        elif np.abs(found - right).max() <= 1e-10:
            outcome = "right"
        else:
            outcome = "edited" if change == EDITS[suffix].__name__ else "wrong"
        end(Row(k, change, outcome, message, round(seconds, 3), peak() - before))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
