# SPDX-License-Identifier: LGPL-3.0-or-later
"""The ``dp`` command: parser, logging and the form of errors.

Building the parser imports nothing third-party: the module of a command loads when it runs.
"""

import argparse
import errno
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from deepmd import __version__
from deepmd.base.errors import InputError, closest_name
from deepmd.base.log import LEVELS
from deepmd.entrypoints.commands import COMMANDS, GROUPS, LOG, NOT_BUILT
from deepmd.entrypoints.main import backend_key, dispatch
from deepmd.entrypoints.options import Option, Options, alternatives, option

BACKEND_FLAGS = {
    "tensorflow": ("--tf", "--tensorflow"),
    "pytorch": ("--pt", "--pytorch"),
    "jax": ("--jax",),
    "dpmodel": ("--dp", "--dpmodel", "--np", "--numpy"),
    "paddle": ("--pd", "--paddle"),
    "pytorch-exportable": ("--pt-expt", "--pytorch-exportable"),
    "tensorflow2": ("--tf2", "--tensorflow2"),
}
_BACKEND = option(
    "-b --backend",
    "backend that trains and freezes, by name (also DP_BACKEND=NAME); by default the first of "
    "TensorFlow, PyTorch, JAX and NumPy that can be used",
    type=str.lower,
    metavar="NAME",
)
_BACKENDS = [
    option(" ".join(flags), f"backend {name}", dest="backend", action="store_const", const=name)
    for name, flags in BACKEND_FLAGS.items()
]
#: Errors of the system that a user can mend.
_USER_ERRNO = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


class Parser(argparse.ArgumentParser):
    """A parser whose errors suggest the nearest choice."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with 2."""
        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if wrong is not None:
            match = closest_name(wrong[1], re.findall(r"[\w.-]+", wrong[2]))
            message += f'; did you mean "{match}"?' if match else ""
        super().error(message)


def main_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line with all commands."""
    parser = Parser(
        prog="dp",
        description="DeePMD-kit: deep-learning interatomic potentials.",
        epilog="Every command has its own --help.",
    )
    parser.add_argument("--version", action="version", version=f"DeePMD-kit v{__version__}")
    _add_options(parser, [[_BACKEND, *_BACKENDS]])
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    groups: dict[str, Any] = {"": commands}
    for name, (text, options) in (COMMANDS | NOT_BUILT).items():
        text += " (not built yet)" if name in NOT_BUILT else ""
        group, _, word = name.rpartition(" ")
        if group not in groups:
            about = GROUPS[group]
            whole = commands.add_parser(group, help=about, description=about)
            groups[group] = whole.add_subparsers(title="actions", metavar="ACTION", required=True)
        one = groups[group].add_parser(word, help=text, description=text)
        one.set_defaults(command=name)
        _add_options(one, [*options, *LOG])
    return parser


def command_parsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parser of every command of :func:`main_parser` by its name, of two words in groups."""
    out: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, one in action.choices.items():
                inner = command_parsers(one)
                out |= {f"{name} {k}": v for k, v in inner.items()} or {name: one}
    return out


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of a command line."""
    return main_parser().parse_args(args)


def get_ll(log_level: str) -> int:
    """Return the number of a log level of the command line, in the scale of :mod:`logging`."""
    if log_level.upper() not in LEVELS:
        levels = ", ".join(LEVELS)
        raise InputError(f'"{log_level}" is no level', where="--log-level", fix=f"use {levels}")
    return LEVELS[log_level.upper()]


def _add_options(parser: Any, options: Options) -> None:
    """Add options to a parser, or to a group of alternatives in it."""
    for item in options:
        if isinstance(item, Option):
            parser.add_argument(*item.flags, **item.settings)
        else:
            _add_options(parser.add_mutually_exclusive_group(), item)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 means success, 1 an error the user can mend (one line on stderr), 2 wrong arguments. Anything
    else that is raised is a defect of this program and keeps its traceback.
    """
    parser = main_parser()
    parsed, unknown = parser.parse_known_args(args)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{_suggestion(parsed, unknown)}")
    if parsed.command is None:
        parser.print_help()
        return 0
    if parsed.backend is not None:
        try:
            backend_key(parsed.backend)
        except InputError as error:
            parser.error(str(error))
    try:
        dispatch(parsed)
    except InputError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", code=130)
    except OSError as error:
        if error.errno not in _USER_ERRNO:
            raise
        return _fail(f"{error.filename or 'system'}: {error.strerror}")
    return 0


def _suggestion(parsed: argparse.Namespace, unknown: Sequence[str]) -> str:
    """Suggest the option nearest to the first unknown one."""
    options = [*(COMMANDS | NOT_BUILT)[parsed.command][1], *LOG] if parsed.command else []
    flags = [f for item in options for o in alternatives(item) for f in o.flags if f[0] == "-"]
    first = next((a.partition("=")[0] for a in unknown if a.startswith("--")), "")
    match = closest_name(first, flags) if first else None
    return f'; did you mean "{match}"?' if match else ""


def _fail(text: str, code: int = 1) -> int:
    sys.stdout.flush()
    print(f"dp: {' '.join(text.splitlines())}", file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main())
