# SPDX-License-Identifier: LGPL-3.0-or-later
"""The descriptor loc_frame: a dense form of its definition, the common tests, its jumps."""

import itertools

import numpy as np
import pytest

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.type_map import change_type_map
from deepmd.infer import DeepPot
from deepmd.testing import DescriptorTests
from deepmd.testing.backends import evaluator
from deepmd.testing.systems import randomize, small_system

BASE = {"rcut": 4.0, "sel_a": [6, 9], "sel_r": [4, 6], "axis_rule": [0, 1, 0, 0, 1, 1] * 2}
CASES = {
    "plain": BASE,
    # The first axis from the far list, the second to any type but the center's own.
    "far_and_any": {**BASE, "axis_rule": [1, 0, 1, 0, -1, 2, 0, 0, 0, 0, -2, 0]},
    "no_directions": {**BASE, "sel_a": [0, 2], "sel_r": [9, 0]},
    "short": {**BASE, "sel_a": [1, 2], "sel_r": [1, 0]},
}


class TestLocFrame(DescriptorTests):
    descriptor = "loc_frame"
    backends = ("numpy", "torch", "tensorflow")
    cases = CASES

    @pytest.fixture
    def system(self, model):
        """Atoms none of which are about to change places, or to cross the cutoff."""
        return small_system(2, 4.0, n=5, seed=3)

    def test_smooth_at_the_cutoff(self, potential):
        """It is not, and this is said in its documentation."""
        rcut = potential.get_rcut()
        coord = np.array([[[0, 0, 0], [0.6, 0.1, 0], [0, 0, r]] for r in (0.5, 0.99, 1.01)]) * rcut
        energy = potential.eval(coord, None, [0, 1, 1])[0]
        assert abs(energy[2] - energy[1]) > 1e-4

    def test_two_atoms(self, potential):
        """Forces of a dimer are opposite and along the bond, where it is a neighbor at all."""
        d = np.array([0.3, -0.4, 0.5]) * 2.0
        force = potential.eval([[0, 0, 0], d], None, [0, 1])[1][0]
        np.testing.assert_allclose(force[0], -force[1], atol=1e-12)
        np.testing.assert_allclose(np.cross(force[0], d), 0.0, atol=1e-12)


def dense(section, coord, cell, atype):
    """The definition, atom by atom, before it is normalized."""
    rcut, sel_a, sel_r = section["rcut"], section["sel_a"], section["sel_r"]
    images = [np.zeros(3)]
    if cell is not None:
        images = [np.array(n) @ cell for n in itertools.product((-1, 0, 1), repeat=3)]
    rows = []
    for i, center in enumerate(coord):
        found = [
            (np.linalg.norm(v), atype[j], v)
            for j in range(len(coord))
            for v in (coord[j] + s - center for s in images)
            if 0 < np.linalg.norm(v) <= rcut
        ]
        found = sorted(found, key=lambda x: x[0])[: sum(sel_a) + sum(sel_r)]
        per_type = [[x for x in found if x[1] == t] for t in range(len(sel_a))]
        near = [x[:n] for x, n in zip(per_type, sel_a, strict=True)]
        far = [x[a : a + r] for x, a, r in zip(per_type, sel_a, sel_r, strict=True)]

        def pick(kind, t, place, near=near, far=far, per_type=per_type):
            if t >= 0:
                some = (per_type[t] if kind == 0 else far[t])[place:]
            else:
                others = [x[:3] for k, x in enumerate((near, far)[kind]) if k != -t - 1]
                some = sorted(itertools.chain(*others), key=lambda x: x[0])[place:]
            return [x[2] for x in some]

        rule = section["axis_rule"][6 * atype[i] : 6 * atype[i] + 6]
        e1 = e2 = np.zeros(3)
        first = pick(*rule[:3])
        if first:
            e1 = first[0] / np.linalg.norm(first[0])
            second = pick(*rule[3:])
            if second and abs(second[0] @ e1 / np.linalg.norm(second[0]) + 1) < 1e-4:
                second = second[1:]
            if second:
                e2 = second[0] - (second[0] @ e1) * e1
                size = np.linalg.norm(e2)
                e2 = e2 / size if size > 1e-10 else np.zeros(3)
        frame = np.array([np.cross(e1, e2), e1, e2])
        row = []
        for some, n in zip(near, sel_a, strict=True):
            some = [np.r_[1 / r, frame @ v / r**2] for r, _, v in some]
            row += [*some, *[np.zeros(4)] * (n - len(some))]
        for some, n in zip(far, sel_r, strict=True):
            row += [np.r_[[1 / r for r, _, _ in some], np.zeros(n - len(some))]]
        rows.append(np.concatenate(row))
    return np.array(rows)


def section_of(case):
    return {
        "type_map": ["O", "H"],
        "descriptor": {"type": "loc_frame", **case},
        "fitting_net": {"neuron": [6, 6], "seed": 2},
    }


@pytest.mark.parametrize("backend", ["numpy", "torch", pytest.param("jax", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES)
def test_definition(case, backend):
    model = randomize(build_model(section_of(CASES[case])))
    part = model.atomic_model.descriptor
    rng = np.random.default_rng(0)
    part.davg = rng.normal(size=part.davg.shape)
    part.dstd = rng.uniform(0.5, 1.5, part.dstd.shape)
    potential = DeepPot.from_evaluator(evaluator(backend, model))
    coord, cell, atype = small_system(2, 4.0, n=9)
    for box in (cell, None):
        got = potential.eval_descriptor(coord, box, atype)[0]
        want = (dense(CASES[case], coord, box, atype) - part.davg[atype]) / part.dstd[atype]
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-13)


def test_axes_on_one_line():
    """Opposite to the first axis the next neighbor is taken; along it there is no frame."""
    case = {**BASE, "axis_rule": [0, 1, 0, 0, 1, 1] * 2}
    part = build_model(section_of(case))
    potential = DeepPot.from_evaluator(evaluator("numpy", part))
    for second in ([-1.2, 0, 0], [1.2, 0, 0]):
        coord = np.array([[0, 0, 0], [1, 0, 0], second, [0, 1.5, 0.3]])
        atype = np.array([0, 1, 1, 1])
        got = potential.eval_descriptor(coord, None, atype)[0]
        np.testing.assert_allclose(got, dense(case, coord, None, atype), rtol=0, atol=1e-13)
        assert np.isfinite(potential.eval(coord, None, atype)[1]).all()


@pytest.mark.parametrize("names", [["H", "O"], ["H"], ["O"]])
@pytest.mark.parametrize("case", ["far_and_any", "no_directions", "hybrid"])
def test_types_in_another_order(case, names):
    """The components change places, and the fitting takes them from there."""
    section = section_of(CASES.get(case, CASES["far_and_any"]))
    if case == "hybrid":
        pairs = {"type": "se_e2_r", "rcut": 4.0, "sel": [30, 30], "neuron": [4]}
        section["descriptor"] = {"type": "hybrid", "list": [pairs, section["descriptor"]]}
    model = randomize(build_model(section))
    rng = np.random.default_rng(0)
    for part in model.atomic_model.descriptor.statistics_parts():
        part.davg = rng.normal(size=part.davg.shape)
        part.dstd = rng.uniform(0.5, 1.5, part.dstd.shape)
    coord, cell, atype = small_system(2, 4.0, n=9)
    if len(names) == 1:
        atype = np.full_like(atype, ["O", "H"].index(names[0]))
    changed = change_type_map(model, names)
    for again in (changed, change_type_map(changed, names[::-1])):
        numbers = np.array([again.get_type_map().index(["O", "H"][t]) for t in atype])
        old, new = (DeepPot.from_evaluator(evaluator("numpy", m)) for m in (model, again))
        for want, got in zip(
            old.eval(coord, cell, atype), new.eval(coord, cell, numbers), strict=True
        ):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-11)


def test_types_that_cannot_be_changed():
    with pytest.raises(InputError, match="none for C"):
        change_type_map(build_model(section_of(BASE)), ["O", "H", "C"])
    section = section_of(BASE)
    section["fitting_net"]["neuron"] = [4 * 15 + 10]
    with pytest.raises(NotAvailableError, match="adds its input"):
        change_type_map(build_model(section), ["H", "O"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"axis_rule": [0, 1, 0]},
        {"sel_r": [4]},
        {"axis_rule": [0, 1, 9, 0, 1, 1] * 2},
        {"axis_rule": [2, 1, 0, 0, 1, 1] * 2},
        {"axis_rule": [0, -3, 0, 0, 1, 1] * 2},
    ],
)
def test_wrong_rules_are_refused(wrong):
    with pytest.raises(InputError, match="axis"):
        build_model(section_of({**BASE, **wrong}))
