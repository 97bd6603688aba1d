# SPDX-License-Identifier: LGPL-3.0-or-later
"""Settings of components: one line declares the attribute, the input key and the documentation.

A component states what can be chosen about it as typed attributes of its class::

    class DescrptSeA(TypedDescriptor):
        axis_neuron: int = setting(4, "Rows of T in the second factor.", rule=POSITIVE)

Its constructor takes the settings of its bases and of the class by name, in that order also by
position, puts them on the object, and calls ``build``. ``arguments`` gives the same settings as
keys of the component's section of the input.
"""

import dataclasses
import inspect
import types
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, TypeVar, get_args, get_origin

from dargs import Argument

from deepmd.base.errors import InputError
from deepmd.schema.common import Rule, option, required, unset

_Part = TypeVar("_Part", bound="Settings")


@dataclasses.dataclass(frozen=True)
class Setting:
    """Arguments of :func:`setting`, and the annotation of its attribute."""

    default: Any
    doc: str | None
    alias: tuple[str, ...]
    rule: Rule | None
    kind: Any
    key: bool | None
    absent: bool
    part: "type[Settings] | None"
    within: str | None
    annotation: Any = None

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is ...

    @property
    def by_name(self) -> bool:
        """Whether constructors take it by name only, as what is no key and need not be given."""
        return self.key is False and not self.required

    def argument(self, name: str, whole: Collection[str] = ()) -> Argument:
        """Return the key of the input; the section of a part leaves out what the whole has."""
        if self.part is not None:
            keys = [a for a in self.part.arguments() if a.name not in whole]
            return Argument(name, dict, keys, doc=self.doc or "")
        kind = self.kind if self.kind is not None else _kinds(self.annotation)
        if self.required:
            return required(name, kind, self.doc or "", rule=self.rule)
        alias = list(self.alias)
        if self.absent:
            return unset(name, kind, self.doc or "", alias=alias, rule=self.rule)
        return option(name, kind, _own(self.default), self.doc or "", alias=alias, rule=self.rule)


def setting(
    default: Any,
    doc: str | None = None,
    *,
    alias: Sequence[str] = (),
    rule: Rule | None = None,
    kind: Any = None,
    key: bool | None = None,
    absent: bool = False,
    part: "type[Settings] | None" = None,
    within: str | None = None,
) -> Any:
    """Declare a setting of a class of :class:`Settings`.

    Parameters
    ----------
    default
        ``...`` if it must be given.
    doc : str, optional
        One sentence, with the unit. Without it this is a setting of a base with another default,
        and with another ``key`` if that is given.
    alias : sequence of str
        Older names of the key.
    rule : Rule, optional
        Condition on a value that is given.
    kind : type or list of types, optional
        Of the key, where it takes more than the attribute.
    key : bool, optional
        Whether the section of the input has it, which is usual; otherwise it follows from other
        parts.
    absent : bool
        Whether a key that is not given stays out of the checked section.
    part : type of Settings, optional
        The value is the section of such a part, without the settings that the whole has, too.
    within : str, optional
        The value is the largest number of neighbors within the cutoff of this key of the same
        section, or ``"auto"``, which training replaces by what it finds in its data.
    """
    return Setting(default, doc, tuple(alias), rule, kind, key, absent, part, within)


class Settings:
    """Base of components that declare what can be chosen about them."""

    #: Of this class and its bases, by name.
    settings: ClassVar[dict[str, Setting]] = {}
    _declared: ClassVar[dict[str, Setting]] = {}
    _signature: ClassVar[inspect.Signature] = inspect.Signature()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = {name: s for name, s in vars(cls).items() if isinstance(s, Setting)}
        of_class = inspect.get_annotations(cls)
        for name in own:
            delattr(cls, name)
        cls._declared = {
            name: dataclasses.replace(s, annotation=of_class.get(name)) for name, s in own.items()
        }
        cls.settings = {}
        for base in reversed(cls.__mro__):
            for name in vars(base):  # a base that says what it is leaves no choice
                cls.settings.pop(name, None)
            for name, s in vars(base).get("_declared", {}).items():
                cls.settings[name] = _refined(cls.settings[name], s) if s.doc is None else s
        cls._signature = _signature(cls.settings)
        if cls.__init__ is Settings.__init__:
            cls.__signature__ = cls._signature  # type: ignore[attr-defined]
            _describe(cls)
        else:  # not that of its base
            own_init = types.MethodType(cls.__init__, cls)
            cls.__signature__ = inspect.signature(own_init)  # type: ignore[attr-defined]

    def __init__(self, *args: Any, **given: Any) -> None:
        component = type(self)
        try:
            taken = component._signature.bind(*args, **given).arguments
        except TypeError as error:
            raise TypeError(f"{component.__name__}: {error}") from None
        for name, s in component.settings.items():
            value = _own(taken.get(name, s.default))
            if s.annotation is float and isinstance(value, int):
                value = float(value)
            if name in taken and s.rule is not None and not s.rule.holds(value):
                raise InputError(f"{name} {value!r} of {component.__name__} {s.rule.must}")
            setattr(self, name, value)
        self.build()

    def build(self) -> None:
        """Make what follows from the settings."""

    @classmethod
    def check(cls, section: dict[str, Any]) -> None:
        """Raise InputError where values of a checked section do not go together."""

    def part(self, component: type[_Part], **given: Any) -> _Part:
        """Make a part; settings that it shares with the whole are the whole's unless given."""
        shared = {name: getattr(self, name) for name in component.settings if name in self.settings}
        return component(**{**shared, **given})

    @classmethod
    def arguments(cls) -> list[Argument]:
        """Return the settings as keys of the component's section of the input."""
        keys = {name: s for name, s in cls.settings.items() if s.key is not False}
        return [s.argument(name, cls.settings) for name, s in keys.items()]


def _refined(inherited: Setting, new: Setting) -> Setting:
    """Return a setting of a base with another default."""
    key = inherited.key if new.key is None else new.key
    return dataclasses.replace(inherited, default=new.default, key=key)


def _own(value: Any) -> Any:
    """Return a copy that shares no list or dictionary; tuples become lists, as in files."""
    if isinstance(value, (list, tuple)):
        return [_own(v) for v in value]
    return {k: _own(v) for k, v in value.items()} if isinstance(value, dict) else value


def _kinds(annotation: Any) -> Any:
    """Return what a key may be, from the annotation of the attribute."""
    if get_origin(annotation) is types.UnionType:
        return [None if t is types.NoneType else t for t in get_args(annotation)]
    return annotation


def _signature(settings: dict[str, Setting]) -> inspect.Signature:
    """Return the arguments of a constructor.

    If a required one follows others, then all but the first required ones are given by name.
    """
    placed = [name for name, s in settings.items() if not s.by_name]
    needed = [settings[name].required for name in placed]
    if needed != sorted(needed, reverse=True):
        placed = placed[: needed.index(False)]
    by_place, by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    empty = inspect.Parameter.empty
    return inspect.Signature(
        [
            inspect.Parameter(
                name,
                by_place if name in placed else by_name,
                default=empty if settings[name].required else settings[name].default,
                annotation=settings[name].annotation,
            )
            for name in (*placed, *(n for n in settings if n not in placed))
        ]
    )


def _describe(cls: type[Settings]) -> None:
    """Append the description of its settings to that of a class, for ``help``."""
    entries = []
    for name, s in cls.settings.items():
        optional = "" if s.required else f", default {s.default!r}"
        entries.append(f"{name} : {inspect.formatannotation(s.annotation)}{optional}\n    {s.doc}")
    if entries:
        body = inspect.cleandoc(cls.__doc__ or "")
        cls.__doc__ = "\n".join([body, "", "Parameters", "----------", *entries])
