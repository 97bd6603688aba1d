# SPDX-License-Identifier: LGPL-3.0-or-later
"""Every descriptor and every fitting passes the tests that plugins inherit."""

import copy
import inspect
from pathlib import Path

import numpy as np
import pytest

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import build_model, prepare
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.testing import DescriptorTests, FittingTests, OutputFittingTests
from deepmd.testing.backends import evaluator
from deepmd.testing.systems import randomize, small_system
from tests.members import DESCRIPTORS, section

TENSORS = {
    "dipole": {"type": "dipole"},
    "dipole_of_one_type": {"type": "dipole", "sel_type": [1], "resnet_dt": False},
    "polar": {"type": "polar", "fit_diag": False, "scale": [0.7, 1.3]},
    "polar_diagonal": {"type": "polar", "fit_diag": True, "shift_diag": False},
    "polar_of_one_type": {"type": "polar", "sel_type": [0]},
}
SCALARS = {
    "dos": {"type": "dos", "numb_dos": 3},
    "population": {"type": "population"},
    "property": {"type": "property", "property_name": "gap", "task_dim": 2},
    "intensive": {"type": "property", "property_name": "gap", "task_dim": 2, "intensive": True},
}


class TestDescriptors(DescriptorTests):
    """All with a smooth cutoff and periodic cells; ``se_a_ebd_v2`` is in test_type_embedding.py."""

    cases = {
        name: section(name, Path())
        for name in DESCRIPTORS
        if name not in ("loc_frame", "se_a_ebd_v2")
    }
    files = ("numpy",)

    def section(self, case):
        return copy.deepcopy(case)


class TestFittings(OutputFittingTests):
    """Outputs that are no energies; the fitting of energies is in every model of descriptors."""

    cases = {name: {"neuron": [6], **options} for name, options in (TENSORS | SCALARS).items()}
    files = ("numpy",)


class TestNamedLayers(FittingTests):
    """Layers of one name share their parameters, in files and restarts, too."""

    cases = {
        "named": {"type": "ener", "neuron": [6, 6, 6], "layer_name": ["in", "two", "two", "out"]}
    }
    files = ("numpy",)


class Wrong(TestFittings):
    """Results with an error that depends on where atoms are, on their order and on frames."""

    __test__ = False

    def evaluate(self, potential, coord, cell, atype):
        out = super().evaluate(potential, coord, cell, atype)
        frames = coord if np.ndim(coord) == 3 else coord[None]
        outside = np.abs(frames).max(axis=(1, 2), initial=0.0) > 4.0
        row = 1e-3 * np.arange(frames.shape[1])[None, :, None]
        return {
            "atom_dipole": out["atom_dipole"] + frames.sum(axis=-1, keepdims=True) + row,
            "dipole": out["dipole"] + 1e-3 * len(frames) + outside[:, None],
            "force": out["force"] + 1e-5,
        }


CHECKS = (
    "test_backends_agree", "test_permutation", "test_rotation", "test_translation",
    "test_supercell", "test_force_is_minus_the_gradient", "test_parts_add_up",
    "test_smooth_at_the_cutoff", "test_few_atoms", "test_frames_do_not_see_each_other",
)  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_can_fail(check):
    wrong = Wrong()
    model = randomize(build_model(wrong.section({"neuron": [6], "type": "dipole"})))
    potential = wrong.opened(evaluator("numpy", model))
    given = {
        "model": model,
        "potential": potential,
        "system": small_system(model.get_ntypes(), model.get_rcut()),
    }
    method = getattr(wrong, check)
    if check == "test_backends_agree":  # with one that is right
        given["potential"] = TestFittings().opened(evaluator("numpy", model))
        first = iter([TestFittings.evaluate, Wrong.evaluate] * 2)
        wrong.evaluate = lambda *a: next(first)(wrong, *a)
    names = inspect.signature(method).parameters
    with pytest.raises(AssertionError):
        method(**{name: given[name] for name in names})


@pytest.mark.parametrize("name", ["dpa2", "dpa3", "hybrid"])
def test_values_without_directions(name):
    """Scalars do not need the equivariant part, for which DPA-3 updates the edges once more."""
    model = randomize(build_model(section(name, Path())))
    assert not model.atomic_model.fitting.reads_directions
    coord, cell, atype = small_system(model.get_ntypes(), model.get_rcut())
    batch = Batch.from_arrays(coord[None], cell[None], atype)
    batch.edges = batch_edges(batch, model.get_rcut())
    found = []
    for wanted in (True, False):
        model.atomic_model.fitting.reads_directions = wanted
        found.append(model.atomic(prepare(batch, model.packings()), ("descriptor",)))
    for key, value in found[0].items():
        np.testing.assert_allclose(found[1][key], value, rtol=1e-14, atol=1e-14)
