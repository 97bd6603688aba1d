# SPDX-License-Identifier: LGPL-3.0-or-later
"""Deviation of several models on the same frames."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from deepmd.base.errors import InputError
from deepmd.base.files import appending
from deepmd.dpmodel.batch import Batch
from deepmd.infer.deep_pot import DeepPot

_COLUMNS = [f"{kind}_devi_{of}" for of in "vf" for kind in ("max", "min", "avg")] + ["devi_e"]


def _spread(values: np.ndarray, real: np.ndarray | None) -> np.ndarray:
    """Deviation over models (axis 0): from their mean, or from the real values."""
    if real is None:
        return np.std(values, axis=0)
    return np.sqrt(np.mean(np.square(values - real[None]), axis=0))


def _level(values: np.ndarray, real: np.ndarray | None) -> np.ndarray:
    """Norm over the last axis of the mean over models, or of the real values."""
    return np.linalg.norm(np.mean(values, axis=0) if real is None else real, axis=-1)


def calc_model_devi_f(
    fs: np.ndarray,
    real_f: np.ndarray | None = None,
    relative: float | None = None,
    atomic: bool = False,
) -> tuple[np.ndarray, ...]:
    """Deviation of forces.

    Parameters
    ----------
    fs : (n_models, n_frames, n_atoms, 3) [eV/Å]
    real_f : (n_frames, n_atoms, 3) [eV/Å], optional
        Take the deviation from these instead of the models' mean.
    relative : float, optional
        Divide by the size of the force plus this level [eV/Å].
    atomic : bool
        Return the deviation of every atom too.

    Returns
    -------
    max, min, avg : (n_frames,)
    atomic : (n_frames, n_atoms), with ``atomic``
    """
    everywhere = np.ones(fs.shape[1:3], dtype=bool)
    out = _of_forces(fs, real_f, relative, everywhere)
    return out if atomic else out[:3]


def _of_forces(
    fs: np.ndarray, real_f: np.ndarray | None, relative: float | None, real_atoms: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Deviation of real atoms only: that of virtual ones would always be the smallest."""
    devi = np.linalg.norm(_spread(fs, real_f), axis=-1)
    if relative is not None:
        with np.errstate(invalid="ignore", divide="ignore"):  # virtual atoms have no force
            devi = devi / (_level(fs, real_f) + relative)
    devi = np.where(real_atoms, devi, 0.0)
    some = real_atoms.any(axis=1)
    smallest = devi.min(axis=1, initial=np.inf, where=real_atoms)
    average = devi.sum(axis=1) / np.maximum(real_atoms.sum(axis=1), 1)
    return devi.max(axis=1, initial=0.0), np.where(some, smallest, 0.0), average, devi


def calc_model_devi_v(
    vs: np.ndarray, real_v: np.ndarray | None = None, relative: float | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deviation of virials (per atom): largest and smallest component, norm over 9 divided by 3.

    Parameters
    ----------
    vs : (n_models, n_frames, 9) [eV]
    real_v : (n_frames, 9) [eV], optional
    relative : float, optional [eV]
        See :func:`calc_model_devi_f`.

    Returns
    -------
    max, min, avg : (n_frames,)
    """
    devi = _spread(vs, real_v)
    if relative is not None:
        devi = devi / (_level(vs, real_v) + relative)[:, None]
    return devi.max(axis=-1), devi.min(axis=-1), np.linalg.norm(devi, axis=-1) / 3.0


def calc_model_devi_e(es: np.ndarray, real_e: np.ndarray | None = None) -> np.ndarray:
    """Deviation of energies (n_models, n_frames) [eV]; per atom if they are: (n_frames,)."""
    return _spread(es, real_e)


def calc_model_devi(
    coord: Any,
    box: Any,
    atype: Any,
    models: Sequence[DeepPot],
    fname: str | os.PathLike[str] | None = None,
    frequency: int = 1,
    mixed_type: bool = False,
    fparam: Any = None,
    aparam: Any = None,
    real_data: Mapping[str, np.ndarray] | None = None,
    atomic: bool = False,
    relative: float | None = None,
    relative_v: float | None = None,
    charge_spin: Any = None,
) -> np.ndarray:
    """Evaluate frames with several models and return how much they disagree.

    Parameters
    ----------
    coord, box, atype, mixed_type, fparam, aparam, charge_spin
        See :meth:`DeepPot.eval`.
    models : sequence of DeepPot
        At least two (one with ``real_data``), of the same type map.
    fname : path, optional
        Append the rows to this file.
    frequency : int
        Steps between the frames; the first column is the frame's number times this.
    real_data : dict, optional
        ``energy``, ``force``, ``virial`` to compare with instead of the models' mean.
    atomic : bool
        Add the force deviation of every atom.
    relative, relative_v : float, optional
        See :func:`calc_model_devi_f`, :func:`calc_model_devi_v`.

    Returns
    -------
    (n_frames, 8) or (n_frames, 8 + n_atoms)
        Step; largest, smallest, average deviation of the virial per atom [eV]; the same of the
        force [eV/Å]; deviation of the energy per atom [eV].
    """
    check_levels(("relative", relative), ("relative_v", relative_v))
    check_models(models, 1 if real_data else 2)
    given = {"fparam": fparam, "aparam": aparam, "charge_spin": charge_spin}
    results = [m.eval(coord, box, atype, mixed_type=mixed_type, **given) for m in models]
    energy, force, virial = (np.stack([r[k] for r in results]) for k in range(3))
    nf, na = force.shape[1:3]
    types = np.asarray(atype).reshape(-1, na) if na else np.zeros((1, 0))
    real_atoms = np.broadcast_to(types >= 0, (nf, na))
    devi = _rows(
        energy[..., 0],
        force,
        virial,
        real_atoms,
        real_data or {},
        atomic=atomic,
        relative=relative,
        relative_v=relative_v,
    )
    devi[:, 0] *= frequency
    if fname is not None:
        write_model_devi_out(devi, fname, atomic=atomic)
    return devi


def batch_model_devi(
    batch: Batch,
    models: Sequence[DeepPot],
    *,
    real_data: Mapping[str, np.ndarray] | None = None,
    atomic: bool = False,
    relative: float | None = None,
    relative_v: float | None = None,
) -> np.ndarray:
    """Evaluate a batch with several models and return how much they disagree.

    Parameters
    ----------
    batch : Batch
    models, atomic, relative, relative_v
        See :func:`calc_model_devi`.
    real_data : dict, optional
        ``energy``, ``force``, ``virial`` as labels of the batch.

    Returns
    -------
    (n_frames, 8) or (n_frames, 8 + n)
        As of :func:`calc_model_devi`; n is the largest number of atoms.
    """
    results = [m.evaluate_batch(batch, derivatives=("force", "virial")) for m in models]
    stacked = {k: np.stack([r[k] for r in results]) for k in ("energy", "force", "virial")}
    options: dict[str, Any] = {"relative": relative, "relative_v": relative_v}
    return rows_of_batch(batch, stacked, real_data=real_data, atomic=atomic, **options)


def rows_of_batch(
    batch: Batch,
    results: Mapping[str, np.ndarray],
    *,
    real_data: Mapping[str, np.ndarray] | None = None,
    atomic: bool = False,
    relative: float | None = None,
    relative_v: float | None = None,
) -> np.ndarray:
    """Return the rows of :func:`batch_model_devi` from results of several models.

    Parameters
    ----------
    batch : Batch
    results : dict
        ``energy`` (n_models, n_frames, 1), ``force`` (n_models, n_atoms, 3), ``virial``.
    real_data, atomic, relative, relative_v
        See :func:`batch_model_devi`.
    """
    energy, force, virial = (results[k] for k in ("energy", "force", "virial"))
    real_atoms = np.arange(batch.natoms.max(initial=0)) < batch.natoms[:, None]

    def of_frames(values: np.ndarray) -> np.ndarray:
        out = np.zeros((*values.shape[:-2], *real_atoms.shape, 3))
        out[..., real_atoms, :] = values
        return out

    data = dict(real_data or {})
    if "force" in data:
        data["force"] = of_frames(data["force"])
    options: dict[str, Any] = {"relative": relative, "relative_v": relative_v}
    return _rows(
        energy[..., 0], of_frames(force), virial, real_atoms, data, atomic=atomic, **options
    )


def _rows(
    energy: np.ndarray,
    force: np.ndarray,
    virial: np.ndarray,
    real_atoms: np.ndarray,
    data: Mapping[str, np.ndarray],
    *,
    atomic: bool,
    relative: float | None,
    relative_v: float | None,
) -> np.ndarray:
    """Return the rows of :func:`calc_model_devi`, with the numbers of the frames.

    Parameters
    ----------
    energy : (n_models, n_frames) [eV]
    force : (n_models, n_frames, n_atoms, 3) [eV/Å]
    virial : (n_models, n_frames, 9) [eV]
    real_atoms : (n_frames, n_atoms) bool
    data, atomic, relative, relative_v
        See :func:`calc_model_devi`.
    """
    nf, na = real_atoms.shape
    count = np.maximum(real_atoms.sum(axis=1), 1)
    real_e = _real(data, "energy", (nf,), count)
    real_v = _real(data, "virial", (nf, 9), count[:, None])
    real_f = _real(data, "force", (nf, na, 3), 1.0)
    of_virial = calc_model_devi_v(virial / count[:, None], real_v, relative_v)
    of_energy = calc_model_devi_e(energy / count, real_e)
    *of_force, per_atom = _of_forces(force, real_f, relative, real_atoms)
    columns = [np.arange(nf), *of_virial, *of_force, of_energy]
    return np.column_stack([*columns, per_atom] if atomic else columns)


def _real(
    data: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], count: Any
) -> np.ndarray | None:
    """Real values divided by ``count``, if they are known."""
    return np.reshape(data[name], shape) / count if name in data else None


def check_levels(*levels: tuple[str, float | None]) -> None:
    """Refuse levels of relative deviations, each with its name, that are negative or infinite."""
    for name, level in levels:
        if level is not None and not 0.0 <= level < float("inf"):
            raise InputError(f"found {level}, expected a number >= 0", where=name)


def check_models(models: Sequence[DeepPot], needed: int, names: Sequence[Any] = ()) -> None:
    """Refuse too few models, and models of different type maps; ``names`` are theirs."""
    if len(models) < needed:
        count = f"{len(models)} model{'s' * (len(models) != 1)}"
        raise InputError(f"{count} given, {needed} are needed", where="models", fix="name more")
    names = names or [f"model {k}" for k in range(len(models))]
    first = models[0].get_type_map()
    for name, model in zip(names, models, strict=True):
        if model.get_type_map() != first:
            raise InputError(
                f"has the types {model.get_type_map()}, {names[0]} has {first}",
                where=name,
                fix="compare models of the same type map",
            )


def write_model_devi_out(
    devi: np.ndarray,
    fname: "str | os.PathLike[str] | TextIO",
    header: str = "",
    atomic: bool = False,
) -> None:
    """Append rows of :func:`calc_model_devi` to a text file.

    Parameters
    ----------
    devi : (n_frames, 8) or (n_frames, 8 + n_atoms)
    fname : path or open text file
    header : str
        A line, such as the name of the system, that is written first behind ``# ``.
    atomic : bool
        Whether there are columns of atoms.
    """
    if not hasattr(fname, "write"):
        with appending(fname) as file, file.text() as handle:
            write_model_devi_out(devi, handle, header, atomic)
        return
    names = "#" + "step".rjust(11) + "".join(c.rjust(19) for c in _COLUMNS)
    if atomic:
        names += f"atm_devi_f({devi.shape[1] - 8})".rjust(19)
    lines = [f"# {header}"] if header else []
    lines.append(names)
    for row in devi:
        lines.append(f"{int(row[0]):12d}" + "".join(f"{x:19.6e}" for x in row[1:]))
    fname.write("\n".join(lines) + "\n")


def make_model_devi(**options: Any) -> None:
    """Write deviations as ``dp model-devi``; see :func:`deepmd.entrypoints.model_devi.model_devi`."""
    from deepmd.entrypoints.model_devi import model_devi

    model_devi(**options)
