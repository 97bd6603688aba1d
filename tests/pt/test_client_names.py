# SPDX-License-Identifier: LGPL-3.0-or-later
"""Helpers of DeePMD-kit's PyTorch backend that clients import; numbers are those of 3.2.0."""

import pytest

torch = pytest.importorskip("torch")

from deepmd.data.path import DPPath  # noqa: E402
from deepmd.pt.utils.stat import compute_output_stats  # noqa: E402

NTYPES = 3


def system(energies, types):
    n = len(energies)
    counts = [types.count(t) for t in range(NTYPES)]
    return {
        "atype": torch.tensor([types] * n),
        "natoms": torch.tensor([[len(types)] * 2 + counts] * n),
        "coord": torch.zeros(n, len(types), 3),
        "energy": torch.tensor(energies, dtype=torch.float64)[:, None],
        "find_energy": 1.0,
    }


def systems():
    return [system([-1.5, 0.25, 2.0], [0, 0, 1]), system([0.5, -3.25], [0, 1, 1, 1])]


def one_more(coord, atype, *_):
    return {"energy": (atype + 1.0)[..., None].double()}


STD = 1.6221128197508334
FITS = {
    "plain": ({}, [0.425, -0.6, 0.0], [STD] * 3),
    "preset": (
        {"preset_bias": {"energy": [None, [2.0], None]}},
        [-1.8035714285714286, 2.0, 0.0],
        [3.9843859793766296] * 3,
    ),
    "common": ({"stats_distinguish_types": False}, [-0.0875] * 3, [0.5174724898753341] * 3),
    "intensive": ({"intensive": True}, [1.55, -2.35, 0.0], [STD] * 3),
    "rest": ({"model_forward": one_more}, [-0.575, -2.6, 0.0], [STD] * 3),
}


@pytest.mark.parametrize("name", FITS)
def test_output_statistics(name):
    options, bias, std = FITS[name]
    got = compute_output_stats(systems, NTYPES, ["energy"], **options)
    for found, expected in zip(got, (bias, std), strict=True):
        assert found["energy"].shape == (NTYPES, 1)
        assert found["energy"].reshape(-1).tolist() == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_output_statistics_of_excluded_types_and_atoms(tmp_path):
    first, second = systems()
    first["atom_exclude_types"] = [1]
    bias, _ = compute_output_stats([first, second], NTYPES, "energy")
    assert bias["energy"].reshape(-1).tolist() == pytest.approx([0.125, -0.5, 0.0], abs=1e-14)
    del first["atom_exclude_types"]
    first["atom_energy"] = torch.tensor(
        [[[1.0], [2.0], [4.0]], [[0.5], [1.0], [-1.0]], [[0.0], [0.0], [3.0]]], dtype=torch.float64
    )
    first["find_atom_energy"] = 1.0
    both, folder = [first, system([1.0, 2.0], [0, 1, 2, 2])], DPPath(str(tmp_path), "a")
    bias, std = compute_output_stats(both, NTYPES, "energy", folder)
    assert bias["energy"].reshape(-1).tolist() == pytest.approx([0.75, 2.0, -0.625], rel=1e-12)
    expected = [0.6922186552431729, 2.160246899469287, 1.0]
    assert std["energy"].reshape(-1).tolist() == pytest.approx(expected, rel=1e-12)
    again, _ = compute_output_stats([], NTYPES, "energy", folder)  # from the cache
    assert torch.equal(again["energy"], bias["energy"])
    assert compute_output_stats([], NTYPES, "energy") == ({}, {})


def test_tester(tmp_path):
    from deepmd.dpmodel.model import build_model
    from deepmd.pt.checkpoint.checkpoint import write_checkpoint
    from deepmd.pt.infer.inference import Tester
    from deepmd.runtime.checkpoint import Checkpoint

    descriptor = {"type": "se_e2_a", "sel": [4], "rcut": 3.0, "neuron": [2], "axis_neuron": 1}
    section = {"type_map": ["H"], "descriptor": descriptor, "fitting_net": {"neuron": [2]}}
    params = {"model_dict": {"a": section, "b": section}}
    models = {name: build_model(section) for name in "ab"}
    write_checkpoint(tmp_path / "c.pt", Checkpoint(models, params))
    tester = Tester(tmp_path / "c.pt", head="b")
    assert tester.multi_task
    assert tester.model_params["type_map"] == ["H"]
    assert isinstance(tester.model, torch.nn.Module)
    assert Tester(tester.model).model is tester.model
