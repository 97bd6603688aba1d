# SPDX-License-Identifier: LGPL-3.0-or-later
"""From an input file to a plan: everything that is decided before something is built."""

import contextlib
import copy
import dataclasses
import json
import logging
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepmd.base.errors import DataError, InputError
from deepmd.data.dataset import count_observed
from deepmd.data.neighbor_stat import drop_close_pairs, model_selections, update_sel
from deepmd.data.sampler import read_blocks
from deepmd.data.search import open_systems
from deepmd.data.system import System
from deepmd.dpmodel.loss import Loss
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.model.spin_section import spin_settings
from deepmd.io.files import SINGLE, branch_params, single_model
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.schema.descriptor import Selection
from deepmd.schema.multi_task import resolved
from deepmd.train.checkpoints import read_newest
from deepmd.train.pretrained import Rule, read_pretrained

log = logging.getLogger(__name__)


@dataclasses.dataclass
class Branch:
    """The sections of one task, references into the whole input.

    Attributes
    ----------
    name : str
    model : dict
        With shared parts in the places of their names.
    loss, data : dict
    given : dict
        The model section as it stands in the input.
    where : str
        Path of ``data``.
    """

    name: str
    model: dict[str, Any]
    loss: dict[str, Any]
    data: dict[str, Any]
    given: dict[str, Any]
    where: str = "training"

    def note(self, key: str, value: Any) -> None:
        """Set a key of the model section."""
        self.model[key] = self.given[key] = value


def branches(config: Mapping[str, Any]) -> list[Branch]:
    """Return the tasks of a normalized input."""
    training, model = config["training"], config["model"]
    if "model_dict" not in model:
        return [Branch(SINGLE, model, config["loss"], training, model)]
    return [
        Branch(
            name,
            section,
            config["loss_dict"][name],
            training["data_dict"][name],
            model["model_dict"][name],
            f"training/data_dict/{name}",
        )
        for name, section in resolved(model).items()
    ]


@dataclasses.dataclass(frozen=True)
class Start:
    """File that a training starts from.

    Attributes
    ----------
    checkpoint : Checkpoint
    path : path
    restart : bool
        Whether the training that wrote it is continued.
    rules : dict of str to Rule
        Of every task, where it is fine-tuned.
    """

    checkpoint: Checkpoint
    path: Path
    restart: bool = False
    rules: Mapping[str, Rule] = dataclasses.field(default_factory=dict)

    def section(self, task: str) -> dict[str, Any]:
        """Model section of the branch that a task starts from."""
        branch = self.rules[task].branch if task in self.rules else task
        return branch_params(self.checkpoint.model_params, branch)


#: Training and validation systems of every task.
Systems = Mapping[str, tuple[list[System], list[System] | None]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Plan of a training.

    Attributes
    ----------
    text : str
        The complete input, as it is written to ``out.json``: defaults filled in, numbers in place of
        ``"auto"``, and what is noted about the models. Checkpoints have its ``model`` section, with
        shared parts in the places of their names.
    systems : dict of str to (list of System, list of System or None)
    start : Start or None
    seed : int
        Of the order of the data; that of the checkpoint where one is continued.
    min_nbor_dist : float or None
        Smallest distance of the training data [Å].
    """

    text: str
    systems: Systems
    start: Start | None
    seed: int
    min_nbor_dist: float | None

    @property
    def config(self) -> dict[str, Any]:
        """The complete input, a copy every time."""
        return json.loads(self.text)

    @property
    def model_params(self) -> dict[str, Any]:
        """The ``model`` section as checkpoints have it."""
        model = self.config["model"]
        return {**model, "model_dict": resolved(model)} if "model_dict" in model else model

    @property
    def continued(self) -> Checkpoint | None:
        """Checkpoint of the training that is continued."""
        return self.start.checkpoint if self.start is not None and self.start.restart else None


def make_plan(
    config: dict[str, Any], start: Start | None = None, *, skip_neighbor_stat: bool = False
) -> Plan:
    """Open the data of a normalized input, and decide what it leaves open.

    Parameters
    ----------
    config : dict
        It is not changed.
    start : Start, optional
    skip_neighbor_stat : bool
        Do not go through the data to count neighbors.
    """
    config = copy.deepcopy(config)
    tasks = branches(config)
    systems = {branch.name: open_both(branch) for branch in tasks}
    known = None if start is None or not start.restart else start.checkpoint
    min_dist = math.inf
    for branch in tasks:
        if start is not None and (known is not None or start.rules):
            _take_over_sel(branch, start.section(branch.name))
    if known is None and not skip_neighbor_stat:
        min_dist = _count_neighbors(tasks, systems)
    for branch in tasks:
        _refuse_auto(branch)
        if Loss.registry.get(branch.loss.get("type", "ener")).wants_hessian(branch.loss):
            branch.note("hessian_mode", True)  # evaluated by default, once it is trained
        _note_types(branch, systems[branch.name][0], start)
    if known is not None and known.min_nbor_dist is not None:
        min_dist = known.min_nbor_dist
    return Plan(
        as_json(config),
        systems,
        start,
        0 if known is not None else _choose_seed(config["training"]),
        min_dist if math.isfinite(min_dist) else None,
    )


def as_json(data: Mapping[str, Any]) -> str:
    """Return the text of an input."""
    return json.dumps(data, indent=4, ensure_ascii=False)


def read_start(
    backend: Any,
    suffix: str,
    init_model: str | None = None,
    restart: str | None = None,
    init_frz_model: str | None = None,
    finetune: str | None = None,
) -> Start | None:
    """Read the file that the training starts from, if one is given.

    One that is fine-tuned may be of any backend, a model file or a checkpoint.
    """
    if finetune is not None:
        return Start(*read_pretrained(backend, suffix, finetune))
    given = restart or init_model
    if given is not None:
        checkpoint, path = read_newest(given, suffix, backend.read_checkpoint)
        log.info("Read %s (step %d).", path, checkpoint.step)
        return Start(checkpoint, path, restart=bool(restart))
    if init_frz_model is None:
        return None
    from deepmd.backend.backend import Backend

    tree = Backend.detect_backend_by_model(init_frz_model)().serialize_hook(init_frz_model)
    model = Model.deserialize(single_model(tree, init_frz_model))
    log.info("Read %s.", init_frz_model)
    section = tree.get("model_def_script") or {}
    return Start(Checkpoint({SINGLE: model}, section), Path(init_frz_model))


def _choose_seed(training: Mapping[str, Any]) -> int:
    """Return the seed of the order of the data; a new one, which is logged, if none is given."""
    seed = training.get("seed")
    if seed is None:
        seed = secrets.randbelow(2**31)
        log.info("training/seed is not given; %d is used", seed)
    return int(seed)


# -- data -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def within(section: str) -> Iterator[None]:
    """Put the section of the input before the place of an error in the data."""
    try:
        yield
    except DataError as error:
        where = f"{section}: {error.where}"
        raise DataError(error.what, where=where, fix=error.fix) from None


def open_data(branch: Branch, kind: str) -> list[System]:
    """Open the systems of ``training_data`` or ``validation_data``."""
    section = branch.data[kind]
    type_map = branch.model.get("type_map")
    if not type_map:
        raise InputError("no type_map", where="model", fix='name the types, e.g. ["O", "H"]')
    with within(f"{branch.where}/{kind}"):
        blocks = read_blocks(section.get("auto_prob", "prob_sys_size"))
        systems = open_systems(
            section["systems"],
            type_map=type_map,
            patterns=section.get("rglob_patterns"),
            blocks=[(first, end) for first, end, _ in blocks],
            keys=section.get("keys"),
        )
        drop_close_pairs(systems, section.get("min_pair_dist", 0.0))
        return systems


def open_both(branch: Branch) -> tuple[list[System], list[System] | None]:
    """Open training and validation data; the latter may be absent."""
    train, given = open_data(branch, "training_data"), branch.data.get("validation_data")
    return train, open_data(branch, "validation_data") if given else None


def _note_types(branch: Branch, systems: Sequence[System], start: Start | None) -> None:
    """Note the types that occur in the data of a new model, or what its file says about it."""
    info = {} if start is None else start.section(branch.name).get("info") or {}
    if start is not None and not start.rules:
        if info:
            branch.note("info", {**info, **(branch.model.get("info") or {})})
        return
    names = branch.model["type_map"]
    counts = count_observed(systems, len(names))
    known = info.get("observed_type", ())  # to a model that is fine-tuned
    seen = [name for name, n in zip(names, counts, strict=True) if n or name in known]
    if missing := [name for name in names if name not in seen]:
        of = "" if branch.name == SINGLE else f" of {branch.name}"
        log.warning("no atom of type %s is in the training data%s", ", ".join(missing), of)
    branch.note("info", {**branch.model.get("info", {}), "observed_type": seen})


# -- numbers of neighbors -------------------------------------------------------------------------


def _count_neighbors(tasks: Sequence[Branch], systems: Systems) -> float:
    """Resolve ``sel: "auto"`` in all model sections; return the smallest distance [Å].

    A descriptor that several branches share gets the largest numbers of their data.
    """
    resolved_sel: dict[tuple[int, str], tuple[Selection, list[Any]]] = {}
    min_dist = math.inf
    for branch in tasks:
        names, spin = branch.model["type_map"], branch.model.get("spin")
        scale = spin_settings(spin, names)["virtual_scale"] if spin else None
        copies = list(model_selections(copy.deepcopy(branch.model)))
        distance = update_sel(copies, systems[branch.name][0], len(names), virtual_scale=scale)
        for one, counted in zip(model_selections(branch.model), copies, strict=True):
            key = id(one.section), one.key
            resolved_sel.setdefault(key, (one, []))[1].append(counted.value)
        min_dist = min(min_dist, distance)
    for one, values in resolved_sel.values():
        several = isinstance(values[0], list)
        one.value = list(map(max, *values)) if several and values[1:] else max(values)
        log.info("neighbor selection: %s", one.value)
    log.info("minimal neighbor distance: %f", min_dist)
    return min_dist


def _take_over_sel(branch: Branch, known: Mapping[str, Any]) -> None:
    """Replace ``"auto"`` by the numbers of the model that is continued or fine-tuned, in place."""
    same = list(known.get("type_map") or ()) == branch.model["type_map"]
    before = {
        one.where: one.value
        for one in model_selections(known)
        if same or isinstance(one.value, int)  # the others are in the order of the types
    }
    for one in model_selections(branch.model):
        if isinstance(one.value, str):
            one.value = copy.deepcopy(before.get(one.where, one.value))


def _refuse_auto(branch: Branch) -> None:
    """Raise InputError if a ``sel`` of the branch's model section is still ``"auto"``."""
    for one in model_selections(branch.model):
        if isinstance(one.value, str):
            raise InputError(
                f'"{one.value}" needs the neighbor statistics',
                where=one.where,
                fix="leave out --skip-neighbor-stat, or give numbers",
            )
