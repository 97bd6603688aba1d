# SPDX-License-Identifier: LGPL-3.0-or-later
"""Hybrids whose first component has a shorter cutoff than the second.

The models have random parameters, and means that are not zero where the component may have them;
``hybrids.json`` holds one frame and the energies of its atoms [eV] that DeePMD-kit 3.2.0 (PyTorch)
gives. ``_t`` and ``_m``: the second component is se_e2_a or DPA-1 with smooth attention, 5 Å.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from deepmd.dpmodel.model import Model
from deepmd.infer import DeepPot
from deepmd.io import load_model
from deepmd.testing.backends import EVALUATORS, evaluator

FILES = Path(__file__).parent / "files"
STORED = json.loads((FILES / "hybrids.json").read_text())


@pytest.mark.parametrize("backend", EVALUATORS)
@pytest.mark.parametrize("name", STORED["atom_energy"])
def test_energies_of_atoms(name, backend, quick_programs, request):
    if backend == "tensorflow":
        request.getfixturevalue("eager_functions")
    model = Model.deserialize(load_model(FILES / f"hybrid_{name}.dp")["model"])
    potential = DeepPot.from_evaluator(evaluator(backend, model))
    frame = np.array([STORED["coord"]]), np.array([STORED["box"]]), STORED["atype"]
    found = potential.evaluate(*frame, derivatives=())["atom_energy"]
    np.testing.assert_allclose(found.ravel(), STORED["atom_energy"][name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["dpa1_strip_mean_m", "e2a_exclude_t"])
def test_neighbors_between_the_cutoffs_count(name):
    """The same first component gives another descriptor beside a component with its own cutoff."""
    model = Model.deserialize(load_model(FILES / f"hybrid_{name}.dp")["model"])
    first, second = model.atomic_model.descriptor.list
    assert first.reads_beyond_cutoff
    assert first.rcut < second.rcut
    frame = np.array([STORED["coord"]]), np.array([STORED["box"]]), STORED["atype"]

    def descriptor():
        potential = DeepPot.from_evaluator(evaluator("numpy", model))
        return potential.eval_descriptor(*frame)[0, :, : first.dim_out]

    inside = descriptor()
    second.rcut = first.rcut
    assert np.abs(descriptor() - inside).max() > 1e-6
