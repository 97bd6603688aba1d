# SPDX-License-Identifier: LGPL-3.0-or-later
"""Trees of dictionaries with arrays as YAML text (``.yaml``, ``.yml``)."""

from collections.abc import Mapping
from typing import Any, TextIO

import numpy as np
import yaml

from deepmd.base.errors import ModelFileError
from deepmd.base.reading import MAX_DEPTH
from deepmd.io.digest import DIGEST_LINE, check_digest, digest_of_lines
from deepmd.io.guard import check_model_tree
from deepmd.io.tree import VARIABLES, map_leaves, plain

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """The safe writer without references between equal parts."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def write_tree(handle: TextIO, tree: Mapping[str, Any]) -> None:
    """Write a tree as YAML, in its own order; the last line is a comment with the checksum."""
    text = yaml.dump(
        map_leaves(tree, _text),
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=None,
        width=100,
    )
    handle.write(f"{text}{DIGEST_LINE}{digest_of_lines(text)}\n")


def _text(node: Any, inside: bool) -> Any:
    if not inside or node is None:
        return plain(node)
    value = np.asarray(node)
    if value.dtype.kind not in "fiub":
        raise ModelFileError(
            f"arrays of {value.dtype} cannot be written as text", fix="write a .dp file instead"
        )
    if value.ndim == 0 and value.dtype in (np.float64, np.int64):
        return value.item()
    # Lists cannot tell the shape of an array without elements.
    shape = {"shape": list(value.shape)} if value.size == 0 and value.ndim > 1 else {}
    return {
        "@class": "np.ndarray",
        "@is_variable": True,
        "@version": 1,
        "dtype": value.dtype.name,
        **shape,
        "value": value.tolist(),
    }


def read_tree(handle: TextIO) -> dict[str, Any]:
    """Read a tree; arrays come as NumPy arrays.

    Raises
    ------
    ModelFileError
        If the text is no YAML, holds something else, or its checksum differs.
    """
    try:
        text = handle.read()
        _check_lines(text)
        tree = load(text)
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise ModelFileError(f"cannot be read as YAML ({line})") from None
    except UnicodeDecodeError as error:
        raise ModelFileError(f"cannot be read as YAML, it is no text ({error.reason})") from None
    if not isinstance(tree, dict):
        raise ModelFileError("holds no dictionary; no model")
    check_model_tree(tree, len(text))
    return _arrays(tree, False)


def _check_lines(text: str) -> None:
    body, mark, found = text.rpartition(f"\n{DIGEST_LINE}")
    if mark:
        remedy = 'delete the last line and the key "probes"'
        check_digest(found.strip(), digest_of_lines(f"{body}\n"), remedy)


def load(text: str) -> Any:
    """Return the plain values of a YAML document.

    The tree is made from the events of the parser, which itself needs no stack: PyYAML's composer
    overflows that of the process where a text is nested deeply. Dates stay text.

    Raises
    ------
    yaml.YAMLError
        If the text is no YAML, or names types of objects.
    ModelFileError
        If it is nested too deeply.
    """
    root: list[Any] = []
    anchors: dict[str, Any] = {}
    # Where values go: a list, or a dictionary and the key that waits for its value.
    open_nodes: list[_Node] = [_Node(root)]
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionEndEvent):
            open_nodes.pop()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise ModelFileError(f'the YAML alias "{event.anchor}" has no anchor before it')
            open_nodes[-1].add(anchors[event.anchor])
        elif isinstance(event, yaml.NodeEvent):
            value = _opened(event)
            if event.anchor is not None:
                anchors[event.anchor] = value
            open_nodes[-1].add(value)
            if not isinstance(event, yaml.ScalarEvent):
                if len(open_nodes) > MAX_DEPTH:
                    raise ModelFileError("is nested too deeply")
                open_nodes.append(_Node(value))
    return root[0] if len(root) == 1 else None


class _Node:
    """A list or dictionary that is being filled."""

    def __init__(self, into: Any) -> None:
        self.into, self.key, self.has_key = into, None, False

    def add(self, value: Any) -> None:
        """Append to a list; to a dictionary, add keys and values in turn."""
        if isinstance(self.into, list):
            self.into.append(value)
        elif not self.has_key:
            if isinstance(value, (dict, list)):
                raise ModelFileError("a YAML key is no text")
            self.key, self.has_key = value, True
        else:
            self.into[self.key] = value
            self.has_key = False


_PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("str", "null", "bool", "int", "float")}
_resolver = yaml.resolver.Resolver()
_constructor = yaml.constructor.SafeConstructor()
_MAKE = {
    f"tag:yaml.org,2002:{name}": getattr(_constructor, f"construct_yaml_{name}")
    for name in ("null", "bool", "int", "float")
}


def _opened(event: Any) -> Any:
    """Return the value of a scalar, or an empty list or dictionary."""
    if not isinstance(event, yaml.ScalarEvent):
        whole = isinstance(event, yaml.MappingStartEvent)
        usual = f"tag:yaml.org,2002:{'map' if whole else 'seq'}"
        if event.tag not in (None, "!", usual):
            raise ModelFileError(f'a YAML node of the type "{event.tag}" is not read')
        return {} if whole else []
    tag = event.tag
    if tag in (None, "!"):
        tag = _resolver.resolve(yaml.ScalarNode, event.value, event.implicit)
    elif tag not in _PLAIN:
        raise ModelFileError(f'a YAML value of the type "{tag}" is not read')
    make = _MAKE.get(tag)
    return event.value if make is None else make(yaml.ScalarNode(tag, event.value))


def _arrays(node: Any, inside: bool) -> Any:
    if isinstance(node, dict):
        if node.get("@class") == "np.ndarray":
            return _array(node)
        return {str(k): _arrays(v, inside or k == VARIABLES) for k, v in node.items()}
    if isinstance(node, list):
        return [_arrays(v, inside) for v in node]
    return np.asarray(node) if inside and isinstance(node, (int, float)) else node


def _array(node: dict[str, Any]) -> np.ndarray:
    try:
        dtype = np.dtype(node["dtype"])
        if dtype.kind not in "fiub":
            raise TypeError(f"{dtype} is no type of numbers")
        value = np.array(node["value"], dtype=dtype)
        return value.reshape(node["shape"]) if "shape" in node else value
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelFileError(f"an array cannot be read ({error})") from None
