# SPDX-License-Identifier: LGPL-3.0-or-later
"""Archives of TorchScript programs: what is in them, and what is not."""

import io
import zipfile

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from deepmd.pt.torchscript.archive import archive_of, named_anew  # noqa: E402


def helper(x: torch.Tensor, factor: float) -> torch.Tensor:
    return x * factor


class Program(torch.nn.Module):
    def __init__(self, factor: float, width: int) -> None:
        super().__init__()
        self.factor = factor
        self.register_buffer("weight", torch.arange(width, dtype=torch.float64))
        self.register_buffer("other", torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return helper(x, self.factor) @ self.weight + self.other.sum()


def written(factor=2.0, width=5):
    with named_anew():
        program = torch.jit.script(Program(factor, width))
    return archive_of(program, {"a.json": "{}", "b.npz": b"\x00\x01"})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_bytes_depend_on_the_program_only():
    first = written()
    assert written(3.0, 7) != first
    assert written() == first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        text = b"".join(archive.read(n) for n in names)
    assert {n.split("/")[0] for n in names} == {"archive"}
    assert not [n for n in names if "mangle" in n or n.endswith(".debug_pkl")]
    assert b"torch_mangle" not in text
    assert b".py" not in text, "a place of sources"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_archives_open_and_tensors_are_aligned():
    data = written()
    extra = {"a.json": "", "b.npz": ""}
    program = torch.jit.load(io.BytesIO(data), _extra_files=extra)
    x = torch.ones(5, dtype=torch.float64)
    assert float(program(x)) == 2.0 * 10 + 3
    assert extra == {"a.json": b"{}", "b.npz": b"\x00\x01"}
    found = 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            if "/data/" in entry.filename:
                header = data[entry.header_offset : entry.header_offset + 30]
                lengths = [int.from_bytes(header[k : k + 2], "little") for k in (26, 28)]
                assert (entry.header_offset + 30 + sum(lengths)) % 64 == 0
                found += 1
    assert found == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_programs_keep_their_names():
    from torch.jit import _recursive, _state

    before, store = _state._python_cu, _recursive.concrete_type_store
    with pytest.raises(KeyError), named_anew():
        raise KeyError
    assert _state._python_cu is before
    assert _recursive.concrete_type_store is store
