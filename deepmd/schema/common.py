# SPDX-License-Identifier: LGPL-3.0-or-later
"""Arguments and value checks that several sections share."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from dargs import Argument

ACTIVATIONS = (
    "relu",
    "tanh",
    "gelu",
    "gelu_tf",
    "silu",
    "silut",
    "custom_silu",
    "relu6",
    "softplus",
    "sigmoid",
    "linear",
    "none",
)
PRECISIONS = ("default", "float64", "float32", "float16", "bfloat16")

#: Documentation of the key ``info`` of model sections.
INFO = "Anything; kept in the model file."


def is_activation(name: Any) -> bool:
    """Whether this names an activation function, ``silut:3.0`` included."""
    if not isinstance(name, str):
        return False
    base, _, threshold = name.lower().partition(":")
    if base not in ACTIVATIONS:
        return False
    return not threshold or (
        base in ("silut", "custom_silu") and re.fullmatch(r"\d+(\.\d*)?", threshold) is not None
    )


def is_sel(value: Any) -> bool:
    """Whether this is a neighbor selection: positive numbers, "auto" or "auto:factor"."""
    if isinstance(value, str):
        factor = re.fullmatch(r"auto(?::(\d+(?:\.\d*)?))?", value)
        return factor is not None and (factor[1] is None or float(factor[1]) >= 1.0)
    numbers = value if isinstance(value, list) else [value]
    return len(numbers) > 0 and all(n >= 0 for n in numbers) and sum(numbers) > 0


class Rule(NamedTuple):
    """A condition on a value of the right type, and how it is worded."""

    holds: Callable[[Any], bool]
    must: str


#: None passes both: the key is not given.
POSITIVE = Rule(lambda v: v is None or v > 0, "must be greater than 0")
NOT_NEGATIVE = Rule(lambda v: v is None or v >= 0, "must be 0 or greater")
BELOW_ONE = Rule(lambda v: v is None or 0 <= v < 1, "must be in [0, 1)")
FRACTION = Rule(lambda v: v is None or 0 < v <= 1, "must be in (0, 1]")


def one_of(*choices: str) -> Rule:
    """Return the rule that a value is one of some words."""
    return Rule(lambda v: v in choices, f"must be one of {', '.join(choices)}")


def option(
    name: str,
    dtype: Any,
    default: Any,
    doc: str,
    *,
    alias: list[str] | None = None,
    rule: Rule | None = None,
) -> Argument:
    """Return an argument with a default."""
    made = unset(name, dtype, doc, alias=alias, rule=rule)
    made.default = default
    return made


def flag(name: str, doc: str, *, default: bool = False, alias: list[str] | None = None) -> Argument:
    """Return an argument that is true or false."""
    return option(name, bool, default, doc, alias=alias)


def count(name: str, default: int, doc: str, *, alias: list[str] | None = None) -> Argument:
    """Return an argument that is a whole number above 0."""
    return option(name, int, default, doc, alias=alias, rule=POSITIVE)


def choice(name: str, doc: str, *words: str) -> Argument:
    """Return an argument that is one of some words, by default the first."""
    return option(name, str, words[0], doc, rule=one_of(*words))


def unset(
    name: str, dtype: Any, doc: str, *, alias: list[str] | None = None, rule: Rule | None = None
) -> Argument:
    """Return an optional argument that stays absent unless it is given."""
    made = required(name, dtype, doc, rule=rule)
    made.optional, made.alias = True, alias or []
    return made


def required(name: str, dtype: Any, doc: str, *, rule: Rule | None = None) -> Argument:
    """Return an argument that must be given."""
    return Argument(
        name,
        dtype,
        extra_check=rule.holds if rule else None,
        extra_check_errmsg=rule.must if rule else "",
        doc=doc,
    )
