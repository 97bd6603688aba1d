# SPDX-License-Identifier: LGPL-3.0-or-later
"""Properties of frames."""

from deepmd.infer.deep_dos import InvariantEval


class DeepProperty(InvariantEval):
    """A property; the constructor's arguments are those of :class:`DeepEval`."""

    output = "property"

    def get_var_name(self) -> str:
        """Return the name of the property."""
        return self.model.output_def().keys()[0]

    def get_task_dim(self) -> int:
        """Return the number of components."""
        return self.model.output_def()[self.get_var_name()].size

    def get_intensive(self) -> bool:
        """Whether the value of a frame is the mean over its atoms, not the sum."""
        return self.model.output_def()[self.get_var_name()].intensive
