# SPDX-License-Identifier: LGPL-3.0-or-later
"""Installation of the architecture into metatrain: ``python -m deepmd.metatrain``."""

import sys

from deepmd.base.errors import InputError
from deepmd.metatrain.package import installed_folder, write_package

if __name__ == "__main__":
    try:
        written = write_package(installed_folder())
    except (InputError, OSError) as error:
        sys.exit(f"deepmd.metatrain: {error}")
    sys.stdout.write(f"metatrain has the architecture in {written[0].parent}\n")
