# SPDX-License-Identifier: LGPL-3.0-or-later
"""Systems as the plain arrays that clients know, under the names they know."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import DataError
from deepmd.data.sampler import Sampler
from deepmd.data.search import expand_systems, open_systems
from deepmd.data.system import FIELDS
from deepmd.dpmodel.label import Label


class DataRequirementItem:
    """Label that a model or loss asks for; a mapping of the arguments of :meth:`DeepmdData.add`.

    Parameters
    ----------
    key : str
        Name of the file without suffix.
    ndof : int
        Numbers per frame or atom.
    **options
        Further arguments of :meth:`DeepmdData.add`.
    """

    def __init__(self, key: str, ndof: int, **options: Any) -> None:
        self.key, self.ndof, self._options = key, ndof, options

    @property
    def dict(self) -> Mapping[str, Any]:
        """All arguments."""
        return {"key": self.key, "ndof": self.ndof, **self._options}

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_options"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, name: str) -> Any:
        return self.dict[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataRequirementItem) and self.dict == other.dict

    __hash__ = None  # type: ignore[assignment]


class DeepmdData:
    """Frames of one system as plain arrays.

    Parameters
    ----------
    sys_path : str
        Folder or HDF5 group.
    shuffle_test : bool
        Whether :meth:`get_test` shuffles.
    type_map : list of str, optional
        The model's types.
    sort_atoms : bool
        Whether atoms come sorted by type; those of mixed types never do.
    set_prefix, optional_type_map, modifier, trn_all_set
        Have no meaning any more.
    """

    def __init__(
        self,
        sys_path: str,
        set_prefix: str = "set",
        shuffle_test: bool = True,
        type_map: list[str] | None = None,
        optional_type_map: bool = True,
        modifier: Any = None,
        trn_all_set: bool = False,
        sort_atoms: bool = True,
    ) -> None:
        systems = open_systems([str(sys_path)], type_map=type_map)
        if len(systems) > 1:
            raise DataError(f"holds {len(systems)} systems", where=sys_path, fix="name one of them")
        self.system, self.shuffle_test = systems[0], shuffle_test
        self.mixed_type, self.pbc = self.system.mixed, self.system.periodic
        self.nframes, self.natoms = self.system.nframes, self.system.natoms
        self._labels: dict[str, tuple[Label, int]] = {}
        self._samplers: dict[int, Sampler] = {}
        self.idx_map = np.arange(self.natoms)
        if sort_atoms and not self.mixed_type:
            self.idx_map = np.argsort(self.system.atype, kind="stable")

    def add(
        self,
        key: str,
        ndof: int,
        atomic: bool = False,
        must: bool = False,
        high_prec: bool = False,
        type_sel: list[int] | None = None,
        repeat: int = 1,
        default: float = 0.0,
    ) -> "DeepmdData":
        """Ask for a label with ``ndof`` numbers per frame or atom, each ``repeat`` times."""
        selected = None if type_sel is None else tuple(type_sel)
        label = Label(key, ndof, atomic, must, default, high_prec, selected)
        self._labels[key] = label, repeat
        return self

    def get_type_map(self) -> list[str]:
        """Return the names of the types."""
        return list(self.system.type_map or [])

    def get_natoms(self) -> int:
        """Return the number of atoms of a frame."""
        return self.natoms

    def get_atom_type(self) -> np.ndarray:
        """Return the types of the atoms: (natoms,)."""
        return self.system.atype[self.idx_map]

    def get_natoms_vec(self, ntypes: int) -> np.ndarray:
        """Return the number of atoms twice, and that of every type: (2 + ntypes,)."""
        counts = np.bincount(self.system.atype, minlength=ntypes)
        return np.array([self.natoms, self.natoms, *counts])

    def get_sys_numb_batch(self, batch_size: int) -> int:
        """Return the number of batches."""
        return max(1, self.nframes // batch_size)

    def get_batch(self, batch_size: int) -> dict[str, Any]:
        """Return the next frames of the current shuffle; see :meth:`get_test`."""
        if batch_size not in self._samplers:
            sampler = Sampler([self.nframes], [self.natoms], batch_size=batch_size)
            self._samplers[batch_size] = sampler
        return self._arrays(self._samplers[batch_size].draw()[1])

    def get_test(self, ntests: int = -1) -> dict[str, Any]:
        """Return frames, all by default.

        Returns
        -------
        dict
            ``coord`` (nframes, natoms × 3) [Å], ``box`` (nframes, 9) [Å], ``type``
            (nframes, natoms), every label that was asked for, (nframes, any), and for each
            ``find_<name>``, 1.0 or 0.0.
        """
        order = np.arange(self.nframes)
        if self.shuffle_test:
            np.random.default_rng(0).shuffle(order)
        return self._arrays(order if ntests < 0 else order[:ntests])

    def _arrays(self, frames: np.ndarray) -> dict[str, Any]:
        labels = [label for label, _ in self._labels.values()]
        batch = self.system.load(frames, labels)
        types = self.system.frame_types(frames)
        real, nf = types >= 0, len(frames)

        def by_atom(values: np.ndarray) -> np.ndarray:
            full = np.zeros((*real.shape, values.shape[1]))
            full[real] = values
            return full[:, self.idx_map].reshape(nf, -1)

        out: dict[str, Any] = {
            "coord": by_atom(batch.coord),
            "box": batch.cell.reshape(nf, 9),
            "type": types[:, self.idx_map],
        }
        for label, repeat in self._labels.values():
            name = label.name
            values = getattr(batch, name) if name in FIELDS else batch.labels[name]
            values = np.repeat(values, repeat, axis=1)
            out[name] = by_atom(values) if label.atomic else values
            out[f"find_{name}"] = batch.find[name]
        return out


class DeepmdDataSystem:
    """Systems of which one is drawn for every batch.

    Parameters
    ----------
    systems : str or list of str
        As in the input file.
    batch_size : int, list of int or str
        As in the input file.
    test_size : int
        Frames of :meth:`get_test`.
    shuffle_test : bool
        Whether these are shuffled.
    type_map : list of str, optional
        The model's types.
    sys_probs, auto_prob_style
        As in the input file.
    rcut, set_prefix, optional_type_map, modifier, trn_all_set
        Have no meaning any more.
    """

    def __init__(
        self,
        systems: str | Sequence[str],
        batch_size: int | Sequence[int] | str,
        test_size: int,
        rcut: float | None = None,
        set_prefix: str = "set",
        shuffle_test: bool = True,
        type_map: list[str] | None = None,
        optional_type_map: bool = True,
        modifier: Any = None,
        trn_all_set: bool = False,
        sys_probs: Sequence[float] | None = None,
        auto_prob_style: str = "prob_sys_size",
    ) -> None:
        self.system_dirs, self.test_size = expand_systems(systems), test_size
        self.data_systems = [
            DeepmdData(path, shuffle_test=shuffle_test, type_map=type_map)
            for path in self.system_dirs
        ]
        self._sampler = Sampler(
            [s.nframes for s in self.data_systems],
            [s.natoms for s in self.data_systems],
            batch_size=batch_size,
            auto_prob=auto_prob_style,
            sys_probs=sys_probs,
        )
        self.batch_size, self.nbatches = self._sampler.batch_sizes, self._sampler.nbatches
        self.sys_probs, self.natoms = (
            self._sampler.probabilities,
            [s.natoms for s in self.data_systems],
        )

    def add(self, key: str, ndof: int, **options: Any) -> None:
        """Ask for a label; see :meth:`deepmd.utils.data.DeepmdData.add`."""
        for system in self.data_systems:
            system.add(key, ndof, **options)

    def add_dict(self, labels: Mapping[str, Mapping[str, Any]]) -> None:
        """Ask for labels by name."""
        for key, options in labels.items():
            self.add(key, **options)

    def get_nsystems(self) -> int:
        """Return the number of systems."""
        return len(self.data_systems)

    def get_nbatches(self) -> list[int]:
        """Return the number of batches of every system."""
        return list(self.nbatches)

    def get_type_map(self) -> list[str]:
        """Return the names of the types."""
        return self.data_systems[0].get_type_map()

    def get_ntypes(self) -> int:
        """Return the number of types."""
        most = max(int(s.system.atype.max()) for s in self.data_systems)
        return max(most + 1, len(self.get_type_map()))

    def get_batch(self, sys_idx: int | None = None) -> dict[str, Any]:
        """Return a batch of a system, by default of one drawn; see :class:`DeepmdData`."""
        if sys_idx is None:
            sys_idx = self._sampler.draw()[0]
        return self._with_counts(
            sys_idx, self.data_systems[sys_idx].get_batch(self.batch_size[sys_idx])
        )

    def get_test(self, sys_idx: int = 0, n_test: int = -1) -> dict[str, Any]:
        """Return frames of a system to test on, ``test_size`` by default."""
        count = self.test_size if n_test < 0 else n_test
        return self._with_counts(sys_idx, self.data_systems[sys_idx].get_test(count))

    def _with_counts(self, sys_idx: int, arrays: dict[str, Any]) -> dict[str, Any]:
        counts: np.ndarray = self.data_systems[sys_idx].get_natoms_vec(self.get_ntypes())
        return {**arrays, "natoms_vec": counts, "sys_idx": sys_idx}
