# SPDX-License-Identifier: LGPL-3.0-or-later
"""Damaged and malicious .pth files from C and C++: refused with one line, before anything runs."""

import io
import zipfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from cxx import backend_abi as abi  # noqa: E402
from fuzz.rows import check, run  # noqa: E402
from pt.models import model, section  # noqa: E402

from deepmd.pt.torchscript.export import write_pth  # noqa: E402
from deepmd.runtime.probes import model_file_dict  # noqa: E402

LIBRARY = abi.find_library("libdeepmd_backend_torch.so")
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="the C++ libraries were not built")


@pytest.fixture(scope="module")
def functions():
    return abi.load(LIBRARY)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Path of a small model with probes."""
    path = tmp_path_factory.mktemp("hostile") / "small.pth"
    write_pth(path, model_file_dict(model(), section(), 0.5, "PyTorch"))
    return path


# -- programs that would do harm ------------------------------------------------------------------


class FromFile(torch.nn.Module):
    """Makes a file when it is asked for its types."""

    @torch.jit.export
    def get_type_map(self) -> list[str]:
        return ["O" if torch.from_file("written", shared=True, size=8).numel() > 0 else "H"]

    @torch.jit.export
    def forward_lower(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Nested(torch.nn.Module):
    """The same in a branch, in a method of a child."""

    def __init__(self) -> None:
        super().__init__()
        self.child = FromFile()

    @torch.jit.export
    def forward_lower(self, x: torch.Tensor) -> torch.Tensor:
        names: list[str] = []
        if bool(x.sum() > 0):
            for _ in range(2):
                names += self.child.get_type_map()
        return x + len(names)

    @torch.jit.export
    def get_type_map(self) -> list[str]:
        return ["O"]


class OnLoading(torch.nn.Module):
    """Makes a file while it is read."""

    @torch.jit.export
    def forward_lower(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[int, bool]:
        return 1, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[int, bool]) -> None:
        self.training = torch.from_file("written", shared=True, size=8).numel() > 0


HOSTILE = {
    FromFile: "operator aten::from_file",
    Nested: "operator aten::from_file",
    OnLoading: "__setstate__",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_programs_are_looked_at_before_they_run(functions, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    made = torch.jit.script(kind())
    path = tmp_path / "hostile.pth"
    made.save(str(path))
    for file in tmp_path.glob("written"):
        file.unlink()
    with pytest.raises(abi.BackendError, match=HOSTILE[kind]):
        abi.Handle(functions, path)
    assert not (tmp_path / "written").exists()


def test_operators_of_the_list_exist():
    """A name that is mistyped would allow nothing."""
    lines = (Path(torch_list()).read_text()).splitlines()
    names = [line for line in lines if line and not line.startswith("#")]
    assert len(names) == len(set(names)) > 500
    known = {schema.name for schema in torch._C._jit_get_all_schemas()}
    # Of prim, most are parts of the language and have no schema; deepmd's are declared elsewhere.
    assert [n for n in names if n.startswith("aten::") and n not in known] == []
    harm = ("save", "load", "from_file", "rpc", "fork", "set_data", "_storage", "sym_storage")
    assert [n for n in names if n.split("::")[1] in harm] == []


def torch_list() -> Path:
    import deepmd.pt

    return Path(deepmd.pt.__file__).parent / "torchscript" / "allowed_operators.txt"


# -- archives that are not what they say ----------------------------------------------------------


def rewrite(path, change):
    """Return the file's bytes with its records changed by ``change(name, content)``."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))
    return out.getvalue()


def deep(name, content):
    depth = 100_000
    if not name.endswith(".py"):
        return content
    return content + b"\n\ndef deep(x: int) -> int:\n  return " + b"(" * depth + b"x" + b")" * depth


def native(name, content):
    """Call the model's class one of torch.classes."""
    return (
        content.replace(b"c__torch__", b"c__torch__.torch.classes") if ".pkl" in name else content
    )


def described(code):
    """Begin the description of the objects otherwise."""
    return lambda path: rewrite(
        path, lambda n, content: b"\x80\x02" + code + content if n.endswith("data.pkl") else content
    )


def bomb(path):
    """A record of zeros, small when compressed."""
    out = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as file:
        prefix = file.namelist()[0].split("/")[0]
        with file.open(f"{prefix}/extra/zeros", "w", force_zip64=True) as record:
            for _ in range(80):
                record.write(bytes(1 << 20))
    return out.getvalue()


def flipped(path):
    """One bit of the largest array is another one."""
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        record = max(
            (i for i in file.infolist() if "/data/" in i.filename), key=lambda i: i.file_size
        )
    raw[record.header_offset + 200 + record.file_size // 2] ^= 1
    return bytes(raw)


def largest(folder, left):
    """Leave the largest array of a folder some bytes, where its description claims more."""

    def make(path):
        with zipfile.ZipFile(path) as file:
            name = max(
                (i for i in file.infolist() if f"/{folder}/" in i.filename),
                key=lambda i: i.file_size,
            ).filename
        return rewrite(path, lambda n, content: content[:left] if n == name else content)

    return make


ARCHIVES = {
    "empty record": (largest("data", 0), "another size than its record"),
    "short record": (largest("data", 8), "another size than its record"),
    "deep": (lambda path: rewrite(path, deep), "nested too deeply"),
    "native": (lambda path: rewrite(path, native), "torch.classes"),
    "text": (described(b"X\0\0\0\x7f"), "pickle that is cut off"),
    "memo": (described(b"Nr\0\0\0\x7f"), "pickle that refers to what it does not hold"),
    "instruction": (described(b"\x8e"), "pickle of unknown instructions"),
    "bomb": (bomb, "83886080 bytes"),
    "flipped": (flipped, "does not have its checksum"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives(functions, small, tmp_path, kind):
    make, words = ARCHIVES[kind]
    path = tmp_path / "hostile.pth"
    path.write_bytes(make(small))
    for content in (None, path.read_bytes()):
        with pytest.raises(abi.BackendError, match=rf"hostile\.pth: .*{words}"):
            abi.Handle(functions, path, content=content)


# -- mutants --------------------------------------------------------------------------------------


def check_mutants(small, first, last):
    library = LIBRARY.with_name("libdeepmd_c.so")
    rows = run("../cxx/open_mutants.py", first, last, [library, small])
    assert len(rows) == last - first
    check(rows)
    assert sum(row.outcome == "refused" for row in rows) > len(rows) // 3


def test_mutants(small):
    check_mutants(small, 0, 200)
