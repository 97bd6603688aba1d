# SPDX-License-Identifier: LGPL-3.0-or-later
"""Arguments that several commands share."""

import argparse
from typing import Any


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare the model to be opened."""
    parser.add_argument(
        "-m", "--model", default="frozen_model", help="model file or checkpoint (frozen_model)"
    )


def add_system(parser: Any) -> None:
    """Declare the system, of a parser or a group of alternatives."""
    parser.add_argument(
        "-s", "--system", default=".", help="system, or folder that is searched for systems (.)"
    )


def add_data(parser: argparse.ArgumentParser) -> Any:
    """Declare the systems; returns the group of alternatives."""
    group = parser.add_mutually_exclusive_group()
    add_system(group)
    group.add_argument("-f", "--datafile", help="text file with one system per line")
    return group


def add_head(parser: argparse.ArgumentParser) -> None:
    """Declare the branch."""
    parser.add_argument(
        "--head", "--model-branch", dest="head", metavar="NAME", help="branch of a multi-task model"
    )
