# SPDX-License-Identifier: LGPL-3.0-or-later
"""Standard models as programs in PyTorch build, load and compile them.

The names of the state are those of DeePMD-kit's dialect. Such a program takes derivatives itself:
by parameters in a training, by positions and cell in an evaluation.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import bind, to_numpy, walk
from deepmd.pt.checkpoint.names import array_names, at, min_nbor_dist_name, state_of
from deepmd.pt.lift import convert, to_neutral
from deepmd.pt.torchscript.energies import TracedCore, atom_energies
from deepmd.pt.torchscript.neighbors import Pairs, frame_pairs, pack_all, packing_lists

#: Numbers that mark arrays begin here: larger than what statistics begin with.
_FIRST_MARK = 1000


class StandardModel(torch.nn.Module):
    """A lifted model that is part of another program's module.

    Parameters
    ----------
    model : Model
        Neutral model.
    section : dict
        Its ``model`` section.
    """

    #: What TorchScript leaves out: in its place there is the graph of ``program``.
    __jit_ignored_attributes__: ClassVar[list[str]] = ["atomic_model"]

    layouts: list[str]
    rcuts: list[float]
    sels: list[list[int]]
    grouped: list[bool]
    nearest: list[int]
    excluded: list[list[int]]
    edge_rcuts: list[float]
    edge_sels: list[int]
    number_format: torch.Tensor

    def __init__(self, model: Model, section: Mapping[str, Any]) -> None:
        super().__init__()
        self.model_def_script = json.dumps(section)
        info, lifted = model.info(), convert(model)
        numbers = [x.dtype for x in lifted.parameters()] or [torch.float64]
        # Programs take the number format of a compiled model from its first array.
        self.register_buffer("number_format", torch.zeros(1, dtype=numbers[0]), persistent=False)
        self.atomic_model = lifted.atomic_model
        self.whole = (lifted,)  # no child: its only part is
        self.rcut, self.core_types = float(info.rcut), info.core_types
        for name, value in packing_lists(info.packings).items():
            setattr(self, name, value)
        self.reason = _why_no_energies(model)
        self.program: torch.nn.Module = Compiled(self.whole)
        self.named, self.constants = state_names(model)
        _sort(self, self.named)
        self.register_state_dict_post_hook(_to_dialect)
        self.register_load_state_dict_pre_hook(_from_dialect)

    def serialize(self) -> dict[str, Any]:
        """Return the neutral dictionary."""
        data: dict[str, Any] = to_neutral(self.whole[0]).serialize()
        return data

    def get_model_def_script(self) -> str:
        """Return the ``model`` section as JSON."""
        return self.model_def_script

    def get_fitting_net(self) -> Any:
        """Return the fitting; in TorchScript the graph that it is part of."""
        if torch.jit.is_scripting():
            return self.program
        else:
            return self.atomic_model.fitting

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move arrays to a device; their number formats are those of the section."""
        return super()._apply(lambda x: x.to(fn(x).device), recurse)

    @torch.jit.export
    def forward_common(
        self,
        coord: torch.Tensor,
        atype: torch.Tensor,
        box: torch.Tensor | None = None,
        fparam: torch.Tensor | None = None,
        aparam: torch.Tensor | None = None,
        do_atomic_virial: bool = False,
    ) -> dict[str, torch.Tensor]:
        """Energies, which can be differentiated by everything twice.

        Parameters
        ----------
        coord : (n_frames, n_atoms, 3) [Å]
        atype : (n_frames, n_atoms)
            -1 for what fills frames of fewer atoms.
        box : (n_frames, 3, 3), optional [Å]
        fparam, aparam, do_atomic_virial
            Part of the interface; none of the models has these inputs.

        Returns
        -------
        dict
            ``energy`` (n_frames, n_atoms, 1) in the number format of the positions, ``energy_redu``
            (n_frames, 1) float64 and ``mask`` (n_frames, n_atoms).
        """
        if self.reason != "":
            raise ValueError("forward_common: " + self.reason)
        nf, na = atype.shape[0], atype.shape[1]
        types = atype.to(torch.int64)
        xyz = coord.to(torch.float64).reshape(nf, na, 3)
        i, j, vec = frame_pairs(xyz, types, box, self.rcut)
        flat = types.reshape(-1)
        real = torch.nonzero(flat >= 0).reshape(-1)
        number = torch.full_like(flat, -1)
        number[real] = torch.arange(real.shape[0], device=flat.device)
        frame = torch.div(real, na, rounding_mode="floor")
        i, j, kinds, near = number[i], number[j], flat[real], vec.detach()
        slots = pack_all(
            self.layouts,
            self.core_types,
            self.rcuts,
            self.sels,
            self.grouped,
            self.excluded,
            self.nearest,
            self.edge_rcuts,
            self.edge_sels,
            Pairs(i, j, kinds, frame, near, (near * near).sum(-1)),
        )
        if torch.jit.is_scripting():
            values = self.program(vec, i, j, kinds, frame, slots)
        else:
            values = atom_energies(self.whole[0], vec, i, j, kinds, frame, slots)
        energy = values.new_zeros((nf * na, 1)).index_copy(0, real, values).reshape(nf, na, 1)
        return {
            "energy": energy.to(coord.dtype),
            "energy_redu": energy.sum(1),
            "mask": (types >= 0).to(torch.int32),
        }


class Compiled(torch.nn.Module):
    """Place of the graph of a model, made whenever TorchScript compiles the model.

    The arrays of the graph are no part of the state: they are those of the model at that moment.
    """

    def __init__(self, whole: tuple[Any]) -> None:
        super().__init__()
        self.whole = whole

    def __prepare_scriptable__(self) -> torch.nn.Module:
        core: Any = TracedCore(to_neutral(self.whole[0]))
        for module in core.modules():
            module._non_persistent_buffers_set.update(module._buffers)
        core.__prepare_scriptable__ = self.__prepare_scriptable__
        return core


def _why_no_energies(model: Model) -> str:
    """Return why a model has no energies of positions, types and cells alone; empty if it has."""
    if "energy" not in model.output_def().get_data():
        return f"the model predicts no energy but {', '.join(model.output_def().keys())}"
    if model.has_spin() or model.entry_inputs():
        names = ["spin"] if model.has_spin() else sorted(model.input_names())
        return f"the model needs {', '.join(names)}, which this interface does not take"
    return ""


# -- names ----------------------------------------------------------------------------------------


def state_names(model: Model) -> tuple[dict[str, list[str]], dict[str, torch.Tensor]]:
    """Return the dialect's names of the arrays by their paths, and what has names only there.

    An array is found in the dictionary by the number that fills it.
    """
    paths = {_FIRST_MARK + k: path for k, (path, _, _) in enumerate(walk(model))}
    arrays = {path: array for path, array, _ in walk(model)}
    marked = {path: np.full_like(arrays[path], k) for k, path in paths.items()}
    data = bind(model, marked).serialize()
    named: dict[str, list[str]] = {}
    for place, names in array_names(data).items():
        found = np.asarray(at(data, place))
        path = paths.get(int(found.flat[0])) if found.size else None
        if path is not None:
            named[path] = names
    known = {name for names in named.values() for name in names}
    stored = state_of(model.serialize())
    stored[min_nbor_dist_name(data)] = torch.tensor(-1.0, dtype=torch.float64)
    return named, {name: value for name, value in stored.items() if name not in known}


def _sort(module: torch.nn.Module, named: Mapping[str, Any]) -> None:
    """Sort parts and arrays as the dialect does: optimizers number parameters in this order."""

    def late(path: str) -> tuple[bool, bool]:
        return not path.startswith("atomic_model.descriptor."), ".type_embedding." in path

    rank: dict[str, int] = {}
    for k, path in enumerate(sorted(named, key=late)):
        parts = path.split(".")
        for n in range(1, len(parts) + 1):
            rank.setdefault(".".join(parts[:n]), k)
    for place, node in module.named_modules():
        for held in (node._modules, node._parameters):
            names = sorted(held, key=lambda name: rank.get(f"{place}.{name}".strip("."), len(rank)))
            for name in names:
                held[name] = held.pop(name)


def _to_dialect(module: Any, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Give the arrays of a state the dialect's names and shapes, in place."""
    for path, names in module.named.items():
        value = state.pop(prefix + path)
        node, name = _owner(module, path)
        stored = None if node is None else node.stored_array(name)
        if stored is not None and stored.shape != tuple(value.shape):
            value = torch.from_numpy(stored).to(value)
        state.update({prefix + name: value for name in names})
    state.update({prefix + name: value for name, value in module.constants.items()})


def _owner(module: Any, path: str) -> tuple[Any, str]:
    """Return the node that has an array and its name there; None of an array in a list."""
    place, _, name = path.rpartition(".")
    node = module.get_submodule(place)
    return (node if hasattr(node, "stored_array") else None), name


def _from_dialect(
    module: Any,
    state: dict[str, Any],
    prefix: str,
    metadata: Any,
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """Give the arrays of a state their own names, in place."""
    own = dict(module.named_parameters()) | dict(module.named_buffers())
    for path, names in module.named.items():
        values = [state.pop(prefix + name) for name in names if prefix + name in state]
        missing += [prefix + name for name in names[:1] if not values]
        value = values[0] if values else own[path]
        if value.shape != own[path].shape:
            node, name = _owner(module, path)
            if node is not None:
                value = torch.from_numpy(node.restore_array(name, to_numpy(value)))
        state[prefix + path] = value
    for name, value in module.constants.items():
        module.constants[name] = state.pop(prefix + name, value).detach().clone()
