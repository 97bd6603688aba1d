# SPDX-License-Identifier: LGPL-3.0-or-later
"""Averages of errors over systems under the names that clients import; see ``dp test``."""

from collections.abc import Mapping, Sequence

from deepmd.entrypoints.test import weighted_average as _merge


def merge_weighted_errors(
    errors: Sequence[Mapping[str, tuple[float, float]]],
) -> dict[str, tuple[float, float]]:
    """Return the errors of all systems together, each with its total weight.

    Parameters
    ----------
    errors : sequence of dict of str to (float, float)
        Per system, error and weight by name: ``mae_…`` are averaged, of ``rmse_…`` the squares are.
    """
    return _merge([dict(one) for one in errors])


def weighted_average(errors: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, float]:
    """Return the errors of all systems together; see :func:`merge_weighted_errors`."""
    return {name: value for name, (value, _) in merge_weighted_errors(errors).items()}
