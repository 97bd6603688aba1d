# SPDX-License-Identifier: LGPL-3.0-or-later
"""Whole models as ``torch.nn.Module``."""

from collections.abc import Mapping
from typing import Any

from deepmd.base.errors import InputError
from deepmd.dpmodel.model import build_model
from deepmd.pt.lift import convert
from deepmd.pt.standard import StandardModel
from deepmd.schema.load import drop_comments

__all__ = ["get_model", "get_standard_model"]


def get_model(params: Mapping[str, Any]) -> Any:
    """Build the lifted model of a ``model`` section, with initial values.

    Parameters
    ----------
    params : dict
        The section; ``sel`` must be numbers. Keys that begin with ``_`` are ignored.
    """
    return convert(build_model(drop_comments(dict(params))))


def get_standard_model(params: Mapping[str, Any]) -> StandardModel:
    """Build a model of a ``model`` section of type ``standard`` for programs in PyTorch.

    Raises
    ------
    InputError
        If the model is of another type.
    """
    given = dict(params)
    kind = given.get("type", "standard")
    if kind != "standard":
        raise InputError(f'type "{kind}" is not "standard"', where="model", fix="use get_model")
    return StandardModel(build_model(drop_comments(given)), given)
