# SPDX-License-Identifier: LGPL-3.0-or-later
"""The dpdata driver; importing this module registers it, in the place of dpdata's own."""

import os
from typing import Any

import numpy as np
from dpdata.driver import Driver

from deepmd.infer import DeepPot
from deepmd.infer.frames import PARAMETERS, numbered


@Driver.register("dp")
@Driver.register("deepmd")
@Driver.register("deepmd-kit")
class DPDriver(Driver):
    """Labels frames with a model.

    Parameters
    ----------
    dp : DeepPot, str or path
        The model, or its file.
    """

    def __init__(self, dp: DeepPot | str | os.PathLike[str]) -> None:
        self.dp = dp if isinstance(dp, DeepPot) else DeepPot(dp)

    def label(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of dpdata's dictionary of frames with labels.

        Parameters
        ----------
        data : dict
            ``coords`` (n_frames, n_atoms, 3) [Å], ``cells`` (n_frames, 3, 3) [Å], ``atom_types``
            (n_atoms,), ``atom_names``; ``nopbc`` for open systems; ``fparam``, ``aparam``,
            ``charge_spin`` and ``spins`` (n_frames, n_atoms, 3) for models that take them.

        Returns
        -------
        dict
            The same with ``energies`` (n_frames,) [eV], ``forces`` (n_frames, n_atoms, 3) [eV/Å]
            and ``virials`` (n_frames, 3, 3) [eV]; with spins ``force_mags``
            (n_frames, n_atoms, 3).
        """
        coords = np.asarray(data["coords"])
        nf, na = coords.shape[:2]
        cells = None if data.get("nopbc", False) else data["cells"]
        names = [data["atom_names"][t] for t in data["atom_types"]]
        types = {name: t for t, name in enumerate(self.dp.get_type_map())}
        numbers = numbered(names, types, where="driver dp")
        given: dict[str, Any] = {name: data.get(name) for name in PARAMETERS}
        # dpdata's name of spins; data of magnetic systems have them, whatever the model takes.
        given["spin"] = data.get("spins") if self.dp.has_spin else None
        out = self.dp.evaluate(coords, cells, numbers, **given)
        labels = {
            "energies": out["energy"].reshape(nf),
            "forces": out["force"].reshape(nf, na, 3),
            "virials": out["virial"].reshape(nf, 3, 3),
        }
        if self.dp.has_spin:
            labels["force_mags"] = out["force_mag"]
        return {**data, **labels}
