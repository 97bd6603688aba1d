# SPDX-License-Identifier: LGPL-3.0-or-later
"""Names that clients import, and the numbers that DeePMD-kit 3.2.0 gives under them."""

import importlib
import json
import logging

import numpy as np
import pytest

from deepmd.base.errors import InputError

NAMES = """
deepmd.utils.data.DataRequirementItem
deepmd.env
deepmd.utils.stat_file
deepmd.utils.compat.convert_optimizer_v31_to_v32
deepmd.main.parse_args
deepmd.main.get_ll
deepmd.utils.errors.OutOfMemoryError
deepmd.utils.argcheck.gen_doc
deepmd.utils.argcheck.gen_json
deepmd.utils.argcheck.gen_json_schema
deepmd.utils.argcheck.loss_args
deepmd.utils.argcheck.training_args
deepmd.utils.argcheck.model_args
deepmd.utils.argcheck.learning_rate_args
deepmd.utils.argcheck.list_to_doc
deepmd.utils.argcheck.descrpt_se_a_args
deepmd.utils.argcheck.type_embedding_args
deepmd.common.select_idx_map
deepmd.common.make_default_mesh
deepmd.common.get_np_precision
deepmd.common.GLOBAL_NP_FLOAT_PRECISION
deepmd.utils.batch_size.RetrySignal
deepmd.utils.econf_embd
deepmd.utils.spin
deepmd.utils.out_stat
deepmd.utils.weight_avg
deepmd.utils.finetune
deepmd.utils.pair_tab
deepmd.utils.random
deepmd.utils.neighbor_stat
deepmd.loggers
deepmd.utils.data_system.get_data
deepmd.utils.data_system.print_summary
deepmd.utils.data_system.process_systems
deepmd.utils.data_system.prob_sys_size_ext
deepmd.utils.path.DPOSPath
deepmd.infer.model_devi.make_model_devi
deepmd.infer.deep_population
deepmd.lmp.get_env
deepmd.pt.entrypoints.main
deepmd.pt.loss
deepmd.pt.utils.serialization
deepmd.pt.utils.multi_task
deepmd.pt.utils.stat
deepmd.pt.infer.inference
deepmd.dpmodel.model.model.get_model
deepmd.dpmodel.model.base_model
deepmd.dpmodel.utils.serialization.load_dp_model
deepmd.dpmodel.utils.serialization.save_dp_model
deepmd.infer.deep_pot.DeepPot.deep_eval
""".split()


def find(name):
    """Import the longest prefix of a name, and take the rest from it."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:k]))
        except ModuleNotFoundError:
            continue
        for part in parts[k:]:
            found = getattr(found, part)
        return found
    raise AssertionError(name)


@pytest.mark.parametrize("name", NAMES)
def test_name_is_there(name):
    if name.startswith("deepmd.pt"):
        pytest.importorskip("torch")
    assert find(name) is not None


def test_helpers():
    from deepmd.common import get_np_precision, make_default_mesh, select_idx_map

    assert select_idx_map(np.array([0, 1, 0, 2, 1]), np.array([0, 1])).tolist() == [0, 2, 1, 4]
    sizes = {(p, m): make_default_mesh(p, m).size for p in (True, False) for m in (True, False)}
    assert sizes == {
        (True, False): 6,
        (False, False): 0,
        (True, True): 7,
        (False, True): 1,
    }
    assert get_np_precision("default") is np.float64
    with pytest.raises(InputError, match="no precision"):
        get_np_precision("flaot32")


def test_command_line():
    from deepmd.main import get_ll, parse_args

    assert parse_args(["train", "in.json", "--skip-neighbor-stat"]).INPUT == "in.json"
    assert get_ll("DEBUG") == logging.DEBUG
    with pytest.raises(InputError, match="no level"):
        get_ll("LOUD")


def test_electronic_configurations():
    from deepmd.utils import econf_embd as e

    assert e.make_econf_embedding(["O"])["O"].tolist() == [2, 2, 2, 1, 1] + [0] * 54
    assert e.make_econf_embedding(["He"], flatten=False)["He"][1, "s"].tolist() == [2]
    spins = e.transform_to_spin_rep(e.make_econf_embedding(["H", "Fe"]))
    assert spins["H"].tolist() == [-1, 1] + [-1] * 116
    assert spins["Fe"][20:30].tolist() == [-1, 1, -1, 1, -1, 1, -1, 1, 1, 1]
    scaled = e.normalize_vec_length(e.make_econf_embedding(["H", "Fe"]))
    assert scaled["H"][0] == pytest.approx(0.09205746178983235, rel=1e-14)
    assert e.sort_element_type(["O", "H", "Fe", "C"]) == ["H", "C", "O", "Fe"]


def test_output_statistics():
    from deepmd.utils import out_stat

    natoms = np.array([[2, 1], [1, 3], [4, 1.0]])
    labels = natoms @ np.array([[-1.0], [2.0]]) + np.array([[0.1], [0], [-0.1]])
    fit = out_stat.compute_stats_from_redu
    for options, bias, std in (
        ({}, [-1.01466667, 2.012], 0.0740717),
        ({"assigned_bias": np.array([[np.nan], [2.5]])}, [-1.22380952, 2.5], 0.68986107),
        ({"intensive": True}, [-4.40472441, 8.22969629], 0.21633689),
        ({"rcond": 0.5}, [0.12568604, 0.07395409], 3.04627971),
    ):
        found = fit(labels, natoms, **options)
        np.testing.assert_allclose(found[0][:, 0], bias, atol=1e-8)
        np.testing.assert_allclose(found[1], [std], atol=1e-8)
    common = out_stat.compute_stats_do_not_distinguish_types(labels, natoms)
    np.testing.assert_allclose(common, [[[0.28777778]] * 2, [[0.70511535]] * 2], atol=1e-8)
    atoms = np.arange(6.0).reshape(2, 3, 1), np.array([[0, 0, 2], [0, 2, 2]])
    mean = out_stat.compute_stats_from_atomic(*atoms)[0]
    np.testing.assert_allclose(mean[:, 0], [4 / 3, np.nan, 11 / 3])


def test_random_numbers():
    from deepmd.utils import random

    random.seed(3)
    np.testing.assert_allclose(random.random(2), [0.5507979, 0.70814782], atol=1e-8)
    assert random.choice(10, 3).tolist() == [8, 8, 0]
    order = np.arange(5)
    random.shuffle(order)
    assert order.tolist() == [0, 4, 1, 2, 3]


def test_spin():
    from deepmd.utils.spin import Spin, normalize_spin_use_spin

    spin = Spin([True, False], [0.3, 0.0])
    assert spin.serialize() == {"use_spin": [True, False], "virtual_scale": [0.3, 0.0]}
    assert Spin.deserialize(spin.serialize()).get_virtual_scale_mask().tolist() == [0.3, 0.0]
    hidden = [[3, 0], [3, 1], [3, 2], [3, 3]]
    assert spin.get_pair_exclude_types([(0, 1)]) == [*hidden, (0, 1)]
    assert spin.get_atom_exclude_types([1]) == [1, 2, 3]
    assert spin.get_atom_exclude_types_placeholder([0]) == [0, 3]
    assert (spin.get_ntypes_spin(), spin.get_ntypes_input()) == (1, 4)
    assert normalize_spin_use_spin(["Fe"], ["O", "Fe"]) == [False, True]


def test_errors_of_systems():
    from deepmd.utils.weight_avg import merge_weighted_errors, weighted_average

    errors = [{"mae_e": (1.0, 2), "rmse_f": (3.0, 1)}, {"mae_e": (2.0, 3)}]
    assert weighted_average(errors) == {"mae_e": 1.6, "rmse_f": 3.0}
    assert merge_weighted_errors(errors)["mae_e"] == (1.6, 5.0)


def test_arguments():
    from deepmd.utils import argcheck, compat

    assert "rcut_smth" in argcheck.gen_doc()
    assert json.loads(argcheck.gen_json_schema())["type"] == ["object"]
    assert {a.name for a in argcheck.descrpt_se_a_args()} >= {"sel", "rcut"}
    assert [a.name for a in argcheck.loss_args()] == ["loss"]
    assert argcheck.list_to_doc(["a", "b"]) == '"a", "b".'
    old = {"training": {"opt_type": "LKF", "kf_blocksize": 1024, "numb_steps": 1}}
    assert compat.convert_optimizer_v31_to_v32(old) == {
        "training": {"numb_steps": 1},
        "optimizer": {"kf_blocksize": 1024, "type": "LKF"},
    }


@pytest.fixture
def system(tmp_path):
    folder = tmp_path / "water"
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("0 1 1\n")
    coord = np.array([[0.0, 0, 0, 0, 0, 1, 0, 1.1, 0]])
    np.save(folder / "set.000" / "coord.npy", np.tile(coord, (4, 1)))
    np.save(folder / "set.000" / "box.npy", np.tile(np.eye(3).reshape(1, 9) * 9, (4, 1)))
    return str(folder)


def test_data(system, tmp_path, caplog):
    from deepmd.utils import data_system, neighbor_stat, stat_file
    from deepmd.utils.data import DataRequirementItem
    from deepmd.utils.path import DPOSPath

    assert data_system.process_systems([system]) == [system]
    given = data_system.prob_sys_size_ext("prob_sys_size; 0:2:0.3; 2:4:0.7", 4, [1, 2, 3, 4])
    np.testing.assert_allclose(given, [0.1, 0.2, 0.3, 0.4])
    data = data_system.get_data({"systems": [system], "batch_size": 2}, 6.0, ["O", "H"])
    label = DataRequirementItem("fparam", 2, must=False)
    data.add_dict({label["key"]: {k: v for k, v in label.dict.items() if k != "key"}})
    assert data.get_batch()["fparam"].shape == (2, 2)
    assert label == DataRequirementItem("fparam", 2, must=False)
    assert label.must is False
    shortest, most = neighbor_stat.NeighborStat(2, 1.2).get_stat(data)
    assert shortest == 1.0
    assert most.tolist() == [1, 2]
    with caplog.at_level(logging.INFO):
        data_system.print_summary("training", 1, [system], [3], [2], [2], [1.0], [True])
    assert "1.000e+00" in caplog.text
    spec = stat_file.StatFileSpec(str(tmp_path / "stat"))
    with stat_file.open_stat_file(spec) as path:
        assert stat_file.load_required_items(path, ["mean"]) is None
        (path / "mean").save_numpy(np.ones(3))
        assert stat_file.load_required_items(path, ["mean"])["mean"].tolist() == [1, 1, 1]
    assert isinstance(path, DPOSPath)


def test_pair_table(tmp_path):
    from deepmd.utils.pair_tab import PairTab

    r = np.linspace(0.1, 2.0, 20)
    np.savetxt(tmp_path / "a.txt", np.stack([r, 1 / r, 2 / r, 3 / r], axis=1))
    info, coefficients = PairTab(tmp_path / "a.txt", 2.0).get()
    np.testing.assert_allclose(info, [0.1, 0.1, 19, 2])
    assert coefficients.size == 4 * 19 * 4
    np.savetxt(tmp_path / "b.txt", np.stack([r, r, r], axis=1))
    with pytest.raises(InputError, match="no number of types"):
        PairTab(tmp_path / "b.txt")


def test_log_lines(tmp_path):
    from deepmd.base.log import clear_logging
    from deepmd.loggers import set_log_handles

    set_log_handles(logging.INFO, tmp_path / "log")
    logging.getLogger("deepmd.x").info("a line")
    clear_logging()
    assert "a line" in (tmp_path / "log").read_text()


def test_model_of_a_section():
    from deepmd.dpmodel.model.base_model import BaseModel
    from deepmd.dpmodel.model.model import get_model

    section = {
        "type_map": ["O"],
        "descriptor": {"type": "se_e2_a", "sel": [4], "neuron": [2], "axis_neuron": 1},
        "fitting_net": {"neuron": [2]},
    }
    assert isinstance(get_model(section), BaseModel)
