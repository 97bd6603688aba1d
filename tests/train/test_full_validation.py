# SPDX-License-Identifier: LGPL-3.0-or-later
"""Errors on the whole validation set, best checkpoints, and early stopping."""

import math
from pathlib import Path

import numpy as np
import pytest
from train.helpers import NumPyBackend, same_checkpoints, write_system
from train.test_backends import backend  # noqa: F401 - a fixture

from deepmd.backend.backend import Backend
from deepmd.base.errors import InputError, NotAvailableError
from deepmd.dpmodel.neighbors import find_edges
from deepmd.np.engine import NativeEvaluator, is_installed
from deepmd.runtime.checkpoint_file import read_checkpoint
from deepmd.runtime.evaluator import Evaluator
from deepmd.schema import normalize
from deepmd.train.full_validation import first_step, five


@pytest.fixture
def config(work):
    write_system(work.path / "v", seed=5, frames=3, virial=np.ones((3, 9)))
    config = work.config(numb_steps=6, save_freq=3, enable_ema=True, ema_decay=0.5)
    config["model"]["descriptor"]["type_one_side"] = True
    config["training"]["validation_data"]["systems"] = ["c", "v"]
    config["validating"] = {
        "full_validation": True,
        "ema_full_validation": True,
        "validation_freq": 2,
        "full_val_start": 0,
        "max_best_ckpt": 2,
        "validation_metric": "F:RMSE",
    }
    config["loss"] |= {"start_pref_v": 1.0, "limit_pref_v": 1.0}
    return config


def rows(name="val.log"):
    text = Path(name).read_text(encoding="utf-8")
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {int(words[0]): [float(w) for w in words[1:]] for words in lines}


def expected(trainer, model):
    """Errors by hand: E, F and S, mean absolute and root mean square, in thousandths."""
    found = {name: [] for name in "EFS"}
    for system in trainer.tasks["Default"].validation.systems:
        for k in range(system.nframes):
            batch = system.load([k], trainer.tasks["Default"].validation.labels)
            batch.edges = find_edges(batch.coord, batch.cell[0], model.get_rcut())
            out = Evaluator(model).evaluate(batch)
            found["E"].append((out["energy"] - batch.labels["energy"]).ravel() / batch.n_atoms)
            found["F"].append((out["force"] - batch.labels["force"]).ravel())
            if batch.find["virial"]:
                volume = abs(np.linalg.det(batch.cell[0]))
                error = out["virial"].ravel() - batch.labels["virial"].ravel()
                found["S"].append(-error / volume)
    every = [np.concatenate(v) for v in found.values()]
    return [1000 * f for e in every for f in (np.abs(e).mean(), math.sqrt((e * e).mean()))]


def test_errors_and_best_checkpoints(work, config, run, backend):  # noqa: F811
    trainer = run(config, backend=backend)
    suffix, found = backend.checkpoint_suffix, rows()
    assert list(found) == [2, 4, 6]
    last = backend.read_checkpoint(f"model.ckpt-6{suffix}")
    assert found[6] == pytest.approx(expected(trainer, last.models["Default"]), rel=1e-4)
    mean = backend.read_checkpoint(f"model_ema.ckpt-6{suffix}")
    averaged = rows("val_ema.log")
    assert averaged[6] == pytest.approx(expected(trainer, mean.models["Default"]), rel=1e-4)
    for tag, table in (("", found), ("_ema", averaged)):
        order = sorted(table, key=lambda step: table[step][3])
        names = [f"best{tag}.ckpt-{step}.t-{k}{suffix}" for k, step in enumerate(order[:2], 1)]
        assert sorted(p.name for p in work.path.glob(f"best{tag}.ckpt*{suffix}")) == sorted(names)
        assert backend.read_checkpoint(names[0]).step == order[0]
    head = (work.path / "val.log").read_text().splitlines()[0]
    assert head == (
        "# step E_MAE(meV/atom) E_RMSE(meV/atom) F_MAE(meV/Å) F_RMSE(meV/Å) S_MAE(meV/Å³) "
        "S_RMSE(meV/Å³)"
    )


def test_a_restart_continues(work, config, run):
    run(config, backend=NumPyBackend())
    text = (work.path / "val.log").read_text()
    whole = read_checkpoint("model.ckpt-6.dp")
    best = {p.name for p in work.path.glob("best*")}
    run(config, backend=NumPyBackend(), restart="model.ckpt-3.dp")
    same_checkpoints(whole, read_checkpoint("model.ckpt-6.dp"))
    assert (work.path / "val.log").read_text() == text
    assert best <= {p.name for p in work.path.glob("best*")}


def falling(trainer, values):
    """Let the errors of the validations be these."""
    given = iter(values)

    def evaluate(_trainer, _evaluator, _data):
        value = next(given)
        return {q: {"MAE": value, "RMSE": value} for q in ("E", "F", "S")}

    trainer.extras[-1].evaluate = evaluate


@pytest.fixture
def quick(config):
    config["validating"] |= {"ema_full_validation": False, "validation_freq": 1}
    config["training"] |= {"enable_ema": False, "save_freq": 100, "disp_freq": 100}
    return config


def test_the_best_are_kept_in_order(work, quick):
    trainer = work.prepare(quick, backend=NumPyBackend())
    falling(trainer, [5.0, 3.0, math.nan, 4.0, 3.0, 9.0])
    trainer.run()
    assert trainer.extras[-1].best == [(3.0, 2), (3.0, 5)]
    assert [p.name for p in sorted(work.path.glob("best*"))] == [
        "best.ckpt-2.t-1.dp",
        "best.ckpt-5.t-2.dp",
    ]


@pytest.mark.parametrize(("delta", "last"), [(0.0, 6), (0.6, 4)])
def test_early_stop(work, quick, delta, last, caplog):
    quick["training"] |= {"early_stop": {"patience": 2, "min_delta": delta}, "numb_steps": 20}
    trainer = work.prepare(quick, backend=NumPyBackend())
    falling(trainer, [5.0, 4.0, 3.9, 3.8, 3.9, 4.0])
    ended = trainer.run()
    assert (ended.step, ended.signal) == (last, None)
    assert work.names() == [f"model.ckpt-{last}.dp"]
    assert "early stop: F:RMSE was" in caplog.text
    assert "did not fall in 2 validations" in caplog.text


def test_first_step():
    assert [first_step(x, 11) for x in (0, 0.5, 1, 1.0, 7)] == [0, 5, math.inf, math.inf, 7]


def test_five_digits():
    values = (31.58, 137.1649, 0.0012345678, 123456.0, math.nan)
    assert [five(v) for v in values] == ["31.580", "137.16", "0.0012346", "1.2346e+05", "nan"]


def test_by_the_native_engine(work, config, run, backend, monkeypatch):  # noqa: F811
    """The rows are those of the backend, which is not asked."""
    if not is_installed():
        pytest.skip("the native engine is not installed")
    run(config, backend=backend)
    found, averaged = rows(), rows("val_ema.log")
    config["validating"]["compiled_infer"] = True
    count, evaluate = [], NativeEvaluator.evaluate

    def counted(self, *args, **options):
        count.append(self.native is not None)
        return evaluate(self, *args, **options)

    monkeypatch.setattr(NativeEvaluator, "evaluate", counted)
    run(config, backend=backend)
    assert len(count) >= 6 and all(count)
    for name, want in (("val.log", found), ("val_ema.log", averaged)):
        for step, row in rows(name).items():
            assert row == pytest.approx(want[step], rel=1e-4), (name, step)


def test_the_native_engine_has_all_bits(work, config):
    config["validating"] |= {"compiled_infer": True, "amp_infer": True}
    with pytest.raises(InputError, match="excludes tf32_infer and amp_infer"):
        work.prepare(config)


BAD = [
    ({"validation_metric": "V:MAE"}, {"loss": {"type": "ener"}}, "no such term, or no weight"),
    ({"validation_metric": "FM:MAE"}, {}, "no such term"),
]


@pytest.mark.parametrize(("keys", "others", "message"), BAD)
def test_what_cannot_be_validated(config, keys, others, message):
    config["validating"] |= keys
    with pytest.raises(InputError, match=message):
        normalize({**config, **others})


def test_validation_data_are_needed(work, config):
    del config["training"]["validation_data"]
    with pytest.raises(InputError, match=r"needs training/validation_data"):
        normalize(config)


def test_averages_are_needed(config):
    config["training"]["enable_ema"] = False
    with pytest.raises(InputError, match="ema_full_validation: needs averaged parameters"):
        normalize(config)


def test_early_stop_needs_errors(work):
    with pytest.raises(InputError, match="set validating/full_validation"):
        normalize(work.config(early_stop={"patience": 3}))


@pytest.mark.parametrize("key", ["amp_infer", "tf32_infer"])
def test_fewer_bits_of_a_backend_that_has_none(work, config, run, key):
    config["validating"][key] = True
    with pytest.raises(NotAvailableError, match=f"validating/{key}: this backend has no such"):
        run(config, backend=NumPyBackend())
    assert not list(work.path.glob("model*.ckpt*"))


def test_validation_in_bfloat16(config, run):
    """The rows are those of rounded products; the training is the same."""
    pytest.importorskip("torch")
    for part in ("descriptor", "fitting_net"):
        config["model"][part]["precision"] = "float32"
    found = []
    for asked in (False, True):
        config["validating"]["amp_infer"] = asked
        trainer = run(config, backend=Backend.get_backend("pytorch")())
        found.append(
            (rows()[6], trainer.stepper.to_host("Default", trainer.stepper.parameters("Default")))
        )
    (want, first), (got, second) = found
    assert got != want
    assert got == pytest.approx(want, rel=0.1)
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)
