# SPDX-License-Identifier: LGPL-3.0-or-later
"""Reading an input file: JSON or YAML, one object, comments dropped."""

import json
import os
import re
from pathlib import Path
from typing import Any

import yaml

from deepmd.base.errors import InputError
from deepmd.base.reading import MAX_DEPTH, check_input_tree, read_small_text, reading


def load_input(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read an input file (``.json``, ``.yaml``, ``.yml``) and drop keys that begin with ``_``.

    Raises
    ------
    InputError
        For a missing file, a syntax error (with its line), a key given twice, no object, or values
        that nothing can be done with.
    """
    path = Path(path)
    parse = {".json": _parse_json, ".yaml": _parse_yaml, ".yml": _parse_yaml}.get(
        path.suffix.lower()
    )
    if parse is None:
        raise InputError(
            "unknown kind of input file", where=path, fix="name it .json, .yaml or .yml"
        )
    text = read_text(path)
    with reading(path, InputError, fix="check its syntax"):
        data = parse(text, path)
    check_input_tree(data, path)
    if not isinstance(data, dict):
        raise InputError(
            f"one object with sections is expected, found {describe_value(data)}", where=path
        )
    return drop_comments(data)


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a UTF-8 text file the user named."""
    return read_small_text(path, InputError, absent="not found")


def drop_comments(value: Any) -> Any:
    """Return a copy without the keys that begin with ``_``, at any level."""
    if isinstance(value, dict):
        return {
            k: drop_comments(v)
            for k, v in value.items()
            if not (isinstance(k, str) and k.startswith("_"))
        }
    return [drop_comments(v) for v in value] if isinstance(value, list) else value


def describe_value(value: Any) -> str:
    """Name a value from the input in a message."""
    kinds: dict[type, str] = {dict: "an object", list: "a list", type(None): "null"}
    if type(value) in kinds:
        return kinds[type(value)]
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:37] + "..."


def _no_duplicates(pairs: list[tuple[Any, Any]], where: Any) -> dict[Any, Any]:
    seen: dict[Any, Any] = {}
    for key, value in pairs:
        if key in seen and not (isinstance(key, str) and key.startswith("_")):
            raise InputError(f'key "{key}" is given twice in one object', where=where)
        seen[key] = value
    return seen


def _parse_json(text: str, path: Path) -> Any:
    def refuse(constant: str) -> Any:
        raise InputError(f"{constant} is not a number that can be used", where=path)

    try:
        return json.loads(
            text, object_pairs_hook=lambda p: _no_duplicates(p, path), parse_constant=refuse
        )
    except json.JSONDecodeError as error:
        raise InputError(
            f"line {error.lineno}, column {error.colno}: not valid JSON ({error.msg})", where=path
        ) from None


#: Values of a YAML document, those behind an alias counted every time.
_MOST_NODES = 200_000


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number (YAML 1.1 wants 1.0e-3) and keys are unique."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        pairs = [
            (self.construct_object(k, deep=True), self.construct_object(v, deep=deep))
            for k, v in node.value
        ]
        for key, _ in pairs:
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} is not text", problem_mark=node.start_mark
                )
        return _no_duplicates(pairs, f"{self.name}: line {node.start_mark.line + 1}")


# A date is nothing that an input has; it stays a text.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in known if not tag.endswith(":timestamp")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _check_aliases(node: Any, path: Path) -> None:
    """Refuse a document that aliases make too large, before it is made."""
    count, todo = 0, [(node, 0)]
    while todo:
        node, depth = todo.pop()
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        count += len(parts)
        if count > _MOST_NODES:
            raise InputError("repeats its parts too often by aliases", where=path)
        if depth >= MAX_DEPTH:
            raise InputError("is nested too deeply", where=path)
        for part in parts:
            todo += [(p, depth + 1) for p in (part if isinstance(part, tuple) else (part,))]


def _parse_yaml(text: str, path: Path) -> Any:
    loader = _Loader(text)
    loader.name = str(path)
    try:
        node = loader.get_single_node()
        _check_aliases(node, path)
        return None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        problem = " ".join((error.problem or "syntax error").split())
        raise InputError(f"{at}not valid YAML ({problem})", where=path) from None
    except yaml.YAMLError as error:
        raise InputError(f"not valid YAML ({' '.join(str(error).split())})", where=path) from None
    finally:
        loader.dispose()
