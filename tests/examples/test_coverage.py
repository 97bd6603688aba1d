# SPDX-License-Identifier: LGPL-3.0-or-later
"""Every component that can be named in an input is shown by an example."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deepmd.dpmodel.descriptor import Descriptor
from deepmd.dpmodel.fitting import Fitting
from deepmd.schema import load_input, normalize
from deepmd.schema.registry import descriptor_args, fitting_args
from deepmd.train.plan import branches

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
INPUTS = [normalize(load_input(p)) for p in sorted(EXAMPLES.rglob("input*.json"))]
#: Model sections of all branches.
MODELS = [branch.model for data in INPUTS for branch in branches(data)]


def sections(value: Any, key: str) -> Iterator[dict[str, Any]]:
    """Iterate over the sections of one name at any depth."""
    if isinstance(value, list):
        for part in value:
            yield from sections(part, key)
    if isinstance(value, dict):
        if key in value:
            yield value[key]
        for part in value.values():
            yield from sections(part, key)


@pytest.mark.parametrize(
    ("key", "registry", "arguments", "default"),
    [
        ("descriptor", Descriptor.registry, descriptor_args, None),
        ("fitting_net", Fitting.registry, fitting_args, "ener"),
    ],
)
def test_component_has_an_example(key, registry, arguments, default):
    used = {s.get("type", default) for model in MODELS for s in sections(model, key)}
    shown = {registry.get(name) for name in used}
    named = {name: registry.get(name) for name in registry if name in arguments}
    assert named
    assert sorted(name for name, component in named.items() if component not in shown) == []


def test_models_have_examples():
    assert any(model.get("use_srtab") for model in MODELS)
    assert any(model.get("type") == "linear_ener" for model in MODELS)
    assert any("model_dict" in data["model"] for data in INPUTS)
