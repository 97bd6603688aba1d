# SPDX-License-Identifier: LGPL-3.0-or-later
"""From a parsed command line to the function of the command."""

import argparse
import os
from importlib import import_module

from deepmd.base.errors import InputError, NotAvailableError, located
from deepmd.base.log import set_up_logging
from deepmd.entrypoints.commands import INSTEAD, NOT_BUILT

#: Commands whose function is not in a module of its name.
_MODULES = {"doc_train_input": "doc"}


def dispatch(args: argparse.Namespace) -> None:
    """Run the command that was parsed."""
    options = vars(args).copy()
    command = options.pop("command")
    set_up_logging(args.log_level, args.log_path, options.get("mpi_log") or "master")
    check_environment()
    options["backend"] = backend_key(options.get("backend"))
    if command in NOT_BUILT:
        raise NotAvailableError(
            "this command is known but not built yet",
            where=f"dp {command}",
            fix=INSTEAD.get(command),
        )
    function = command.replace("-", "_").replace(" ", "_")
    module = import_module(f"deepmd.entrypoints.{_MODULES.get(function, function)}")
    getattr(module, function)(**options)


def backend_key(given: str | None) -> str | None:
    """Return the name of the backend that was asked for, or None.

    Raises
    ------
    InputError
        For an unknown name.
    """
    from deepmd.backend.backend import Backend

    name, where = (given, "--backend")
    if name is None:
        name, where = os.environ.get("DP_BACKEND") or None, "DP_BACKEND"
    if name is None:
        return None
    with located(where):
        return Backend.get_backend(name).key


def check_environment() -> None:
    """Refuse the environment variable that changed numbers in other implementations.

    Raises
    ------
    InputError
        For ``DP_INTERFACE_PREC`` other than high.
    """
    precision = os.environ.get("DP_INTERFACE_PREC", "high").lower()
    if precision == "low":
        raise InputError(
            "the environment does not change numbers here",
            where="DP_INTERFACE_PREC=low",
            fix='unset it and set "precision": "float32" in model/descriptor and '
            "model/fitting_net of the input",
        )
    if precision != "high":
        raise InputError(
            f'"{precision}" is neither high nor low', where="DP_INTERFACE_PREC", fix="unset it"
        )
