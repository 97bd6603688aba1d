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


DPA1 = {**SE_A, "type": "se_atten", "sel": 40, "attn_layer": 0}
DPA2 = {
    "type": "dpa2",
    "repinit": {"rcut": 4.0, "rcut_smth": 0.5, "nsel": 40, "neuron": [4, 8], "axis_neuron": 3},
    "repformer": {
        "rcut": 3.0,
        "rcut_smth": 0.5,
        "nsel": 20,
        "nlayers": 1,
        "g1_dim": 6,
        "g2_dim": 4,
    },
}
DPA3 = {
    "type": "dpa3",
    "repflow": {
        **{"n_dim": 3, "e_dim": 4, "a_dim": 4, "nlayers": 1, "axis_neuron": 2},
        **{
            "e_rcut": 4.0,
            "e_rcut_smth": 0.5,
            "e_sel": 40,
            "a_rcut": 3.0,
            "a_rcut_smth": 0.5,
            "a_sel": 20,
        },
    },
}
EMBEDDED = {
    "dpa1": DPA1,
    "strip": {**DPA1, "type": "se_atten_v2"},
    "se_e3_tebd": {**{k: v for k, v in SEL.items() if k != "sel"}, "type": "se_e3_tebd", "sel": 40},
    "dpa2": DPA2,
    "dpa3": DPA3,
}


@pytest.mark.parametrize("name", EMBEDDED)
def test_descriptors_that_embed_types_take_over_the_network(name):
    """Two layers, with the activation of the section, in the place of one linear layer."""
    given = {"neuron": [5, 3], "use_tebd_bias": True, "resnet_dt": True}
    model = model_of(EMBEDDED[name], **given)
    assert model.atomic_model.type_embedding is None
    network = model.atomic_model.descriptor.type_embedding
    assert network.neuron == [5, 3] and network.activation_function == "tanh" and network.padding
    x = np.eye(2)
    for layer in network.embedding.layers:
        x = np.tanh(x @ layer.w + layer.b)
    np.testing.assert_allclose(network()[:2], x, rtol=1e-14)
    again = type(model).deserialize(model.serialize())
    np.testing.assert_allclose(energy(again), energy(model), rtol=1e-14)
    swapped = change_type_map(model, ["H", "O"])
    own = small_system(2, 4.0, n=6)[2]
    np.testing.assert_allclose(energy(swapped, 1 - own), energy(model), rtol=1e-13)


def test_one_linear_layer_is_the_descriptors_own():
    section = {"type_map": ["O", "H"], **case(DPA1, activation_function="Linear")}
    own = {**section, "descriptor": {**section["descriptor"], "tebd_dim": 3}}
    del own["type_embedding"]
    with_section, without = (build_model(normalize_model(s)).serialize() for s in (section, own))
    fields = ("neuron", "activation_function", "precision", "padding", "trainable")
    first, second = (m["descriptor"]["type_embedding"] for m in (with_section, without))
    assert [first[k] for k in fields] == [second[k] for k in fields]
    assert with_section["descriptor"]["tebd_dim"] == 3


@pytest.mark.parametrize(
    ("descriptor", "message"),
    [
        ({**DPA1, "tebd_dim": 5}, "tebd_dim: 5 contradicts"),
        ({**DPA1, "use_econf_tebd": True}, "use_econf_tebd: True contradicts"),
        ({**DPA2, "repinit": {**DPA2["repinit"], "tebd_dim": 5}}, "repinit/tebd_dim"),
        ({**DPA3, "repflow": {**DPA3["repflow"], "n_dim": 6}}, "let it end with 6"),
        ({"type": "hybrid", "list": [DPA1, SE_A]}, "components of a hybrid"),
    ],
)
def test_contradictions_are_named(descriptor, message):
    parts = {"descriptor": descriptor, "fitting_net": FITTING, "type_embedding": TYPES}
    section = normalize_model({"type_map": ["O", "H"], **parts})
    with pytest.raises(InputError, match=message):
        build_model(section)


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
