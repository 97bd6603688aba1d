# SPDX-License-Identifier: LGPL-3.0-or-later
"""The arrows between the rooms go one way only, as the architecture says."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Rooms from the lowest to the highest; rooms of one rank do not know each other.
RANKS = (
    ("base",),
    ("schema", "io"),
    ("dpmodel",),
    ("runtime",),
    ("data",),
    ("np", "pt"),
    ("graphs",),
    ("tf",),
    ("jax",),  # its SavedModels are files of TensorFlow
    ("backend",),
    ("train", "infer"),
    ("insight", "metatrain"),
    ("entrypoints",),
    ("env",),
    ("main", "calculator", "driver", "common", "loggers", "testing", "lmp"),
    ("utils",),
    ("__main__",),
)
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
#: Frameworks and the rooms that may import them.
FRAMEWORKS = {
    "torch": {"pt", "metatrain"},
    "jax": {"jax"},
    "jaxlib": {"jax"},
    "optax": {"jax"},
    "tensorflow": {"tf"},
}
#: Files and what they import against the arrows when a function runs, with the reason.
ALLOWED = {
    ("backend/backend.py", "deepmd.entrypoints.main"): "a hook of clients is the command line",
    (
        "dpmodel/ops.py",
        "deepmd.np.ops",
    ): "NumPy is the reference: its forms come with its first array",
    (
        "dpmodel/model/build.py",
        "deepmd.backend.detect",
    ): "a member of a sum may be a file of any backend",
    (
        "infer/model_devi.py",
        "deepmd.entrypoints.model_devi",
    ): "clients know the command by this name",
    (
        "runtime/operations.py",
        "deepmd.pt.torchscript.operations",
    ): "PyTorch records programs, whatever the backend is that writes the file",
    ("schema/tree.py", "deepmd.dpmodel"): "components register their arguments on import",
}
COMPAT = set((ROOT / "tests/compat_paths.txt").read_text().split())


def files() -> list[Path]:
    return sorted((ROOT / "deepmd").rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "deepmd").parts
    return parts[0].removesuffix(".py")


#: A module in a table or a call, ``"deepmd.pt.train_step:TorchTrainStep"``.
NAME = re.compile(r"deepmd(\.\w+)+(:\w+)?")


def imports(path: Path) -> list[tuple[int, str]]:
    """Line and absolute name of every module that a file imports, at once or when a function runs.

    Names of our modules in texts count, too: tables of them are what ``import_module`` is given.
    """
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) + 1 - node.level]) if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            # "from deepmd import data" imports a room by its name
            names = [f"{name}.{a.name}" for a in node.names] if name == "deepmd" else [name]
            found += [(node.lineno, n) for n in names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            # of f"deepmd.backend.{name}" the beginning is known
            text = ast.unparse(node.args[0]).removeprefix("f").strip("'\"")
            found.append((node.lineno, text.partition("{")[0]))
        elif isinstance(node, ast.Constant) and NAME.fullmatch(str(node.value)):
            found.append((node.lineno, node.value.partition(":")[0]))
    return sorted(set(found))


def broken_arrows(path: Path) -> list[tuple[int, str]]:
    """Line and name of imports that run up, or of frameworks that the room may not know."""
    room, wrong = room_of(path), []
    for line, name in imports(path):
        parts = name.split(".")
        foreign = parts[0] in FRAMEWORKS and room not in FRAMEWORKS[parts[0]]
        known = parts[0] == "deepmd" and len(parts) > 1 and parts[1] in RANK and parts[1] != room
        if foreign or (known and RANK[parts[1]] >= RANK[room]):
            wrong.append((line, name))
    return wrong


def test_every_room_is_known():
    rooms = {room_of(p) for p in files()} - {"__init__", "lib"}
    assert rooms <= set(RANK), "a new room needs a place in RANKS"


def test_arrows_go_one_way():
    wrong, needed = [], set()
    for path in files():
        if room_of(path) not in RANK or exempt(path):
            continue
        file = str(path.relative_to(ROOT / "deepmd"))
        for line, name in broken_arrows(path):
            allowed = next((a for f, a in ALLOWED if f == file and is_within(name, a)), None)
            needed.add((file, allowed))
            if allowed is None:
                wrong.append(f"{file}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)
    assert set(ALLOWED) <= needed, "an exception is needed no more"


def is_within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def exempt(path: Path) -> bool:
    return str(path.relative_to(ROOT)) in COMPAT


@pytest.mark.parametrize("name", sorted(COMPAT))
def test_old_import_paths_only_re_export(name):
    """A file that may break the arrows has imports, and thin functions, only."""
    path = ROOT / name
    assert path.is_file(), "remove it from compat_paths.txt"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        allowed = isinstance(node, ast.Import | ast.ImportFrom | ast.Assign) or docstring
        assert allowed, f"{name}:{node.lineno} does more than re-export"


def test_the_check_can_fail(tmp_path, monkeypatch):
    """The walk sees relative, conditional and lazy imports, and names of modules in texts."""
    room = tmp_path / "deepmd" / "base"
    room.mkdir(parents=True)
    file = room / "bad.py"
    file.write_text(
        '"""See deepmd.calculator, which is no import."""\n'
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from deepmd.infer import DeepPot\n"
        "try:\n    from ..schema import check\nexcept ImportError:\n    pass\n"
        "from deepmd import train\n"
        "import torch\n"
        "from deepmd.base.errors import InputError\n"
        "hooks = {'step': 'deepmd.pt.train_step:TorchTrainStep'}\n"
        "def f(name):\n"
        "    import deepmd.data\n"
        "    importlib.import_module('jax.numpy')\n"
        "    return import_module(f'deepmd.backend.{name}')\n"
    )
    monkeypatch.setitem(broken_arrows.__globals__, "ROOT", tmp_path)
    assert broken_arrows(file) == [
        (4, "deepmd.infer"),
        (6, "deepmd.schema"),
        (9, "deepmd.train"),
        (10, "torch"),
        (12, "deepmd.pt.train_step"),
        (14, "deepmd.data"),
        (15, "jax.numpy"),
        (16, "deepmd.backend."),
    ]
