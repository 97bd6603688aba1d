# SPDX-License-Identifier: LGPL-3.0-or-later
"""Batches with edges: cached or not, ahead or not, restarted or not, they are the same."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deepmd.base.errors import DataError
from deepmd.data.cache import EdgeCache, PackedEdges
from deepmd.data.dataset import Dataset, Prefetcher, count_observed
from deepmd.data.sampler import Sampler
from deepmd.data.search import open_systems
from deepmd.dpmodel.batch import Batch, Edges
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.train.statistics import Sample

LABELS = [
    Label("energy", 1, atomic=False, required=True),
    Label("force", 3, atomic=True, required=True),
]


def dataset(paths: list[str], *, cache_bytes: int = 1 << 30, seed: int = 1, **options) -> Dataset:
    systems = open_systems(paths, type_map=["A", "B"])
    sampler = Sampler(
        [s.nframes for s in systems],
        [s.natoms for s in systems],
        **{"batch_size": 2, "seed": seed, **options},
    )
    return Dataset(systems, sampler, LABELS, rcut=4.0, cache_bytes=cache_bytes)


def same(a: Batch, b: Batch) -> None:
    for name in ("coord", "cell", "periodic", "atype", "frame", "natoms"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in a.labels:
        np.testing.assert_array_equal(a.labels[name], b.labels[name])
    for name in ("i", "j", "shift"):
        x, y = getattr(a.edges, name), getattr(b.edges, name)
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.fixture
def paths(make: Callable) -> list[str]:
    a = make("a", sets=(4, 3))
    b = make("b", sets=(5,), types=(0, 1, 1), pbc=False, seed=1)
    c = make("c", sets=(3,), types=(0, 0, 0, 0), seed=2)
    types = np.array([[0, 1, 0, 1], [1, -1, 0, -1], [0, 0, 0, 0]])
    np.save(Path(c.path) / "set.000/real_atom_types.npy", types)
    d = make("d", sets=(4,), hdf5="d.h5", seed=3)
    return [a.path, b.path, c.path, d.path]


def test_edges_are_those_of_the_batch(paths: list[str]) -> None:
    data = dataset(paths)
    for _ in range(20):
        batch = data.next()
        want = batch_edges(batch, 4.0)
        assert len(want) > 0
        for name in ("i", "j", "shift"):
            np.testing.assert_array_equal(getattr(batch.edges, name), getattr(want, name))


@pytest.mark.parametrize("budget", [0, 4000, 1 << 30])
def test_cache_gives_identical_batches(paths: list[str], budget: int) -> None:
    plain, cached = dataset(paths, cache_bytes=0), dataset(paths, cache_bytes=budget)
    for _ in range(60):
        same(plain.next(), cached.next())
    assert cached.cache.used <= budget
    assert (len(cached.cache) == 0) == (budget == 0)
    if budget == 1 << 30:
        assert len(cached.cache) == 19
        assert not cached.cache.full
    else:
        assert cached.cache.full


def test_a_cached_frame_is_not_searched_again(paths, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(paths)
    first = data.load(0, [3, 1])

    def refuse(*_: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr("deepmd.data.dataset.find_edges", refuse)
    same(data.load(0, [3, 1]), first)
    with pytest.raises(AssertionError):
        data.load(0, [0])


def test_packing_is_lossless_and_small() -> None:
    rng = np.random.default_rng(0)
    i = np.sort(rng.integers(0, 190, 9000))
    j, shift = rng.integers(0, 192, 9000), rng.integers(-1, 2, (9000, 3)).astype(float)
    for scale in (0, 1, 500, 2.0**40):
        edges = Edges(i, j, shift * scale)
        packed = PackedEdges.pack(edges, 192)
        back = packed.unpack()
        for name in ("i", "j", "shift"):
            np.testing.assert_array_equal(getattr(edges, name), getattr(back, name))
        if scale == 1:
            assert packed.nbytes / 9000 < 6
    big = Edges(np.array([0]), np.array([70000]), np.zeros((1, 3)))
    assert PackedEdges.pack(big, 70001).unpack().j[0] == 70000


def test_cache_keeps_what_is_in() -> None:
    edges = Edges(np.zeros(100, np.int64), np.ones(100, np.int64), np.ones((100, 3)))
    cache = EdgeCache(3000)
    for k in range(10):
        cache.put(0, k, edges, 2)
    assert len(cache) == 2
    assert cache.get(0, 0) is not None
    assert cache.get(0, 9) is None


def test_restart_is_exact(paths: list[str]) -> None:
    one = dataset(paths)
    for _ in range(13):
        one.next()
    state = one.state()
    other = dataset(paths, seed=77)
    other.load_state(state)
    for _ in range(30):
        same(one.next(), other.next())


def test_batches_of_statistics(paths: list[str]) -> None:
    data = dataset(paths)
    first = list(Sample(data, 2).batches())
    for _ in range(7):
        data.next()
    again = list(Sample(data, 2).batches())
    bare = list(Sample(data, 2).without_edges())
    assert [b.n_frames for b in first] == [2, 2, 2, 2, 2, 1, 2, 2]
    for a, b, c in zip(first, again, bare, strict=True):
        same(a, b)
        assert c.edges is None
        np.testing.assert_array_equal(a.labels["energy"], c.labels["energy"])
    energies = np.concatenate([b.labels["energy"] for b in first[:2]])
    assert len(np.unique(energies)) == 4
    assert sum(b.n_frames for b in Sample(data, 1000).batches()) == 7 + 5 + 3 + 4


def test_dropped_systems_give_no_statistics(paths: list[str]) -> None:
    data = dataset(paths, batch_size="filter:4")
    assert len(list(Sample(data, 1).batches())) == 2


def test_prefetch_is_the_same_stream_and_state_means_consumed(paths: list[str]) -> None:
    plain = dataset(paths)
    want = [plain.next() for _ in range(25)]
    with Prefetcher(dataset(paths), depth=3) as ahead:
        for k in range(10):
            same(ahead.next(), want[k])
        time.sleep(0.05)  # the thread is ahead now
        state = ahead.state()
        for k in range(10, 20):
            same(ahead.next(), want[k])
    for k in range(20, 25):
        same(ahead.dataset.next(), want[k])
    fresh = dataset(paths, seed=5)
    fresh.load_state(state)
    same(fresh.next(), want[10])


def test_prefetch_hands_errors_on(paths: list[str]) -> None:
    data = dataset(paths[:1])
    force = np.load(Path(paths[0]) / "set.000/force.npy")
    force[:, 0] = np.nan
    np.save(Path(paths[0]) / "set.000/force.npy", force)
    with Prefetcher(data) as ahead:
        for _ in range(2):
            with pytest.raises(DataError, match="NaN"):
                [ahead.next() for _ in range(5)]


def test_missing_label_is_found_at_start(paths: list[str]) -> None:
    (Path(paths[1]) / "set.000/force.npy").unlink()
    with pytest.raises(DataError, match=r"force\.npy is missing"):
        dataset(paths)


def test_summary_and_observed(paths: list[str]) -> None:
    data = dataset(paths)
    lines = data.summary().splitlines()
    assert len(lines) == 3 + 4
    assert lines[4].split()[1:4] == ["3", "2", "2"]
    assert lines[4].endswith("F")
    # a: 7 frames of 2 A + 3 B; b: 5 of 1 + 2; d: 4 of 2 + 3; c by frame
    assert count_observed(data.systems, 2).tolist() == [14 + 5 + 7 + 8, 21 + 10 + 3 + 12]


def test_reference_water(reference: Path) -> None:
    """Real frames: cached edges equal fresh ones, and the budget estimate holds."""
    systems = open_systems(str(reference / "data/water/valid_0"), type_map=["O", "H"])
    sampler = Sampler([systems[0].nframes], [192], batch_size=1)
    data = Dataset(systems, sampler, LABELS, rcut=6.0)
    first, again = data.load(0, [4]), data.load(0, [4])
    same(first, again)
    assert len(first.edges) > 15000
    assert data.cache.used < 6 * len(first.edges) + 2000
