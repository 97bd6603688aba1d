# SPDX-License-Identifier: LGPL-3.0-or-later
"""Batches of evaluation under the name that clients import."""

from deepmd.infer.batch_size import AutoBatchSize

__all__ = ["AutoBatchSize", "RetrySignal"]


class RetrySignal(Exception):
    """Request of a caller to evaluate the same frames again with a smaller batch."""
