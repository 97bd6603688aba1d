# SPDX-License-Identifier: LGPL-3.0-or-later
"""A descriptor in one file of another package takes part in everything, without a change elsewhere."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from train.helpers import Workspace

from deepmd.backend.backend import Backend
from deepmd.base import plugin
from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel.descriptor import Descriptor
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.type_map import change_type_map
from deepmd.infer import DeepPot
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.schema.registry import descriptor_args
from deepmd.schema.tree import load_components
from deepmd.testing import DescriptorTests

FILE = Path(__file__).with_name("shells.py")
SECTION = {"type": "shells", "reach": 3.5, "slots": 40}


@pytest.fixture(scope="module", autouse=True)
def _package(tmp_path_factory: pytest.TempPathFactory):
    """Install the file with an entry point, as pip does, and take it out again."""
    site = tmp_path_factory.mktemp("site")
    shutil.copy(FILE, site / "package_with_shells.py")
    info = site / "package_with_shells-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: package-with-shells\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[deepmd.dpmodel]\nshells = package_with_shells\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        patch.setattr(plugin, "_loaded", set())
        load_components()
        yield
    Descriptor.registry._by_name.pop("shells")
    descriptor_args._factories.pop("shells")
    sys.modules.pop("package_with_shells")


def model_of(names: list[str], **section):
    fitting = {"neuron": [4, 4], "seed": 1}
    return build_model(
        {"type_map": names, "descriptor": SECTION, "fitting_net": fitting, **section}
    )


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path)


class TestShells(DescriptorTests):
    descriptor = "shells"
    cases = {"plain": {"reach": 4.0, "slots": 30}}
    backends = ("numpy", "torch")


def test_types_change():
    """Dropped, renumbered and added types; those that stay are predicted as before."""
    model = model_of(["A", "B", "C"])
    rng = np.random.default_rng(0)
    descriptor = model.atomic_model.descriptor
    descriptor.coefficients[:] = rng.uniform(0.5, 1.5, (3, 1))
    descriptor.mean[:] = rng.normal(size=(3, 1))
    other = change_type_map(model, ["C", "D", "A"])
    coord, names = rng.uniform(0, 3, (5, 3)), ["A", "C", "A", "A", "C"]
    given, changed = (
        DeepPot.from_evaluator(NumPyEvaluator(m)).eval(
            coord, None, [m.get_type_map().index(n) for n in names]
        )
        for m in (model, other)
    )
    for a, b in zip(given, changed, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
    assert other.atomic_model.descriptor.coefficients[1] == 0.0


def test_warnings():
    assert "distances only" in model_of(["A", "B"]).warnings()[0]


def test_spins_are_refused():
    """Without a protection from atoms at one place forces would be NaN."""
    spin = {"use_spin": [True, False], "virtual_scale": [0.3]}
    with pytest.raises(NotAvailableError, match="shells is not built for models with spins"):
        model_of(["A", "B"], spin=spin)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_training(work: Workspace, name: str):
    """The number of slots follows from the data, statistics too; a file gives what was trained."""
    config = work.config(numb_steps=1, save_freq=1, stat_file="stat")
    config["model"]["descriptor"] = {"type": "shells", "reach": 3.5}
    if name == "torch":
        pytest.importorskip("torch")
    backend = Backend.get_backend("dpmodel" if name == "numpy" else "pytorch")()
    trainer = work.prepare(config, backend=backend)
    start = trainer.stepper.model("Default")
    descriptor = start.atomic_model.descriptor
    assert descriptor.slots % 4 == 0
    assert (descriptor.mean != 0).all()
    assert (descriptor.deviation != 1).all()
    assert len(list(Path("stat").rglob("shells_*"))) == 2
    trainer.run()
    trained = trainer.stepper.model("Default")
    assert (trained.atomic_model.descriptor.coefficients != 1).all()
    (file,) = (p for p in Path().glob("model.ckpt-1.*") if p.suffix in (".dp", ".pt"))
    coord, atype = np.random.default_rng(1).uniform(0, 4, (6, 3)), [0, 1, 0, 1, 1, 0]
    opened = DeepPot(file).eval(coord, None, atype)
    made = DeepPot.from_evaluator(NumPyEvaluator(trained)).eval(coord, None, atype)
    for a, b in zip(opened, made, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_a_member_of_a_sum_has_statistics_in_its_own_order(work: Workspace):
    """A sum of models passes the sample on; the same types have the same numbers."""
    config = work.config(numb_steps=0)
    parts = [
        {"type_map": names, "descriptor": SECTION, "fitting_net": {"neuron": [4], "seed": 1}}
        for names in (["A", "B"], ["B", "A"])
    ]
    whole = {"type": "linear_ener", "type_map": ["A", "B"], "models": parts, "weights": "sum"}
    config["model"] = whole
    model = work.prepare(config).stepper.model("Default")
    a, b = (member.descriptor for member in model.atomic_model.members())
    assert (a.mean != 0).all()
    np.testing.assert_allclose(a.mean, b.mean[::-1], rtol=1e-12)
    np.testing.assert_allclose(a.deviation, b.deviation[::-1], rtol=1e-10)
