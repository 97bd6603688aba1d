# SPDX-License-Identifier: LGPL-3.0-or-later
"""``python -m deepmd`` is ``dp``."""

import sys

from deepmd.main import main

if __name__ == "__main__":
    sys.exit(main())
