# SPDX-License-Identifier: LGPL-3.0-or-later
"""Settings that descriptors share."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from dargs import Variant

from deepmd.schema.common import NOT_NEGATIVE, POSITIVE, Rule, is_sel
from deepmd.schema.network import widths
from deepmd.schema.registry import descriptor_args
from deepmd.schema.settings import Settings, setting

_AUTO = (
    '"auto" or "auto:1.1" takes the largest number found in the training data times the factor, '
    "rounded up to a multiple of 4."
)
SEL = Rule(is_sel, 'must be whole numbers with a positive sum, "auto", or "auto:f" with f >= 1')
NEURON = widths(
    (10, 20, 40), "Widths of the embedding network; residual if same or twice.", least=1
)
SEL_OF_ALL = setting(
    "auto",
    f"Slots for neighbors inside rcut; of a list only the sum matters. {_AUTO}",
    kind=[int, list[int], str],
    rule=SEL,
    within="rcut",
)
AXIS_NEURON = setting(
    4,
    "Number of embedding channels kept for the second factor.",
    alias=["n_axis_neuron"],
    rule=POSITIVE,
)


def descriptor_variant(*, exclude: tuple[str, ...] = ()) -> Variant:
    """Choice among the registered descriptors; a hybrid excludes itself."""
    return descriptor_args.variant(exclude=exclude)


def is_pairs(value: list[Any]) -> bool:
    """Whether this is a list of pairs of type indices."""
    return all(
        isinstance(p, list) and len(p) == 2 and all(isinstance(t, int) and t >= 0 for t in p)
        for p in value
    )


class CutoffSettings(Settings):
    """Range and numbers of neighbors."""

    rcut: float = setting(6.0, "Cutoff radius, Å.", rule=POSITIVE)
    rcut_smth: float = setting(0.5, "Start of the smooth switch, Å.", rule=NOT_NEGATIVE)
    sel: list[int] = setting(
        "auto",
        f"Slots for neighbors of each type inside rcut. {_AUTO}",
        kind=[list[int], str],
        rule=SEL,
        within="rcut",
    )


EXCLUDE_TYPES = setting(
    (),
    "Pairs of types that do not see each other in this descriptor.",
    rule=Rule(is_pairs, "must be a list of pairs of type indices, [[0, 1]]"),
)
ENV_PROTECTION = setting(0.0, "Length added to the distance in denominators, Å.", rule=NOT_NEGATIVE)
TRAINABLE = setting(True, "Whether the parameters are trained.")


@dataclasses.dataclass
class Selection:
    """Key of the input that says how many neighbors there is room for.

    Attributes
    ----------
    section : dict
        Section that holds it.
    key, where : str
        Its name and its path.
    rcut : float
        Cutoff of these neighbors [Å].
    mixed : bool
        Whether types are counted together.
    """

    section: dict[str, Any]
    key: str
    where: str
    rcut: float
    mixed: bool

    @property
    def value(self) -> Any:
        """The value."""
        return self.section[self.key]

    @value.setter
    def value(self, value: Any) -> None:
        self.section[self.key] = value


def selections_of(
    kind: type[Settings], section: dict[str, Any], where: str, *, mixed: bool
) -> Iterator[Selection]:
    """Iterate over the selections of a section that the settings of a class declare (``within``).

    Parameters
    ----------
    kind : type of Settings
        Parts, whose sections are inside of that of the whole, are included.
    section : dict
    where : str
        Path of the section.
    mixed : bool
        Whether types are counted together.
    """
    for name, s in kind.settings.items():
        if s.part is not None and isinstance(section.get(name), dict):
            yield from selections_of(s.part, section[name], f"{where}/{name}", mixed=mixed)
        elif s.within is not None and name in section and s.within in section:
            yield Selection(section, name, f"{where}/{name}", float(section[s.within]), mixed)
