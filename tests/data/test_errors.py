# SPDX-License-Identifier: LGPL-3.0-or-later
"""Wrong data give one line that says where, what was found, what was expected, how to mend it."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from deepmd.base.errors import DataError, InputError
from deepmd.data.search import expand_systems, open_systems
from deepmd.data.system import System
from deepmd.dpmodel.label import Label

LABELS = [
    Label("energy", 1, atomic=False, required=True),
    Label("force", 3, atomic=True, required=True),
    Label("virial", 9, atomic=False),
    Label("atom_ener", 1, atomic=True),
]
SET = "set.000"


def save(name: str, value: object) -> Callable[[Path], None]:
    return lambda root: np.save(root / name, value)


def text(name: str, value: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_text(value)


def remove(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def spoil(name: str, frame: int, value: float) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        a = np.load(root / name)
        a.reshape(len(a), -1)[frame, 0] = value
        np.save(root / name, a)

    return change


def cut(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-40])


def no_sets(root: Path) -> None:
    for k in range(2):
        (root / f"set.{k:03d}").rename(root / f"old.{k:03d}")


CASES = {
    "no type.raw": (remove("type.raw"), "", "no type.raw here"),
    "names in type.raw": (text("type.raw", "0 B 1 0 1"), "type.raw", 'found "B", expected one int'),
    "negative type": (text("type.raw", "0 -1 1 0 1"), "type.raw", 'found "-1"'),
    "empty type.raw": (text("type.raw", ""), "type.raw", "found nothing"),
    "binary type.raw": (
        lambda r: (r / "type.raw").write_bytes(b"\xff\xfe"),
        "type.raw",
        "not a text file",
    ),
    "too few types": (text("type.raw", "0 1 1 0"), "coord.npy", "expected n_frames x 12 (4 atoms"),
    "type beyond map": (text("type.raw", "0 1 2 0 1"), "type.raw", "found type 2, but there are 2"),
    "unknown name": (text("type_map.raw", "A Bb"), "type_map.raw", 'did you mean "B"'),
    "name twice": (text("type_map.raw", "A A"), "type_map.raw", "a name occurs twice"),
    "no sets": (no_sets, "", "no set.* folder"),
    "no coord": (remove("set.001/coord.npy"), "set.001", "coord.npy is missing"),
    "no box": (remove(f"{SET}/box.npy"), SET, "nopbc"),
    "short box": (
        save(f"{SET}/box.npy", np.ones((3, 9))),
        "box.npy",
        "found shape 3 x 9, expected 4",
    ),
    "subnormal cell": (
        save(f"{SET}/box.npy", np.tile([4.0, 0, 0, 0, 0, 5e-324, 0, 5e-324, 4.0], (4, 1))),
        "",
        "cell of frame 0 has no volume",
    ),
    "flat cell": (save(f"{SET}/box.npy", np.ones((4, 9))), "", "cell of frame 0 has no volume"),
    "no force": (
        lambda r: [(r / f"set.{k:03d}/force.npy").unlink() for k in (0, 1)],
        SET,
        "force.npy is missing",
    ),
    "force in one set": (remove("set.001/force.npy"), "set.001", "present in set.000"),
    "short force": (
        save(f"{SET}/force.npy", np.ones((3, 15))),
        "force.npy",
        "found shape 3 x 15, expected 4 frames (as in coord.npy) x 5 atoms x 3; ",
    ),
    "transposed force": (save(f"{SET}/force.npy", np.ones((15, 4))), "force.npy", "15 x 4"),
    "frame label in atomic name": (
        lambda r: [
            np.save(r / f"set.{k:03d}/atom_ener.npy", np.ones(n)) for k, n in ((0, 4), (1, 3))
        ],
        "atom_ener.npy",
        "one value per atom is needed",
    ),
    "atomic label in frame name": (
        save(f"{SET}/energy.npy", np.ones((4, 5))),
        "energy.npy",
        "use the atomic_ name",
    ),
    "text array": (save(f"{SET}/energy.npy", np.array(["a"] * 4)), "energy.npy", "holds <U1"),
    "complex": (save(f"{SET}/energy.npy", np.ones(4) * 1j), "energy.npy", "holds complex128"),
    "objects": (
        save(f"{SET}/energy.npy", np.array([None] * 4)),
        "energy.npy",
        "Python objects",
    ),
    "truncated": (cut(f"{SET}/force.npy"), "force.npy", "not a complete .npy file"),
    "not npy": (text(f"{SET}/force.npy", "1 2 3"), "force.npy", "not a complete .npy file"),
    "nan force": (spoil("set.001/force.npy", 2, np.nan), "force.npy", "frame 2 of this set"),
    "inf coord": (spoil(f"{SET}/coord.npy", 1, np.inf), "coord.npy", "frame 1 of this set"),
    "nan energy": (spoil(f"{SET}/energy.npy", 3, np.nan), "energy.npy", "frame 3 of this set"),
    "empty coord": (save(f"{SET}/coord.npy", np.ones((0, 15))), "coord.npy", "holds no frames"),
    "mixed in one set": (
        save(f"{SET}/real_atom_types.npy", np.zeros((4, 5), int)),
        "set.001",
        "in some sets only",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_system(make: Callable, case: str) -> None:
    change, where, said = CASES[case]
    root = Path(make(sets=(4, 3)).path)
    change(root)
    with pytest.raises(DataError) as caught:
        System(str(root), type_map=["A", "B"]).load(np.arange(7), LABELS)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(root))
    assert str(caught.value.where).endswith(where)
    assert said in message
    assert caught.value.fix


@pytest.mark.parametrize(
    ("types", "said"),
    [
        (np.full((4, 3), 0.5), "integers >= -1"),
        (np.full((4, 3), -2), "integers >= -1"),
        (np.full((4, 3), 1e19), "integers >= -1"),
        (np.full((4, 3), 5), "found type 5, but there are 2"),
        (np.full((4, 3), -1), "no real atom"),
        (np.zeros((4, 2)), "found shape 4 x 2, expected 4 frames .* x 3 atoms"),
    ],
)
def test_wrong_mixed_system(make: Callable, types: np.ndarray, said: str) -> None:
    made = make(types=(0, 0, 0))
    np.save(Path(made.path) / "set.000/real_atom_types.npy", types)
    with pytest.raises(DataError, match=said):
        System(made.path).load([0])


def test_mixed_system_needs_names(make: Callable) -> None:
    made = make(types=(0, 0, 0), names=None)
    np.save(Path(made.path) / "set.000/real_atom_types.npy", np.zeros((4, 3)))
    with pytest.raises(DataError, match=r"type_map\.raw: missing; a mixed-type"):
        System(made.path)


def test_charges_and_multiplicities_beyond_the_tables(make: Callable) -> None:
    made = make()
    label = Label("charge_spin", 2, atomic=False)
    np.save(Path(made.path) / "set.000/charge_spin.npy", [[0, 1], [0, 1], [0, 150], [0, 1]])
    assert System(made.path).load([1], [label]).charge_spin.tolist() == [[0, 1]]
    with pytest.raises(InputError, match=r"charge_spin: multiplicity 150 of frame 2; .* 0 to 99"):
        System(made.path).load([1, 2], [label])


def test_check_finds_a_short_file_before_training(make: Callable) -> None:
    made = make()
    np.save(Path(made.path) / "set.000/force.npy", np.ones((3, 15)))
    with pytest.raises(DataError, match="3 x 15"):
        System(made.path).check(LABELS)
    assert System(make("other").path).check(LABELS) == {
        "energy": True,
        "force": True,
        "virial": False,
        "atom_ener": False,
    }


def test_wrong_paths(make: Callable, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with h5py.File(tmp_path / "empty.h5", "w") as handle:
        handle.create_group("g")
    (tmp_path / "bad.h5").write_text("no HDF5")
    for path, said in [
        ("none", "no such system or folder"),
        ("none.h5", "no such system or folder"),
        ("empty.h5#/h", "no such system or folder"),
        ("empty", "no system"),
        ("empty.h5", "no system"),
        ("bad.h5", "not a readable HDF5 file"),
    ]:
        with pytest.raises(DataError, match=said):
            expand_systems([str(tmp_path / path)])
    make("empty/s")
    with pytest.raises(DataError, match="fits t\\*; check rglob_patterns"):
        expand_systems(str(tmp_path / "empty"), ["t*"])
    with pytest.raises(DataError, match="empty"):
        expand_systems([])
    with pytest.raises(DataError, match=r"x\.lmdb: there is no such data set"):
        open_systems(str(tmp_path / "x.lmdb"))


def test_frames_out_of_range(make: Callable) -> None:
    with pytest.raises(InputError, match="there are 4"):
        System(make().path).load([4])


def test_hdf5_errors_name_the_dataset(make: Callable, tmp_path: Path) -> None:
    made = make("g", hdf5="d.h5")
    with h5py.File(tmp_path / "d.h5", "a") as handle:
        handle["g/set.000/force.npy"][2, 3] = np.nan
    with pytest.raises(DataError, match=r"d\.h5#/g/set\.000/force\.npy: NaN .* frame 2"):
        System(made.path).load([0, 2], LABELS)


def header(text: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    body = text.encode("latin1") + b"\n"
    size = len(body).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + size + body + data


CLAIM = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }"
HEADERS = {
    "huge": (header(CLAIM % ("<f8", "(1000000000000, 15)")), "not a complete .npy file"),
    "overflowing": (header(CLAIM % ("<f8", f"({2**62}, {2**62}, 15)")), "not a complete .npy file"),
    "negative": (header(CLAIM % ("<f8", "(-4, 15)"), bytes(480)), "not a complete .npy file"),
    "truncated": (header(CLAIM % ("<f8", "(4, 15)"), bytes(479)), "bytes of"),
    "objects": (header(CLAIM % ("|O", "(4, 15)"), bytes(480)), "Python objects"),
    "nested": (header("(" * 9000), "not a complete .npy file"),
    "code": (header("__import__('os').getcwd()"), "not a complete .npy file"),
    "fields": (header(CLAIM % ("<f8", "'x'")), "not a complete .npy file"),
    "no size": (header(CLAIM % ("<U0", "(4, 15)")), "holds <U"),
    "long header": (header(" " * 70000, version=b"\x02\x00"), "not a complete .npy file"),
    "version": (header(CLAIM % ("<f8", "(4, 15)"), bytes(480), b"\x09\x00"), "version"),
    "empty": (b"", "not a complete .npy file"),
    "absurd": (header(CLAIM % ("<f8", "(4, 15)"), b"\x7c" * 480), "the number"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_of_npy_files(make: Callable, case: str) -> None:
    data, said = HEADERS[case]
    made = make()
    (Path(made.path) / f"{SET}/force.npy").write_bytes(data)
    with pytest.raises(DataError) as caught:
        System(made.path).load([0], LABELS)
    assert said in str(caught.value)
    assert "force.npy" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hdf5_datasets_that_claim_more_than_the_file_holds(make: Callable, tmp_path: Path) -> None:
    made = make("g", hdf5="d.h5")
    with h5py.File(tmp_path / "d.h5", "a") as handle:
        del handle["g/set.000/coord.npy"]
        handle.create_dataset("g/set.000/coord.npy", (10**10, 15), "f8", chunks=(1000, 15))
    with pytest.raises(DataError, match=r"coord\.npy: claims 1,200,000,000,000 bytes"):
        System(made.path)


LINKS = {
    "circle": (h5py.SoftLink("/g/set.000/coord.npy"), r"coord\.npy is missing"),
    "other file": (h5py.ExternalLink("nowhere.h5", "/x"), r"coord\.npy is missing"),
    "nothing": (h5py.Empty("f8"), r"coord\.npy: holds no numbers"),
    "type": (np.dtype("f8"), r"coord\.npy: holds no numbers"),
    "text": ("text", r"coord\.npy: holds object, real numbers were expected"),
}


@pytest.mark.parametrize("case", LINKS)
def test_hdf5_links_and_kinds(make: Callable, tmp_path: Path, case: str) -> None:
    value, said = LINKS[case]
    made = make("g", hdf5="d.h5")
    with h5py.File(tmp_path / "d.h5", "a") as handle:
        del handle["g/set.000/coord.npy"]
        handle["g/set.000/coord.npy"] = value
    with pytest.raises(DataError, match=said):
        System(made.path)


def test_words_that_are_no_types_or_names(make: Callable) -> None:
    root = Path(make().path)
    for file, text, said in [
        ("type_map.raw", "A " + "B" * 100, "is no name"),
        ("type_map.raw", "A B\x1b[2J", "is no name"),
        ("type.raw", "0 1 1 0 " + "9" * 30, "expected one integer"),
        ("type.raw", "x" * 100000, '"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..."'),
    ]:
        before = (root / file).read_text()
        (root / file).write_text(text)
        with pytest.raises(DataError, match=said) as caught:
            System(str(root))
        assert len(str(caught.value)) < 400
        (root / file).write_text(before)


def test_a_text_that_is_too_large(make: Callable) -> None:
    root = Path(make().path)
    with open(root / "type.raw", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match=r"has 1,099,511,627,776 bytes, at most"):
        System(str(root))


def test_a_collapsed_cell_is_named(make: Callable) -> None:
    from deepmd.data.neighbor_stat import neighbor_stat

    root = Path(make().path)
    np.save(root / f"{SET}/box.npy", np.tile(0.08 * np.eye(3).ravel(), (4, 1)))
    with pytest.raises(InputError, match=r"sys: frames 0 to 3: every atom has about .* neighbors"):
        neighbor_stat([System(str(root))], 6.0, 2)
