# SPDX-License-Identifier: LGPL-3.0-or-later
"""Every file of this program: a full disk leaves the file before, and equal models equal bytes."""

import errno
import hashlib
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from infer.models import make_section, write

from deepmd.base import files
from deepmd.base.errors import OutputError
from deepmd.data.path import DPPath
from deepmd.dpmodel.model import Model, build_model
from deepmd.infer.model_devi import write_model_devi_out
from deepmd.io import load_model
from deepmd.runtime import checkpoint_file as neutral
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.probes import model_file_dict, write_model
from deepmd.train.checkpoints import CheckpointStore
from deepmd.train.learning_curve import LearningCurve


def make_data(seed=1):
    section = make_section(seed=seed)
    return model_file_dict(build_model(section), section, 0.9, "NumPy")


def make_checkpoint(data):
    return Checkpoint(
        models={"Default": Model.deserialize(data["model"])},
        model_params=data["model_def_script"],
        step=3,
        optimizer={
            "Default/first.w": np.ones(3),
            "Default/second.w": np.zeros(3),
            "Default/count": np.array(2),
        },
        trainer={
            "seed": np.array(1),
            "lr": 1e-3,
            "input": "{}",
            "data.Default.cursor": np.arange(4),
        },
        min_nbor_dist=0.9,
        backend="NumPy",
    )


@pytest.fixture(scope="module")
def data():
    return make_data()


def write_pt(path, data):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from deepmd.pt.checkpoint.checkpoint import write_checkpoint

    write_checkpoint(path, make_checkpoint(data))


def write_pth(path, data):
    """Without compiling, which has no part in what is tested here."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from deepmd.pt.torchscript import export

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "build_program", lambda *_: None)
        patch.setattr(export, "archive_of", lambda *_: 3000 * b"x")
        patch.setattr(export, "compare_probes", lambda *_: None)
        patch.setattr(export, "open_program", lambda *_: None)
        export.write_pth(path, data)


def write_hlo(path, data):
    pytest.importorskip("jax", reason="JAX is not installed")
    from deepmd.jax import export

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export_program", lambda *_: 3000 * b"x")
        patch.setattr(export, "compare_probes", lambda *_: None)
        patch.setattr(export, "open_hlo", lambda *_: None)
        export.write_hlo(path, data)


def write_steps(path, data):
    store = CheckpointStore(path, "", lambda p, c: files.write_text(p, 3000 * "x"))
    store.save(make_checkpoint(data))


def write_hdf5(path, data):
    DPPath(f"{path}#/a", "a").save_numpy(np.arange(1000))


#: Name of a file -> function that writes it.
WRITERS = {
    "m.dp": write_model,
    "m.yaml": write_model,
    "c.dp": lambda path, data: neutral.write_checkpoint(path, make_checkpoint(data)),
    "c.jax": lambda path, data: neutral.write_checkpoint(path, make_checkpoint(data)),
    "c.pt": write_pt,
    "m.pth": write_pth,
    "m.hlo": write_hlo,
    "s.npy": lambda path, data: DPPath(path, "a").save_numpy(np.arange(1000)),
    "s.hdf5": write_hdf5,
    "lcurve.out": lambda path, data: LearningCurve(path, {"Default": ["rmse"]}),
    "out.json": lambda path, data: files.write_text(path, 3000 * "x"),
    "model_devi.out": lambda path, data: write_model_devi_out(np.ones((30, 8)), path),
}


class Full(files.SystemCalls):
    """A disk with room for some bytes more."""

    def __init__(self, room, number):
        self.room, self.number = room, number

    def write(self, handle, data):
        if not self.room:
            raise OSError(self.number, os.strerror(self.number))
        done = super().write(handle, data[: self.room])
        self.room -= done
        return done


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("room", [0, 20])
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_and_changes_nothing(
    tmp_path, monkeypatch, data, name, room, number
):
    path = tmp_path / name
    WRITERS[name](path, data)
    before = path.read_bytes()
    monkeypatch.setattr(files, "calls", Full(room, number))
    for target in (path, tmp_path / f"new-{name}"):
        monkeypatch.setattr(files, "calls", Full(room, number))
        with pytest.raises(OutputError) as caught:
            WRITERS[name](target, data)
        assert str(caught.value).startswith(f"{target}: cannot be written: {os.strerror(number)}; ")
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_the_limit_of_file_sizes_is_one_line(tmp_path, data, name):
    """An error of the system itself, which libraries that write on their own do not survive."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
    try:
        with pytest.raises(OutputError, match="cannot be written: File too large; raise the limit"):
            WRITERS[name](tmp_path / name, data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_in_the_place_of_the_file(tmp_path, data, name):
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match="cannot be written: Is a directory; name a file"):
        WRITERS[name](tmp_path / name, data)
    assert os.listdir(tmp_path) == [name]
    assert not os.listdir(tmp_path / name)


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_is_not_there_is_made(tmp_path, data, name):
    WRITERS[name](tmp_path / "new" / "sub" / name, data)
    assert os.listdir(tmp_path / "new" / "sub") == [name]


def test_a_checkpoint_on_a_full_disk_leaves_the_one_before(tmp_path, monkeypatch, data):
    """Whatever of the three files cannot be written: checkpoint, link, pointer."""
    store = CheckpointStore(
        tmp_path / "model.ckpt", ".dp", lambda p, c: files.write_text(p, 30 * "x")
    )
    for step, room in ((3, None), (4, 0), (5, 29), (6, 30), (7, 31)):
        if room is not None:
            monkeypatch.setattr(files, "calls", Full(room, errno.ENOSPC))
        checkpoint = make_checkpoint(data)
        checkpoint.step = step
        if room is None:
            store.save(checkpoint)
            continue
        with pytest.raises(OutputError, match="the checkpoint before it is complete"):
            store.save(checkpoint)
        assert store.link.read_text() == 30 * "x"
    assert (tmp_path / "checkpoint").read_text() == "model.ckpt-3.dp"
    assert not list(tmp_path.glob(".*"))


# -- the same model, the same bytes ---------------------------------------------------------------

AGAIN = """
import hashlib, sys
from pathlib import Path
from tests.io.test_durability import COMPILED, NEUTRAL, make_data, writer
kinds = COMPILED if sys.argv[1] == "compiled" else NEUTRAL
for kind in kinds:
    writer(kind)(Path("other" + kind), make_data(seed=5))  # what came before has no part
    writer(kind)(Path("another_name" + kind), make_data())
    print(hashlib.sha256(Path("another_name" + kind).read_bytes()).hexdigest())
"""
NEUTRAL = (".dp", ".yaml", ".pt", ".jax")
COMPILED = (".pth", ".hlo")


def writer(kind):
    """Return the function that writes a kind of file."""
    if kind == ".pth":
        from deepmd.pt.torchscript.export import write_pth

        return write_pth
    if kind == ".hlo":
        from deepmd.jax.export import write_hlo

        return write_hlo
    return WRITERS[{".pt": "c.pt", ".jax": "c.jax"}.get(kind, f"m{kind}")]


def digests_elsewhere(which, folder, root):
    """Write the files in another process, another folder, and under other names."""
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, which],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_bytes(which, kinds, data, folder, root):
    here = []
    for kind in kinds:
        for name in ("a", "b"):
            writer(kind)(folder / f"{name}{kind}", data)
        assert digest(folder / f"a{kind}") == digest(folder / f"b{kind}"), kind
        here.append(digest(folder / f"a{kind}"))
        content = (folder / f"a{kind}").read_bytes()
        assert str(root).encode() not in content, "a path of this machine"
    assert digests_elsewhere(which, folder, root) == here


def test_the_same_model_gives_the_same_bytes(tmp_path, data, request):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    check_bytes("neutral", NEUTRAL, data, tmp_path, request.config.rootpath)


@pytest.mark.slow  # six compilations
def test_the_same_model_gives_the_same_program(tmp_path, data, request):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("jax", reason="JAX is not installed")
    check_bytes("compiled", COMPILED, data, tmp_path, request.config.rootpath)


def test_conversion_there_and_back_gives_the_same_bytes(tmp_path, data):
    write_model(tmp_path / "a.dp", data)
    write_model(tmp_path / "a.yaml", load_model(tmp_path / "a.dp"))
    write_model(tmp_path / "b.dp", load_model(tmp_path / "a.yaml"))
    assert digest(tmp_path / "a.dp") == digest(tmp_path / "b.dp")


def test_a_checkpoint_that_was_read_is_written_with_the_same_bytes(tmp_path, data):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from deepmd.pt.checkpoint import checkpoint as torch_files

    for suffix, module in ((".dp", neutral), (".pt", torch_files)):
        WRITERS[f"c{suffix}"](tmp_path / f"a{suffix}", data)
        module.write_checkpoint(
            tmp_path / f"b{suffix}", module.read_checkpoint(tmp_path / f"a{suffix}")
        )
        assert digest(tmp_path / f"a{suffix}") == digest(tmp_path / f"b{suffix}"), suffix


def test_files_have_no_date(tmp_path):
    assert "time" not in load_model(write(tmp_path / "m.dp"))
