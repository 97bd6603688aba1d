# SPDX-License-Identifier: LGPL-3.0-or-later
"""Other type maps for models that exist: types added, dropped and in another order."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from deepmd.dpmodel.atomic_model import (
    AtomicModel,
    LinearAtomicModel,
    PairTabAtomicModel,
    StandardAtomicModel,
)
from deepmd.dpmodel.descriptor import Descriptor
from deepmd.dpmodel.descriptor.dpa2 import DescrptDPA2
from deepmd.dpmodel.descriptor.dpa3 import DescrptDPA3, RepFlows
from deepmd.dpmodel.descriptor.environment import EnvironmentDescriptor
from deepmd.dpmodel.descriptor.hybrid import DescrptHybrid
from deepmd.dpmodel.descriptor.loc_frame import DescrptLocFrame
from deepmd.dpmodel.descriptor.mixed import MixedDescriptor
from deepmd.dpmodel.descriptor.typed import TypedDescriptor, TypedNeighbours
from deepmd.dpmodel.fitting import Fitting
from deepmd.dpmodel.model import Model, SpinModel
from deepmd.dpmodel.module import Module, modules
from deepmd.dpmodel.nn.electronic_configuration import electronic_configuration
from deepmd.dpmodel.nn.layers import EmbeddingNetwork
from deepmd.dpmodel.nn.random import Seed, child_seed
from deepmd.dpmodel.nn.type_embedding import TypeEmbedding
from deepmd.utils.errors import InputError, NotAvailableError

_Kind = TypeVar("_Kind", Model, AtomicModel)


def change_type_map(model: _Kind, type_map: Sequence[str], *, seed: Seed = None) -> _Kind:
    """Return the same model for another type map; types are matched by name.

    Predictions for the types that stay are the same. A new type has no bias, statistics 0 and 1,
    and fresh parameters: a row of the type embedding, or networks of its own.

    Descriptors without type embedding have networks for pairs of types and count empty slots of
    every type. They take no new types, and keep what they hold of dropped ones, behind the
    others; pair tables take no new types either. New types have no spin.

    Parameters
    ----------
    model : Model or AtomicModel
        Stays as it is.
    type_map : sequence of str
        Names of the types.
    seed : int or tuple, optional
        Of fresh parameters.

    Raises
    ------
    InputError
        If the type map is wrong, or a type cannot be added.
    """
    names = _checked(type_map)
    if isinstance(model, Model):
        whole = copy.deepcopy(model)
        if isinstance(whole, SpinModel):
            _change_spin(whole, names, seed)
        else:
            _change_atomic(whole.atomic_model, names, seed)
        return whole
    atomic = copy.deepcopy(model)
    _change_atomic(atomic, names, seed)
    return atomic


def _checked(type_map: Sequence[str]) -> list[str]:
    names = [type_map] if isinstance(type_map, str) else list(type_map)
    if not names or not all(isinstance(n, str) and n for n in names):
        raise InputError(f"{names} is no list of names", where="type_map")
    twice = [n for n in names if names.count(n) > 1]
    if twice:
        raise InputError(f"{twice[0]} occurs twice", where="type_map")
    return names


@dataclasses.dataclass
class _Change:
    """Numbers of the new types among the old ones, -1 for types that were not there.

    Nothing sees the ``hidden`` ones, new types of virtual atoms without a spin.
    """

    old: list[str]
    new: list[str]
    seed: Seed
    hidden: Sequence[str] = ()

    @property
    def index(self) -> np.ndarray:
        """Old number of every new type."""
        return np.array([self.old.index(n) if n in self.old else -1 for n in self.new])

    @property
    def added(self) -> list[str]:
        """Types that were not there."""
        return [n for n in self.new if n not in self.old]

    def with_dropped(self) -> "_Change":
        """Return the change that keeps dropped types behind the others."""
        dropped = [n for n in self.old if n not in self.new]
        return dataclasses.replace(self, new=self.new + dropped)

    def rows(self, array: Any, fill: Any, axis: int = 0) -> Any:
        """Reorder an array along the axis of the types; new types get ``fill``."""
        array = np.asarray(array)
        out = np.array(np.take(array, np.maximum(self.index, 0), axis=axis))
        where = [slice(None)] * out.ndim
        where[axis] = self.index < 0  # type: ignore[call-overload]
        out[tuple(where)] = fill
        return out

    def types(self, old: Sequence[int]) -> list[int]:
        """Renumber a list of types; dropped ones are left out."""
        numbers = self.index.tolist()
        return sorted(numbers.index(int(t)) for t in old if int(t) in numbers)

    def pairs(self, old: Sequence[Sequence[int]]) -> list[list[int]]:
        """Renumber pairs of types; pairs with a dropped one are left out."""
        numbers = self.index.tolist()
        kept = [
            [numbers.index(int(a)), numbers.index(int(b))]
            for a, b in old
            if int(a) in numbers and int(b) in numbers
        ]
        hidden = [self.new.index(name) for name in self.hidden]
        return kept + [[t, other] for t in hidden for other in range(len(self.new))]

    def values(self, old: Sequence[Any]) -> list[Any]:
        """Reorder a list with one entry per type (or fewer); new types get None."""
        return [old[t] if 0 <= t < len(old) else None for t in self.index]


# -- atomic models --------------------------------------------------------------------------------


def _change_spin(model: SpinModel, names: list[str], seed: Seed) -> None:
    """Change a model of atoms and their partners in place."""
    change = _Change(model.get_type_map(), names, seed)
    atomic, n = model.atomic_model, len(names)
    partner = dict(zip(change.old, atomic.type_map[len(change.old) :], strict=True))
    partner |= {name: f"{name}_spin" for name in change.added}
    fresh = [partner[name] for name in change.added]
    _change_atomic(atomic, [*names, *(partner[name] for name in names)], seed, hidden=fresh)
    atomic.atom_exclude_types = sorted({*atomic.atom_exclude_types, *range(n, 2 * n)})
    model.use_spin = [bool(used) for used in change.values(model.use_spin)]
    model.virtual_scale = [scale or 0.0 for scale in change.values(model.virtual_scale)]


def _change_atomic(
    model: AtomicModel, names: list[str], seed: Seed, *, hidden: Sequence[str] = ()
) -> None:
    """Change an atomic model in place."""
    whole: Any = model
    change = _Change(list(model.type_map), names, seed, hidden)
    common = False
    if isinstance(model, StandardAtomicModel):
        order = _change_descriptor(model.descriptor, change)
        _change_fitting(model.fitting, change)
        _reorder_inputs(model.fitting, order)
        common = not getattr(model.fitting, "distinguish_types", True)
    elif isinstance(model, LinearAtomicModel):
        members = {id(m): m for m in model.models}  # a member may serve twice
        for k, member in enumerate(members.values()):
            _change_atomic(member, names, child_seed(seed, k))
    elif isinstance(model, PairTabAtomicModel):
        _change_table(model.tab, change)
    else:
        raise NotAvailableError(f"the types of a {type(model).__name__} cannot be changed")
    for name, fill in (("out_bias", 0.0), ("out_std", 1.0)):
        rows = getattr(whole, name)
        if common:  # the first row serves for all types
            setattr(whole, name, np.repeat(rows[:, :1], len(names), axis=1))
        else:
            setattr(whole, name, change.rows(rows, fill, axis=1))
    whole.atom_exclude_types = change.types(whole.atom_exclude_types)
    whole.pair_exclude_types = change.pairs(whole.pair_exclude_types)
    if whole.preset_out_bias is not None:
        given = whole.preset_out_bias.items()
        whole.preset_out_bias = {k: None if v is None else change.values(v) for k, v in given}
    whole.type_map = list(names)


def _change_table(table: Any, change: _Change) -> None:
    """Reorder the potentials of a pair table."""
    if change.added:
        raise InputError(
            f"the pair table has no potential for {', '.join(change.added)}",
            where="type_map",
            fix="build the model anew with a table for all types",
        )
    old, index, n = table.ntypes, change.index, len(change.new)
    splines = np.asarray(table.tab_data).reshape(old, old, -1)
    table.tab_data = np.array(splines[np.ix_(index, index)]).reshape(-1)
    column = np.zeros((old, old), dtype=np.int64)
    upper = np.triu_indices(old)
    column[upper] = column.T[upper] = 1 + np.arange(len(upper[0]))
    kept = column[index[:, None], index[None, :]][np.triu_indices(n)]
    table.vdata = np.array(np.asarray(table.vdata)[:, [0, *kept.tolist()]])
    table.tab_info = np.array([*np.asarray(table.tab_info)[:3], n], dtype=np.float64)
    table.ntypes = n


# -- fittings -------------------------------------------------------------------------------------


def _change_fitting(fitting: Fitting, change: _Change) -> None:
    """Change a fitting in place."""
    part: Any = fitting
    n = len(change.new)
    if not fitting.mixed_types:
        old = part.nets.networks
        part.nets.networks = [
            old[t] if t >= 0 else fitting.fresh_network(child_seed(change.seed, k))
            for k, t in enumerate(change.index)
        ]
    part.nets.ntypes = part.ntypes = n
    part.bias_atom_e = change.rows(part.bias_atom_e, 0.0)
    part.exclude_types = change.types(part.exclude_types)
    if part.type_map is not None:
        part.type_map = list(change.new)
    if part.atom_ener:
        part.atom_ener = _vacuum_energies(fitting, change)
    if hasattr(part, "constant_matrix"):
        scale = np.asarray(part.scale)
        same = bool((scale == scale[:1]).all())
        part.scale = change.rows(scale, scale[0] if same else 1.0)
        part.constant_matrix = change.rows(part.constant_matrix, 0.0)


def _reorder_inputs(fitting: Fitting, order: np.ndarray) -> None:
    """Let networks take the components of the descriptor in another order."""
    if (order == np.arange(len(order))).all():
        return
    for network in fitting.nets.networks:
        first = network.layers[0]
        if first.adds_input:
            raise NotAvailableError(
                "the components of the descriptor cannot change places, since the first layer of "
                "the fitting adds its input"
            )
        first.w = np.concatenate([first.w[order], first.w[len(order) :]])


def _vacuum_energies(fitting: Fitting, change: _Change) -> list[float | None]:
    """Reorder ``atom_ener``, whose numbers say of which types a vacuum energy is subtracted."""
    old = list(fitting.atom_ener or [])
    new = change.values(old)
    had, has = (any(e is not None for e in values) for values in (old, new))
    if fitting.mixed_types and had and not has:
        # One number switches this on for all types of a common network.
        raise InputError(
            "atom_ener would be left without a number, which changes the energies of all types",
            where="type_map",
            fix="keep a type that has one",
        )
    return new


# -- descriptors ----------------------------------------------------------------------------------


def _change_descriptor(descriptor: Descriptor, change: _Change) -> np.ndarray:
    """Change a descriptor in place; return where its components were (dim_out,)."""
    if isinstance(descriptor, DescrptHybrid):
        orders, begin = [], 0
        for k, member in enumerate(descriptor.list):
            seed = child_seed(change.seed, k)
            part = _change_descriptor(member, dataclasses.replace(change, seed=seed))
            orders.append(begin + part)
            begin += len(part)
        return np.concatenate(orders)
    if isinstance(descriptor, DescrptLocFrame):
        return _change_frames(descriptor, change)
    if isinstance(descriptor, TypedDescriptor):
        _change_typed(descriptor, change)
    elif isinstance(descriptor, MixedDescriptor | DescrptDPA2 | DescrptDPA3):
        of_frames = ("chg_embedding", "spin_embedding")  # their rows are no types
        for node in modules(descriptor, {id(getattr(descriptor, n, None)) for n in of_frames}):
            _change_node(node, change)
    else:
        raise NotAvailableError(
            f"the types of the descriptor {descriptor.serial.type} cannot be changed"
        )
    return np.arange(descriptor.dim_out)


def _change_typed(descriptor: TypedDescriptor, change: _Change) -> None:
    """Reorder the types of a descriptor with networks of its own for each."""
    change = _behind(descriptor, change)
    part: Any = descriptor
    _change_environment(part, change)
    part.sel = [part.sel[t] for t in change.index]
    nets, n = part.embeddings, len(change.new)
    old = list(nets.networks)
    if nets.ndim == 1:
        nets.networks = [old[t] for t in change.index]
        return
    symmetric = descriptor.serial.type == "se_e3"  # only keys (a, b) with a <= b are used
    for a, s in enumerate(change.index):
        for b, t in enumerate(change.index):
            pair = sorted((s, t), reverse=a > b) if symmetric else (s, t)
            nets.networks[a + b * n] = old[pair[0] + pair[1] * n]


def _behind(descriptor: TypedNeighbours, change: _Change) -> _Change:
    """Give a typed descriptor its new names, dropped types behind the others."""
    if change.added:
        raise InputError(
            f"the descriptor {descriptor.serial.type} has parameters of its own for every type and "
            f"none for {', '.join(change.added)}",
            where="type_map",
            fix="train a new model, or start from one with type embeddings, such as dpa1",
        )
    # Types that an earlier change dropped are still there, behind the model's.
    earlier = list(descriptor.type_map or [])[len(change.old) :]
    change = dataclasses.replace(change, old=change.old + earlier).with_dropped()
    descriptor.type_map = list(change.new)
    return change


def _change_frames(descriptor: DescrptLocFrame, change: _Change) -> np.ndarray:
    """Reorder the types whose neighbours span the frames; return where components were."""
    change = _behind(descriptor, change)
    index = change.index.tolist()
    parts = np.split(
        np.arange(descriptor.dim_out),
        np.cumsum([*(4 * n for n in descriptor.sel_a), *descriptor.sel_r])[:-1],
    )
    order = np.concatenate([parts[t + k] for k in (0, len(index)) for t in index])
    rules = np.reshape(descriptor.axis_rule, (-1, 2, 3))[index]  # (types, axes, list type place)
    named = rules[:, :, 1]
    place = np.argsort(index)
    rules[:, :, 1] = np.where(named < 0, -1 - place[-1 - named], place[named])
    descriptor.axis_rule = rules.reshape(-1).tolist()
    for name in ("sel_a", "sel_r"):
        setattr(descriptor, name, [getattr(descriptor, name)[t] for t in index])
    for name in ("davg", "dstd"):
        setattr(descriptor, name, getattr(descriptor, name)[index][:, order])
    return order


def _change_environment(part: Any, change: _Change) -> None:
    """Reorder the statistics and the excluded pairs of a descriptor."""
    std = 1.0
    if isinstance(part, RepFlows) and part.fix_stat_std:
        std = part.fix_stat_std
    part.davg, part.dstd = change.rows(part.davg, 0.0), change.rows(part.dstd, std)
    part.exclude_types = change.pairs(part.exclude_types)
    if part.type_map is not None:
        part.type_map = list(change.new)


def _change_node(node: Module, change: _Change) -> None:
    """Change what one module of a descriptor with type embedding knows of types."""
    part: Any = node
    if isinstance(node, TypeEmbedding):
        _change_embedding(node, change)
        return
    if isinstance(node, EnvironmentDescriptor):
        _change_environment(part, change)
    elif isinstance(node, Descriptor):
        part.exclude_types = change.pairs(part.exclude_types)
        if part.type_map is not None:
            part.type_map = list(change.new)
    for name in ("_ntypes", "ntypes"):
        if name in vars(part):
            setattr(part, name, len(change.new))


def _change_embedding(embedding: TypeEmbedding, change: _Change) -> None:
    """Reorder the rows of a type embedding; rows of new types are fresh."""
    if embedding.use_econf_tebd:
        electronic_configuration(change.new)
    else:
        old: EmbeddingNetwork = embedding.embedding
        new = EmbeddingNetwork(
            len(change.new),
            old.neuron,
            activation_function=old.activation_function,
            resnet_dt=old.resnet_dt,
            bias=old.bias,
            precision=old.precision,
            seed=child_seed(change.seed, "types"),
        )
        first, fresh = old.layers[0], new.layers[0]
        before, after = _residual(first.w.shape), _residual(fresh.w.shape)
        if (before.any() or after.any()) and first.activation_function.lower() not in _LINEAR:
            raise NotAvailableError("a type embedding with an activation cannot be changed")
        index, there = np.maximum(change.index, 0), change.index >= 0
        # The layer adds its input where the widths fit: that part is not in the weights.
        rows = np.asarray(first.w, np.float64)[index] + before[index] - after
        w = np.where(there[:, None], rows, fresh.w).astype(first.w.dtype)
        if first.idt is not None and first.idt.size and (before.any() or after.any()):
            raise NotAvailableError("a type embedding with time steps cannot be changed")
        embedding.embedding = new
        new.layers = old.layers
        first.w = w
    embedding.ntypes = len(change.new)
    if embedding.type_map is not None:
        embedding.type_map = list(change.new)


_LINEAR = ("linear", "none")


def _residual(shape: tuple[int, ...]) -> np.ndarray:
    """What a layer of this shape adds for one-hot vectors: (n_in, n_out)."""
    n_in, n_out = shape
    unit = np.eye(n_in)
    if n_out == n_in:
        return unit
    return np.hstack([unit, unit]) if n_out == 2 * n_in else np.zeros(shape)
