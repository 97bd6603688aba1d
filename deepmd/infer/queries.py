# SPDX-License-Identifier: LGPL-3.0-or-later
"""Queries of an opened model."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import modules
from deepmd.dpmodel.nn.electronic_configuration import ELEMENTS
from deepmd.runtime.evaluator import Evaluator


class Queries:
    """Questions answered by the neutral model, and by what evaluates it.

    Attributes
    ----------
    evaluator : Evaluator
        What evaluates batches.
    """

    evaluator: Evaluator

    @property
    def model(self) -> Model:
        """The neutral model."""
        return self.evaluator.model

    def get_rcut(self) -> float:
        """Cutoff [Å]."""
        return self.model.get_rcut()

    def get_ntypes(self) -> int:
        """Return the number of types."""
        return self.model.get_ntypes()

    def get_type_map(self) -> list[str]:
        """Return the names of the types."""
        return self.model.get_type_map()

    def get_sel(self) -> list[int]:
        """Return the largest numbers of neighbors."""
        return self.model.get_sel()

    def get_dim_fparam(self) -> int:
        """Return the number of frame parameters."""
        return self.model.get_dim_fparam()

    def get_dim_aparam(self) -> int:
        """Return the number of atomic parameters."""
        return self.model.get_dim_aparam()

    def has_default_fparam(self) -> bool:
        """Whether frames may come without frame parameters."""
        return self.model.get_default_fparam() is not None

    def get_sel_type(self) -> list[int]:
        """Return the types that are predicted."""
        return self.model.get_sel_type() or list(range(self.get_ntypes()))

    def get_ntypes_spin(self) -> int:
        """Return the number of types with a spin."""
        return sum(self.model.get_use_spin())

    def get_numb_dos(self) -> int:
        """Return the number of points of a density of states."""
        variables = self.model.output_def().get_data()
        return variables["dos"].size if "dos" in variables else 0

    @property
    def has_efield(self) -> bool:
        """Whether the model takes an electric field."""
        return False

    @property
    def has_spin(self) -> bool:
        """Whether the model takes spins."""
        return self.model.has_spin()

    @property
    def has_hessian(self) -> bool:
        """Whether the model was trained for second derivatives, and gives them."""
        return bool(self.evaluator.model_def_script.get("hessian_mode", False))

    def get_model_size(self) -> dict[str, int]:
        """Return the number of parameters: ``descriptor``, ``fitting-net`` and ``total``."""
        return model_size(self.model)

    def eval_typeebd(self) -> np.ndarray:
        """Return the type embedding, (n_types + 1, width)."""
        descriptor = self.model.atomic_model.components().get("descriptor")
        table = None if descriptor is None else descriptor.type_table()
        if table is None:
            raise NotAvailableError(
                "the model has no type embedding", fix="only descriptors of mixed types have one"
            )
        return np.asarray(table)

    def get_model(self) -> Any:
        """Return what evaluates the model: the module of PyTorch, or the neutral model."""
        return self.evaluator.module

    def get_model_def_script(self) -> dict[str, Any]:
        """Return the model section of the input the model was trained with."""
        return copy.deepcopy(self.evaluator.model_def_script)

    def get_observed_types(self) -> dict[str, Any]:
        """Return the types of the training data: ``type_num`` and ``observed_type``, their names."""
        names = observed_types(self.model, self.get_model_def_script())
        return {"type_num": len(names), "observed_type": names}


def observed_types(model: Model, script: Mapping[str, Any]) -> list[str]:
    """Return the types that the training data had: as recorded, else those with a bias.

    Parameters
    ----------
    model : Model
    script : dict
        The model section of the input.

    Returns
    -------
    list of str
        Elements in the order of their atomic numbers, then other names.
    """
    names = (script.get("info") or {}).get("observed_type")
    if names is None:
        inner = model.atomic_model
        seen = inner.out_bias.any(axis=(0, 2)) | inner.own_bias().any(axis=1)
        names = [t for t, there in zip(model.get_type_map(), seen, strict=False) if there]
    number = {symbol: z for z, symbol in enumerate(ELEMENTS)}
    return sorted(names, key=lambda t: (number.get(t, len(number)), t))


def model_size(model: Model) -> dict[str, int]:
    """Return the number of parameters: ``descriptor``, ``fitting-net`` and ``total``."""
    parts = {"descriptor": None, "fitting-net": None, **model.atomic_model.components()}
    parts["total"] = model.atomic_model
    return {name: count_parameters(part) for name, part in parts.items()}


def count_parameters(node: Any) -> int:
    """Count the numbers that training may change (whether or not they are frozen), each once."""
    values = (getattr(m, name) for m in modules(node) for name in m.serial.params)
    lists = (v if isinstance(v, list | tuple) else [v] for v in values)
    return sum(np.size(array) for arrays in lists for array in arrays if array is not None)
