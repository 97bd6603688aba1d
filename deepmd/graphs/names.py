# SPDX-License-Identifier: LGPL-3.0-or-later
"""Names of the nodes that hold the arrays of a model, and their places in its dictionary.

The tables are the whole difference between kinds of descriptors. In the templates ``{s}`` is the
number of a part of a hybrid (``_0``), ``{l}`` that of a layer, ``{a}`` and ``{b}`` are types:
of an embedding for one type the neighbor's, of one for two types the center's and the neighbor's.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from deepmd.base.errors import NotAvailableError

Path = tuple[str | int, ...]

#: Arrays of a dense layer.
LAYER = {"w": "matrix", "b": "bias", "idt": "idt"}
#: Embedding networks by the type of the descriptor and the number of types that a network is for.
EMBEDDINGS = {
    ("se_e2_a", 1): "filter_type_all{s}/{array}_{l}_{a}",
    ("se_e2_a", 2): "filter_type_{a}{s}/{array}_{l}_{b}",
    ("se_a_mask", 1): "filter_type_all{s}/{array}_{l}_{a}",
    ("se_a_mask", 2): "filter_type_{a}{s}/{array}_{l}_{b}",
    ("se_r", 1): "filter_type_all{s}/{array}_{l}_{a}",
    ("se_r", 2): "filter_type_{a}{s}/{array}_{l}_{b}",
    ("se_e3", 2): "filter_type_all{s}/{array}_{l}_{a}_{b}",
    ("dpa1", 0): "filter_type_all{s}/{array}_{l}",
    ("se_e2_a_tebd", 0): "filter_type_all{s}/{array}_{l}",
    ("se_a_ebd_v2", 0): "filter_type_all{s}/{array}_{l}",
}
#: Networks of the types alone, in strip mode, by whether they see the neighbor only.
STRIPPED = {
    True: "filter_type_all{s}/{array}_{l}_one_side_ebd",
    False: "filter_type_all{s}/{array}_{l}_two_side_ebd",
}
TYPE_EMBEDDING = "type_embed_net/{array}_{l}"
STATISTICS = {"davg": "descrpt_attr{s}/t_avg", "dstd": "descrpt_attr{s}/t_std"}
#: Parts of the projections of an attention layer, side by side.
ATTENTION = {
    "in_proj": (
        "attention_layer_{l}{s}/c_query/{array}",
        "attention_layer_{l}{s}/c_key/{array}",
        "attention_layer_{l}{s}/c_value/{array}",
    ),
    "out_proj": ("attention_layer_{l}{s}/c_out/{array}",),
}
#: Layer norms; Keras numbers its layers, where nobody names them.
LAYER_NORM = {
    "w": (
        "attention_layer_{l}{s}/layer_normalization/gamma",
        "attention_layer_{l}{s}/layer_normalization_{l}/gamma",
    ),
    "b": (
        "attention_layer_{l}{s}/layer_normalization/beta",
        "attention_layer_{l}{s}/layer_normalization_{l}/beta",
    ),
}
#: Division of the queries by the root of a number.
ATTENTION_SCALE = "attention_layer_0{s}/truediv"
LAYER_NORM_EPSILON = "attention_layer_0{s}/layer_normalization/add/y"
#: Layers of a fitting with names, of one type and of all.
NAMED = {False: "share_{name}_type_{a}/{array}", True: "share_{name}/{array}"}
#: Layers of a fitting: hidden ones and the last, of one type and of all.
FITTING = {
    False: ("layer_{l}_type_{a}/{array}", "final_layer_type_{a}/{array}"),
    True: ("layer_{l}/{array}", "final_layer/{array}"),
}
FITTING_ARRAYS = {
    "bias_atom_e": "fitting_attr/t_bias_atom_e",
    "fparam_avg": "fitting_attr/t_fparam_avg",
    "fparam_inv_std": "fitting_attr/t_fparam_istd",
    "aparam_avg": "fitting_attr/t_aparam_avg",
    "aparam_inv_std": "fitting_attr/t_aparam_istd",
    "constant_matrix": "fitting_attr/t_constant_matrix",
}
#: Bias and deviation of the output; the scope is doubled in graphs that DeePMD-kit 3 writes.
MODEL_ARRAYS = {
    "out_bias": ("model_attr/model_attr/t_out_bias", "model_attr/t_out_bias"),
    "out_std": ("model_attr/model_attr/t_out_std", "model_attr/t_out_std"),
}
#: Arrays that graphs leave out where they change nothing; the model has them from its section.
OPTIONAL = {*MODEL_ARRAYS, "bias_atom_e", "constant_matrix", "scale", "case_embd"}


class Source(NamedTuple):
    """Nodes that an array of a model dictionary comes from.

    Attributes
    ----------
    place : tuple
        Keys of the dictionary.
    parts : tuple of tuple of str
        For every part, side by side, the names it may have.
    needed : bool
        Whether the graph must have it; where it does not, the array stays.
    """

    place: Path
    parts: tuple[tuple[str, ...], ...]
    needed: bool = True


def parts_of(descriptor: Mapping[str, Any]) -> Iterator[tuple[Path, Any, str]]:
    """Iterate over the parts of a descriptor, a section or dictionary, with place and suffix.

    Places are within the descriptor; suffixes are those of the scopes of a part of a hybrid.
    """
    if descriptor["type"] != "hybrid":
        yield (), descriptor, ""
        return
    for k, part in enumerate(descriptor["list"]):
        yield ("list", k), part, f"_{k}"


def sources(model: Mapping[str, Any]) -> Iterator[Source]:
    """Iterate over the arrays of a standard model dictionary."""
    for key in model["@variables"]:
        yield Source(("@variables", key), (MODEL_ARRAYS[key],), needed=False)
    yield from _type_sources(model, ())
    for place, part, s in parts_of(model["descriptor"]):
        yield from _descriptor_sources(part, ("descriptor", *place), s)
    yield from _fitting_sources(model["fitting"], ("fitting",))


def _descriptor_sources(data: Mapping[str, Any], place: Path, s: str) -> Iterator[Source]:
    kind, nets = data["type"], data["embeddings"]
    template = EMBEDDINGS.get((kind, nets["ndim"]))
    if template is None:
        raise NotAvailableError(f'graphs with a descriptor of type "{kind}" are not read')
    if "compress" not in data:
        unused = unused_networks(data)
        yield from _collection(nets, (*place, "embeddings"), template, s, unused)
    if "embeddings_strip" in data and "compress" not in data:
        one_side = STRIPPED[data["type_one_side"]]
        yield from _collection(data["embeddings_strip"], (*place, "embeddings_strip"), one_side, s)
    for name in data.get("@variables", ()):
        yield Source((*place, "@variables", name), ((STATISTICS[name].format(s=s),),))
    yield from _type_sources(data, place)
    for k, layer in enumerate(data.get("attention_layers", {}).get("attention_layers", ())):
        at = (*place, "attention_layers", "attention_layers", k)
        yield from _attention_sources(layer, at, s, k)


def _type_sources(data: Mapping[str, Any], place: Path) -> Iterator[Source]:
    """Sources of the type embedding of a model or descriptor, where there is one."""
    if "type_embedding" in data:
        layers = data["type_embedding"]["embedding"]["layers"]
        yield from _layers(
            layers, (*place, "type_embedding", "embedding", "layers"), TYPE_EMBEDDING
        )


def _attention_sources(data: Mapping[str, Any], place: Path, s: str, k: int) -> Iterator[Source]:
    numbered = {"l": k, "s": s}
    for key, templates in ATTENTION.items():
        for name, array in LAYER.items():
            at = (*place, "attention_layer", key, "@variables", name)
            if data["attention_layer"][key]["@variables"][name] is not None:
                yield Source(at, tuple((t.format(array=array, **numbered),) for t in templates))
    for name, templates in LAYER_NORM.items():
        at = (*place, "attn_layer_norm", "@variables", name)
        yield Source(at, (tuple(t.format(**numbered) for t in templates),))


def _collection(
    data: Mapping[str, Any],
    place: Path,
    template: str,
    s: str,
    unused: frozenset[tuple[int, ...]] = frozenset(),
) -> Iterator[Source]:
    """Sources of the networks of a collection, by their types."""
    for number, network in enumerate(data["networks"]):
        types = tuple(number // data["ntypes"] ** k % data["ntypes"] for k in range(data["ndim"]))
        named = dict(zip("ab", types, strict=False))
        at = (*place, "networks", number, "layers")
        for source in _layers(network["layers"], at, template, s=s, **named):
            yield source._replace(needed=types not in unused)


def unused_networks(data: Mapping[str, Any]) -> frozenset[tuple[int, ...]]:
    """Return the types of networks for pairs that do not occur, which graphs leave out."""
    n, ndim = data["embeddings"]["ntypes"], data["embeddings"]["ndim"]
    if ndim != 2:
        return frozenset()
    excluded = {tuple(sorted(pair)) for pair in data["exclude_types"]}
    below = data["type"] == "se_e3"
    pairs = ((a, b) for a in range(n) for b in range(n))
    return frozenset(p for p in pairs if tuple(sorted(p)) in excluded or (below and p[0] > p[1]))


def _layers(
    layers: list[Mapping[str, Any]], place: Path, template: str, **named: Any
) -> Iterator[Source]:
    """Sources of layers, numbered from 1."""
    for k, layer in enumerate(layers):
        yield from _layer(layer, (*place, k), template, l=k + 1, **named)


def _layer(layer: Mapping[str, Any], place: Path, template: str, **named: Any) -> Iterator[Source]:
    for name, array in LAYER.items():
        if layer["@variables"][name] is not None:
            node = template.format(array=array, **named)
            yield Source((*place, "@variables", name), ((node,),))


def _fitting_templates(data: Mapping[str, Any]) -> list[str]:
    """Return the templates of all layers of a fitting."""
    names = data["layer_name"]
    if names is not None:
        template = NAMED[data["mixed_types"]]
        return [template.replace("{name}", name) for name in names]
    hidden, last = FITTING[data["mixed_types"]]
    return [*[hidden] * len(data["neuron"]), last]


def _fitting_sources(data: Mapping[str, Any], place: Path) -> Iterator[Source]:
    templates = _fitting_templates(data)
    for a, network in enumerate(data["nets"]["networks"]):
        at, layers = (*place, "nets", "networks", a, "layers"), network["layers"]
        needed = data["mixed_types"] or a not in data["exclude_types"]
        for k, layer in enumerate(layers):
            for source in _layer(layer, (*at, k), templates[k], l=k, a=a):
                yield source._replace(needed=needed)
    # A mask has no statistics.
    optional = OPTIONAL | (
        {"aparam_avg", "aparam_inv_std"} if data["use_aparam_as_mask"] else set()
    )
    for name, value in data["@variables"].items():
        if value is not None and name in FITTING_ARRAYS:
            at = (*place, "@variables", name)
            yield Source(at, ((FITTING_ARRAYS[name],),), needed=name not in optional)
