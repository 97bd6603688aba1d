# SPDX-License-Identifier: LGPL-3.0-or-later
"""Pages that are made from the program itself: the command line and the training input."""

import argparse
import json
import typing
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "_build" / "generated"


def commands() -> str:
    """Describe every command with its options, as the parser has them."""
    from deepmd.main import COMMANDS, NOT_BUILT, command_parsers, main_parser

    parser = main_parser()
    brief = {name: text for name, (text, _) in COMMANDS.items()}
    parts = ["## dp", "", *_options(parser), ""]
    later = []
    for name, sub in command_parsers(parser).items():
        if name in NOT_BUILT:
            later.append(name)
            continue
        parts += [f"## dp {name}", "", f"{sub.description or brief.get(name, '')}", ""]
        parts += ["```text", _usage(sub, name), "```", "", *_options(sub), ""]
    if later:
        parts += ["## Not built yet", ""]
        parts += ["These commands are in the parser and say that they are not built yet:", ""]
        parts += [f"* `dp {name}`" for name in later]
    return "\n".join(parts) + "\n"


def _usage(parser: argparse.ArgumentParser, name: str) -> str:
    words = " ".join(parser.format_usage().split()).removeprefix("usage: ")
    # The program's name depends on who builds the page.
    return "dp " + words[words.index(name) :]


def _options(parser: argparse.ArgumentParser) -> list[str]:
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for action in parser._actions:
        hidden = action.help == argparse.SUPPRESS
        if hidden or isinstance(action, (argparse._SubParsersAction, argparse._HelpAction)):
            continue
        names = ", ".join(f"`{n}`" for n in action.option_strings) or f"`{action.dest.upper()}`"
        if action.choices:
            names += " {" + ", ".join(f"`{c}`" for c in action.choices) + "}"
        shown = isinstance(action.default, (str, int, float)) and action.default not in ("", False)
        default = str(action.default) if shown else ""
        meaning = (action.help or "").removesuffix(f" ({default})")
        rows.append(_row(names, f"`{default}`" if default else "", meaning))
    return rows if len(rows) > 2 else []


def _row(*cells: str) -> str:
    clean = (" ".join(c.split()).replace("|", "\\|").replace("%%", "%") for c in cells)
    return "| " + " | ".join(clean) + " |"


def training_input() -> str:
    """Describe every key of the training input, as the checker has them."""
    from deepmd.schema import gen_args

    parts: list[str] = []
    for section in gen_args():
        _section(section, section.name, parts)
    return "\n".join(parts) + "\n"


def _section(argument, path: str, parts: list[str]) -> None:
    """One heading and table per object; objects inside follow."""
    parts += [f"## {path}", "", (argument.doc or "") + _not_built(path), ""]
    _keys(argument, path, parts)
    for variant in argument.sub_variants.values():
        for choice in variant.choice_dict.values():
            names = [f"`{n}`" for n in (choice.name, *choice.alias)]
            parts += [f"### {path}, {variant.flag_name} {choice.name}", ""]
            parts += [f"`{variant.flag_name}`: {' or '.join(names)}. {choice.doc or ''}", ""]
            _keys(choice, path, parts)


def _keys(argument, path: str, parts: list[str]) -> None:
    """Table of the plain keys of an object, then its objects."""
    subs = argument.sub_fields.values()
    rows = [_key(a, path) for a in subs if not _is_object(a)]
    if rows:
        parts += ["| key | type | default | meaning |", "|---|---|---|---|", *rows, ""]
    for sub in filter(_is_object, subs):
        _section(sub, f"{path}/{sub.name}", parts)


def _is_object(argument) -> bool:
    """Whether a key gets a section; lists of objects, described elsewhere, are plain keys."""
    return not argument.repeat and bool(argument.sub_fields or argument.sub_variants)


def _key(argument, path: str) -> str:
    names = ", ".join(f"`{n}`" for n in (argument.name, *argument.alias))
    default = "" if argument.optional else "required"
    value = argument.default
    # dargs marks the absence of a default by a placeholder of its own.
    if argument.optional and isinstance(value, (bool, int, float, str, list, dict)):
        default = f"`{json.dumps(value)}`"
    meaning = (argument.doc or "") + _not_built(f"{path}/{argument.name}")
    return _row(names, _types(argument.dtype), default, meaning)


def _not_built(path: str) -> str:
    from deepmd.schema.cross import NOT_BUILT

    return " *Not built yet.*" if path in NOT_BUILT else ""


def _types(dtypes) -> str:
    return " or ".join(sorted({_type(t) for t in dtypes}))


def _type(dtype) -> str:
    if dtype in (None, type(None)):
        return "null"
    if typing.get_origin(dtype) is not None:
        return str(dtype).replace("typing.", "")
    return str(getattr(dtype, "__name__", dtype))


def write(app=None) -> None:
    """Write the pages."""
    from support import backends

    FOLDER.mkdir(parents=True, exist_ok=True)
    pages = {"commands": commands, "training_input": training_input, "backends": backends}
    for name, make in pages.items():
        (FOLDER / f"{name}.md").write_text(make())


def setup(app):
    """Make the pages before anything is read."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
