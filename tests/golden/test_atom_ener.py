# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models with ``atom_ener`` that DeePMD-kit 3.2.0 (PyTorch) trained, and its energies of atoms.

The mean of the environment is zero in ``dpa1`` only; the second type of ``part`` has no number.
"""

from pathlib import Path

import numpy as np
import pytest

from deepmd.dpmodel.model import Model
from deepmd.infer import DeepPot
from deepmd.io import load_model
from deepmd.testing.backends import EVALUATORS, evaluator

FILES = Path(__file__).parent / "files"
CLUSTER = [
    [0.12739233746429088, 0.053957342752774064, 0.008194704787238938],
    [1.0033055271057059, 0.1626540478400545, 0.18255111545554437],
    [0.12132715515343598, 1.1458993121967997, 0.10872499829308457],
    [1.1870144847575537, 1.1631707108243066, 0.5005477000340296],
    [0.1714808553175139, 1.006717115061093, 1.6459310892859889],
    [1.035131124120512, 0.17263578446997732, 1.6082922440498184],
]
#: Energies [eV] of two atoms far apart, and of the cluster.
ENERGIES = {
    "mean": (
        [-1.2312341012002848, -2.7997483438724444],
        [
            -1.3291331186728912, -2.8009407545987166, -2.768590808420918,
            -1.3285973970102118, -2.6902600206565053, -2.688441834464233,
        ],
    ),
    "dpa1": (
        [-1.3638264658990848, -2.836092000371731],
        [
            -1.2806622186201748, -2.837769085899982, -2.828105327895166,
            -1.2911350326425977, -2.782878896026708, -2.7838556414522717,
        ],
    ),
    "part": (
        [-1.255193912287435, -2.7583803756280396],
        [
            -1.356796917858268, -2.79437085979087, -2.7499328930807394,
            -1.3549508653895062, -2.639204768265906, -2.638504348859764,
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("backend", EVALUATORS)
@pytest.mark.parametrize("name", ENERGIES)
def test_energies_of_atoms(name, backend, quick_programs, request):
    if backend == "tensorflow":
        request.getfixturevalue("eager_functions")
    model = Model.deserialize(load_model(FILES / f"atom_ener_{name}.dp")["model"])
    potential = DeepPot.from_evaluator(evaluator(backend, model))
    far, cluster = ENERGIES[name]
    for coord, types, want in (
        ([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0]], [0, 1], far),
        (CLUSTER, [0, 1, 1, 0, 1, 1], cluster),
    ):
        found = potential.evaluate(np.array([coord]), None, types, derivatives=())["atom_energy"]
        np.testing.assert_allclose(found.ravel(), want, rtol=0, atol=1e-10)
    for t, want in enumerate(far):
        alone = potential.evaluate(np.zeros((1, 1, 3)), None, [t], derivatives=())
        assert alone["energy"].item() == pytest.approx(want)
