# SPDX-License-Identifier: LGPL-3.0-or-later
"""Arrays of DeePMD-kit's TensorFlow in the form that models here have.

There the section ``type_embedding`` gives a network of the types to the whole model. With DPA-1 its
vectors are those of its own, single layer; other descriptors see those of the model here, too.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel.nn.type_embedding import TypeEmbedding
from deepmd.graphs.names import LAYER, TYPE_EMBEDDING

#: Returns the array of a name, or None.
Find = Callable[[str], Any]
#: Settings of the section, and what they are called here; others concern the training.
SETTINGS = (
    "neuron",
    "activation_function",
    "resnet_dt",
    "precision",
    "use_econf_tebd",
    "use_tebd_bias",
)


class TypeVectors:
    """Vectors of the types of a graph.

    Attributes
    ----------
    vectors : (ntypes, width)
    used : set of str
        Names of the nodes that they come from.
    """

    def __init__(self, section: dict[str, Any], type_map: list[str], find: Find) -> None:
        given = {"neuron": [8], "activation_function": "tanh"}
        given |= {k: section[k] for k in SETTINGS if k in section}
        module = TypeEmbedding(len(type_map), padding=False, type_map=type_map, **given)
        self.used: set[str] = set()
        for k, layer in enumerate(module.embedding.layers):
            for name, array in LAYER.items():
                old, node = getattr(layer, name), TYPE_EMBEDDING.format(array=array, l=k + 1)
                new = find(node)
                if old is None:
                    continue
                if new is None or np.size(new) != old.size:
                    raise _unlike(node)
                setattr(layer, name, np.asarray(new).reshape(old.shape).astype(old.dtype))
                self.used.add(node)
        self.vectors = np.asarray(module(), dtype=np.float64)

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self.vectors.shape[1]

    def single_layer(self) -> np.ndarray:
        """Weights (ntypes, width) of one linear layer with the same vectors."""
        n, unit = len(self.vectors), np.eye(len(self.vectors))
        residual = {n: unit, 2 * n: np.hstack([unit, unit])}
        return self.vectors - residual.get(self.width, 0.0)


def _sorted(center: str, neighbor: str) -> tuple[int, ...]:
    return tuple(sorted((int(center), int(neighbor))))


def _unlike(node: str) -> NotAvailableError:
    return NotAvailableError(f'a type embedding of another form than "{node}" has is not read')


class SharedNetworks:
    """Arrays of networks per type, made of those that a graph has for all types together.

    Calling it with the name of a node returns an array, or None.

    Parameters
    ----------
    find : callable
        Returns the array of a node of the graph.
    vectors : TypeVectors, optional
        Which networks of the graph see.
    split : set of str
        Suffixes of descriptors whose networks a graph has for neighbors, and the model for pairs.
    excluded : dict of str to set of pairs
        Types that do not see each other, the smaller first, by suffix: pairs without network.
    """

    def __init__(
        self,
        find: Find,
        vectors: TypeVectors | None,
        split: set[str],
        excluded: Mapping[str, set[tuple[int, ...]]],
    ) -> None:
        self.find, self.vectors, self.split, self.excluded = find, vectors, split, excluded
        self.used: set[str] = set() if vectors is None else set(vectors.used)

    def __call__(self, name: str) -> Any:
        if self.vectors is not None and name == TYPE_EMBEDDING.format(array="matrix", l=1):
            return self.vectors.single_layer()
        found = self.find(name)
        return self._made(name) if found is None else found

    def _made(self, name: str) -> Any:
        """Return the array of a network for given types, from that for all of them."""
        pair = re.fullmatch(r"filter_type_(all|\d+)(_\d+)?/(matrix|bias|idt)_(\d+)_(\d+)", name)
        if pair is not None:
            center, s, array, layer, neighbor = pair.groups()
            if center != "all" and _sorted(center, neighbor) in self.excluded[s or ""]:
                return None
            same = f"filter_type_all{s or ''}/{array}_{layer}_{neighbor}"
            return self._used(same) if (s or "") in self.split else None
        return None

    def _used(self, name: str) -> Any:
        found = self.find(name)
        if found is not None:
            self.used.add(name)
        return found
