# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp plugin``: list the plugins that are installed, or begin a new one."""

import logging
import re
from pathlib import Path
from typing import Any

from deepmd.base import plugin as plugins
from deepmd.base.errors import InputError
from deepmd.base.files import replacing

log = logging.getLogger(__name__)

_TEMPLATE = Path(__file__).with_name("plugin_template")


def plugin(*, action: str, NAME: str | None = None, **_: Any) -> None:
    """List the plugins that are installed (``list``), or begin a package (``new``).

    Raises
    ------
    InputError
        If a name is missing or not wanted, or cannot be one.
    """
    if action == "list":
        if NAME is not None:
            raise InputError(f'"{NAME}" is one argument too many', where="dp plugin list")
        for line in installed_lines():
            print(line)  # noqa: T201
        return
    if NAME is None:
        raise InputError(
            "no name is given", where="dp plugin new", fix="give one: dp plugin new my-descriptor"
        )
    new_package(NAME)


def installed_lines() -> list[str]:
    """Return lines about every plugin: what it is of, its components, or why it does not work."""
    from deepmd.backend.backend import load_backends
    from deepmd.schema.tree import load_components

    load_backends()
    load_components()
    plugins.load_all_plugins()
    known = plugins.components_of_plugins()
    lines: list[str] = []
    for group, name, target, distribution in plugins.installed_plugins():
        lines.append(f"{distribution or '(unknown distribution)'}: {name} ({group}, {target})")
        problem = plugins.failure_of(group, name, target)
        if problem is not None:
            lines.append(f"  could not be loaded: {problem}")
    for distribution, names in known.items():
        lines.append(f"{distribution} provides {', '.join(names)}")
    return lines or ["no plugins are installed"]


def new_package(name: str) -> None:
    """Write a package with a descriptor, its arguments and tests into a new folder.

    Raises
    ------
    InputError
        If the name is no name of a package, or the folder is there.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*([-_.][A-Za-z0-9]+)*", name):
        raise InputError(
            f'"{name}" is no name of a package',
            where="dp plugin new",
            fix="use letters, digits and hyphens, beginning with a letter",
        )
    folder = Path(name)
    if folder.exists():
        raise InputError("is there already", where=name, fix="choose another name")
    package = re.sub(r"[-.]", "_", name).lower()
    words = {
        "NAME": name,
        "PACKAGE": package,
        "KIND": package,
        "CLASS": "".join(word.capitalize() for word in package.split("_")),
    }
    for source in sorted(_TEMPLATE.rglob("*.txt")):
        place = str(source.relative_to(_TEMPLATE)).removesuffix(".txt")
        target = folder / _filled(place, words)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            file.write(_filled(source.read_text(encoding="utf-8"), words).encode())
    log.info('%s written: pip install -e "%s[test]", then pytest %s', name, name, name)


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(r"NAME|PACKAGE|KIND|CLASS", lambda found: words[found.group()], text)
