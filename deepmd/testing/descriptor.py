# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tests of every descriptor, inside of a model with a small energy fitting."""

from typing import Any, ClassVar

import numpy as np

from deepmd.infer import DeepPot
from deepmd.testing.model import ModelTests
from deepmd.testing.systems import rotation


class DescriptorTests(ModelTests):
    """The tests of models, for the options of a descriptor.

    Attributes
    ----------
    descriptor : str
        Its type.
    cases : dict of str to dict
        Its options by name, without ``type``.
    fitting : dict
        The ``fitting_net`` section.
    """

    descriptor: ClassVar[str] = ""
    fitting: ClassVar[dict[str, Any]] = {"neuron": [6, 6], "seed": 2}

    def section(self, case: dict[str, Any]) -> dict[str, Any]:
        """Return the model section around a descriptor."""
        return {
            "type_map": self.type_map,
            "descriptor": {"type": self.descriptor, "seed": 1, **case},
            "fitting_net": dict(self.fitting),
        }

    def test_descriptor_is_invariant(self, potential: DeepPot, system: Any) -> None:
        """Descriptors stay when the system turns, and follow the order of the atoms."""
        coord, cell, atype = system
        want = potential.eval_descriptor(coord, cell, atype)
        q = rotation(1)
        self.assert_same(potential.eval_descriptor(coord @ q.T, cell @ q.T, atype), want)
        order = np.random.default_rng(6).permutation(len(coord))
        got = potential.eval_descriptor(coord[order], cell, atype[order])
        self.assert_same(got, want[:, order])
        inner: Any = potential.model.atomic_model
        assert want.shape == (1, len(coord), inner.descriptor.dim_out)
