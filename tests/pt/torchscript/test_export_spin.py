# SPDX-License-Identifier: LGPL-3.0-or-later
"""TorchScript files of models with spins, and of models that know the charge of a frame."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from golden.cases import inputs, manifest, path  # noqa: E402

from deepmd.dpmodel.model import build_model  # noqa: E402
from deepmd.infer import DeepPot  # noqa: E402
from deepmd.pt.torchscript.export import write_pth  # noqa: E402
from deepmd.runtime.probes import model_file_dict  # noqa: E402
from tests.pt.models import section  # noqa: E402
from tests.pt.torchscript.test_export import close, extended, tensors  # noqa: E402

CASES = [c for c in manifest()["cases"] if c["kind"] == "spin" and not c.get("crowded")]


def small():
    """A small model with spins and atomic parameters, and its section."""
    described = section(sel=[40, 40], numb_aparam=2, type_one_side=True)
    described["spin"] = {"use_spin": ["O"], "virtual_scale": [0.3]}
    built = build_model(described)
    built.atomic_model.out_bias[:, :2] = [[1.0], [2.0]]
    return built, described


def passing_messages():
    described = {
        "type_map": ["O", "H"],
        "descriptor": {
            "type": "dpa3",
            "repflow": {"n_dim": 4, "e_dim": 3, "a_dim": 2, "nlayers": 2, "e_rcut": 4.0,
                        "e_rcut_smth": 1.0, "e_sel": 60, "a_rcut": 2.5, "a_rcut_smth": 1.0,
                        "a_sel": 30, "axis_neuron": 2},
            "seed": 1,
        },
        "fitting_net": {"neuron": [5, 5], "seed": 2},
        "spin": {"use_spin": ["O"], "virtual_scale": [0.3]},
    }  # fmt: skip
    return build_model(described), described


@pytest.fixture(scope="module", params=["local", "messages"])
def written(request, tmp_path_factory):
    """Model, file and loaded program."""
    file = tmp_path_factory.mktemp("spin") / "model.pth"
    built, described = small() if request.param == "local" else passing_messages()
    data = model_file_dict(built, described, 0.9, "PyTorch")
    write_pth(file, data)
    return built, file, torch.jit.load(str(file))


def frames(built, virtual=()):
    """Two frames of nine atoms: coordinates, cells, types, spins, atomic parameters."""
    rng = np.random.default_rng(0)
    atype = rng.integers(0, built.get_ntypes(), (2, 9))
    atype[1, list(virtual)] = -1
    cell = 5.5 * np.eye(3) + rng.normal(scale=0.3, size=(2, 3, 3))
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3)[:9] + 0.5
    coord = (grid + rng.uniform(-0.2, 0.2, (2, 9, 3))) / 3 @ cell
    aparam = rng.normal(size=(2, 9, built.get_dim_aparam())) if built.get_dim_aparam() else None
    return coord, cell, atype, rng.normal(size=(2, 9, 3)), aparam


def expected(built, coord, cell, atype, spin, aparam):
    """What NumPy says."""
    from deepmd.np.evaluator import NumPyEvaluator

    dp = DeepPot.from_evaluator(NumPyEvaluator(built))
    out = dp.eval(coord, cell, atype, atomic=True, mixed_type=True, spin=spin, aparam=aparam)
    names = ("energy", "force", "virial", "atom_energy", "atom_virial", "force_mag", "mask_mag")
    return dict(zip(names, out, strict=True))


@pytest.mark.parametrize("virtual", [(), (0, 5)])
@pytest.mark.parametrize("periodic", [True, False])
def test_forward(written, virtual, periodic):
    built, _, program = written
    coord, cell, atype, spin, aparam = frames(built, virtual)
    want = expected(built, coord, cell if periodic else None, atype, spin, aparam)
    flat = cell.reshape(2, 9) if periodic else None
    given = tensors(coord.reshape(2, -1), atype, spin, flat, None, aparam)
    found = program(*given, do_atomic_virial=True)
    assert set(found) == {*want, "mask"}
    for key, value in want.items():
        close(found[key], value, 1e-10)
    assert found["mask_mag"].dtype is torch.bool
    assert "atom_virial" not in program(*given)


@pytest.mark.parametrize("virtual", [(), (0, 5)])
@pytest.mark.parametrize("periodic", [True, False])
def test_forward_lower(written, virtual, periodic):
    built, _, program = written
    coord, cell, atype, spin, aparam = frames(built, virtual)
    want = expected(built, coord, cell if periodic else None, atype, spin, aparam)
    # The longest displacement of both ends of a pair lies between the list and the cutoff.
    reach = built.get_rcut() + 2 * 0.5 * np.abs(spin).max() * 3
    ext, ext_type, owner, nlist = extended(coord, cell if periodic else None, atype, reach)
    ext_spin = np.stack([spin[f][owner[f]] for f in range(2)])
    found = program.forward_lower(
        *tensors(ext, ext_type, ext_spin, nlist, owner, None, aparam), do_atomic_virial=True
    )
    for key in ("energy", "virial", "atom_energy"):
        close(found[key], want[key], 1e-10)
    pairs = [("force", "force"), ("force_mag", "force_mag"), ("virial", "atom_virial")]
    for name, key in pairs:
        folded = np.zeros_like(want[key])
        for f in range(2):
            np.add.at(folded[f], owner[f], found[f"extended_{name}"][f].numpy())
        close(folded, want[key], 1e-10)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            c, id=c["name"], marks=[] if c["name"] == "spin_dpa1" else pytest.mark.exhaustive
        )
        for c in CASES
    ],
)
def test_numbers_of_deepmd_kit(case, reference, converted):
    program = torch.jit.load(str(converted(path(case, "dp"), ".pth")))
    with np.load(reference / case["npz"]) as stored:
        for name, info in case["sets"].items():
            given, nf, na = inputs(case, name), info["nframes"], info["natoms"]
            atype = np.array(np.broadcast_to(given["atom_types"], (nf, na)))
            box = None if given["cells"] is None else given["cells"].reshape(nf, 9)
            arguments = tensors(given["coords"], atype, given["spin"], box)
            found = program(*arguments, do_atomic_virial=True)
            for key in set(info["outputs"]) - set(info["not_unique"]):
                got = np.asarray(found[key], dtype=np.float64)
                close(got, stored[f"{name}/out/{key}"].reshape(got.shape), 1e-10)


def test_the_evaluator_and_queries(written):
    built, file, program = written
    coord, cell, atype, spin, aparam = frames(built)
    want = expected(built, coord, cell, atype, spin, aparam)
    dp = DeepPot(file)
    got = dp.eval(coord, cell, atype, mixed_type=True, spin=spin, aparam=aparam)
    for value, name in zip(got, ("energy", "force", "virial", "force_mag"), strict=False):
        close(value, want[name], 1e-10)
    assert dp.has_spin and program.has_spin()
    assert program.get_use_spin() == built.get_use_spin()
    assert program.get_type_map() == built.get_type_map()
    assert program.get_ntypes() == built.get_ntypes()


def test_charge_and_multiplicity(tmp_path):
    _, described = passing_messages()
    del described["spin"]
    described["descriptor"] |= {"add_chg_spin_ebd": True, "default_chg_spin": [1, 2]}
    # A number that float32 does not have.
    described["fitting_net"] |= {"numb_fparam": 1, "default_fparam": [0.3]}
    built = build_model(described)
    write_pth(tmp_path / "model.pth", model_file_dict(built, described, 0.9, "PyTorch"))
    program = torch.jit.load(str(tmp_path / "model.pth"))
    assert program.get_dim_chg_spin() == 2
    assert program.has_chg_spin_ebd() and program.has_default_chg_spin()
    assert program.get_default_chg_spin() == [1.0, 2.0]
    coord, cell, atype, _, _ = frames(built)
    dp = DeepPot(tmp_path / "model.pth")
    given = tensors(coord, atype, cell.reshape(2, 9))
    for numbers in (None, [[-1.0, 1.0], [0.0, 3.0]]):
        from deepmd.np.evaluator import NumPyEvaluator

        plain = DeepPot.from_evaluator(NumPyEvaluator(built))
        want = plain.eval(coord, cell, atype, mixed_type=True, charge_spin=numbers)
        got = dp.eval(coord, cell, atype, mixed_type=True, charge_spin=numbers)
        chosen = None if numbers is None else torch.tensor(numbers)
        found = program(*given, charge_spin=chosen)
        for k, name in enumerate(("energy", "force", "virial")):
            close(got[k], want[k], 1e-10)
            close(found[name], want[k], 1e-10)
    assert np.ptp(want[0] - plain.eval(coord, cell, atype, mixed_type=True)[0]) > 1e-6
