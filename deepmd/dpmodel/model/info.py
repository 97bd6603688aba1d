# SPDX-License-Identifier: LGPL-3.0-or-later
"""Facts of a model that its callers need, in one place: stored in every file, asked everywhere."""

import dataclasses
import json
import math
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.dpmodel.input_def import InputDef
from deepmd.dpmodel.module import Module, walk
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.output_def import Level

#: Version of the dictionary; files of later versions are refused.
SCHEMA = 1
#: Key of the dictionary in files.
METADATA = "metadata"
#: Facts that may be infinite, which is null in JSON.
_RANGES = ("interaction_range", "message_range")


@dataclasses.dataclass(frozen=True)
class OutputInfo:
    """One quantity that is predicted for every atom, and what follows from it.

    Parameters
    ----------
    name : str
    level : Level
        ``Level.ATOM``: values of frames are sums or, if intensive, means.
    size : int
        Number of components.
    differentiable : bool
        Whether there are derivatives by edge vectors.
    intensive : bool
    magnetic : bool
        Whether there are derivatives by spins.
    """

    name: str
    level: Level
    size: int
    differentiable: bool
    intensive: bool
    magnetic: bool


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """Description of a model.

    Parameters
    ----------
    type_map : tuple of str
        Names of the types.
    rcut : float
        Cutoff [Å] of the pairs that are evaluated.
    interaction_range : float
        Distance [Å] beyond which atoms do not influence each other; infinite for long-range models.
    message_range : float
        Distance [Å] up to which the neighbors of other atoms matter; 0 without messages, infinite
        where it is not known.
    sel : tuple of int
        Largest numbers of neighbors.
    inputs : tuple of InputDef
    outputs : tuple of OutputInfo
    packings : tuple of Packing
        Layouts of the slots of the evaluation entry, in their order.
    core_types : int
        Number of types that the evaluation entry knows: with spins, of atoms and their partners.
    contributing_types : tuple of bool
        Of these, which count in means.
    selected_types : tuple of int
        Types that are predicted; empty means all.
    use_spin : tuple of bool
        Which types have a spin; empty without spins.
    spin_scale : tuple of float
        Displacement of the virtual atom per unit of spin [Å].
    precision : str
        Lowest precision of its arrays, such as ``float32``.
    message_passing : bool
        Whether atoms beyond the cutoff matter.
    mixed_types : bool
        Whether neighbors are one list of all types.
    compressed : bool
        Whether embedding networks are tabulated.
    probes : int
        Number of small frames with results in the file.
    regions : bool
        Whether ``aparam`` are numbers of regions, for which a sum over fragments is evaluated.
    schema : int
        Version of this description.
    """

    type_map: tuple[str, ...]
    rcut: float
    interaction_range: float
    message_range: float
    sel: tuple[int, ...]
    inputs: tuple[InputDef, ...]
    outputs: tuple[OutputInfo, ...]
    packings: tuple[Packing, ...]
    core_types: int
    contributing_types: tuple[bool, ...]
    selected_types: tuple[int, ...]
    use_spin: tuple[bool, ...]
    spin_scale: tuple[float, ...]
    precision: str
    message_passing: bool
    mixed_types: bool
    compressed: bool = False
    probes: int = 0
    regions: bool = False
    schema: int = SCHEMA

    # -- inputs -------------------------------------------------------------------------------

    def input(self, name: str) -> InputDef | None:
        """Return the definition of an input, or None if the model does not take it."""
        return next((i for i in self.inputs if i.name == name), None)

    def size_of(self, name: str) -> int:
        """Return how many numbers an input has per frame or atom, 0 if the model does not take it."""
        found = self.input(name)
        return 0 if found is None else found.size

    def default_of(self, name: str) -> list[float] | None:
        """Return the value of an input where none is given, or None."""
        found = self.input(name)
        return None if found is None or found.default is None else list(found.default)

    # -- JSON ---------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the description as JSON has it; an infinite range is null."""
        data = dataclasses.asdict(self)
        for name in _RANGES:
            if math.isinf(data[name]):
                data[name] = None
        if not data["regions"]:  # of few models
            del data["regions"]
        return json.loads(json.dumps(data))

    def to_json(self) -> str:
        """Return the description as JSON text."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ModelInfo":
        """Return the description that :meth:`to_dict` gave.

        Raises
        ------
        ModelFileError
            If it is of a later version, or something is missing.
        """
        schema = data.get("schema")
        if schema != SCHEMA:
            raise ModelFileError(
                f"the description of the model has version {schema}; {SCHEMA} is read here",
                fix="freeze the model again with this program, or read it with a later one",
            )
        try:
            # Files of earlier releases do not state the second.
            farthest = data["interaction_range"] if data["message_passing"] else 0.0
            data = {"message_range": farthest, "regions": False} | data
            given = {f.name: _tuples(data[f.name]) for f in dataclasses.fields(cls)}
            return cls(
                **given
                | {name: math.inf if data[name] is None else float(data[name]) for name in _RANGES}
                | {
                    "inputs": tuple(_made(InputDef, d) for d in data["inputs"]),
                    "outputs": tuple(_made(OutputInfo, d) for d in data["outputs"]),
                    "packings": tuple(Packing(**_values(d)) for d in data["packings"]),
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"the description of the model is damaged ({error})") from None

    @classmethod
    def from_json(cls, text: str) -> "ModelInfo":
        """Return the description of a JSON text; see :meth:`from_dict`."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ModelFileError(f"the description of the model is no JSON ({error})") from None
        return cls.from_dict(data if isinstance(data, dict) else {})


def lowest_precision(module: Module) -> str:
    """Return the precision of the least precise array of a module."""
    widths = {8: "float64", 4: "float32", 2: "float16"}
    sizes = [np.asarray(a).dtype.itemsize for _, a, _ in walk(module) if a.dtype.kind not in "iub"]
    return widths.get(min(sizes, default=8), "float64")


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _values(data: dict[str, Any]) -> dict[str, Any]:
    return {k: _tuples(v) for k, v in data.items()}


def _made(kind: Any, data: dict[str, Any]) -> Any:
    return kind(**_values(data) | {"level": Level(data["level"])})
