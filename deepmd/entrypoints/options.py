# SPDX-License-Identifier: LGPL-3.0-or-later
"""Arguments of commands as data."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Option(NamedTuple):
    """Names and settings of an argument, as ``ArgumentParser.add_argument`` takes them."""

    flags: list[str]
    settings: dict[str, Any]


#: Options of a command; a list of them stands for alternatives, which exclude each other.
Options = Sequence[Option | list[Option]]


def option(flags: str, help: str | None = None, default: Any = None, **settings: Any) -> Option:
    """Declare an argument.

    The type follows from the default, of which the help speaks, too; False makes a switch.

    Parameters
    ----------
    flags : str
        Its names, separated by spaces.
    help : str, optional
        What it means; it ends with the default in parentheses.
    default : optional
    **settings
        For ``ArgumentParser.add_argument``.
    """
    if isinstance(default, bool):
        settings["action"] = "store_true"
    elif isinstance(default, int | float):
        settings["type"] = type(default)
    if help and isinstance(default, str | int | float) and default is not False and default != "":
        help = f"{help} ({default})"
    return Option(flags.split(), {"help": help, "default": default, **settings})


def alternatives(item: Option | list[Option]) -> list[Option]:
    """Return the options that an entry of a table stands for."""
    return [item] if isinstance(item, Option) else item
