# SPDX-License-Identifier: LGPL-3.0-or-later
"""A run folder has one training at a time, and results of earlier ones are never lost."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from train.helpers import QuickBackend

from deepmd.base.errors import InputError
from deepmd.train import lock as lock_module
from deepmd.train.entry import train
from deepmd.train.folder import LOCK
from deepmd.train.lock import Lock, begin_of, identity

RESULTS = ("checkpoint", "lcurve.out", "model.ckpt-3.dp", "model.ckpt-6.dp", "model.ckpt.dp")


@pytest.fixture
def go(work):
    """Train as the command does: ``go(numb_steps=…, restart=…)``."""

    def run(config=None, *, numb_steps=6, overwrite=False, **options):
        config = config or work.config(numb_steps=numb_steps)
        options.setdefault("INPUT", work.write(config))
        train(backend=QuickBackend(), overwrite=overwrite, **options)
        assert not list(work.path.rglob(".*"))

    return run


def files(work, pattern="*"):
    return {p.name: p.read_bytes() for p in work.path.glob(pattern) if p.is_file()}


def kept(work, number=1):
    end = f".{number}#"
    return {k[1:].removesuffix(end): v for k, v in files(work, f"#*{end}").items()}


def test_results_of_an_earlier_run_are_kept(work, go, caplog):
    go()
    before = files(work)
    assert set(RESULTS) <= set(before)
    assert not kept(work)
    caplog.clear()
    go(work.config(numb_steps=3, seed=8))
    found = kept(work)
    assert set(found) == {*RESULTS, "out.json", "input_v2_compat.json", "run.json"}
    assert all(found[name] == before[name] for name in found)
    assert (work.path / "#model.ckpt.dp.1#").readlink().name == "#model.ckpt-6.dp.1#"
    lines = [r.message for r in caplog.records if "earlier run" in r.message]
    assert len(lines) == 1
    assert lines[0].startswith("results of an earlier run are kept as #NAME.1#: input_v2_compat")
    assert work.names() == ["model.ckpt-3.dp"]
    now = files(work)
    go(numb_steps=3)
    assert {k: v for k, v in kept(work, 2).items() if k in RESULTS} == {
        k: v for k, v in now.items() if k in RESULTS
    }
    assert kept(work) == found


def test_overwriting(work, go):
    go()
    go(numb_steps=3, overwrite=True)
    assert not kept(work)
    assert work.names() == ["model.ckpt-3.dp", "model.ckpt-6.dp"]


def test_a_restart_goes_on_in_place(work, go):
    go()
    before = files(work)
    go(numb_steps=9, restart="model.ckpt")
    assert set(kept(work)) == {"out.json", "input_v2_compat.json"}
    assert files(work)["lcurve.out"].startswith(before["lcurve.out"])


def test_a_restart_from_an_earlier_checkpoint_keeps_the_later_ones(work, go):
    go()
    before = files(work)
    go(numb_steps=6, restart="model.ckpt-3.dp")
    assert kept(work) == {k: before[k] for k in ("lcurve.out", "model.ckpt-6.dp")}
    assert files(work)["lcurve.out"] == before["lcurve.out"]


def test_a_restart_from_elsewhere_keeps_what_is_here(work, go, monkeypatch):
    go()
    before = files(work)
    (work.path / "old").mkdir()
    (work.path / "old/model.ckpt-3.dp").write_bytes(before["model.ckpt-3.dp"])
    go(numb_steps=9, restart="old/model.ckpt")
    assert set(RESULTS) <= set(kept(work))
    assert all(kept(work)[name] == before[name] for name in RESULTS)
    assert (work.path / "old/model.ckpt-3.dp").read_bytes() == before["model.ckpt-3.dp"]


def test_files_that_are_read_stay(work, go):
    go()
    before = files(work)
    go(numb_steps=3, init_model="model.ckpt")
    assert kept(work)["model.ckpt-6.dp"] == before["model.ckpt-6.dp"]
    assert files(work)["model.ckpt-6.dp"] == before["model.ckpt-6.dp"]
    assert kept(work)["model.ckpt-3.dp"] == before["model.ckpt-3.dp"]
    go(numb_steps=1, init_model="model.ckpt-6.dp")  # the same command works again
    (work.path / "other.json").write_bytes(before["out.json"])
    go(INPUT="other.json", output="other.json")
    assert not (work.path / "#other.json.1#").exists()  # the very same contents


def test_an_input_that_is_overwritten_is_kept(work, go):
    config = work.config(numb_steps=1)
    work.write(config)
    train(INPUT="input.json", output="input.json", backend=QuickBackend())
    assert json.loads((work.path / "#input.json.1#").read_text()) == config
    assert (work.path / "input.json").read_text() != json.dumps(config)


def test_a_wrong_input_moves_nothing(work, go):
    go()
    before = files(work)
    config = work.config()
    config["model"]["fitting_net"]["neuron"] = [5, 4]
    with pytest.raises(InputError, match="not that of the checkpoint"):
        go(config, init_model="model.ckpt")
    config["training"]["training_data"]["systems"] = ["nowhere"]
    with pytest.raises(InputError, match="nowhere"):
        go(config)
    after = files(work)
    assert {k: v for k, v in after.items() if k != "input.json"} == {
        k: v for k, v in before.items() if k != "input.json"
    }


def test_outputs_in_other_folders(work, go):
    more = {"save_ckpt": "out/model", "save_dir": "store", "disp_file": "curves/one.out"}
    go(work.config(numb_steps=3, **more))
    go(work.config(numb_steps=3, **more))
    names = sorted(str(p.relative_to(work.path)) for p in work.path.rglob("#*"))
    assert names == [
        "curves/#one.out.1#",
        "out/#checkpoint.1#",
        "out/#model.dp.1#",
        "out/#run.json.1#",
        "store/#model-3.dp.1#",
    ]
    assert (work.path / "out/#model.dp.1#").resolve() == work.path / "store/#model-3.dp.1#"


# -- one training at a time -----------------------------------------------------------------------


@pytest.fixture
def other(work):
    """A process that lives until it is killed; and the lock that it would have."""
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    process = subprocess.Popen(command)
    about = {**identity(process.pid), "since": "long ago"}
    (work.path / LOCK).write_text(json.dumps(about))
    yield process
    process.kill()
    process.wait()


def test_a_running_training_is_not_disturbed(work, go, other):
    message = rf"this run folder belongs to process {other.pid} on .* \(since long ago\), which is"
    before = files(work)
    with pytest.raises(InputError, match=message) as info:
        go()
    assert "\n" not in str(info.value)
    assert {k: v for k, v in files(work).items() if k != "input.json"} == before


def test_the_lock_of_a_killed_training_is_taken_over(work, go, other, caplog):
    other.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while begin_of(other.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)  # a zombie already counts as dead
    go()
    line = f"process {other.pid} on"
    assert sum(line in r.message and "is taken over" in r.message for r in caplog.records) == 1


def test_the_number_of_a_killed_training_is_used_again(work, go):
    about = {**identity(os.getpid()), "since": "before", "begin": "1"}
    (work.path / LOCK).write_text(json.dumps(about))
    go()


@pytest.fixture
def elsewhere(work, monkeypatch):
    """The lock of a process on another computer, and short times."""
    monkeypatch.setattr(lock_module, "LEASE", 0.3)
    about = {**identity(os.getpid()), "host": "node7", "boot": "other", "since": "before"}
    path = work.path / LOCK
    path.write_text(json.dumps(about))
    return path


def test_a_lock_of_another_host_without_a_sign_of_life(work, go, elsewhere, caplog):
    go()
    assert "cannot be asked from here; waiting up to" in caplog.text
    assert "on node7 (since before) is gone" in caplog.text


def test_a_lock_of_another_host_that_is_touched(work, go, elsewhere, monkeypatch):
    monkeypatch.setattr(lock_module.time, "sleep", lambda _: os.utime(elsewhere))
    monkeypatch.setattr(lock_module, "LEASE", 60.0)
    os.utime(elsewhere, (time.time() - 10.0,) * 2)
    with pytest.raises(InputError, match=r"belongs to process .* on node7"):
        go()
    assert elsewhere.exists()


@pytest.mark.parametrize("text", ["", "[" * 100000, "null", '{"pid": "x"}', "\x00\xff"])
def test_a_lock_that_is_garbage(work, go, monkeypatch, text):
    monkeypatch.setattr(lock_module, "LEASE", 0.1)
    (work.path / LOCK).write_text(text)
    go()


def test_a_lock_without_hard_links(work, go, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    first = Lock(work.path / LOCK, "folder")
    first.take()
    with pytest.raises(InputError, match="which is running"):
        Lock(work.path / LOCK, "folder").take()
    first.release()
    go()


def test_a_lock_is_touched(work, monkeypatch):
    monkeypatch.setattr(lock_module, "BEAT", 0.01)
    one = Lock(work.path / LOCK, "folder")
    one.take()
    try:
        os.utime(one.path, (1.0, 1.0))
        deadline = time.monotonic() + 60
        while one.path.stat().st_mtime == 1.0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert one.path.stat().st_mtime > 1.0
    finally:
        one.release()
    assert not one.path.exists()


def test_a_training_whose_lock_was_taken_over_does_not_save(work, go):
    class Suspended(QuickBackend.train_step):
        def step(self, *args):
            about = {**identity(1), "since": "now"}
            (work.path / LOCK).write_text(json.dumps(about))
            return super().step(*args)

    class Backend(QuickBackend):
        train_step = Suspended

    with pytest.raises(InputError, match=r"process 1 on .* has taken over this run folder"):
        train(INPUT=work.write(work.config(numb_steps=6)), backend=Backend())
    assert not work.names()
    assert json.loads((work.path / LOCK).read_text())["since"] == "now"


def test_a_lock_that_was_removed_is_made_again(work):
    one = Lock(work.path / LOCK, "folder")
    one.take()
    one.path.unlink()
    one.check()
    assert one.path.exists()
    one.release()


def test_a_folder_that_cannot_be_written(work, monkeypatch):
    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Lock, "_make", refuse)
    with pytest.raises(InputError, match=r"cannot write here .Read-only file system.; free"):
        train(INPUT=work.write(work.config()), backend=QuickBackend())
