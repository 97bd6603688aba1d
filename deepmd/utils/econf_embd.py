# SPDX-License-Identifier: LGPL-3.0-or-later
"""Electronic configurations of the elements as clients ask for them.

See :mod:`deepmd.dpmodel.nn.electronic_configuration`.
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from deepmd.dpmodel.nn.electronic_configuration import ELEMENTS, LENGTH, SPINS, orbitals

log = logging.getLogger(__name__)

#: Electrons of spatial orbitals: (59,), or by shell, ``(1, "s")``.
Vectors = dict[str, np.ndarray]
Shells = dict[tuple[int, str], np.ndarray]


def make_element_embedding_list_vec(ename: str) -> Shells:
    """Return the electrons of every spatial orbital of an element by shell, ``(1, "s")``."""
    return {(int(k[0]), k[1]): np.array(v, np.int32) for k, v in orbitals(ename).items()}


def make_empty_list_vec() -> Shells:
    """Return shells without electrons."""
    return {shell: np.zeros_like(v) for shell, v in make_element_embedding_list_vec("H").items()}


def flatten_list_vec(lv: Shells) -> np.ndarray:
    """Return the orbitals of all shells one after the other: (59,)."""
    return np.concatenate(list(lv.values()))


def make_econf_embedding(
    types: Sequence[str], flatten: bool = True
) -> dict[str, np.ndarray] | dict[str, Shells]:
    """Return the electrons of every spatial orbital of elements, (59,), or by shell."""
    shells = {name: make_element_embedding_list_vec(name) for name in types}
    return {name: flatten_list_vec(v) for name, v in shells.items()} if flatten else shells


def transform_to_spin_rep(res: Mapping[str, np.ndarray]) -> Vectors:
    """Return two numbers per spatial orbital, (118,): (-1, -1), (-1, 1) or (1, 1)."""
    return {name: np.array(SPINS, np.int32)[v].reshape(-1) for name, v in res.items()}


def normalize_vec_length(res: Mapping[str, np.ndarray]) -> Vectors:
    """Divide all vectors by the length √118 of a vector of spins."""
    return {name: v / np.sqrt(LENGTH) for name, v in res.items()}


def sort_element_type(elements: Sequence[str]) -> list[str]:
    """Return element symbols by atomic number."""
    return sorted(elements, key=ELEMENTS.index)


def print_econf_embedding(res: Mapping[str, np.ndarray]) -> None:
    """Log vectors, one element per line."""
    for name, vector in res.items():
        log.info("%-4s : [%s],", f'"{name}"', ",".join(map(str, vector)))


#: Electrons of the spatial orbitals of all elements; spins of unit length.
electronic_configuration_embedding = make_econf_embedding(ELEMENTS)
normalized_electronic_configuration_embedding = normalize_vec_length(
    transform_to_spin_rep(electronic_configuration_embedding)  # type: ignore[arg-type]
)
