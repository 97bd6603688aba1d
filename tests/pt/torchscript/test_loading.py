# SPDX-License-Identifier: LGPL-3.0-or-later
"""Programs that do more than compute are refused before they do it."""

import io

import pytest
import torch

from deepmd.base import plugin
from deepmd.base.errors import ModelFileError
from deepmd.io.archive import packed, read_archive
from deepmd.pt.checkpoint.checkpoint import read_checkpoint
from deepmd.pt.torchscript import loading
from deepmd.pt.torchscript.loading import (
    allowed_operators,
    check_arrays,
    check_records,
    load_program,
)

CPU = torch.device("cpu")


class Writes(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "written")
        return x


class Adds(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def records_of(module, path, **code):
    torch.jit.script(module).save(str(path))
    records = read_archive(path)
    for name in records:
        for old, new in code.items():
            if name.endswith(".py"):
                records[name] = records[name].replace(old.encode(), new.encode())
    return records


def test_a_program_that_computes(tmp_path):
    program = load_program(records_of(Adds(), tmp_path / "m.pth"), tmp_path / "m.pth", CPU)
    assert program(torch.zeros(1)).item() == 1.0


@pytest.mark.parametrize("call", ["aten.save(x, 'written')", "aten.from_file('a', None, 3)"])
def test_operators_of_files_are_refused(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    records = records_of(Adds(), tmp_path / "m.pth")
    code = next(n for n in records if n.endswith(".py"))
    head, mark, tail = records[code].partition(b"    return")
    assert mark
    result = "" if "save" in call else "x = "
    records[code] = head + f"    {result}ops.{call}\n".encode() + mark + tail
    with pytest.raises(ModelFileError, match="its program uses aten::"):
        load_program(records, "m.pth", CPU)
    assert not (tmp_path / "written").exists()


def test_operators_of_plugins_are_allowed(tmp_path, monkeypatch):
    """Those in the namespace of a package that was loaded as a plugin; its code runs anyway."""
    torch.library.define("toy_operators::twice", "(Tensor x) -> Tensor")
    torch.library.impl("toy_operators::twice", "default", lambda x: 2 * x)

    class Doubles(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.toy_operators.twice(x)

    records, loaded = records_of(Doubles(), tmp_path / "m.pth"), []
    monkeypatch.setattr(loading, "load_entry_points", loaded.append)
    with pytest.raises(ModelFileError, match="its program uses toy_operators::twice"):
        load_program(records, "m.pth", CPU)
    assert loaded == ["deepmd", "deepmd.pt"]
    monkeypatch.setitem(plugin._origins, "toy_operators", ("deepmd-toy", "1.0"))
    assert load_program(records, "m.pth", CPU)(torch.ones(1)).item() == 2.0


def test_code_that_would_run_on_opening_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records = records_of(Adds(), tmp_path / "m.pth")
    code = next(n for n in records if n.endswith(".py"))
    records[code] += b"  def __setstate__(self, state: int) -> NoneType:\n    return None\n"
    with pytest.raises(ModelFileError, match="by code of its own"):
        load_program(records, "m.pth", CPU)
    for name, data in (
        ("data.pkl", b"c__torch__.torch.classes.quantized\nX\n"),
        ("data.pkl", b"c__torch__.torch\nclasses.quantized.X\n"),
        ("code/a.py", b"x : __torch__.torch.classes.a.B"),
    ):
        with pytest.raises(ModelFileError, match="by code of its own"):
            check_records({name: data})
    with pytest.raises(ModelFileError, match="cut off"):
        check_records({"data.pkl": b"\x80\x02X\0\0\0\x7f"})
    with pytest.raises(ModelFileError, match="too deeply"):
        check_records({"code/a.py": b"(" * 10_000})


def test_no_allowed_operator_touches_files_or_processes():
    exact, prefixes = allowed_operators()
    assert {"aten::add", "prim::If", "deepmd::border_op"} <= exact
    assert "aten::" not in prefixes
    wrong = ("save", "load", "from_file", "read", "write", "open", "import", "fork", "wait", "exec")
    assert not [x for x in exact if x.partition("::")[2] in wrong]
    assert "prim::Print" not in exact
    assert "prim::fork" not in exact


def test_tensors_that_claim_more_than_they_store(tmp_path):
    path = tmp_path / "m.pt"
    extra = {"model_params": {}, "train_infos": {"step": 0}}
    state = {"_extra_state": extra, "w": torch.zeros(1).expand(10**6, 10**6)}
    torch.save({"model": state}, path)
    with pytest.raises(ModelFileError, match="repeats its numbers"):
        read_checkpoint(path)


def test_damage_of_a_checkpoint_is_noticed(tmp_path):
    path = tmp_path / "m.pt"
    torch.save({"model": {"w": torch.full((100,), 1.5)}}, path)
    whole = path.read_bytes()
    at = whole.index(torch.full((100,), 1.5).numpy().tobytes())
    path.write_bytes(whole[: at + 2] + b"\x01" + whole[at + 3 :])
    with pytest.raises(ModelFileError, match="CRC"):
        read_checkpoint(path)


def test_what_is_checked_is_what_is_opened(tmp_path):
    """PyTorch gets an archive made of the records that were checked."""
    path = tmp_path / "m.pth"
    records = records_of(Adds(), path)
    whole = packed(records, path)
    assert isinstance(whole, io.BytesIO)
    path.write_bytes(whole.getvalue())
    assert read_archive(path) == records


@pytest.mark.parametrize(("shape", "stride", "offset"), [((3, 4), (4, 1), 1), ((2,), (100,), 0)])
def test_arrays_beyond_their_memory_are_refused(shape, stride, offset):
    memory = torch.zeros(12)
    whole = torch.as_strided(memory, (3, 4), (4, 1))
    check_arrays([memory, whole, whole.t(), torch.zeros(0), torch.zeros(())])
    made = torch.as_strided(torch.zeros(1000), shape, stride, offset)
    made.untyped_storage().resize_(12 * 4)
    with pytest.raises(ModelFileError, match="beyond its record"):
        check_arrays([made])


@pytest.mark.parametrize("folder", ["data/", "constants/"])
@pytest.mark.parametrize("left", [0, 8])
def test_a_record_too_short_for_its_array_is_refused(tmp_path, folder, left):
    """PyTorch takes the size from the description of the array, and reads on, or from address 0."""
    path = tmp_path / "model.pth"
    made = torch.jit.trace(torch.nn.Linear(2, 3), torch.zeros(1, 2))
    (torch.jit.freeze(made.eval()) if folder == "constants/" else made).save(str(path))
    records = dict(read_archive(path))
    name = max((n for n in records if n.startswith(folder)), key=lambda n: len(records[n]))
    assert len(records[name]) == 24
    records[name] = records[name][:left]
    with pytest.raises(ModelFileError, match="its record, which no model needs"):
        load_program(records, path, torch.device("cpu"))
