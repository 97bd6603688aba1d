# SPDX-License-Identifier: LGPL-3.0-or-later
"""The arrows between the rooms go one way only, as the architecture says."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Rooms from the lowest to the highest; rooms of one rank do not know each other.
RANKS = (
    ("utils",),
    ("schema", "io"),
    ("dpmodel",),
    ("data",),
    ("pt", "jax", "tf"),
    ("backend",),
    ("train", "infer"),
    ("entrypoints",),
    ("main", "calculator", "driver", "common", "testing", "lmp"),
    ("__main__",),
)
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
#: Frameworks and the rooms that may import them at module level.
FRAMEWORKS = {
    "torch": {"pt"},
    "jax": {"jax"},
    "jaxlib": {"jax"},
    "optax": {"jax"},
    "tensorflow": {"tf"},
}
COMPAT = set((ROOT / "tests/compat_paths.txt").read_text().split())


def files() -> list[Path]:
    return sorted((ROOT / "deepmd").rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "deepmd").parts
    return parts[0].removesuffix(".py")


def module_level(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run on import; ``if TYPE_CHECKING`` does not."""
    found: list[ast.stmt] = []
    todo: list[ast.stmt] = list(tree.body)
    while todo:
        node = todo.pop()
        found.append(node)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef | ast.For):
            for field in ("body", "orelse", "finalbody"):
                todo += getattr(node, field, [])
            for handler in getattr(node, "handlers", []):
                todo += handler.body
    return found


def imports(path: Path) -> list[tuple[int, str]]:
    """Line and absolute name of every module that importing a file imports."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = []
    for node in module_level(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) + 1 - node.level]) if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            # "from deepmd import data" imports a room by its name
            names = [f"{name}.{a.name}" for a in node.names] if name == "deepmd" else [name]
            found += [(node.lineno, n) for n in names]
    return found


def broken_arrows(path: Path) -> list[str]:
    room, wrong = room_of(path), []
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] in FRAMEWORKS and room not in FRAMEWORKS[parts[0]]:
            wrong.append(f"{path.relative_to(ROOT)}:{line} {room} imports {parts[0]}")
        if parts[0] != "deepmd" or len(parts) < 2 or parts[1] not in RANK or parts[1] == room:
            continue
        if RANK[parts[1]] >= RANK[room]:
            wrong.append(f"{path.relative_to(ROOT)}:{line} {room} imports {parts[1]}")
    return wrong


def test_every_room_is_known():
    rooms = {room_of(p) for p in files()} - {"__init__", "lib"}
    assert rooms <= set(RANK), "a new room needs a place in RANKS"


def test_arrows_go_one_way():
    wrong = [w for p in files() if room_of(p) in RANK for w in broken_arrows(p) if not exempt(p)]
    assert not wrong, "\n".join(wrong)


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
    """The walk sees relative imports, imports in try, and skips what does not run on import."""
    room = tmp_path / "deepmd" / "utils"
    room.mkdir(parents=True)
    file = room / "bad.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from deepmd.infer import DeepPot\n"
        "try:\n    from ..schema import check\nexcept ImportError:\n    pass\n"
        "from deepmd import train\n"
        "import torch\n"
        "def f():\n    import deepmd.data\n"
    )
    monkeypatch.setitem(broken_arrows.__globals__, "ROOT", tmp_path)
    wrong = broken_arrows(file)
    assert sorted(w.split(" ", 1)[1] for w in wrong) == [
        "utils imports schema",
        "utils imports torch",
        "utils imports train",
    ]
