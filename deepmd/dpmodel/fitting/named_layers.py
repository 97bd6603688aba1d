# SPDX-License-Identifier: LGPL-3.0-or-later
"""Layers of a fitting network that share their parameters, because they have one name."""

from collections.abc import Sequence
from typing import Any

from deepmd.base.errors import InputError
from deepmd.dpmodel.module import split
from deepmd.io.tree import difference

WHERE = "model/fitting_net/layer_name"


def check_names(names: Sequence[str] | None, count: int) -> None:
    """Raise InputError unless every one of ``count`` layers has a name, or none has."""
    if names is not None and len(names) != count:
        raise InputError(
            f"{len(names)} names for {count} layers",
            where=WHERE,
            fix="give one per hidden layer and one for the output layer",
        )


def share_layers(layers: list[Any], names: Sequence[str] | None) -> None:
    """Replace layers by earlier ones of the same name, in place.

    Raises
    ------
    InputError
        If two of one name have different shapes or settings.
    """
    first: dict[str, int] = {}
    for k, name in enumerate(names or ()):
        kept = first.setdefault(name, k)
        if _form(layers[kept]) != _form(layers[k]):
            raise InputError(
                f'layers {kept} and {k} have the name "{name}", but not the same form',
                where=WHERE,
                fix="name layers alike that have one width, input, activation and trainable flag",
            )
        layers[k] = layers[kept]


def share_equal_layers(layers: list[Any], names: Sequence[str] | None) -> None:
    """Replace layers of a file by earlier ones of the same name that are equal to them, in place.

    Programs that take no notice of names write layers that differ.
    """
    first: dict[str, int] = {}
    for k, name in enumerate(names or ()):
        kept = layers[first.setdefault(name, k)]
        if kept.trainable == layers[k].trainable and _equal(kept, layers[k]):
            layers[k] = kept


def _form(layer: Any) -> Any:
    """Return the settings of a layer, and the shapes of its arrays."""
    settings = {k: v for k, v in layer.serialize().items() if k != "@variables"}
    return settings, layer.trainable, [{k: v.shape for k, v in p.items()} for p in split(layer)]


def _equal(a: Any, b: Any) -> bool:
    return difference(a.serialize(), b.serialize()) is None
