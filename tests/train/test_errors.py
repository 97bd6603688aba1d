# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a user gets to read when the input of a training is wrong: one line that says how to mend it."""

import json
import shutil

import numpy as np
import pytest
from train.helpers import write_system

from deepmd.base.errors import DataError, InputError, ModelFileError, NotAvailableError


def fails(work, message, config=None, kind=InputError, **options):
    with pytest.raises(kind, match=message) as info:
        work.prepare(config, **options).run()
    assert "\n" not in str(info.value)
    return str(info.value)


def nothing_written(work):
    assert not {p.name for p in work.path.iterdir()} & {"out.json", "lcurve.out", "checkpoint"}


def test_missing_system(work):
    config = work.config(training_data={"systems": ["a", "nowhere"]})
    fails(work, "training/training_data: nowhere: there is no such system", config, DataError)
    nothing_written(work)


def test_missing_validation_system(work):
    config = work.config(validation_data={"systems": ["nowhere"]})
    fails(work, "training/validation_data: nowhere", config, DataError)
    nothing_written(work)


def test_batch_sizes_of_wrong_length(work):
    config = work.config(training_data={"systems": ["a", "b"], "batch_size": [1, 2, 3]})
    fails(work, "training/training_data/batch_size: 3 numbers for 2 systems", config)


def test_no_type_map(work):
    config = work.config()
    del config["model"]["type_map"]
    fails(work, "model: no type_map; name the types", config)


def test_auto_sel_without_neighbor_statistics(work):
    config = work.config()
    config["model"]["descriptor"]["sel"] = "auto"
    message = r'model/descriptor/sel: "auto" needs the neighbor statistics; leave out --skip'
    fails(work, message, config, skip_neighbor_stat=True)
    nothing_written(work)


def test_no_frame_with_such_distances(work):
    config = work.config(training_data={"systems": ["a"], "min_pair_dist": 9.5})
    fails(work, r"training/training_data: .*every frame has atoms closer than 9.5 Å", config)


def test_no_label_at_all(work):
    for name in ("energy", "force"):
        (work.path / f"b/set.000/{name}.npy").unlink()
    config = work.config(training_data={"systems": ["b"]})
    fails(
        work,
        r"none of the labels of the loss \(energy, force\) is in any system",
        config,
        DataError,
    )


def test_missing_parameter_file(work):
    config = work.config()
    config["model"]["fitting_net"]["numb_fparam"] = 1
    fails(work, r"set.000: fparam.npy is missing", config, DataError)


@pytest.mark.parametrize("name", ["force", "energy", "virial"])
@pytest.mark.parametrize("kind", ["training_data", "validation_data"])
def test_nan_in_the_labels_is_found_before_the_first_step(work, kind, name):
    file = work.path / f"b/set.000/{name}.npy"
    values = np.load(file) if file.exists() else np.zeros((3, 9))
    values.reshape(3, -1)[2, -1] = np.nan
    np.save(file, values)
    data = {"training_data": {"systems": ["a"]}, "validation_data": {"systems": ["a"]}}
    config = work.config(**data | {kind: {"systems": ["a", "b"]}})
    config["loss"] |= {"start_pref_v": 1, "limit_pref_v": 1}
    where = rf"training/{kind}: b/set.000/{name}.npy: NaN or infinite number in frame 2"
    with pytest.raises(DataError, match=where):
        work.prepare(config)
    nothing_written(work)


def test_frames_that_are_left_out_may_be_bad(work):
    coord = np.load(work.path / "b/set.000/coord.npy")
    coord[1, 3:6] = coord[1, :3] + 0.1
    np.save(work.path / "b/set.000/coord.npy", coord)
    energy = np.load(work.path / "b/set.000/energy.npy")
    energy[1] = np.nan
    np.save(work.path / "b/set.000/energy.npy", energy)
    data = {"systems": ["b"], "min_pair_dist": 0.5}
    work.prepare(work.config(training_data=data, validation_data=None))


def test_too_small_sel(work, caplog):
    config = work.config(sel_overflow="error", numb_steps=2)
    config["model"]["descriptor"]["sel"] = [2, 30]
    fails(work, r"model/descriptor/sel: .* sel is \[2, 30\]; raise sel", config)
    config["training"]["sel_overflow"] = "warn"
    work.prepare(config).run()
    assert caplog.text.count("the farthest are left out, and forces jump") == 1


def test_restart_without_checkpoint(work):
    fails(work, r"model.ckpt: there is no such checkpoint; no file .dp is in", restart="model.ckpt")
    nothing_written(work)


def test_restart_of_another_backend(work, run):
    (work.path / "model.ckpt.pt").touch()
    fails(work, "model.ckpt.pt: checkpoints of this backend end in .dp", restart="model.ckpt.pt")


@pytest.mark.parametrize("option", ["restart", "init_model"])
def test_checkpoint_of_another_model(work, run, option):
    run(work.config(numb_steps=1))
    config = work.config()
    config["model"]["fitting_net"]["neuron"] = [5, 4]
    message = r"model: the model of the input is not that of the checkpoint: .* has shape .*model/fitting_net/neuron"
    fails(work, message, config, ModelFileError, **{option: "model.ckpt"})
    config = work.config()
    config["model"]["type_map"] = ["A", "C"]
    for name in "abc":
        (work.path / name / "type_map.raw").write_text("A\nC\n")
    message = r"model/type_map: the checkpoint has types \['A', 'B'\]"
    fails(work, message, config, ModelFileError, **{option: "model.ckpt"})


def test_force_load_takes_what_fits(work, run, caplog):
    run(work.config(numb_steps=1))
    config = work.config(numb_steps=1)
    config["model"]["fitting_net"]["neuron"] = [5, 4]
    trainer = work.prepare(config, init_model="model.ckpt", force_load=True)
    assert "has shape" in caplog.text
    trainer.run()


def test_restart_with_other_data(work, run):
    run(work.config(numb_steps=2))
    write_system(work.path / "d", frames=9, seed=9)
    config = work.config(training_data={"systems": ["a", "d"], "batch_size": 2})
    message = r"training data: the data have 2 systems with 15 frames, .* 2 systems and 9 frames"
    fails(work, message, config, DataError, restart="model.ckpt")


def test_restart_from_a_plain_model(work, run):
    from deepmd.io import save_model
    from deepmd.runtime.checkpoint_file import read_checkpoint

    run(work.config(numb_steps=1))
    save_model("model.dp", read_checkpoint("model.ckpt.dp").model_data())
    fails(work, "model.dp: the checkpoint is damaged or of another kind", restart="model.dp")


def test_init_frz_model(work, run):
    from deepmd.dpmodel.module import split
    from deepmd.io import save_model
    from deepmd.runtime.checkpoint_file import read_checkpoint

    run(work.config(numb_steps=2))
    checkpoint = read_checkpoint("model.ckpt.dp")
    save_model("model.dp", checkpoint.model_data())
    trainer = work.prepare(work.config(numb_steps=1), init_frz_model="model.dp")
    a, b = split(checkpoint.models["Default"])[0], split(trainer.stepper.model("Default"))[0]
    assert all(np.array_equal(a[k], b[k]) for k in a)


def test_tensorboard_that_is_not_there(work, monkeypatch):
    import deepmd.train.tensorboard as module

    monkeypatch.setattr(module, "_WRITERS", (("no_such_package", "no_such_package"),))
    message = "training/tensorboard: needs the package tensorboard .* set tensorboard to false"
    fails(work, message, work.config(tensorboard=True), NotAvailableError)


def test_too_long_warm_up(work):
    config = work.config(numb_steps=10)
    config["learning_rate"]["warmup_steps"] = 20
    fails(work, "learning_rate/warmup_steps: the warm-up takes 20 steps", config)


def test_changed_keys_are_named_at_restart(work, run, caplog):
    run(work.config(numb_steps=2))
    config = work.config(numb_steps=3, disp_freq=1)
    config["loss"]["start_pref_e"] = 0.5
    run(config, restart="model.ckpt")
    line = next(r.message for r in caplog.records if "differs from that" in r.message)
    for key in ("loss/start_pref_e", "training/numb_steps", "training/disp_freq"):
        assert key in line
    assert "model" not in line


def test_unwritable_folder_is_one_line(work, monkeypatch):
    trainer = work.prepare(work.config(numb_steps=1))

    def refuse(path, checkpoint):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(trainer.store, "write", refuse)
    with pytest.raises(InputError, match=r"model.ckpt-1.dp: cannot be written: Permission denied"):
        trainer.run()


def test_an_input_with_a_torn_checkpoint_only(work, run):
    run(work.config(numb_steps=1))
    (work.path / "model.ckpt-1.dp").write_bytes(b"\x89HDF\r\n\x1a\n torn")
    message = "model.ckpt-1.dp: the checkpoint is damaged"
    fails(work, message, work.config(), ModelFileError, restart="model.ckpt")


def test_inputs_are_left_as_they_are(work, run):
    before = work.config(numb_steps=1)
    run(before)
    assert json.loads((work.path / "input.json").read_text()) == before
    shutil.rmtree(work.path / "a")
    fails(work, "a: there is no such system", work.config(), DataError)
