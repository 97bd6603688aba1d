# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp embed``: write descriptors and features of the last hidden layer of systems."""

import logging
from typing import Any

import numpy as np

from deepmd.backend.detect import resolve_model
from deepmd.base.errors import NotAvailableError
from deepmd.base.hdf5_output import write_hdf5
from deepmd.data.search import open_systems
from deepmd.entrypoints.commands import check_choices
from deepmd.entrypoints.data import data_paths
from deepmd.entrypoints.eval_desc import names_of, number_format, of_atoms
from deepmd.infer import DeepEval
from deepmd.io.files import check_head

log = logging.getLogger(__name__)
#: Results of the evaluation by the names that they have in the file.
FEATURES = {"descriptor": "descriptor", "atomic_feature": "fitting_last_layer"}


def embed(
    *,
    model: str = "model.ckpt.pt",
    system: str = ".",
    datafile: str | None = None,
    output: str = "embedding.hdf5",
    dtype: str = "fp32",
    head: str | None = None,
    backend: str | None = None,
    **_: Any,
) -> str:
    """Write an HDF5 file with one group per system, and return its path.

    A group has ``descriptor`` and ``atomic_feature``, the last hidden layer of the fitting net,
    (n_frames, n_atoms, width), the latter summed over the atoms as ``structural_feature``
    (n_frames, width), and ``atom_types`` (n_frames, n_atoms), -1 for virtual atoms. The options are
    those of ``dp embed``.
    """
    check_choices("embed", dtype=dtype)
    path = resolve_model(model, backend)
    potential = DeepEval(path, head=head)
    check_head(potential.evaluator.branch, head)
    number = number_format(potential, dtype, path)
    if "energy" not in potential.model.output_def().get_data():
        raise NotAvailableError(
            "only models of energies are embedded",
            where=path,
            fix="use dp eval-desc for descriptors",
        )
    systems = open_systems(data_paths(system, datafile).paths, type_map=potential.get_type_map())

    def fill(handle: Any) -> None:
        handle.attrs["type_map"] = potential.get_type_map()
        for one, name in zip(systems, names_of([s.path for s in systems]), strict=True):
            found = of_atoms(potential, one, tuple(FEATURES.values()), number)
            group = handle.create_group(name)
            group.attrs["nframes"], group.attrs["system"] = one.nframes, one.path
            for key, result in FEATURES.items():
                group[key] = found[result]
            summed = found["fitting_last_layer"].sum(axis=1, dtype=np.float64)
            group["structural_feature"] = summed.astype(number)
            group["atom_types"] = one.frame_types(np.arange(one.nframes)).astype(np.int32)
            log.info("descriptors and features of %s evaluated", one.path)

    write_hdf5(output, fill)
    log.info("descriptors and features written to %s", output)
    return output
