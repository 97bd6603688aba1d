# SPDX-License-Identifier: LGPL-3.0-or-later
"""Registries of the input keys of components and plugins.

A descriptor, fitting or loss is filed with its settings when its class is registered
(:meth:`deepmd.dpmodel.module.Registered.register`); others register a function::

    @model_args.register("pairtab", doc="a pair table")
    def arguments() -> list[Argument]:
        return [Argument("rcut", float, optional=True, default=6.0), ...]
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dargs import Argument, Variant

from deepmd.base.errors import InputError, NotAvailableError, did_you_mean
from deepmd.base.plugin import check_collision, failed_plugins, file_under
from deepmd.base.reading import shown

Factory = Callable[[], "Argument | list[Argument]"]


class ArgsRegistry:
    """Input arguments of the components of one kind, by type name.

    Parameters
    ----------
    kind : str
        What the components are, for messages: ``"descriptor"``.
    known : mapping of str to aliases
        Types of the input format that may not be built here; naming one gives an error saying so.
    """

    def __init__(self, kind: str, known: dict[str, tuple[str, ...]] | None = None) -> None:
        self.kind = kind
        self._known = known or {}
        self._factories: dict[str, Factory] = {}
        self._aliases: dict[str, tuple[str, ...]] = {}
        self._docs: dict[str, str] = {}

    def register(
        self,
        name: str,
        alias: Iterable[str] | None = None,
        doc: str = "",
        *,
        override: bool = False,
    ) -> Callable[[Factory], Factory]:
        """Return a decorator that files a function returning arguments under ``name``.

        A name or alias that another component has is an error unless ``override`` is set.
        """

        def decorate(factory: Factory) -> Factory:
            owners = {a: self._factories[n] for n, given in self._aliases.items() for a in given}
            owners |= self._factories
            for one in (name, *(alias or ())):
                file_under(owners, one, factory, kind=self.kind, override=override)
            self._factories[name] = factory
            self._aliases[name] = tuple(alias or ())
            self._docs[name] = doc
            return factory

        return decorate

    def add(self, component: Any, *names: str, override: bool = False) -> None:
        """File the settings of a class under its names; its first line describes it."""
        title = inspect.cleandoc(component.__doc__ or "").partition("\n")[0]
        self.register(names[0], names[1:], title, override=override)(component.arguments)

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self._factories)

    def names(self) -> set[str]:
        """All names and aliases that are built here."""
        return set(self._factories).union(*self._aliases.values())

    def factory(self, name: str) -> Factory:
        """Return the function that makes the arguments of a registered type."""
        return self._factories[name]

    def component(self, name: str) -> Any:
        """Return the class whose settings the keys of a type are, or None."""
        return getattr(self._factories[name], "__self__", None)

    def get_all_argument(self, exclude: Iterable[str] = ()) -> list[Argument]:
        """One Argument per registered type, in the order of registration."""
        return [self._argument(n) for n in self._factories if n not in set(exclude)]

    def _argument(self, name: str) -> Argument:
        made = self._factories[name]()
        if isinstance(made, Argument):
            return made
        return Argument(name, dict, made, alias=self._aliases[name], doc=self._docs[name])

    def variant(self, *, default: str | None = None, exclude: Iterable[str] = ()) -> Variant:
        """Choice by the key ``type`` among the registered types."""
        choices = self.get_all_argument(exclude)
        has_default = default is not None and any(c.name == default for c in choices)
        return Variant(
            "type",
            choices,
            optional=has_default,
            default_tag=default if has_default and default is not None else "",
            doc=f"type of the {self.kind}",
        )

    def unknown(
        self, name: str, *, where: str | None = None, allowed: Iterable[str] | None = None
    ) -> InputError:
        """Return the error for a type name that is not registered, or not ``allowed`` here.

        Raises
        ------
        InputError
            If several plugins have it.
        """
        check_collision(self.kind, name, where)
        available = (
            f"available: {', '.join(sorted(self._factories if allowed is None else allowed))}"
        )
        if name in self.names():
            return InputError(f'{self.kind} "{name}" cannot be inside', where=where, fix=available)
        for main, aliases in self._known.items():
            if name == main or name in aliases:
                return NotAvailableError(
                    f'{self.kind} "{name}" is known but not built yet',
                    where=where,
                    fix=available,
                )
        fix = "; ".join(filter(None, (did_you_mean(name, self.names()), *failed_plugins())))
        return InputError(f'unknown {self.kind} "{shown(name)}"', where=where, fix=fix)


descriptor_args = ArgsRegistry(
    "descriptor",
    {
        "loc_frame": (),
        "se_e2_a": ("se_a",),
        "se_e2_r": ("se_r",),
        "se_e3": ("se_at", "se_a_3be", "se_t"),
        "se_e3_tebd": (),
        "se_atten": ("dpa1",),
        "se_atten_v2": (),
        "dpa2": (),
        "dpa3": (),
        "dpa4": ("DPA4", "SeZM", "sezm"),
        "dpa4c": ("DPA4C",),
        "hybrid": (),
        "se_a_mask": (),
        "se_a_tpe": ("se_a_ebd",),
        "se_a_ebd_v2": ("se_a_tpe_v2",),
    },
)
fitting_args = ArgsRegistry(
    "fitting net",
    {
        "ener": (),
        "dipole": (),
        "polar": (),
        "dos": (),
        "property": (),
        "population": (),
        "dpa4_ener": (),
    },
)
model_args = ArgsRegistry(
    "model",
    {
        "standard": (),
        "dpa4": ("DPA4", "SeZM", "sezm"),
        "frozen": (),
        "pairtab": (),
        "pairwise_dprc": (),
        "linear_ener": (),
        "inner_potential": (),
    },
)
hybrid_model_args = ArgsRegistry("model")
loss_args = ArgsRegistry(
    "loss",
    {
        "ener": ("ener_hess",),
        "dens": (),
        "ener_spin": (),
        "dos": (),
        "population": (),
        "property": (),
        "tensor": (),
    },
)
lr_args = ArgsRegistry("learning rate", {"exp": (), "cosine": (), "wsd": ()})
optimizer_args = ArgsRegistry(
    "optimizer", {"Adam": (), "AdamW": (), "LKF": (), "AdaMuon": (), "HybridMuon": ()}
)
modifier_args = ArgsRegistry("modifier", {"dipole_charge": ()})
