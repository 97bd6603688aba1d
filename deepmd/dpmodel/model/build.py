# SPDX-License-Identifier: LGPL-3.0-or-later
"""From the model section of an input file to a model with initial values."""

import copy
from typing import Any

from dargs import Argument

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.dpmodel.atomic_model import (
    AtomicModel,
    BareTableZBLAtomicModel,
    LinearAtomicModel,
    PairTabAtomicModel,
    StandardAtomicModel,
    ZBLAtomicModel,
)
from deepmd.dpmodel.descriptor import Descriptor
from deepmd.dpmodel.fitting import Fitting
from deepmd.dpmodel.model.model import Model
from deepmd.dpmodel.model.modifier import Modifier
from deepmd.dpmodel.model.spin import SpinModel
from deepmd.dpmodel.model.spin_section import backbone_section, spin_settings
from deepmd.dpmodel.nn.pair_table import PairTable
from deepmd.dpmodel.nn.type_embedding import TypeEmbedding
from deepmd.dpmodel.type_map import change_type_map
from deepmd.io.files import single_model
from deepmd.schema.common import INFO, POSITIVE, option, required, unset
from deepmd.schema.descriptor import SEL_OF_ALL
from deepmd.schema.model import TypeEmbeddingKeys
from deepmd.schema.registry import model_args


def build_model(section: dict[str, Any]) -> Model:
    """Build the model of a checked ``model`` section.

    Parameters
    ----------
    section : dict
        The normalized section; ``sel`` must be numbers.

    Raises
    ------
    InputError
        If parts do not fit each other.
    """
    section = copy.deepcopy(section)
    around = Model.registry
    if section.get("type") in around and hasattr(around.get(section["type"]), "from_section"):
        return around.get(section["type"]).from_section(section)
    spin, modifier = section.pop("spin", None), section.pop("modifier", None)
    if modifier is not None:
        return _modified(section, modifier, with_spin=spin is not None)
    if spin is None or not section.get("type_map"):
        return Model(build_atomic_model(section, "model"))
    settings = spin_settings(spin, section["type_map"])
    backbone = backbone_section(section, settings["use_spin"])
    return SpinModel(build_atomic_model(backbone, "model"), **settings)


def _modified(section: dict[str, Any], given: dict[str, Any], *, with_spin: bool) -> Model:
    """A model with a modifier."""
    path = "model/modifier"
    if with_spin:
        raise NotAvailableError("a model with spins takes none", where=path, fix="leave out one")
    model, kind = Model(build_atomic_model(section, "model")), given.pop("type")
    if model.kinds() != ["energy"]:
        raise InputError(f"is an energy, the model predicts {', '.join(model.kinds())}", where=path)
    modifier = Modifier.registry.get(kind, where=f"{path}/type")
    model.modifier = modifier.for_model(given, model.get_type_map(), path, _read)
    return model


def build_atomic_model(section: dict[str, Any], where: str) -> AtomicModel:
    """Build the atomic model of a section, which is used up; ``where`` is its JSON path."""
    kind = section.get("type", "standard")
    if not section.get("type_map"):
        raise InputError("no type_map", where=where, fix='name the types, e.g. ["O", "H"]')
    if kind == "standard":
        network = _standard(section, where)
        if section.get("use_srtab") is None:
            return network
        return _with_pair_table(network, section, where)
    if kind == "pairtab":
        type_map = section["type_map"]
        table = PairTable.from_file(section["tab_file"], len(type_map), section["rcut"])
        return PairTabAtomicModel(
            table, section["rcut"], section["sel"], type_map, **_common(section)
        )
    if kind == "linear_ener":
        return _linear(section, where)
    if kind == "frozen":
        return _frozen(section, where)
    if kind in AtomicModel.registry and hasattr(AtomicModel.registry.get(kind), "from_section"):
        return AtomicModel.registry.get(kind).from_section(section)
    raise NotAvailableError(
        f'models of type "{kind}" are not built yet', where=f"{where}/type", fix='use "standard"'
    )


def _common(section: dict[str, Any]) -> dict[str, Any]:
    """Settings of every atomic model."""
    names = ("atom_exclude_types", "pair_exclude_types", "preset_out_bias")
    return {name: section[name] for name in names if name in section}


def _standard(section: dict[str, Any], where: str) -> StandardAtomicModel:
    """A descriptor and a fitting."""
    type_map = section["type_map"]
    given = dict(section["descriptor"])
    path = f"{where}/descriptor/type"
    types = _type_embedding(section, Descriptor.registry.get(given["type"], where=path))
    if types is not None:
        kind = Descriptor.registry.get(given["type"])
        given = kind.with_type_embedding(given, types)
        types = None if kind.embeds_types else types
    descriptor = Descriptor.registry.get(given.pop("type"), where=path)(**given, type_map=type_map)
    if descriptor.ntypes != len(type_map):
        raise InputError(
            f"sel has {descriptor.ntypes} numbers for {len(type_map)} types",
            where=f"{where}/descriptor/sel",
            fix="give one number per type of type_map",
        )
    given = dict(section["fitting_net"])
    fitting_class = Fitting.registry.get(
        given.pop("type", "ener"), where=f"{where}/fitting_net/type"
    )
    fitting = fitting_class.for_descriptor(
        given,
        descriptor,
        type_map,
        section.get("atom_exclude_types", ()),
        0 if types is None else types.neuron[-1],
    )
    settings = {**_common(section), "atom_exclude_types": fitting.exclude_types}
    return StandardAtomicModel(
        descriptor, fitting, type_map, types, rcond=fitting.rcond, **settings
    )


def _type_embedding(section: dict[str, Any], kind: type[Descriptor]) -> TypeEmbedding | None:
    """Return the type embedding of a model, if it has one."""
    given = section.get("type_embedding")
    if given is None and not kind.needs_types:
        return None
    given = {"activation_function": "Linear"} if given is None else given  # as DeePMD-kit has it
    type_map = section["type_map"]
    settings = {k: s.default for k, s in TypeEmbeddingKeys.settings.items()} | given
    return TypeEmbedding(len(type_map), type_map=type_map, **settings)


def _with_pair_table(
    network: StandardAtomicModel, section: dict[str, Any], where: str
) -> ZBLAtomicModel:
    """A network that gives way to a table; the whole's exclusions hold for both."""
    missing = [k for k in ("sw_rmin", "sw_rmax", "smin_alpha") if k not in section]
    if missing:
        raise InputError(
            f"use_srtab needs {', '.join(missing)}", where=where, fix="give them, in Å"
        )
    if not section["sw_rmin"] < section["sw_rmax"]:
        raise InputError(
            f"sw_rmin {section['sw_rmin']} is not below sw_rmax {section['sw_rmax']}", where=where
        )
    if section["smin_alpha"] <= 0:
        raise InputError(f"smin_alpha {section['smin_alpha']} is not greater than 0", where=where)
    names = network.type_map
    table = PairTabAtomicModel(
        PairTable.from_file(section["use_srtab"], len(names), network.rcut),
        network.rcut,
        sum(network.sel),
        names,
    )
    network.atom_exclude_types, network.pair_exclude_types = [], []
    network.preset_out_bias = None
    kind = ZBLAtomicModel if section.get("srtab_add_bias", True) else BareTableZBLAtomicModel
    return kind(
        [network, table],
        names,
        sw_rmin=section["sw_rmin"],
        sw_rmax=section["sw_rmax"],
        smin_alpha=section["smin_alpha"],
        **_common(section),
    )


def _linear(section: dict[str, Any], where: str) -> LinearAtomicModel:
    """A weighted sum of models."""
    members = []
    if not section["models"]:
        raise InputError("names no model", where=f"{where}/models", fix="give at least one")
    for k, given in enumerate(section["models"]):
        if given.get("preset_out_bias"):
            raise InputError(
                "the bias is one of the sum, not of its members",
                where=f"{where}/models/{k}/preset_out_bias",
                fix=f"give it in {where}/preset_out_bias",
            )
        given = {"type_map": section["type_map"], **given}
        members.append(build_atomic_model(given, f"{where}/models/{k}"))
    weights = section["weights"]
    if isinstance(weights, list) and len(weights) != len(members):
        raise InputError(
            f"{len(weights)} weights for {len(members)} models",
            where=f"{where}/weights",
            fix="give one per model",
        )
    return LinearAtomicModel(members, section["type_map"], weights=weights, **_common(section))


def _read(path: str) -> Model:
    """Return the single model of a file of any backend."""
    # They know this package, not the other way round.
    from deepmd.backend.detect import backend_of, existing_model

    tree = backend_of(path).serialize_hook(existing_model(path))
    return Model.deserialize(single_model(tree, path))


def _frozen(section: dict[str, Any], where: str) -> AtomicModel:
    """Return the atomic model of a file, which is not trained."""
    path, type_map = section["model_file"], list(section["type_map"])
    if where == "model":
        raise InputError(
            "a frozen model has nothing to train",
            where=f"{where}/type",
            fix='make it one of the "models" of a model of type "linear_ener"',
        )
    model = _read(path)
    unknown = [name for name in type_map if name not in model.get_type_map()]
    if unknown or model.expands():
        no = f"does not know the types {', '.join(unknown)}"
        what = no if unknown else "has spins or fragments"
        raise InputError(what, where=path, fix=f"name another file in {where}/model_file")
    if model.get_type_map() != type_map:
        model = change_type_map(model, type_map)
    model.atomic_model.trainable = False
    return model.atomic_model


@model_args.register("frozen", doc="A model file, as a member of a weighted sum.")
def frozen_arguments() -> list[Argument]:
    """Keys of a model file."""
    return [
        Argument(
            "model_file", str, doc="Model file of any backend; its parameters are not trained."
        ),
        unset("info", dict, INFO),
    ]


@model_args.register("pairtab", doc="A tabulated pair potential.")
def pairtab_arguments() -> list[Argument]:
    """Keys of a pair table."""
    return [
        Argument("tab_file", str, doc="Path of the table: r, then u for every pair of types."),
        required("rcut", float, "Cutoff radius, Å.", rule=POSITIVE),
        SEL_OF_ALL.argument("sel"),
        unset("info", dict, INFO),
    ]


@model_args.register("linear_ener", doc="A weighted sum of models.")
def linear_arguments() -> list[Argument]:
    """Keys of a weighted sum of models."""
    # Imported here: the section's schema asks the registry for these very arguments.
    from deepmd.schema.model import common_model_arguments

    return [
        Argument(
            "models",
            list,
            common_model_arguments(),
            [model_args.variant(default="standard", exclude=["linear_ener"])],
            repeat=True,
            doc="Complete model sections.",
        ),
        LinearAtomicModel.settings["weights"].argument("weights"),
        option(
            "shared_dict",
            dict,
            {},
            "Definitions that members name; each has parameters of its own.",
        ),
        unset("info", dict, INFO),
    ]


@model_args.register("pairwise_dprc", doc="A QM region, and its pairs with fragments around it.")
def pairwise_arguments() -> list[Argument]:
    """Keys of a pairwise sum of two models."""
    # Imported here: the section's schema asks the registry for these very arguments.
    from deepmd.schema.model import common_model_arguments

    kinds = model_args.variant(default="standard", exclude=["pairwise_dprc", "linear_ener"])
    docs = {
        "qm_model": "Complete model section: energy of the QM region.",
        "qmmm_model": "Complete model section: energy of QM region and one fragment.",
    }
    return [
        *(
            Argument(name, dict, common_model_arguments(), [kinds], doc=doc)
            for name, doc in docs.items()
        ),
        unset("info", dict, INFO),
    ]
