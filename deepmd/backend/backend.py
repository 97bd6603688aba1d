# SPDX-License-Identifier: LGPL-3.0-or-later
"""The abstract backend and the registry of backends."""

import os
from collections.abc import Callable
from enum import Flag, auto
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.base.plugin import Registry, file_under, has_plugins, load_entry_points


class Feature(Flag):
    """Capabilities of a backend."""

    ENTRY_POINT = auto()
    DEEP_EVAL = auto()
    NEIGHBOR_STAT = auto()
    IO = auto()
    TRAIN = auto()


#: What a backend can do that is built in full.
EVERYTHING = (
    Feature.ENTRY_POINT | Feature.DEEP_EVAL | Feature.NEIGHBOR_STAT | Feature.IO | Feature.TRAIN
)


_NUMPY_EVALUATOR = "deepmd.runtime.evaluator:Evaluator"


class _Hook:
    """A function of a backend, imported when it is asked for."""

    def __init__(self, meaning: str, *, reads: bool = False) -> None:
        self.meaning, self.reads = meaning, reads

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, backend: "Backend | None", owner: type) -> Any:
        if backend is None:
            return self
        backend.require(reading=self.reads)
        target = backend.hooks.get(self.name)
        if self.reads and backend.why_not() is not None:
            target = backend.reading_hooks.get(self.name, target)
        if target is None:
            raise NotAvailableError(
                f"{self.meaning} is not built yet", where=f"backend {backend.name}"
            )
        module, _, attribute = target.partition(":")
        return getattr(import_module(module), attribute)


class Backend:
    """One implementation of the mathematics, with its kinds of files.

    A subclass declares metadata and where its functions are, ``"module:name"``; nothing is
    imported before a function is called. Plugins add subclasses through the entry point group
    ``deepmd.backend``.

    Attributes
    ----------
    name : str
        Name for people: ``"PyTorch"``.
    packages : tuple of str
        Packages that must be installed.
    reading_packages : tuple of str, optional
        Packages that suffice for reading and evaluating its files, where these are fewer.
    suffixes : tuple of str
        Suffixes of its model files; the first is written by default.
    folders : tuple of str
        Those of the suffixes whose model files are folders.
    checkpoint_suffix : str, optional
        Suffix of its training checkpoints.
    checkpoint_parts : tuple of str
        Suffixes of further files that belong to one.
    plugins : tuple of str
        Groups of entry points that are loaded when it trains.
    features : Feature
        What it can do where its packages are installed.
    hooks : dict of str to str
        Where its functions are: ``deep_eval``, ``evaluator``, ``train_step``, ``start_group``,
        ``read_checkpoint``,
        ``write_checkpoint``, ``serialize_hook``, ``deserialize_hook``, ``neighbor_stat``,
        ``entry_point_hook``.
    reading_hooks : dict of str to str
        Those that take their place where only ``reading_packages`` are installed.
    """

    Feature = Feature
    key: ClassVar[str] = ""
    name: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()
    reading_packages: ClassVar[tuple[str, ...] | None] = None
    suffixes: ClassVar[tuple[str, ...]] = ()
    folders: ClassVar[tuple[str, ...]] = ()
    checkpoint_suffix: ClassVar[str | None] = None
    checkpoint_parts: ClassVar[tuple[str, ...]] = ()
    plugins: ClassVar[tuple[str, ...]] = ()
    features: ClassVar["_Feature"] = Feature(0)
    hooks: ClassVar[dict[str, str]] = {}
    reading_hooks: ClassVar[dict[str, str]] = {}

    # -- registry -----------------------------------------------------------------------------

    @staticmethod
    def register(
        *keys: str, override: bool = False
    ) -> Callable[[type["Backend"]], type["Backend"]]:
        """Return a class decorator that files a backend under its names; the first is ``key``.

        A name or a suffix that another backend has is an error unless ``override`` is set.
        """

        def decorate(backend: type[Backend]) -> type[Backend]:
            backend.key = keys[0]
            owners = {s: b for _, b in _registry.items() for s in b.file_suffixes()}
            for suffix in backend.file_suffixes():
                file_under(owners, suffix, backend, kind="suffix", override=override)
            _registry.register(*keys, override=override)(backend)
            return backend

        return decorate

    @staticmethod
    def get_backend(key: str) -> type["Backend"]:
        """Return the backend called ``key``, upper and lower case being the same."""
        load_backends()
        return _registry.get(key.lower())

    @staticmethod
    def get_backends() -> dict[str, type["Backend"]]:
        """All backends by their main name, in the order of preference."""
        load_backends()
        return {b.key: b for _, b in _registry.items()}

    @staticmethod
    def get_backends_by_feature(feature: "_Feature") -> dict[str, type["Backend"]]:
        """Backends that have a feature, by name."""
        return {k: b for k, b in Backend.get_backends().items() if b.features & feature}

    @staticmethod
    def detect_backend_by_model(filename: str | os.PathLike[str]) -> type["Backend"]:
        """Return the backend that opens a file; its suffix alone decides.

        Raises
        ------
        InputError
            For a suffix that no backend has.
        """
        name = os.fspath(filename).lower().rstrip("/")
        backends = Backend.get_backends()
        for backend in backends.values():
            if name.endswith(backend.file_suffixes()):
                return backend
        known = sorted({s for b in backends.values() for s in b.file_suffixes()})
        raise InputError(
            "no backend opens files of this name",
            where=filename,
            fix=f"known suffixes: {', '.join(known)}",
        )

    @classmethod
    def file_suffixes(cls) -> tuple[str, ...]:
        """Suffixes of model files and checkpoints."""
        more = () if cls.checkpoint_suffix is None else (cls.checkpoint_suffix,)
        return (*cls.suffixes, *more)

    # -- availability -------------------------------------------------------------------------

    def is_available(self) -> bool:
        """Whether this backend is built and its packages are installed."""
        return self.why_not() is None

    def why_not(self) -> str | None:
        """Return the reason this backend cannot be used here, or None."""
        return not_installed(self.packages)

    def why_not_read(self) -> str | None:
        """Return the reason files of this backend cannot be read here, or None."""
        if self.reading_packages is None:
            return self.why_not()
        return not_installed(self.reading_packages)

    def require(self, *, reading: bool = False) -> None:
        """Raise NotAvailableError if this backend, or the reading of its files, is not available."""
        reason = self.why_not_read() if reading else self.why_not()
        if reason is not None:
            raise NotAvailableError(f"cannot be used: {reason}", where=f"backend {self.name}")

    # -- hooks --------------------------------------------------------------------------------

    #: ``(path, head=None)``: open a model file or checkpoint; an Evaluator. ``head`` names a branch.
    deep_eval = _Hook("evaluating models", reads=True)
    #: The subclass of TrainStep.
    train_step = _Hook("training")
    #: ``()``: what a training needs before the plugins of the backend are imported. Optional.
    before_plugins = _Hook("preparing for plugins")
    #: ``(processes)``: join those that a launcher started; a Distributed.
    start_group = _Hook("training in several processes")
    #: ``(path)``: a Checkpoint.
    read_checkpoint = _Hook("reading checkpoints", reads=True)
    #: ``(path, checkpoint)``
    write_checkpoint = _Hook("writing checkpoints")
    #: ``(path)``: the neutral model dictionary out of a file.
    serialize_hook = _Hook("reading this kind of model file", reads=True)
    #: ``(path, data)``: write a file from the neutral model dictionary.
    deserialize_hook = _Hook("writing this kind of model file")

    @property
    def evaluator(self) -> Any:
        """The subclass of Evaluator: ``(model)``; that of NumPy where the backend names none."""
        module, _, name = self.hooks.get("evaluator", _NUMPY_EVALUATOR).partition(":")
        return getattr(import_module(module), name)

    @property
    def neighbor_stat(self) -> Any:
        """The function that counts neighbors of a data set; one for all backends."""
        return import_module("deepmd.data.neighbor_stat").neighbor_stat

    @property
    def entry_point_hook(self) -> Any:
        """The function that runs a parsed command line."""
        return import_module("deepmd.entrypoints.main").dispatch

    # -- commands -----------------------------------------------------------------------------

    def freeze(
        self,
        checkpoint: Any,
        output: str | os.PathLike[str],
        head: str | None = None,
        *,
        hessian: bool = False,
        precision: str | None = None,
    ) -> None:
        """Write the model of a checkpoint as a model file of this backend.

        Parameters
        ----------
        checkpoint : Checkpoint
        output : path
        head : str, optional
            Branch of a multi-task model.
        hessian : bool
            Let the model evaluate second derivatives of its energy by default.
        precision : str, optional
            Of the networks in the file; by default that of the training.
        """
        from deepmd.io.files import branch_of, branch_params
        from deepmd.runtime.precision import in_precision, log_errors
        from deepmd.runtime.probes import model_file_dict

        branch = branch_of(checkpoint.models, head, "--head", checkpoint.model_params)
        model, section = checkpoint.models[branch], branch_params(checkpoint.model_params, branch)
        if hessian:
            if model.kinds() != ["energy"] or model.expands():
                raise InputError(
                    "only models of the energy, without spins and fragments, give a Hessian",
                    where="dp freeze --hessian",
                    fix="leave it out",
                )
            section["hessian_mode"] = True
        data = model_file_dict(
            model,
            section,
            checkpoint.min_nbor_dist,
            checkpoint.backend,
        )
        if precision is not None:
            data = in_precision(data, precision)
        self.deserialize_hook(output, data)
        if precision is not None:
            log_errors(data, model, "the checkpoint")


def not_installed(packages: tuple[str, ...]) -> str | None:
    """Return a sentence that names the packages that are not installed, or None."""
    missing = [
        p for p in packages if find_spec(p.partition(".")[0]) is None or find_spec(p) is None
    ]
    if missing:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
    return None


_Feature = Feature
_registry = Registry("backend")
#: In the order of preference.
_BUILT_IN = ("tensorflow", "pytorch", "jax", "dpmodel")


def load_backends() -> None:
    """Register the built-in backends and those of plugins."""
    for name in _BUILT_IN:
        import_module(f"deepmd.backend.{name}")
    load_entry_points("deepmd.backend")
    # Descriptors and the like, which model files may name.
    load_entry_points("deepmd.dpmodel")


def choose_backend(key: str | None, *, trains: bool = False) -> tuple[type[Backend], str]:
    """Return the backend that trains, and why; its plugins are loaded.

    Parameters
    ----------
    key : str or None
        Name from the command line or ``DP_BACKEND``; None takes the first that can be used here.
    trains : bool
        Whether a training begins, for which a backend may have to prepare before it has plugins.

    Raises
    ------
    InputError
        For an unknown name; NotAvailableError for a backend that cannot be used here.
    """
    backend, why = _chosen(key)
    if trains and "before_plugins" in backend.hooks and has_plugins(*backend.plugins):
        backend().before_plugins()
    for group in backend.plugins:
        load_entry_points(group)
    return backend, why


def _chosen(key: str | None) -> tuple[type[Backend], str]:
    if key is not None:
        backend = Backend.get_backend(key)
        backend().require()
        return backend, "as asked"
    reasons: list[str] = []
    for backend in Backend.get_backends_by_feature(Feature.TRAIN | Feature.ENTRY_POINT).values():
        reason = backend().why_not()
        if reason is None:
            skipped = f" ({'; '.join(reasons)})" if reasons else ""
            return backend, f"the first that can be used here{skipped}"
        reasons.append(f"{backend.name}: {reason}")
    raise NotAvailableError("no backend can be used here", fix="; ".join(reasons))
