# SPDX-License-Identifier: LGPL-3.0-or-later
"""Declarations of TensorFlow's protocol buffers that graphs and checkpoints consist of.

Fields that are not declared here are skipped by the parser. The declarations live in a pool of
their own, beside those of an installed TensorFlow.
"""

import functools
from collections.abc import Mapping
from typing import Any

from deepmd.base.errors import NotAvailableError

#: Numbers of TensorFlow's data types.
DATA_TYPES = (
    "INVALID FLOAT DOUBLE INT32 UINT8 INT16 INT8 STRING COMPLEX64 INT64 BOOL QINT8 QUINT8 QINT32"
    " BFLOAT16 QINT16 QUINT16 UINT16 COMPLEX128 HALF RESOURCE VARIANT UINT32 UINT64"
).split()
#: Numbers of references to variables of a type.
_REFERENCE = 100

#: Fields of the messages, "name number type"; ``*`` marks repeated ones, ``map`` texts to messages.
MESSAGES: Mapping[str, tuple[str, ...]] = {
    "GraphDef": ("node 1 NodeDef*", "versions 4 VersionDef", "version 3 int32"),
    "VersionDef": ("producer 1 int32", "min_consumer 2 int32", "bad_consumers 3 int32*"),
    "NodeDef": (
        "name 1 string",
        "op 2 string",
        "input 3 string*",
        "device 4 string",
        "attr 5 map AttrValue",
    ),
    "AttrValue": (
        "s 2 bytes",
        "i 3 int64",
        "f 4 float",
        "b 5 bool",
        "type 6 DataType",
        "shape 7 TensorShapeProto",
        "tensor 8 TensorProto",
        "list 1 ListValue",
        "func 10 NameAttrList",
        "placeholder 9 string",
    ),
    "ListValue": (
        "s 2 bytes*",
        "i 3 int64*",
        "f 4 float*",
        "b 5 bool*",
        "type 6 DataType*",
        "shape 7 TensorShapeProto*",
        "tensor 8 TensorProto*",
        "func 9 NameAttrList*",
    ),
    "NameAttrList": ("name 1 string", "attr 2 map AttrValue"),
    "TensorShapeProto": ("dim 2 Dim*", "unknown_rank 3 bool"),
    "Dim": ("size 1 int64", "name 2 string"),
    "TensorProto": (
        "dtype 1 DataType",
        "tensor_shape 2 TensorShapeProto",
        "version_number 3 int32",
        "tensor_content 4 bytes",
        "half_val 13 int32*",
        "float_val 5 float*",
        "double_val 6 double*",
        "int_val 7 int32*",
        "string_val 8 bytes*",
        "int64_val 10 int64*",
        "bool_val 11 bool*",
        "uint32_val 16 uint32*",
        "uint64_val 17 uint64*",
    ),
    "MetaGraphDef": ("graph_def 2 GraphDef",),
    "BundleHeaderProto": ("num_shards 1 int32", "endianness 2 int32"),
    "BundleEntryProto": (
        "dtype 1 DataType",
        "shape 2 TensorShapeProto",
        "shard_id 3 int32",
        "offset 4 int64",
        "size 5 int64",
        "crc32c 6 fixed32",
        "slices 7 Slice*",
    ),
    "Slice": (),
}
#: Members of which a message has one at a time.
_CHOICE = ("AttrValue", "value")
#: Numbers of protobuf's own types.
_SCALARS = {
    "double": 1,
    "float": 2,
    "int64": 3,
    "uint64": 4,
    "int32": 5,
    "fixed32": 7,
    "bool": 8,
    "string": 9,
    "bytes": 12,
    "uint32": 13,
}
_MESSAGE, _ENUM, _OPTIONAL, _REPEATED = 11, 14, 1, 3


def message(name: str) -> Any:
    """Return a new message of a kind of :data:`MESSAGES`.

    Raises
    ------
    NotAvailableError
        Without the package ``protobuf``.
    """
    return _classes()[name]()


@functools.cache
def _classes() -> dict[str, Any]:
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as error:
        raise NotAvailableError(
            "files of TensorFlow are read with the package protobuf, which is not installed",
            fix='pip install protobuf, or "deepmd-kit[pb]"',
        ) from error
    file = descriptor_pb2.FileDescriptorProto(
        name="deepmd/graph.proto", package="deepmd_graph", syntax="proto3"
    )
    kinds = file.enum_type.add(name="DataType")
    for number, kind in enumerate(DATA_TYPES):
        kinds.value.add(name=f"DT_{kind}", number=number)
    for number, kind in enumerate(DATA_TYPES[1:], 1):
        kinds.value.add(name=f"DT_{kind}_REF", number=number + _REFERENCE)
    for name, fields in MESSAGES.items():
        _declare(file.message_type.add(name=name), fields)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = (pool.FindMessageTypeByName(f"deepmd_graph.{name}") for name in MESSAGES)
    return {d.name: message_factory.GetMessageClass(d) for d in found}


def _declare(made: Any, fields: tuple[str, ...]) -> None:
    """Add fields to the description of a message."""
    if made.name == _CHOICE[0]:
        made.oneof_decl.add(name=_CHOICE[1])
    for line in fields:
        name, number, *kind = line.split()
        field = made.field.add(name=name, number=int(number), label=_OPTIONAL)
        if kind[0] == "map":
            field.label = _REPEATED
            entry = made.nested_type.add(name="".join(p.title() for p in (name, "entry")))
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, type=_SCALARS["string"], label=_OPTIONAL)
            _set_kind(entry.field.add(name="value", number=2, label=_OPTIONAL), kind[1])
            field.type, field.type_name = _MESSAGE, f".deepmd_graph.{made.name}.{entry.name}"
            continue
        if kind[0].endswith("*"):
            field.label = _REPEATED
        _set_kind(field, kind[0].rstrip("*"))
        if made.name == _CHOICE[0]:
            field.oneof_index = 0


def _set_kind(field: Any, kind: str) -> None:
    """Set the type of a field: a number or text, the data type, or another message."""
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _ENUM if kind == "DataType" else _MESSAGE
        field.type_name = f".deepmd_graph.{kind}"
