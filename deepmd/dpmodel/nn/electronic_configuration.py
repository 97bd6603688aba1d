# SPDX-License-Identifier: LGPL-3.0-or-later
"""Ground-state electronic configurations of the elements, as vectors of length 118."""

import functools

import numpy as np

from deepmd.base.errors import InputError, did_you_mean

ELEMENTS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br"
    " Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho"
    " Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es"
    " Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
).split()

# The order in which orbitals are filled by the rule of Madelung …
_FILLING = "1s 2s 2p 3s 3p 4s 3d 4p 5s 4d 5p 6s 4f 5d 6p 7s 5f 6d 7p".split()
# … and the elements that differ from it.
_EXCEPTIONS = {
    "Cr": "3d5 4s1",
    "Cu": "3d10 4s1",
    "Nb": "4d4 5s1",
    "Mo": "4d5 5s1",
    "Ru": "4d7 5s1",
    "Rh": "4d8 5s1",
    "Pd": "4d10 5s0",
    "Ag": "4d10 5s1",
    "La": "4f0 5d1",
    "Ce": "4f1 5d1",
    "Gd": "4f7 5d1",
    "Pt": "5d9 6s1",
    "Au": "5d10 6s1",
    "Ac": "5f0 6d1",
    "Th": "5f0 6d2",
    "Pa": "5f2 6d1",
    "U": "5f3 6d1",
    "Np": "5f4 6d1",
    "Cm": "5f7 6d1",
    "Lr": "6d0 7p1",
    "Ds": "6d9 7s1",
    "Rg": "6d10 7s1",
}
# The order of the shells in the vector.
_SHELLS = "1s 2s 2p 3s 3p 3d 4s 4p 4d 4f 5s 5p 5d 5f 6s 6p 6d 7s 7p".split()
_SPATIAL = {"s": 1, "p": 3, "d": 5, "f": 7}
LENGTH = 118
#: Spins of a spatial orbital with 0, 1 and 2 electrons.
SPINS = ((-1, -1), (-1, 1), (1, 1))


@functools.cache
def occupation(symbol: str) -> dict[str, int]:
    """Return the number of electrons in every orbital of an element's ground state."""
    left = ELEMENTS.index(symbol) + 1
    filled = {}
    for orbital in _FILLING:
        filled[orbital] = min(left, 2 * _SPATIAL[orbital[1]])
        left -= filled[orbital]
    for part in _EXCEPTIONS.get(symbol, "").split():
        filled[part[:2]] = int(part[2:])
    return filled


def orbitals(symbol: str) -> dict[str, list[int]]:
    """Return the electrons (0 to 2) in every spatial orbital of an element's shells, in order.

    In a shell, pairs come first, then single electrons (Hund's rule).
    """
    filled, out = occupation(symbol), {}
    for shell in _SHELLS:
        spatial, n = _SPATIAL[shell[1]], filled[shell]
        single = n if n <= spatial else 2 * spatial - n
        double = (n - single) // 2
        out[shell] = [2] * double + [1] * single + [0] * (spatial - double - single)
    return out


def electronic_configuration(type_map: list[str]) -> np.ndarray:
    """Return spin occupations of every element, (n_types, 118), each row of length 1.

    Each spatial orbital has two numbers: (1, 1) when doubly, (-1, 1) when singly occupied and
    (-1, -1) when empty; see :func:`orbitals`.

    Raises
    ------
    InputError
        If a name is not an element.
    """
    rows = []
    for symbol in type_map:
        if symbol not in ELEMENTS:
            raise InputError(
                f'"{symbol}" is no element; use_econf_tebd needs element symbols',
                where="model/type_map",
                fix=did_you_mean(symbol, ELEMENTS),
            )
        rows.append([SPINS[n] for shell in orbitals(symbol).values() for n in shell])
    return np.array(rows, dtype=np.float64).reshape(len(rows), LENGTH) / np.sqrt(LENGTH)
