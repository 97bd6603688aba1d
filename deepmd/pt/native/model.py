# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models that are written for PyTorch: atomic models of plugins, and whole models."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch

from deepmd.dpmodel.output_def import FittingOutputDef
from deepmd.pt.native.node import accepted

Tensor = torch.Tensor


class BaseAtomicModel(torch.nn.Module):
    """Base of atomic models of plugins.

    A class has ``get_rcut``, ``get_sel``, ``get_type_map``, ``atomic_output_def()`` (or
    ``fitting_output_def()``) and ``forward_atomic(extended_coord, extended_atype, nlist, mapping,
    fparam, aparam)``, which returns {name: (n_frames, n_atoms, *shape)} without a bias.

    Parameters
    ----------
    type_map : list of str
    **kwargs
        Further keys of sections are accepted.
    """

    def __init__(self, type_map: list[str] | None = None, **kwargs: Any) -> None:
        super().__init__()
        self.type_map = list(type_map or [])

    def get_type_map(self) -> list[str]:
        """Return the names of the types."""
        return self.type_map

    def get_ntypes(self) -> int:
        """Return the number of types."""
        return len(self.type_map)

    def mixed_types(self) -> bool:
        """Whether neighbors are one list of all types."""
        return True

    def has_message_passing(self) -> bool:
        """Whether atoms beyond the cutoff matter."""
        return False

    def get_dim_fparam(self) -> int:
        """Return the number of frame parameters."""
        return 0

    def get_dim_aparam(self) -> int:
        """Return the number of atomic parameters."""
        return 0

    def atomic_output_def(self) -> FittingOutputDef:
        """Return what the model predicts for every atom."""
        return self.fitting_output_def()

    fitting_output_def: Callable[[], FittingOutputDef]
    forward_atomic: Callable[..., dict[str, Tensor]]


class BaseModel(torch.nn.Module):
    """Base of whole models of plugins.

    Models of :func:`make_model` are evaluated by their ``atomic_model``. Others have
    ``forward_lower(extended_coord, extended_atype, nlist, mapping, fparam, aparam,
    do_atomic_virial, comm_dict)``, which returns ``atom_energy`` and ``extended_force``.
    """

    model_def_script: str
    min_nbor_dist: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        torch.nn.Module.__init__(self)
        self.model_def_script = ""
        self.register_buffer("min_nbor_dist", torch.tensor(-1.0, dtype=torch.float64))

    @classmethod
    def register(cls, key: str, *, override: bool = False) -> Callable[[type[Any]], type[Any]]:
        """Return a class decorator that files a model under ``key``, its ``type`` in the input."""
        from deepmd.pt.native.atomic_model import register_model

        def decorate(code: type[Any]) -> type[Any]:
            register_model(key, code, override=override)
            return code

        return decorate

    @classmethod
    def get_model(cls, model_params: dict[str, Any]) -> Any:
        """Build the model of its section of the input."""
        given = {k: v for k, v in model_params.items() if k != "type"}
        return cls(**given)

    @torch.jit.export
    def get_model_def_script(self) -> str:
        """Return the section of the input as JSON."""
        return self.model_def_script

    @torch.jit.export
    def get_min_nbor_dist(self) -> float | None:
        """Return the smallest distance of the training data [Å]."""
        return float(self.min_nbor_dist) if float(self.min_nbor_dist) > 0 else None

    @torch.jit.export
    def get_ntypes(self) -> int:
        """Return the number of types."""
        return len(self.get_type_map())


def make_model(atomic: type[Any]) -> type[Any]:
    """Return a class of models around a class of atomic models.

    Sums over atoms, forces and virials follow from the atomic values. The constructor takes the
    arguments of the atomic model.

    Parameters
    ----------
    atomic : type
        See :class:`BaseAtomicModel`.
    """

    class Model(BaseModel):
        atomic_class = atomic

        def __init__(self, *args: Any, atomic_model_: Any = None, **kwargs: Any) -> None:
            super().__init__()
            self.atomic_model = atomic(*args, **kwargs) if atomic_model_ is None else atomic_model_

        @classmethod
        def get_model(cls, model_params: dict[str, Any]) -> Any:
            given = {k: v for k, v in model_params.items() if k != "type"}
            more = {k: given.pop(k) for k in ("type_map", "ntypes") if k in given}
            return cls(**accepted(atomic, given, more))

        @classmethod
        def update_sel(cls, train_data: Any, type_map: Any, local_jdata: dict[str, Any]) -> Any:
            if hasattr(atomic, "update_sel"):
                return atomic.update_sel(train_data, type_map, local_jdata)
            return dict(local_jdata), None

    Model.__name__ = Model.__qualname__ = f"{atomic.__name__}Model"
    return Model


def section_of_class(code: Any, section: dict[str, Any], common: Iterator[str]) -> dict[str, Any]:
    """Return the keys of a model section that its class has a use for.

    Keys of every model are given to constructors that name or collect them only.

    Parameters
    ----------
    code : type
    section : dict
    common : iterator of str
        Keys of every model.
    """
    target = getattr(code, "atomic_class", code)
    parameters = inspect.signature(target.__init__).parameters
    every = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    known = set(common) - set(parameters)
    return section if every else {k: v for k, v in section.items() if k not in known}
