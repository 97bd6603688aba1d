# SPDX-License-Identifier: LGPL-3.0-or-later
"""Node around a fitting that is written for PyTorch."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots
from deepmd.dpmodel.fitting.base import Fitting
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.output_def import FittingOutputDef
from deepmd.dpmodel.statistics import Sample
from deepmd.pt.native.node import NativeNode, back, double_by_default, native_serial, to_torch
from deepmd.pt.native.statistics import merged_sample


class BaseFitting:
    """Base of fittings of plugins, beside ``torch.nn.Module``.

    A class has ``output_def()`` and ``forward(descriptor, atype, gr, g2, h2, fparam, aparam)``, which
    returns {name: (n_frames, n_atoms, *shape)}. The constructor gets the keys of the section, and
    ``ntypes``, ``dim_descrpt``, ``embedding_width``, ``mixed_types``, ``type_map``, ``exclude_types``
    and ``type`` if it names them.
    """

    @classmethod
    def register(cls, key: str, *, override: bool = False) -> Callable[[type[Any]], type[Any]]:
        """Return a class decorator that files a fitting under ``key``."""

        def decorate(code: type[Any]) -> type[Any]:
            node = type(
                f"{code.__name__}Node",
                (NativeFitting,),
                {
                    "serial": native_serial("Fitting", key, "dim_descrpt exclude_types context"),
                    "code": code,
                    "__module__": code.__module__,
                    "__doc__": code.__doc__,
                },
            )
            Fitting.registry.register(key, override=override)(node)
            return code

        return decorate

    def get_dim_fparam(self) -> int:
        """Return the number of frame parameters."""
        return int(getattr(self, "numb_fparam", 0))

    def get_dim_aparam(self) -> int:
        """Return the number of atomic parameters."""
        return int(getattr(self, "numb_aparam", 0))


class NativeFitting(NativeNode, Fitting):
    """Node around a fitting of a plugin."""

    def __init__(
        self,
        ntypes: int,
        dim_descrpt: int,
        *,
        type_map: Any,
        exclude_types: Sequence[int] = (),
        context: dict[str, Any],
        section: dict[str, Any],
    ) -> None:
        self.ntypes, self.dim_descrpt = ntypes, dim_descrpt
        self.type_map = None if type_map is None else list(type_map)
        self.exclude_types = [int(t) for t in exclude_types]
        self.context, self.section = context, section
        self.mixed_types = bool(context["mixed_types"])
        module = self.take_module()
        self.numb_fparam = int(getattr(module, "get_dim_fparam", int)())
        self.numb_aparam = int(getattr(module, "get_dim_aparam", int)())
        default = getattr(module, "default_fparam", None)
        self.default_fparam = None if default is None else [float(x) for x in default]
        self.rcond = section.get("rcond")
        self._outputs = FittingOutputDef(list(module.output_def().get_data().values()))

    @classmethod
    def for_descriptor(
        cls,
        section: dict[str, Any],
        descriptor: Descriptor,
        type_map: Sequence[str],
        exclude_types: Sequence[int] = (),
        tebd_dim: int = 0,
    ) -> Any:
        """Build the fitting of a checked section without its type."""
        return cls(
            len(type_map),
            descriptor.dim_out + tebd_dim,
            type_map=type_map,
            exclude_types=exclude_types,
            context={
                "mixed_types": descriptor.mixed_types or tebd_dim > 0,
                "embedding_width": descriptor.dim_embed,
            },
            section=section,
        )

    @classmethod
    def construct(cls, config: dict, data: dict) -> Any:
        """Build the node of a dictionary."""
        return cls(len(config["type_map"] or []), **config)

    def arguments_of_module(self) -> dict[str, Any]:
        """Return arguments that constructors may take beside the keys of the section."""
        return {
            **super().arguments_of_module(),
            **self.context,
            "dim_descrpt": self.dim_descrpt,
            "exclude_types": list(self.exclude_types),
        }

    def output_def(self) -> FittingOutputDef:
        """Return what the fitting predicts."""
        return self._outputs

    def packings(self) -> list[Packing]:
        """No layouts of neighbors are read."""
        return []

    def own_bias(self) -> np.ndarray:
        """Bias that is added beside that of the model, (ntypes, size): a matter of the class."""
        return np.zeros((self.ntypes, next(iter(self._outputs.get_data().values())).size))

    def call(self, output: DescriptorOutput, atoms: Atoms, slots: Slots) -> dict[str, Any]:
        """Evaluate: {name: (n_atoms, size) float64}, without the model's bias."""
        module = self.running_module(output.value)
        n = ops.shape(atoms.atype)[0]
        if n == 0:
            variables = self._outputs.get_data().items()
            return {k: ops.like(np.zeros((0, v.size)), output.value) for k, v in variables}
        fparam = ops.take(atoms.frame_inputs["fparam"], atoms.frame) if self.numb_fparam else None
        aparam = atoms.atom_inputs["aparam"][:, None, :] if self.numb_aparam else None
        # Every atom is a frame of its own: frames of a batch have parameters of their own.
        rotation = None if output.rotation is None else output.rotation[:, None]
        with double_by_default():
            found = module(
                to_torch(output.value)[:, None, :],
                to_torch(atoms.atype)[:, None],
                gr=to_torch(rotation),
                fparam=to_torch(fparam),
                aparam=to_torch(aparam),
            )
        out: dict[str, Any] = {}
        for name, variable in self._outputs.get_data().items():
            value = back(found[name].reshape(n, variable.size), output.value)
            out[name] = self.without_excluded(ops.cast(value, "float64"), atoms)
        return out

    def compute_statistics(self, sample: Sample) -> None:
        """Let ``compute_input_stats`` of the class set what depends on the data."""
        module = self.module()
        method = getattr(module, "compute_input_stats", None)
        if method is not None:
            method(functools.partial(merged_sample, sample), sample.protect)
            self.take_arrays(module)

    def change_types(self, change: Any) -> None:
        """Adopt another type map by the method of the class, where it has one."""
        NativeNode.change_types(self, change)
        self.ntypes = len(change.new)
        self.exclude_types = change.types(self.exclude_types)
