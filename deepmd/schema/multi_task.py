# SPDX-License-Identifier: LGPL-3.0-or-later
"""Multi-task inputs: parts that branches share, names of branches, one branch as a whole input."""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from deepmd.base.errors import InputError, did_you_mean

#: Keys of a branch that may name a part of ``shared_dict``.
PARTS = ("type_map", "descriptor", "fitting_net")
#: Name of no branch: in a fine-tuning it means new parameters.
RANDOM = "RANDOM"
Place = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True)
class Reference:
    """Use of a part of ``shared_dict`` by a branch.

    Attributes
    ----------
    branch : str
    place : tuple
        Where in the branch: ``("descriptor",)``, ``("descriptor", "list", 0)``.
    name : str
        Of the part.
    level : int
        How much of it is shared; 0 is everything.
    text : str
        ``name`` or ``name:level``, as it is written.
    """

    branch: str
    place: Place
    name: str
    level: int
    text: str

    @property
    def where(self) -> str:
        """Path in the input."""
        return "/".join(map(str, ("model/model_dict", self.branch, *self.place)))


def is_multi_task(data: Mapping[str, Any]) -> bool:
    """Whether an input, or part of one, has branches."""
    model = data.get("model")
    return isinstance(model, Mapping) and "model_dict" in model


def references(model: Mapping[str, Any]) -> Iterator[Reference]:
    """Iterate over the uses of shared parts in a ``model`` section.

    Raises
    ------
    InputError
        For a part that ``shared_dict`` does not have, or a level that is no whole number.
    """
    shared = model.get("shared_dict") or {}
    for branch, section in model["model_dict"].items():
        for place, text in _names(section):
            name, colon, level = text.partition(":")
            found = Reference(branch, place, name, int(level) if level.isdecimal() else 0, text)
            if name not in shared:
                near = did_you_mean(name, shared)
                raise InputError(f'shared_dict has no "{name}"', where=found.where, fix=near)
            if colon and not level.isdecimal():
                raise InputError(
                    f'"{level}" is no level', where=found.where, fix=f'use "{name}" or "{name}:1"'
                )
            yield found


def _names(section: Any) -> Iterator[tuple[Place, str]]:
    """Iterate over the places of a branch that hold the name of a part."""
    if not isinstance(section, Mapping):
        return
    for key in PARTS:
        if isinstance(section.get(key), str):
            yield (key,), section[key]
    descriptor = section.get("descriptor")
    members = descriptor.get("list") if isinstance(descriptor, Mapping) else None
    for k, member in enumerate(members if isinstance(members, list) else ()):
        if isinstance(member, str):
            yield ("descriptor", "list", k), member


def resolved(model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the sections of all branches with shared parts in the places of their names.

    The parts are the objects that ``shared_dict`` holds: a change of one changes it for all.
    """
    out = {}
    for branch, section in model["model_dict"].items():
        section = dict(section)
        descriptor = section.get("descriptor")
        if isinstance(descriptor, dict) and isinstance(descriptor.get("list"), list):
            section["descriptor"] = {**descriptor, "list": [*descriptor["list"]]}
        out[branch] = section
    for found in references(model):
        _put(out[found.branch], found.place, model["shared_dict"][found.name])
    return out


def unresolved(model: Mapping[str, Any], sections: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the ``model`` section with names again in the places of shared parts.

    Parameters
    ----------
    model : mapping
        The section before its branches were resolved.
    sections : mapping of str to dict
        Branches with all parts in place, changed meanwhile.
    """
    shared, own = dict(model.get("shared_dict") or {}), copy.deepcopy(dict(sections))
    for found in references(model):
        shared[found.name] = copy.deepcopy(_at(sections[found.branch], found.place))
        _put(own[found.branch], found.place, found.text)
    return {**model, "shared_dict": shared, "model_dict": own}


def _at(node: Any, place: Place) -> Any:
    for key in place:
        node = node[key]
    return node


def _put(node: Any, place: Place, value: Any) -> None:
    _at(node, place[:-1])[place[-1]] = value


def lowered(model: dict[str, Any]) -> dict[str, Any]:
    """Return the ``model`` section with keys beside ``model_dict`` as defaults of its branches.

    Raises
    ------
    InputError
        If the branches or the shared parts are no objects.
    """
    for key in ("model_dict", "shared_dict"):
        if not isinstance(model.get(key, {}), dict):
            raise InputError("an object is expected", where=f"model/{key}")
    common = {k: v for k, v in model.items() if k not in ("model_dict", "shared_dict", "$schema")}
    branches = {}
    for name, section in model["model_dict"].items():
        if not isinstance(section, dict):
            raise InputError("an object is expected", where=f"model/model_dict/{name}")
        branches[name] = {**copy.deepcopy(common), **section}
    return {"shared_dict": model.get("shared_dict", {}), "model_dict": branches}


def check_names(data: Mapping[str, Any]) -> None:
    """Check the names of branches in all sections.

    Raises
    ------
    InputError
        For a name that cannot be one, or that only some of the sections have.
    """
    names = list(data["model"]["model_dict"])
    if not names:
        raise InputError("names no branch", where="model/model_dict", fix="give at least one")
    for name in names:
        if not name or name == RANDOM or any(c in "./:" or c.isspace() for c in name):
            raise InputError(
                f'"{name}" cannot be the name of a branch',
                where="model/model_dict",
                fix=f'use a word without ".", "/", ":" and blanks, and not {RANDOM}',
            )
    training = data.get("training")
    if isinstance(training, dict):
        _check_given(training, names)
        _check_same(training.get("data_dict"), names, "training/data_dict", complete=True)
        for key in ("model_prob", "num_epoch_dict"):
            if training.get(key):
                _check_same(training[key], names, f"training/{key}", complete=True)
    _check_same(data.get("loss_dict", {}), names, "loss_dict")
    _check_aliases(data["model"]["model_dict"])


def _check_given(training: Mapping[str, Any], names: list[str]) -> None:
    """Refuse keys of single-task inputs that would have no effect."""
    of_branch = ("training_data", "validation_data", "stat_file", "stat_file_mode")
    for key in of_branch:
        if key in training:
            raise InputError(
                "belongs to the branches of a multi-task input",
                where=f"training/{key}",
                fix=f"give it in training/data_dict/{names[0]}",
            )
    if "data_dict" not in training:
        raise InputError(
            'required key "data_dict" is missing',
            where="training",
            fix=f"give the data of {', '.join(names)}",
        )


def _check_same(given: Any, names: list[str], where: str, *, complete: bool = False) -> None:
    if not isinstance(given, dict):
        raise InputError("an object is expected", where=where)
    for name in given:
        if name not in names:
            raise InputError(
                f'model/model_dict has no branch "{name}"',
                where=where,
                fix=did_you_mean(name, names) or f"its branches: {', '.join(names)}",
            )
    missing = [name for name in names if name not in given]
    if complete and missing:
        raise InputError(f"branch {', '.join(missing)} is missing", where=where, fix="add it")


def _check_aliases(branches: Mapping[str, Any]) -> None:
    """Refuse two meanings of one name."""
    taken = {name.lower(): name for name in branches}
    if len(taken) < len(branches):
        raise InputError(
            "two branches differ in upper and lower case only",
            where="model/model_dict",
            fix="rename one",
        )
    for branch, section in branches.items():
        aliases = section.get("model_branch_alias", [])
        for alias in aliases if isinstance(aliases, list) else ():
            owner = taken.setdefault(str(alias).lower(), branch)
            if owner != branch:
                raise InputError(
                    f'"{alias}" means branch {owner}, too',
                    where=f"model/model_dict/{branch}/model_branch_alias",
                    fix="use another name",
                )


def one_branch(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the sections of one branch of a resolved input, as those of a single-task input."""
    training = {k: v for k, v in data["training"].items() if k != "data_dict"}
    rest = {k: v for k, v in data.items() if k not in ("model", "loss_dict", "training")}
    return {
        **rest,
        "model": data["model"]["model_dict"][name],
        "loss": data["loss_dict"][name],
        "training": {**training, **data["training"]["data_dict"][name]},
    }


def path_in_whole(where: str | None, name: str, uses: Mapping[str, str]) -> str | None:
    """Return the path in the input of a path in :func:`one_branch`.

    Parameters
    ----------
    where : str or None
    name : str
        The branch.
    uses : mapping of str to str
        Paths of shared parts by the paths that name them: ``model/model_dict/a/descriptor`` to
        ``model/shared_dict/des``.
    """
    if where is None:
        return None
    inside = {
        "model": f"model/model_dict/{name}",
        "loss": f"loss_dict/{name}",
        "training/training_data": f"training/data_dict/{name}/training_data",
        "training/validation_data": f"training/data_dict/{name}/validation_data",
        "training/stat_file": f"training/data_dict/{name}/stat_file",
    }
    for given, meant in inside.items():
        if where == given or where.startswith(given + "/") or where == f"{given}_mode":
            where = meant + where[len(given) :]
            break
    return shared_path(where, uses)


def shared_path(where: str | None, uses: Mapping[str, str]) -> str | None:
    """Return the path in ``shared_dict`` of a path inside of a part that a branch names."""
    for given, meant in uses.items():
        if where is not None and (where == given or where.startswith(given + "/")):
            return meant + where[len(given) :]
    return where


def check_alike(model: Mapping[str, Any]) -> None:
    """Check what branches of a resolved ``model`` section must have in common.

    Raises
    ------
    InputError
        If ``data_stat_protect`` or the lengths of case embeddings differ, or these are too short.
    """
    given = {name: one.get("data_stat_protect") for name, one in model["model_dict"].items()}
    if len(set(given.values())) > 1:
        told = ", ".join(f"{name} {value}" for name, value in given.items())
        raise InputError(
            f"data_stat_protect differs between branches: {told}",
            where="model/model_dict",
            fix="give it once, beside model_dict",
        )
    _check_cases(model)


def _check_cases(model: Mapping[str, Any]) -> None:
    """Check the case embeddings: of one length, not less than the number of branches."""
    lengths = {
        name: (section.get("fitting_net") or {}).get("dim_case_embd", 0)
        for name, section in model["model_dict"].items()
    }
    where = "model/model_dict"
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise InputError(
            f"dim_case_embd differs between branches: {told}",
            where=where,
            fix="give all fittings the same",
        )
    length = next(iter(lengths.values()))
    if 0 < length < len(lengths):
        raise InputError(
            f"dim_case_embd is {length} for {len(lengths)} branches",
            where=where,
            fix=f"set it to {len(lengths)}",
        )
