# SPDX-License-Identifier: LGPL-3.0-or-later
"""Batch sizes, probabilities, reproducible draws and their restart."""

import numpy as np
import pytest

from deepmd.base.errors import DataError, InputError
from deepmd.data.sampler import Sampler, batch_sizes

NFRAMES = [10, 7, 3]
NATOMS = [6, 40, 3]


def draws(sampler: Sampler, n: int) -> list[tuple[int, list[int]]]:
    return [(s, frames.tolist()) for s, frames in (sampler.draw() for _ in range(n))]


@pytest.mark.parametrize(
    ("rule", "sizes"),
    [
        (4, [4, 4, 4]),
        ([1, 2, 3], [1, 2, 3]),
        ("auto", [6, 1, 11]),
        ("auto:12", [2, 1, 4]),
        ("auto:13", [3, 1, 5]),
        ("max:13", [2, 1, 4]),
        ("filter:13", [2, 0, 4]),
        ("mixed:4", [4, 4, 4]),
        ("mix:13", [2, 1, 4]),
    ],
)
def test_batch_sizes(rule, sizes) -> None:
    assert batch_sizes(rule, NATOMS) == sizes


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (0, "at least 1"),
        ([1, 2], "2 numbers for 3 systems"),
        ("auto:x", "is not a rule"),
        ("max", "is not a rule"),
        ("max:0", "is not a rule"),
        ("automatic", "is not a rule"),
        ("filter:2", "drops every system"),
        ("mixed:0", "is not a rule"),
    ],
)
def test_wrong_batch_size(rule, said) -> None:
    with pytest.raises(InputError, match=said) as caught:
        Sampler(NFRAMES, NATOMS, batch_size=rule)
    assert str(caught.value).startswith("batch_size: ")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"auto_prob": "prob_uniform"}, [1 / 3, 1 / 3, 1 / 3]),
        ({"auto_prob": "prob_sys_size"}, [5 / 9, 3 / 9, 1 / 9]),
        ({"auto_prob": "prob_sys_size;0:2:0.3;2:3:0.7"}, [0.3 * 5 / 8, 0.3 * 3 / 8, 0.7]),
        ({"auto_prob": "prob_sys_size; 0:1:3 ; 1:2:1"}, [0.75, 0.25, 0.0]),
        ({"sys_probs": [0.5, 0.2, 0.3]}, [0.5, 0.2, 0.3]),
        ({"sys_probs": [-1, 0.4, -1]}, [0.6 * 5 / 6, 0.4, 0.6 * 1 / 6]),
        ({"sys_probs": [1, 0, 0]}, [1, 0, 0]),
        ({"batch_size": "filter:12", "auto_prob": "prob_uniform"}, [0.5, 0, 0.5]),
        ({"batch_size": "filter:12"}, [5 / 6, 0, 1 / 6]),
    ],
)
def test_probabilities(options, expected) -> None:
    sampler = Sampler(NFRAMES, NATOMS, **{"batch_size": 2, **options})
    np.testing.assert_allclose(sampler.probabilities, expected, rtol=0, atol=1e-15)
    drawn = {s for s, _ in draws(sampler, 200)}
    assert drawn == {k for k, p in enumerate(expected) if p > 0}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"auto_prob": "prob_size"}, "is not a rule"),
        ({"auto_prob": "prob_uniform;0:1:1"}, "is not a rule"),
        ({"auto_prob": "prob_sys_size;0:1"}, "is not first:end:weight"),
        ({"auto_prob": "prob_sys_size;0:4:1"}, "does not fit 3 systems"),
        ({"auto_prob": "prob_sys_size;0:2:1;1:3:1"}, "overlaps"),
        ({"auto_prob": "prob_sys_size;0:2:0"}, "probability 0"),
        ({"sys_probs": [0.5, 0.5]}, "2 numbers for 3 systems"),
        ({"sys_probs": [0.5, 0.2, 0.2]}, "sum to 0.9"),
        ({"sys_probs": [0.9, 0.2, -1]}, "sum to 1.1"),
        ({"sys_probs": [np.nan, 0.2, -1]}, "NaN"),
    ],
)
def test_wrong_probabilities(options, said) -> None:
    with pytest.raises(InputError, match=said):
        Sampler(NFRAMES, NATOMS, batch_size=2, **options)


def test_frequencies_follow_probabilities() -> None:
    sampler = Sampler(NFRAMES, NATOMS, batch_size=1, sys_probs=[0.6, 0.3, 0.1], seed=3)
    hits = np.bincount([s for s, _ in draws(sampler, 4000)], minlength=3) / 4000
    np.testing.assert_allclose(hits, [0.6, 0.3, 0.1], atol=0.03)


def test_same_seed_same_stream() -> None:
    a, b, c = (Sampler(NFRAMES, NATOMS, batch_size=2, seed=s) for s in (5, 5, 6))
    first = draws(a, 50)
    assert first == draws(b, 50)
    assert first != draws(c, 50)


def test_no_repetition_within_a_pass() -> None:
    sampler = Sampler([10], [3], batch_size=3)
    passes = [np.concatenate([sampler.draw()[1] for _ in range(3)]) for _ in range(40)]
    assert all(len(set(p.tolist())) == 9 for p in passes)
    assert len({tuple(p) for p in passes}) == 40
    # The frame that is left out changes, so none is lost.
    assert {f for p in passes for f in p.tolist()} == set(range(10))


def test_small_system_is_taken_whole() -> None:
    sampler = Sampler([3], [3], batch_size=8)
    assert sampler.nbatches == [1]
    assert all(sorted(f) == [0, 1, 2] for _, f in draws(sampler, 5))


@pytest.mark.parametrize("consumed", [0, 1, 17, 100])
def test_restart_continues_the_exact_stream(consumed: int) -> None:
    options = {"batch_size": [3, 2, 2], "seed": 11}
    one = Sampler(NFRAMES, NATOMS, **options)
    draws(one, consumed)
    state = one.state()
    rest = draws(one, 60)
    other = Sampler(NFRAMES, NATOMS, **{**options, "seed": 99})
    draws(other, 5)
    other.load_state(state)
    assert draws(other, 60) == rest
    assert all(isinstance(v, np.ndarray) for v in state.values())


def test_state_is_not_changed_by_later_draws() -> None:
    sampler = Sampler(NFRAMES, NATOMS, batch_size=2)
    draws(sampler, 3)
    state = sampler.state()
    copy = {k: v.copy() for k, v in state.items()}
    draws(sampler, 30)
    assert all((state[k] == copy[k]).all() for k in copy)


def test_state_of_other_data_is_refused() -> None:
    state = Sampler(NFRAMES, NATOMS).state()
    with pytest.raises(DataError, match=r"21 frames.* 3 systems and 20 frames"):
        Sampler([11, 7, 3], NATOMS).load_state(state)


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_one_shuffle(world: int) -> None:
    rule = {"sys_probs": [0.4, 0.6]}
    ranks = [
        Sampler([24, 30], [3, 4], batch_size=2, rank=r, world=world, **rule) for r in range(world)
    ]
    single = Sampler([24, 30], [3, 4], batch_size=2 * world, **rule)
    for _ in range(60):
        system, frames = single.draw()
        parts = [r.draw() for r in ranks]
        assert {s for s, _ in parts} == {system}
        np.testing.assert_array_equal(np.concatenate([f for _, f in parts]), frames)
    states = [r.state() for r in ranks]
    assert all((s[k] == states[0][k]).all() for s in states for k in s)


def test_ranks_on_a_system_too_small_for_all() -> None:
    for frames in (5, 3):
        ranks = [Sampler([frames], [3], batch_size=2, rank=r, world=4) for r in range(4)]
        one = Sampler([frames], [3], batch_size=8)
        for _ in range(10):
            parts = [r.draw()[1].tolist() for r in ranks]
            assert {len(p) for p in parts} == ({1, 2} if frames == 5 else {0, 1})
            assert [f for p in parts for f in p] == one.draw()[1].tolist()


@pytest.mark.parametrize("rule", [1, [2, 3], "auto:9", "max:9", "mixed:3"])
@pytest.mark.parametrize("style", ["prob_sys_size", "prob_uniform"])
def test_ranks_together_are_one_with_a_larger_batch(rule: int | list | str, style: str) -> None:
    twice = {1: 2, "[2, 3]": [4, 6], "auto:9": [6, 6], "max:9": [6, 4], "mixed:3": "mixed:6"}
    ranks = [
        Sampler([24, 30], [3, 4], batch_size=rule, auto_prob=style, rank=r, world=2)
        for r in range(2)
    ]
    larger = twice[rule if isinstance(rule, int | str) else str(rule)]
    one = Sampler([24, 30], [3, 4], batch_size=larger, auto_prob=style)
    assert ranks[0].nbatches == one.nbatches
    assert ranks[0].batch_sizes == one.batch_sizes
    assert ranks[0].steps_per_epoch() == one.steps_per_epoch()
    for _ in range(20):
        frames: dict[int, list[int]] = {}
        for rank in ranks:
            for system, some in rank.parts():
                frames.setdefault(system, []).extend(some.tolist())
        assert {s: f.tolist() for s, f in one.parts()} == frames


def test_selection_for_statistics() -> None:
    sampler = Sampler([100, 3], [4, 4], batch_size=2)
    first = sampler.selection(0, 20).tolist()
    draws(sampler, 9)
    assert sampler.selection(0, 20).tolist() == first
    assert len(set(first)) == 20
    assert max(first) > 20
    assert sampler.selection(1, 20).tolist() == [0, 1, 2]


def test_steps_per_epoch() -> None:
    assert Sampler(NFRAMES, NATOMS, batch_size=2).steps_per_epoch() == 9
    assert Sampler(NFRAMES, NATOMS, batch_size=2, sys_probs=[0.5, 0.5, 0]).steps_per_epoch() == 10


def test_mixed_batches_have_frames_of_several_systems() -> None:
    sampler = Sampler([40, 30, 30], [6, 40, 3], batch_size="mixed:5")
    batches = [sampler.parts() for _ in range(20)]
    assert all(sum(len(f) for _, f in parts) == 5 for parts in batches)
    assert all(len({s for s, _ in parts}) == len(parts) for parts in batches)
    assert {len(parts) for parts in batches} > {2}
    # A frame of any system comes with the same probability, and none twice in a pass.
    np.testing.assert_allclose(sampler.probabilities, [0.4, 0.3, 0.3])
    first = [f for parts in batches[:4] for s, fs in parts if s == 0 for f in fs.tolist()]
    assert len(set(first)) == len(first)
    assert sampler.steps_per_epoch() == 20


def test_mixed_batches_of_about_as_many_atoms() -> None:
    sampler = Sampler([40, 30, 30], [6, 40, 3], batch_size="mix:50")
    for _ in range(30):
        parts = sampler.parts()
        sizes = [[6, 40, 3][s] for s, f in parts for _ in f]
        assert 50 <= sum(sizes) < 50 + 40


@pytest.mark.parametrize("rule", ["mixed:3", "mix:30"])
def test_ranks_and_restarts_of_mixed_batches(rule: str) -> None:
    def listed(sampler: Sampler) -> list:
        return [(s, f.tolist()) for s, f in sampler.parts()]

    options = {"batch_size": rule, "seed": 4}
    one = Sampler(NFRAMES, NATOMS, **options)
    ranks = [Sampler(NFRAMES, NATOMS, rank=r, world=2, **options) for r in range(2)]
    for _ in range(5):
        assert [listed(one), listed(one)] == [listed(r) for r in ranks]
    other = Sampler(NFRAMES, NATOMS, batch_size=rule, seed=9)
    other.load_state(one.state())
    assert listed(other) == listed(one)


def test_blocks_count_the_systems_of_the_input() -> None:
    style, numbers = "prob_sys_size;0:2:0.4;2:3:0.6", [(0, 1), (0, 1), (2, 2)]
    sampler = Sampler([4, 12, 5], [3, 6, 6], batch_size=1, auto_prob=style, numbers=numbers)
    np.testing.assert_allclose(sampler.probabilities, [0.1, 0.3, 0.6])


def test_a_system_without_frames_is_never_drawn() -> None:
    sampler = Sampler([0, 5], [3, 3], batch_size=2)
    assert sampler.probabilities.tolist() == [0, 1]
    assert sampler.selection(0, 10).tolist() == []
