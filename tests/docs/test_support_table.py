# SPDX-License-Identifier: LGPL-3.0-or-later
"""README.md says what there is, no more and no less."""

import re
import sys
from pathlib import Path

import pytest

from deepmd.backend.backend import Backend
from deepmd.dpmodel.descriptor import Descriptor
from deepmd.dpmodel.fitting import Fitting
from deepmd.dpmodel.loss import Loss

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
sys.path.insert(0, str(ROOT / "docs" / "_ext"))
import support  # noqa: E402


def test_tables_are_those_of_the_registries():
    for block in support.blocks():
        assert block in README, "run: python docs/_ext/support.py"


@pytest.mark.parametrize(
    ("kind", "registry"),
    [
        ("descriptors", Descriptor.registry),
        ("fittings", Fitting.registry),
        ("losses", Loss.registry),
    ],
)
def test_every_name_is_listed(kind, registry):
    row = next(line for line in README.splitlines() if line.startswith(f"| {kind} "))
    assert set(re.findall(r"`(\w+)`", row)) == set(registry)


def test_what_a_backend_can_do_is_imported():
    """A "yes" in the table is a function that exists, where the framework is installed."""
    for backend in Backend.get_backends().values():
        for hook in sum(support.ABILITIES.values(), ()):
            if support.is_built(backend, hook) and backend().is_available():
                assert callable(getattr(backend(), hook))


def test_nothing_built_is_called_missing():
    from deepmd.main import COMMANDS

    part = README.split(support.BEGIN_MISSING)[1].split(support.END_MISSING)[0]
    called = set(re.findall(r"`(?:dp )?([\w/-]+)`", part))
    assert not called & {*Descriptor.registry, *Fitting.registry, *Loss.registry, *COMMANDS}
