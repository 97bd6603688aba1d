# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models with a type embedding of their own, beside descriptors with slots per type."""

import numpy as np
import pytest

from deepmd.base.errors import InputError
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.type_map import change_type_map
from deepmd.infer import DeepPot
from deepmd.runtime.probes import model_file_dict
from deepmd.schema.check import normalize_model
from deepmd.testing import ModelTests
from deepmd.testing.backends import evaluator, open_backend
from deepmd.testing.systems import randomize, small_system

SEL = {"rcut": 4.0, "rcut_smth": 0.5, "sel": [22, 24], "neuron": [4, 8]}
SE_A = {"type": "se_e2_a", **SEL, "axis_neuron": 3}
V2 = {**SE_A, "type": "se_a_ebd_v2"}
FITTING = {"type": "ener", "neuron": [5], "seed": 3}
TYPES = {"neuron": [3], "activation_function": "tanh", "seed": 2}


def case(descriptor, **types):
    return {
        "descriptor": {**descriptor, "seed": 1},
        "fitting_net": FITTING,
        "type_embedding": TYPES | types,
    }


class TestTypeEmbedding(ModelTests):
    """Means are random, so that empty slots count; in strip mode energies would jump then."""

    backends = ("numpy", "torch")
    cases = {
        "two_side": case(SE_A),
        # As many inputs as outputs of the first layer, which adds them: 1 + 3.
        "residual": case({**SE_A, "type_one_side": True}, use_tebd_bias=True, neuron=[4, 3]),
        "strip": case({**V2, "set_davg_zero": True}),
        "strip_one_side": case({**V2, "set_davg_zero": True, "type_one_side": True}),
    }


def model_of(descriptor, **types):
    section = {"type_map": ["O", "H"], **case(descriptor, **types)}
    return randomize(build_model(normalize_model(section)))


def energy(model, atype=None, seed=0):
    coord, cell, own = small_system(2, 4.0, n=6, seed=seed)
    given = own if atype is None else atype
    return DeepPot.from_evaluator(evaluator("numpy", model)).eval(coord[None], cell, given)[0]


@pytest.mark.parametrize("descriptor", [SE_A, V2], ids=["concat", "strip"])
def test_types_change_places(descriptor):
    model = model_of(descriptor)
    swapped = change_type_map(model, ["H", "O"])
    own = small_system(2, 4.0, n=6)[2]
    np.testing.assert_allclose(energy(swapped, 1 - own), energy(model), rtol=1e-13)


@pytest.mark.parametrize("descriptor", [SE_A, V2], ids=["concat", "strip"])
def test_dropped_types_keep_their_slots(descriptor):
    model = model_of(descriptor)
    oxygen = np.zeros(6, dtype=int)
    want = energy(model, oxygen)
    alone = change_type_map(model, ["O"])
    np.testing.assert_allclose(energy(alone, oxygen), want, rtol=1e-13)
    again = type(alone).deserialize(alone.serialize())
    np.testing.assert_allclose(energy(again, oxygen), want, rtol=1e-13)


def test_the_version_with_stripped_types_needs_no_section():
    section = {"type_map": ["O", "H"], "descriptor": V2, "fitting_net": FITTING}
    types = build_model(normalize_model(section)).atomic_model.type_embedding
    assert types.neuron == [8] and types.activation_function == "Linear"


def test_means_without_types_are_warned_of():
    assert "jump" in " ".join(model_of(V2).atomic_model.warnings())
    without = model_of({**V2, "set_davg_zero": True})
    assert not without.atomic_model.warnings()


def test_descriptors_with_types_of_their_own_take_no_second_embedding():
    dpa1 = {"type": "se_atten", "rcut": 4.0, "sel": 40}
    with pytest.raises(InputError, match="tebd_dim"):
        build_model(normalize_model({"type_map": ["O", "H"], **case(dpa1)}))


def test_no_engine_forgets_the_types(tmp_path):
    """The dictionary of se_e2_r is the usual one; the fitting has further inputs."""
    model = model_of({"type": "se_e2_r", **SEL})
    backend = open_backend("numpy")
    file = tmp_path / "model.dp"
    backend.deserialize_hook(file, model_file_dict(model, {}, None, backend.name))
    coord, cell, atype = small_system(2, 4.0, n=6)
    np.testing.assert_allclose(
        DeepPot(file).eval(coord[None], cell, atype)[0], energy(model), rtol=1e-13
    )
