# SPDX-License-Identifier: LGPL-3.0-or-later
"""Commands that are known but not built yet: they take their arguments and say so."""

import argparse
from typing import Any, NoReturn

from deepmd.utils.errors import NotAvailableError

COMMANDS = {
    "compress": "tabulate the embedding networks of a model file",
    "transfer": "copy parameters between frozen TensorFlow models",
    "convert-from": "convert model files of old versions",
    "embed": "evaluate descriptors and features of data",
    "gui": "edit the input in a browser",
    "pretrained": "download pre-trained models",
    "train-nvnmd": "train for hardware",
}

_Spec = tuple[tuple[str, ...], dict[str, Any]]


def _value(*flags: str, **more: Any) -> _Spec:
    return flags, more


def _switch(*flags: str) -> _Spec:
    return flags, {"action": "store_true"}


_HEAD = _value("--head", "--model-branch", dest="head")
_DATA = (_value("-s", "--system", default="."), _value("-f", "--datafile"))
_OPTIONS: dict[str, tuple[_Spec, ...]] = {
    "compress": (
        _value("-i", "--input", default="frozen_model"),
        _value("-o", "--output", default="frozen_model_compressed"),
        _value("-s", "--step", type=float, default=0.01),
        _value("-e", "--extrapolate", type=int, default=5),
        _value("-f", "--frequency", type=int, default=-1),
        _value("-c", "--checkpoint-folder", default="model-compression"),
        _value("-t", "--training-script"),
        _value("-m", "--mpi-log", choices=["master", "collect", "workers"], default="master"),
        _HEAD,
    ),
    "transfer": (
        _value("-r", "--raw-model", default="raw_frozen_model.pb"),
        _value("-O", "--old-model", default="old_frozen_model.pb"),
        _value("-o", "--output", default="frozen_model.pb"),
    ),
    "convert-from": (
        _value(
            "FROM",
            nargs="?",
            default="auto",
            choices=["auto", "0.12", "1.0", "1.1", "1.2", "1.3", "2.0", "pbtxt"],
        ),
        _value("-i", "--input-model", default="frozen_model.pb"),
        _value("-o", "--output-model", default="convert_out.pb"),
    ),
    "embed": (
        _value("-m", "--model", default="frozen_model"),
        *_DATA,
        _value("-o", "--output", default="embedding.hdf5"),
        _value("--dtype", choices=["fp32", "fp64", "native"], default="fp32"),
        _HEAD,
    ),
    "gui": (_value("-p", "--port", type=int, default=6042), _switch("--bind_all")),
    "pretrained": (_value("action", choices=["download"]), _value("MODEL"), _value("--cache-dir")),
    "train-nvnmd": (
        _value("INPUT"),
        _value("-i", "--init-model"),
        _value("-r", "--restart"),
        _value("-s", "--step", choices=["s1", "s2"], default="s1"),
        _switch("--skip-neighbor-stat"),
    ),
}


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """Declare the arguments of one of these commands."""
    for flags, more in _OPTIONS[command]:
        parser.add_argument(*flags, **more)


def not_built(command: str) -> NoReturn:
    """Say in one line that a command is not built."""
    raise NotAvailableError("this command is known but not built yet", where=f"dp {command}")
