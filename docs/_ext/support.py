# SPDX-License-Identifier: LGPL-3.0-or-later
"""What there is, read from the registries: tables of components and of backends.

``python docs/_ext/support.py`` puts them into README.md; a test compares.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- support: made by docs/_ext/support.py -->", "<!-- end of support -->"
BEGIN_MISSING, END_MISSING = (
    "<!-- missing: made by docs/_ext/support.py -->",
    "<!-- end of missing -->",
)

#: Names that DeePMD-kit builds for the models of DPA-4 only; others it refuses.
OF_DPA4 = {
    *("dpa4", "dpa4c", "dpa4_ener", "inner_potential", "dens"),
    *("model/bridging_method", "model/spin/allow_missing_label"),
}

#: Columns of the table of backends: heading -> functions that are needed.
ABILITIES = {
    "trains": ("train_step", "read_checkpoint", "write_checkpoint"),
    "evaluates": ("deep_eval",),
    "reads": ("serialize_hook",),
    "writes": ("deserialize_hook",),
}


def components() -> str:
    """Table of the registered components, aliases beside the main name."""
    from deepmd.schema import registry
    from deepmd.schema.tree import load_components

    load_components()
    from deepmd.dpmodel.atomic_model import AtomicModel
    from deepmd.dpmodel.descriptor import Descriptor
    from deepmd.dpmodel.fitting import Fitting
    from deepmd.dpmodel.loss import Loss

    rows = {
        "descriptors": names(
            (name, kind)
            for name, kind in Descriptor.registry.items()
            if name in registry.descriptor_args
        ),
        "fittings": names(Fitting.registry.items()),
        "models": names(AtomicModel.registry.items()),
        "losses": names(Loss.registry.items()),
        "optimizers": [[name] for name in sorted(registry.optimizer_args)],
        "learning rates": [[name] for name in sorted(registry.lr_args)],
    }
    lines = ["| component | built | not in the native engine |", "|---|---|---|"]
    for kind, found in rows.items():
        shown = ", ".join(
            f"`{first}`" + (f" (`{'`, `'.join(rest)}`)" if rest else "") for first, *rest in found
        )
        lines.append(f"| {kind} | {shown} | {not_native(kind, found)} |")
    return "\n".join(lines) + "\n"


def not_native(kind: str, found: list[list[str]]) -> str:
    """Names of components of a kind that the native engine does not evaluate."""
    from deepmd.runtime.operations import BY_HAND

    if kind not in BY_HAND:
        return "–"
    left = [f"`{first}`" for first, *_ in found if first not in BY_HAND[kind]]
    return ", ".join(left) or "none"


def missing() -> str:
    """List what is known by name but not built."""
    from deepmd.backend.backend import Backend
    from deepmd.entrypoints.commands import NOT_BUILT as UNBUILT
    from deepmd.schema import registry
    from deepmd.schema.cross import NOT_BUILT
    from deepmd.schema.tree import load_components

    load_components()
    known = {
        "descriptors": registry.descriptor_args,
        "fittings": registry.fitting_args,
        "models": registry.model_args,
        "losses": registry.loss_args,
        "optimizers": registry.optimizer_args,
        "corrections (`modifier`)": registry.modifier_args,
    }
    rows = {kind: [n for n in args._known if n not in args] for kind, args in known.items()}
    rows["input keys"] = list(NOT_BUILT)
    rows["commands"] = [f"dp {name}" for name in UNBUILT]
    of_dpa4 = dict.fromkeys(n for found in rows.values() for n in found if n in OF_DPA4)
    rows = {kind: [n for n in found if n not in OF_DPA4] for kind, found in rows.items()}
    rows["DPA-4 and what belongs to it"] = list(of_dpa4)
    lines = [
        f"* {kind}: {', '.join(f'`{n}`' for n in found)}" for kind, found in rows.items() if found
    ]
    absent = [b.name for b in Backend.get_backends().values() if not any(abilities(b))]
    if absent:
        lines.append(f"* backends: {', '.join(absent)}")
    return "\n".join(lines) + "\n"


def names(items) -> list[list[str]]:
    """Group the names of a registry by the object they stand for, in order of registration."""
    groups: dict[int, list[str]] = {}
    for name, component in items:
        groups.setdefault(id(component), []).append(name)
    return list(groups.values())


def backends() -> str:
    """Table of the backends: what each can do, and its files."""
    from deepmd.backend.backend import Backend

    lines = [
        "| backend | flag | " + " | ".join(ABILITIES) + " | model files | checkpoints |",
        "|---|---|" + "---|" * len(ABILITIES) + "---|---|",
    ]
    for key, backend in Backend.get_backends().items():
        can = abilities(backend)
        if not any(can):
            continue
        files = ", ".join(f"`{s}`" for s in backend.suffixes)
        checkpoint = f"`{backend.checkpoint_suffix}`" if backend.checkpoint_suffix else "`.dp`"
        cells = [backend.name, flag(key), *("yes" if c else "no" for c in can), files, checkpoint]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def abilities(backend) -> list[bool]:
    """What a backend can do, by the columns of the table."""
    return [all(is_built(backend, hook) for hook in hooks) for hooks in ABILITIES.values()]


def flag(key: str) -> str:
    """Shortest flag of a backend on the command line."""
    from deepmd.main import BACKEND_FLAGS

    return f"`{min(BACKEND_FLAGS[key], key=len)}`"


def is_built(backend, hook: str) -> bool:
    """Whether a function of a backend exists, its framework being installed or not."""
    if hook in vars(backend):
        return True
    target = backend.hooks.get(hook)
    if target is None:
        return False
    module, _, attribute = target.partition(":")
    try:
        if find_spec(module) is None:
            return False
    except ModuleNotFoundError:
        return False
    if backend().why_not() is not None:
        return True
    return hasattr(import_module(module), attribute)


def blocks() -> list[str]:
    """Both parts between their marks, as README.md has them."""
    return [
        f"{BEGIN}\n\n{backends()}\n{components()}\n{END}",
        f"{BEGIN_MISSING}\n\n{missing()}\n{END_MISSING}",
    ]


def updated(text: str) -> str:
    """Return a text with both parts made anew."""
    for new in blocks():
        begin, end = new.split("\n", 1)[0], new.rsplit("\n", 1)[1]
        before, rest = text.split(begin)
        text = before + new + rest.split(end)[1]
    return text


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    readme = ROOT / "README.md"
    readme.write_text(updated(readme.read_text()))
