# SPDX-License-Identifier: LGPL-3.0-or-later
"""Standard models inside of other programs' modules: names of the state, energies, TorchScript."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.base.errors import InputError  # noqa: E402
from deepmd.dpmodel.model import Model  # noqa: E402
from deepmd.infer import DeepPot  # noqa: E402
from deepmd.np.evaluator import NumPyEvaluator  # noqa: E402
from deepmd.pt.checkpoint.names import state_of  # noqa: E402
from deepmd.pt.model.model import get_standard_model  # noqa: E402
from tests.members import DESCRIPTORS, FITTINGS  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def section(**changes):
    return {
        "type_map": ["O", "H"],
        "descriptor": {"type": "dpa3", **DESCRIPTORS["dpa3"]},
        "fitting_net": {"neuron": [4, 4], "seed": 2},
        **changes,
    }


@pytest.fixture(scope="module")
def model():
    """A model with a bias."""
    made = get_standard_model(section())
    made.atomic_model.out_bias[:] = torch.tensor([[[2.0], [-1.0]]])
    return made


class Program(torch.nn.Module):
    """A program's module around the model, as TorchScript compiles it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, coord: torch.Tensor, atype: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
        result = torch.zeros_like(coord[..., :1])
        if self.model.get_fitting_net() is not None:
            result = self.model.forward_common(coord, atype, box, fparam=None)["energy"]
        return result


def frames():
    """Two frames, the second with an atom less, in a small cell."""
    rng = np.random.default_rng(5)
    coord = torch.tensor(rng.uniform(0.0, 4.0, (2, 5, 3)))
    atype = torch.tensor([[0, 1, 1, 0, 1], [1, 0, 1, 1, -1]])
    box = 4.5 * torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    return coord, atype, box


@pytest.mark.parametrize("periodic", [True, False])
def test_energies_and_derivatives(model, periodic):
    """Those of DeepPot, by the program's own differentiation; filling atoms have none."""
    potential = DeepPot.from_evaluator(NumPyEvaluator(Model.deserialize(model.serialize())))
    coord, atype, box = frames()
    coord.requires_grad_(True)
    found = model.forward_common(coord, atype, box if periodic else None)
    (gradient,) = torch.autograd.grad(found["energy_redu"].sum(), coord)
    for k, n in enumerate((5, 4)):
        x, types = coord[k, :n].detach().numpy(), atype[k, :n].numpy()
        cell = box[k].numpy() if periodic else None
        want = potential.eval(x, cell, types, atomic=True)
        for got, value in (
            (found["energy_redu"][k], want[0][0]),
            (-gradient[k, :n], want[1][0]),
            (found["energy"][k, :n], want[3][0]),
        ):
            np.testing.assert_allclose(got.detach().numpy(), value, rtol=0, atol=1e-11)
    assert found["energy"][1, 4] == 0.0
    np.testing.assert_array_equal(found["mask"][1].numpy(), [1, 1, 1, 1, 0])
    assert model.forward_common(coord.float(), atype)["energy"].dtype == torch.float32


@pytest.mark.parametrize("name", ["dpa3", "se_e2_a", "dpa2"])
def test_state_has_the_names_of_the_dialect(name):
    """A state is that of a checkpoint, and another model takes it over."""
    descriptor = {"type": name, **DESCRIPTORS[name]}
    one = get_standard_model(section(descriptor=descriptor))
    fitting = {"neuron": [4, 4], "seed": 7}
    other = get_standard_model(section(descriptor=descriptor, fitting_net=fitting))
    state, stored = one.state_dict(prefix="a."), state_of(one.serialize(), "a.")
    assert set(state) == {*stored, "a.min_nbor_dist"}
    for key, value in stored.items():
        assert torch.equal(state[key], value.to(state[key])), key
    state["a.min_nbor_dist"] = torch.tensor(0.9)
    holder = torch.nn.ModuleDict({"a": other})
    holder.load_state_dict(state)
    np.testing.assert_equal(other.serialize(), one.serialize())
    assert holder.state_dict()["a.min_nbor_dist"] == 0.9
    first = next(iter(stored))
    del state[first]
    with pytest.raises(RuntimeError, match=first):
        holder.load_state_dict(state)


def test_compiled_in_another_module(model):
    """The graph has the parameters of the moment, and the module stays as it was."""
    program, given = Program(model), frames()
    names = list(program.state_dict())
    before = torch.jit.script(program)
    np.testing.assert_allclose(before(*given).detach(), program(*given).detach(), atol=1e-12)
    with torch.no_grad():
        for array in model.parameters():
            array.mul_(1.5)
    after = torch.jit.script(program)
    want = program(*given).detach()
    np.testing.assert_allclose(after(*given).detach(), want, rtol=0, atol=1e-12)
    assert (before(*given) - want).abs().max() > 1e-3
    assert list(program.state_dict()) == names


def test_number_formats_are_those_of_the_section():
    """Arrays move to a device, and stay what they are."""
    descriptor = {"type": "dpa3", **DESCRIPTORS["dpa3"], "precision": "float32"}
    model = get_standard_model(section(descriptor=descriptor)).to(torch.float64)
    assert next(model.parameters()).dtype == torch.float32
    assert json.loads(model.get_model_def_script())["descriptor"] == descriptor


@pytest.mark.parametrize(
    ("fitting", "line"),
    [
        ({"type": "dipole", **FITTINGS["dipole"]}, "the model predicts no energy but dipole"),
        ({"neuron": [4], "numb_fparam": 1}, "the model needs fparam"),
    ],
)
def test_models_without_such_energies(fitting, line):
    descriptor = {"type": "se_e2_a", **DESCRIPTORS["se_e2_a"]}
    model = get_standard_model(section(descriptor=descriptor, fitting_net=fitting))
    with pytest.raises(ValueError, match=line):
        model.forward_common(*frames())


def test_other_types_of_models_are_refused():
    with pytest.raises(InputError, match='type "linear" is not "standard"; use get_model'):
        get_standard_model({"type": "linear"})
