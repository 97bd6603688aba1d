# SPDX-License-Identifier: LGPL-3.0-or-later
"""Our models of energies as an architecture of metatrain; see :mod:`deepmd.metatrain.package`.

``hypers`` and ``package`` import neither PyTorch nor metatrain.
"""

#: Name of the architecture: its folder below the package ``metatrain``.
ARCHITECTURE = "experimental.deepmd"
