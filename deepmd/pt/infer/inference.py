# SPDX-License-Identifier: LGPL-3.0-or-later
"""Lifted model of a checkpoint, as clients ask for it."""

import os
from typing import Any

import torch

from deepmd.io.files import SINGLE, branch_of, branch_params
from deepmd.pt.checkpoint.checkpoint import read_checkpoint
from deepmd.pt.device import default_device
from deepmd.pt.lift import convert


class Tester:
    """Model of a checkpoint, lifted to a ``torch.nn.Module`` on the default device.

    Parameters
    ----------
    model_ckpt : str, path or torch.nn.Module
        Checkpoint of this program or of DeePMD-kit, or a lifted model.
    head : str, optional
        Branch, when there are several.

    Attributes
    ----------
    model : torch.nn.Module
    model_params : dict
        ``model`` section of the branch.
    multi_task : bool
        Whether there are several branches.
    """

    def __init__(self, model_ckpt: Any, head: str | None = None) -> None:
        self.model_params: dict[str, Any] = {}
        self.multi_task = False
        if isinstance(model_ckpt, torch.nn.Module):
            self.model: Any = model_ckpt
            return
        checkpoint = read_checkpoint(os.fspath(model_ckpt))
        params = checkpoint.model_params
        branch = branch_of(checkpoint.models, head, "checkpoint", params)
        self.multi_task = SINGLE not in checkpoint.models
        self.model_params = branch_params(params, branch)
        self.model = convert(checkpoint.models[branch]).to(default_device())
