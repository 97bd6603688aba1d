# SPDX-License-Identifier: LGPL-3.0-or-later
"""Derivatives by extended coordinates as those of atoms, under the name that plugins import."""

import torch

from deepmd.dpmodel.output_def import ModelOutputDef

Tensor = torch.Tensor


def communicate_extended_output(
    model_ret: dict[str, Tensor],
    model_output_def: ModelOutputDef,
    mapping: Tensor,
    do_atomic_virial: bool = False,
) -> dict[str, Tensor]:
    """Return results with the derivatives of images added to those of their atoms.

    Parameters
    ----------
    model_ret : dict of str to Tensor
        ``X`` (n_frames, n_atoms, …), ``X_redu``, ``X_derv_r`` (n_frames, n_all, …, 3) and ``X_derv_c``
        (n_frames, n_all, …, 9).
    model_output_def : ModelOutputDef
    mapping : (n_frames, n_all)
    do_atomic_virial : bool
        Whether the virials of atoms are among the results.
    """
    out: dict[str, Tensor] = {}
    for name, value in model_ret.items():
        if name.endswith(("_derv_r", "_derv_c")):
            nloc = int(mapping.max().item()) + 1
            nf, width = value.shape[0], value.shape[2:]
            flat = value.reshape(nf, value.shape[1], -1)
            index = mapping[:, :, None].expand(-1, -1, flat.shape[2])
            local = flat.new_zeros((nf, nloc, flat.shape[2])).scatter_add(1, index, flat)
            if name.endswith("_derv_c"):
                out[name + "_redu"] = local.sum(1).reshape(nf, *width)
                if not do_atomic_virial:
                    continue
            out[name] = local.reshape(nf, nloc, *width)
        elif name not in out:
            out[name] = value
    return out
