# SPDX-License-Identifier: LGPL-3.0-or-later
"""Write dispersion.txt: a damped attraction -C6 / (r^6 + R^6), 0 at the cutoff with its slope.

The columns are r [Å] and the energies [eV] of the pairs O-O, O-H and H-H. The coefficients have
the usual size, but are made up: the example shows how to add a table to a network.
"""

from pathlib import Path

import numpy as np

CUTOFF, START = 4.0, 3.0  # Å; between them the attraction is switched off
C6 = {"O-O": 9.0, "O-H": 4.0, "H-H": 1.8}  # eV Å⁶
RADIUS = {"O-O": 2.8, "O-H": 2.4, "H-H": 2.0}  # Å

r = 0.02 * np.arange(1, 201)
u = np.clip((r - START) / (CUTOFF - START), 0.0, 1.0)
switch = 1.0 - u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
columns = [r, *(-C6[pair] / (r**6 + RADIUS[pair] ** 6) * switch for pair in C6)]
np.savetxt(Path(__file__).with_name("dispersion.txt"), np.stack(columns, axis=1), fmt="%.8e")
