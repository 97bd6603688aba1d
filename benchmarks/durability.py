# SPDX-License-Identifier: LGPL-3.0-or-later
"""What is left behind when writing a file fails: killed, disk full, folder read-only.

Every row is a command in a process of its own. It is killed (SIGKILL) in the middle of a write,
before and after the rename, or meets a disk that is full or a folder it may not write to: small file
systems are mounted for that, so these rows need root. Then the command runs again undisturbed.

    python benchmarks/durability.py [--suffixes .dp,.pth]
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from common import write_system

from deepmd.base import files
from deepmd.io.saved_model import PROGRAM, is_saved_model
from deepmd.main import main

MODEL = {
    "type_map": ["O", "H"],
    "descriptor": {
        "type": "se_e2_a",
        "sel": [12, 24],
        "rcut": 3.0,
        "rcut_smth": 0.5,
        "neuron": [4, 8],
        "axis_neuron": 2,
        "type_one_side": True,
        "seed": 1,
    },
    "fitting_net": {"neuron": [8, 8], "seed": 1},
}
BACKENDS = {".dp": "--dp", ".pt": "--pt", ".jax": "--jax", ".meta": "--tf"}
#: Suffixes of checkpoints that are no model files.
CHECKPOINTS = (".pt", ".jax", ".meta")


class Kill(files.SystemCalls):
    """Kill this process at a moment of writing the file of a name."""

    def __init__(self, moment: str, name: str) -> None:
        self.moment, self.name = moment, name

    def _at(self, moment: str) -> None:
        if moment == self.moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, handle: int, data: memoryview) -> int:
        """Write half of the data, then die."""
        if self.name not in os.readlink(f"/proc/self/fd/{handle}"):
            return super().write(handle, data)
        done = super().write(handle, data[: max(len(data) // 2, 1)])
        self._at("while it writes")
        return done

    def rename(self, source: Path, target: Path) -> None:
        """Die before or after the rename."""
        if self.name not in target.name:
            super().rename(source, target)
            return
        self._at("before the rename")
        super().rename(source, target)
        self._at("after the rename")

    def exchange(self, first: Path, second: Path) -> bool:
        """Die before or after a new folder has the name of the one before."""
        self._at("before the rename")
        done = super().exchange(first, second)
        self._at("after the rename")
        return done


def run(arguments: list[str], calls: files.SystemCalls | None = None) -> tuple[str, str]:
    """Run ``dp`` in a forked process; return how it ended, and its errors."""
    with tempfile.TemporaryFile("w+") as out:
        pid = os.fork()
        if not pid:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            files.calls, code = calls or files.calls, 99
            try:
                code = main(arguments)
            except BaseException:  # noqa: BLE001 - what is around must not be left by this process
                traceback.print_exc()
            sys.stdout.flush()
            os._exit(code)
        _, status = os.waitpid(pid, 0)
        out.seek(0)
        lines = [x.rstrip() for x in out if x.startswith(("dp: ", "Traceback"))]
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name, ""
    return f"status {os.waitstatus_to_exitcode(status)}", " / ".join(lines)


def state(folder: Path, target: str, before: bytes | None) -> str:
    """Describe the target and what else a command left in a folder."""
    path = folder / target
    if not path.exists():
        text = "no file"
    elif before is not None and contents(path) == before:
        text = "the file before"
    else:
        text = f"new {'folder' if path.is_dir() else 'file'}, {len(contents(path))} B"
    fragments = sorted(p.name for p in folder.iterdir() if ".tmp" in p.name)
    return f"{text}; {', '.join(fragments) or 'no fragment'}"


def contents(path: Path) -> bytes:
    """Return the bytes of a file, or of all files of a folder."""
    parts = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return b"".join(p.read_bytes() for p in parts)


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[bool]:
    """Mount a file system in memory; gives whether that was possible."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", str(folder)], check=True)


def row(*cells: str) -> None:
    """Print a row of the table."""
    print("| " + " | ".join(cells) + " |", flush=True)


def killed(title: str, command: Callable[[str], list[str]], target: str) -> None:
    """Print the rows of a command that is killed."""
    for moment in ("while it writes", "before the rename", "after the rename"):
        folder = Path(tempfile.mkdtemp(dir="."))
        before = None if "ckpt" in target else b"the file before"
        if before:
            file = folder / target / (PROGRAM if is_saved_model(target) else "")
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(before)
        ended, _ = run(command(str(folder)), Kill(moment, target.rpartition(".")[0]))
        left = state(folder, target, before)
        again, _ = run(command(str(folder)))
        row(title, f"kill −9 {moment}", ended, left, f"{again}; {state(folder, target, None)}")


def refused(title: str, command: Callable[[str], list[str]], target: str) -> None:
    """Print the rows of a command on a full disk and in a read-only folder."""
    for what, options in (("full disk", "size=16k"), ("read-only folder", "ro")):
        folder = Path("small")
        with mounted(folder, options) as there:
            if not there:
                row(title, what, "not tried: mounting needs root", "", "")
                continue
            ended, text = run(command(str(folder)))
            row(title, what, f"{ended}: `{text}`", state(folder, target, None), "")


def train_command(suffix: str) -> Callable[[str], list[str]]:
    """Return the command of a training of one step, by its folder."""

    def command(folder: str) -> list[str]:
        training = {
            "training_data": {"systems": ["system"], "batch_size": 1},
            "numb_steps": 1,
            "seed": 1,
            "save_ckpt": f"{folder}/model.ckpt",
        }
        data = {"model": MODEL, "learning_rate": {"start_lr": 1e-3}, "training": training}
        Path("input.json").write_text(json.dumps(data))
        return [BACKENDS[suffix], "train", "input.json", "--skip-neighbor-stat"]

    return command


def table(suffixes: list[str]) -> None:
    """Print the table."""
    write_system(Path("system"), n_atoms=24, frames=2)
    ended, text = run(train_command(".dp")("."))
    if ended != "status 0":
        raise RuntimeError(text)
    row("what", "fault", "how it ends", "left behind", "after the next run")
    row(*["---"] * 5)
    for suffix in suffixes:
        if suffix in BACKENDS:
            title, target = f"checkpoint `{suffix}`", f"model.ckpt-1{suffix}"
            killed(title, train_command(suffix), target)
            refused(title, train_command(suffix), target)
        if suffix in CHECKPOINTS:
            continue
        target = f"new{suffix}"
        for title, words in (
            ("freeze", ["freeze", "-c", "model.ckpt-1.dp", "-o"]),
            ("convert", ["convert-backend", "model.ckpt-1.dp"]),
        ):

            def command(folder: str, words: list[str] = words, target: str = target) -> list[str]:
                return [*words, f"{folder}/{target}"]

            killed(f"{title} `{suffix}`", command, target)
            refused(f"{title} `{suffix}`", command, target)


def start() -> int:
    """Print the table in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--suffixes", default=".dp,.yaml,.pth,.hlo,.pb,.savedmodel,.pt,.jax,.meta", help="by commas"
    )
    options = parser.parse_args()
    # Imported before the forks, so that each of them starts at once.
    import deepmd.jax.export
    import deepmd.jax.savedmodel
    import deepmd.pt.torchscript.export
    import deepmd.tf.files  # noqa: F401

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        table(options.suffixes.split(","))
    return 0


if __name__ == "__main__":
    sys.exit(start())
