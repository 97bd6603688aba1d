# SPDX-License-Identifier: LGPL-3.0-or-later
"""The ``dp`` command: parser, logging and the form of errors.

Building the parser imports nothing third-party; a command imports what it needs when it runs.
"""

import argparse
import errno
import sys
from collections.abc import Sequence
from importlib import import_module

from deepmd import __version__
from deepmd.entrypoints import not_built
from deepmd.entrypoints.main import COMMANDS, backend_key, dispatch
from deepmd.utils.errors import InputError
from deepmd.utils.log import LEVELS

BACKEND_FLAGS = {
    "tensorflow": ("--tf", "--tensorflow"),
    "pytorch": ("--pt", "--pytorch"),
    "jax": ("--jax",),
    "dpmodel": ("--dp", "--dpmodel", "--np", "--numpy"),
    "paddle": ("--pd", "--paddle"),
    "pytorch-exportable": ("--pt-expt", "--pytorch-exportable"),
    "tensorflow2": ("--tf2", "--tensorflow2"),
}
#: Errors of the system that a user can mend.
_USER_ERRNO = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def main_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line with all commands."""
    parser = argparse.ArgumentParser(
        prog="dp",
        description="DeePMD-kit: deep-learning interatomic potentials.",
        epilog="Every command has its own --help.",
    )
    parser.add_argument("--version", action="version", version=f"DeePMD-kit v{__version__}")
    _add_backend_choice(parser)
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text)
        import_module(f"deepmd.entrypoints.{module}").add_arguments(sub)
        _add_log_options(sub)
    for name, text in not_built.COMMANDS.items():
        text += " (not built yet)"
        sub = commands.add_parser(name, help=text, description=text)
        not_built.add_arguments(sub, name)
        _add_log_options(sub)
    return parser


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 means success, 1 an error the user can mend (one line on stderr), 2 wrong arguments. Anything
    else that is raised is a defect of this program and keeps its traceback.
    """
    parser = main_parser()
    parsed = parser.parse_args(args)
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


def _fail(text: str, code: int = 1) -> int:
    sys.stdout.flush()
    print(f"dp: {' '.join(text.splitlines())}", file=sys.stderr)  # noqa: T201
    return code


def _add_backend_choice(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "-b",
        "--backend",
        type=str.lower,
        metavar="NAME",
        help="backend that trains and freezes, by name (also DP_BACKEND=NAME); by default the "
        "first of TensorFlow, PyTorch, JAX and NumPy that can be used",
    )
    for name, flags in BACKEND_FLAGS.items():
        group.add_argument(
            *flags, dest="backend", action="store_const", const=name, help=f"backend {name}"
        )


def _add_log_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-v",
        "--log-level",
        type=str.upper,
        choices=list(LEVELS),
        default="INFO",
        help="which log lines appear, by name or number (INFO)",
    )
    parser.add_argument("-l", "--log-path", metavar="FILE", help="write the log lines here, too")


if __name__ == "__main__":
    sys.exit(main())
