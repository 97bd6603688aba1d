# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tests of every fitting, inside of a model with a small descriptor."""

from typing import Any, ClassVar

from deepmd.testing.component import ComponentTests
from deepmd.testing.model import ModelTests
from deepmd.testing.output import OutputTests


class _OfFitting(ComponentTests):
    """Models around a fitting.

    Attributes
    ----------
    fitting : str
        Its type.
    cases : dict of str to dict
        Its options by name, without ``type``.
    descriptor : dict
        The ``descriptor`` section; by default one that differs by types.
    """

    fitting: ClassVar[str] = ""
    descriptor: ClassVar[dict[str, Any]] = {
        "type": "se_e2_a",
        "rcut": 4.0,
        "rcut_smth": 1.0,
        "sel": [30, 30],
        "neuron": [3, 6],
        "axis_neuron": 2,
        "seed": 1,
    }

    def section(self, case: dict[str, Any]) -> dict[str, Any]:
        """Return the model section around a fitting."""
        return {
            "type_map": self.type_map,
            "descriptor": dict(self.descriptor),
            "fitting_net": {"type": self.fitting, "seed": 2, **case},
        }


class FittingTests(_OfFitting, ModelTests):
    """The tests of models, for the options of a fitting that predicts an energy.

    Attributes are ``fitting``, its type, ``cases``, its options by name, and ``descriptor``.
    """


class OutputFittingTests(_OfFitting, OutputTests):
    """The tests of models, for the options of a fitting that predicts something else.

    Attributes are those of :class:`FittingTests`.
    """
