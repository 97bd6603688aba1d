# SPDX-License-Identifier: LGPL-3.0-or-later
"""The exponential average of the parameters, its checkpoints, and its restart."""

import numpy as np
from train.helpers import NumPyBackend, QuickBackend, same_checkpoints
from train.test_backends import backend, small  # noqa: F401 - a fixture

from deepmd.dpmodel.module import split
from deepmd.runtime.checkpoint_file import read_checkpoint


def params(model):
    return split(model)[0]


def followed(work, chosen, decay, steps):
    """Train, and average the parameters here, too."""
    config = small(
        work, numb_steps=steps, save_freq=2, max_ckpt_keep=9, enable_ema=True, ema_decay=decay
    )
    trainer = work.prepare(config, backend=chosen)
    take, mean = trainer.stepper.step, params(trainer.stepper.model("Default"))

    def step(*args):
        metrics = take(*args)
        now = params(trainer.stepper.model("Default"))
        for k, p in now.items():
            mean[k] = mean[k] + (1 - decay) * (p - mean[k])
        return metrics

    trainer.stepper.step = step
    trainer.run()
    return config, mean


def test_the_average_is_that_of_the_parameters(work, run, backend):  # noqa: F811
    config, mean = followed(work, backend, 0.7, 5)
    suffix, read = backend.checkpoint_suffix, backend.read_checkpoint
    whole = read(f"model_ema.ckpt-5{suffix}")
    assert {k: v.dtype for k, v in params(whole.models["Default"]).items()} == {
        k: v.dtype for k, v in mean.items()
    }
    for k, v in params(whole.models["Default"]).items():
        assert np.abs(v - mean[k]).max() < 1e-14, k
    last = params(read(f"model.ckpt-5{suffix}").models["Default"])
    assert any(np.abs(last[k] - mean[k]).max() > 1e-4 for k in mean)
    assert (work.path / "checkpoint").read_text().find("ema") == -1
    # A restart continues the average.
    run(config, backend=backend, restart=f"model.ckpt-2{suffix}")
    same_checkpoints(whole, read(f"model_ema.ckpt-5{suffix}"))


def test_files_of_an_earlier_run_are_kept(work, run):
    config = small(work, numb_steps=4, save_freq=2, enable_ema=True, ema_ckpt_keep=1)
    run(config, backend=QuickBackend(), overwrite=False)
    assert sorted(p.name for p in work.path.glob("model_ema*")) == [
        "model_ema.ckpt-4.dp",
        "model_ema.ckpt.dp",
    ]
    from deepmd.train.entry import train

    train(INPUT=work.write(config), backend=QuickBackend())
    assert (work.path / "#model_ema.ckpt-4.dp.1#").exists()
    train(INPUT=work.write(config), backend=QuickBackend(), restart="model.ckpt-2.dp")
    assert (work.path / "#model_ema.ckpt-4.dp.2#").exists()


def test_a_checkpoint_without_an_average(work, run, caplog):
    run(small(work, numb_steps=2), backend=NumPyBackend())
    run(small(work, numb_steps=3, enable_ema=True), backend=NumPyBackend(), restart="model.ckpt")
    assert "the average begins anew" in caplog.text
    assert read_checkpoint("model_ema.ckpt-3.dp").step == 3
