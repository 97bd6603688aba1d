# SPDX-License-Identifier: LGPL-3.0-or-later
"""Arguments that descriptors share, and those of the built-in ones."""

from typing import Any

from dargs import Argument, Variant

from deepmd.schema.common import (
    NOT_NEGATIVE,
    POSITIVE,
    Rule,
    common_network_arguments,
    count,
    flag,
    is_sel,
    option,
    widths_argument,
)
from deepmd.schema.registry import descriptor_args


def descriptor_variant(*, exclude: tuple[str, ...] = ()) -> Variant:
    """Choice among the registered descriptors; a hybrid excludes itself."""
    return descriptor_args.variant(exclude=exclude)


def sel_argument(*, mixed: bool = False) -> Argument:
    """Neighbour slots: a list per type, or one number for mixed-type descriptors."""
    dtype: list[Any] = [list[int], str]
    doc = (
        "Slots for neighbours of each type inside rcut. "
        if not mixed
        else "Slots for neighbours inside rcut; of a list only the sum matters. "
    )
    return option(
        "sel",
        [int, *dtype] if mixed else dtype,
        "auto",
        doc + '"auto" or "auto:1.1" takes the largest number found in the training data times the '
        "factor, rounded up to a multiple of 4.",
        rule=Rule(
            is_sel, 'must be whole numbers with a positive sum, "auto", or "auto:f" with f >= 1'
        ),
    )


def cutoff_arguments() -> list[Argument]:
    """Cutoff radius and start of the switch."""
    return [
        option("rcut", float, 6.0, "Cutoff radius, Å.", rule=POSITIVE),
        option("rcut_smth", float, 0.5, "Start of the smooth switch, Å.", rule=NOT_NEGATIVE),
    ]


def environment_arguments(*, set_davg_zero: bool = False) -> list[Argument]:
    """Exclusions, protection and mean of the environment matrix, and whether it is trained."""
    return [
        flag("trainable", "Whether the parameters are trained.", default=True),
        option(
            "exclude_types",
            list[list[int]],
            [],
            "Pairs of types that do not see each other in this descriptor.",
            rule=Rule(is_pairs, "must be a list of pairs of type indices, [[0, 1]]"),
        ),
        option(
            "env_protection",
            float,
            0.0,
            "Length added to the distance in denominators, Å.",
            rule=NOT_NEGATIVE,
        ),
        flag("set_davg_zero", "Take the mean of the environment as 0.", default=set_davg_zero),
    ]


def axis_neuron_argument(default: int = 4) -> Argument:
    """Columns of the embedding kept for the second factor."""
    return count(
        "axis_neuron",
        default,
        "Number of embedding channels kept for the second factor.",
        alias=["n_axis_neuron"],
    )


def is_pairs(value: list[Any]) -> bool:
    """Whether this is a list of pairs of type indices."""
    return all(
        isinstance(p, list) and len(p) == 2 and all(isinstance(t, int) and t >= 0 for t in p)
        for p in value
    )


def se_e2_a_arguments() -> list[Argument]:
    """Keys of the two-body descriptor with full relative coordinates."""
    return [
        sel_argument(),
        *cutoff_arguments(),
        widths_argument(
            [10, 20, 40], "Widths of the embedding network; residual if same or twice."
        ),
        axis_neuron_argument(),
        flag(
            "type_one_side",
            "Embedding networks depend on the neighbour's type only, not on the centre's.",
        ),
        *common_network_arguments(),
        *environment_arguments(),
    ]
