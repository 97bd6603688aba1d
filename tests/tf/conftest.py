# SPDX-License-Identifier: LGPL-3.0-or-later
"""Small models of the TensorFlow tests."""

import pytest

pytest.importorskip("tensorflow")
