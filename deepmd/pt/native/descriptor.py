# SPDX-License-Identifier: LGPL-3.0-or-later
"""Descriptors that are written for PyTorch."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from deepmd.base.errors import InputError
from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Descriptor, DescriptorOutput
from deepmd.dpmodel.descriptor.extended import ExtendedDescriptor
from deepmd.dpmodel.statistics import Sample
from deepmd.pt.native.node import NativeNode, back, double_by_default, native_serial, to_torch
from deepmd.pt.native.selection import selections_by_class
from deepmd.pt.native.statistics import merged_sample
from deepmd.schema.descriptor import Selection

Tensor = torch.Tensor


class BaseDescriptor:
    """Base of descriptors of plugins, beside ``torch.nn.Module``.

    A class has ``get_rcut``, ``get_sel``, ``get_dim_out`` and ``forward(coord_ext, atype_ext, nlist,
    mapping)``, which returns the descriptor (n_frames, n_centers, dim_out) and, where there are such,
    the rotation matrix, two further arrays and the switch. Other methods have defaults. The
    constructor gets the keys of the section, and ``ntypes``, ``type_map`` and ``type`` if it names
    them.
    """

    @classmethod
    def register(cls, key: str, *, override: bool = False) -> Callable[[type[Any]], type[Any]]:
        """Return a class decorator that files a descriptor under ``key``."""

        def decorate(code: type[Any]) -> type[Any]:
            node = type(
                f"{code.__name__}Node",
                (NativeDescriptor,),
                {
                    "serial": native_serial("Descriptor", key),
                    "code": code,
                    "__module__": code.__module__,
                    "__doc__": code.__doc__,
                },
            )
            Descriptor.registry.register(key, override=override)(node)
            return code

        return decorate

    get_rcut: Callable[[], float]
    get_sel: Callable[[], Any]
    get_dim_out: Callable[[], int]

    def get_rcut_smth(self) -> float:
        """Start of the switch [Å]."""
        return self.get_rcut()

    def get_nsel(self) -> int:
        """Largest number of neighbors of all types."""
        sel = self.get_sel()
        return int(sel) if isinstance(sel, int) else int(sum(sel))

    def get_nnei(self) -> int:
        """Largest number of neighbors of all types."""
        return self.get_nsel()

    def get_dim_emb(self) -> int:
        """Width of the rotation matrix, 0 if there is none."""
        return 0

    def mixed_types(self) -> bool:
        """Whether neighbors are one list of all types."""
        return True

    def has_message_passing(self) -> bool:
        """Whether an atom's descriptor depends on atoms beyond its neighbors."""
        return False

    def need_sorted_nlist_for_lower(self) -> bool:
        """Whether neighbors must come in the order of their distances."""
        return False

    def compute_input_stats(self, merged: Any, path: Any = None) -> None:
        """Set statistics from samples of the training data; there are none."""

    @classmethod
    def update_sel(
        cls, train_data: Any, type_map: list[str] | None, local_jdata: dict[str, Any]
    ) -> tuple[dict[str, Any], float | None]:
        """Return the section with numbers in place of ``"auto"``, and the smallest distance."""
        from deepmd.pt.utils.update_sel import UpdateSel

        out, distance = dict(local_jdata), None
        if "sel" in out and "rcut" in out:
            distance, out["sel"] = UpdateSel().update_one_sel(
                train_data, type_map, out["rcut"], out["sel"], True
            )
        return out, distance


class NativeDescriptor(NativeNode, ExtendedDescriptor):
    """Node around a descriptor of a plugin."""

    rcut: float
    sel: Any
    mixed_types: Any  # type: ignore[misc]

    def __init__(self, *, type_map: Any = None, **section: Any) -> None:
        self.type_map, self.section = None if type_map is None else list(type_map), section
        module = self.take_module()
        sel = module.get_sel()
        self.rcut = float(module.get_rcut())
        self.rcut_smth = float(getattr(module, "get_rcut_smth", module.get_rcut)())
        self.sel = [int(sel)] if isinstance(sel, int) else [int(n) for n in sel]
        self.mixed_types = bool(module.mixed_types())
        if not self.mixed_types and len(self.sel) != self.ntypes:
            raise InputError(
                f"sel has {len(self.sel)} numbers for {self.ntypes} types",
                where=f"{self.serial.type}/sel",
                fix="give one number per type of type_map",
            )
        self._facts = {
            "dim_out": int(module.get_dim_out()),
            "dim_embed": int(getattr(module, "get_dim_emb", int)()),
            "messages": bool(getattr(module, "has_message_passing", bool)()),
            "sorted": bool(getattr(module, "need_sorted_nlist_for_lower", bool)()),
        }

    @classmethod
    def construct(cls, config: dict, data: dict) -> Any:
        """Build the node of a dictionary."""
        return cls(type_map=config["type_map"], **config["section"])

    @classmethod
    def selections(cls, section: dict[str, Any], where: str) -> Iterator[Selection]:
        """Iterate over the numbers of neighbors that ``update_sel`` of the class replaces."""
        return selections_by_class(cls.code, section, where)

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return self._facts["dim_out"]

    @property
    def dim_embed(self) -> int:
        """Width of the rotation matrix, 0 if there is none."""
        return self._facts["dim_embed"]

    @property
    def message_passing(self) -> bool:
        """Whether an atom's descriptor depends on atoms beyond its neighbors."""
        return bool(self._facts["messages"])

    @property
    def interaction_range(self) -> float:
        """Distance beyond which an atom does not change the descriptor [Å]; not known for messages."""
        return float("inf") if self.message_passing else self.rcut

    def extended(self, coord: Any, atype: Any, nlist: Any, mapping: Any) -> DescriptorOutput:
        """Evaluate the module; see :class:`ExtendedDescriptor`."""
        module = self.running_module(coord)
        if nlist.shape[0] == 0:  # which code of others need not foresee
            none = [
                ops.like(np.zeros((0, *s)), coord) for s in ((self.dim_out,), (self.dim_embed, 3))
            ]
            return DescriptorOutput(none[0], none[1] if self.dim_embed else None)
        given = [to_torch(x)[None] for x in (coord, atype, nlist, mapping)]
        if self._facts["sorted"]:
            given[2] = by_distance(given[0], given[2])
        with double_by_default():
            found = module(given[0], given[1], given[2], mapping=given[3])
        found = found if isinstance(found, (tuple, list)) else (found,)
        rotation = found[1] if len(found) > 1 and self.dim_embed else None
        return DescriptorOutput(
            back(found[0][0], coord), back(None if rotation is None else rotation[0], coord)
        )

    def compute_statistics(self, sample: Sample) -> None:
        """Let ``compute_input_stats`` of the class set what depends on the data."""
        module = self.module()
        method = getattr(module, "compute_input_stats", None)
        if method is not None and method.__func__ is not BaseDescriptor.compute_input_stats:
            method(functools.partial(merged_sample, sample), None)
            self.take_arrays(module)


def by_distance(coord: Tensor, nlist: Tensor) -> Tensor:
    """Return a list of neighbors (1, n, k) in the order of distances [Å], empty slots last."""
    with torch.no_grad():
        at = coord[0].index_select(0, nlist[0].clamp_min(0).reshape(-1))
        r = torch.linalg.vector_norm(at, dim=-1).reshape(nlist.shape)
        r = torch.where(nlist < 0, torch.full_like(r, torch.inf), r)
        return nlist.gather(2, torch.argsort(r, dim=2, stable=True))
