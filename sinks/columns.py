"""The lake's columns: an Arrow schema for each Avro record, derived from its `.avsc`.

Times are `timestamp[us, UTC]`, enums plain strings, maps `list<struct<key, value>>` (an Arrow map cannot be read by
every library that reads Parquet). Every column may be NULL, so that a field added later fits the files written before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pyarrow as pa

from flyback.errors import InvalidEvent
from flyback.schemas.codec import Record, bundled
from flyback.schemas.rules import MAX_MICROS, MIN_MICROS

TIME = pa.timestamp("us", tz="UTC")

PROVENANCE = (
    pa.field("_topic", pa.string()),
    pa.field("_partition", pa.int32()),
    pa.field("_offset", pa.int64()),
    pa.field("_arrived_at", TIME),
    pa.field("_ingested_at", TIME),
)
"""Where a row comes from, when Kafka took it (the record's timestamp) and when the sink wrote it."""

DEAD_LETTERS = pa.schema(
    [
        pa.field("source_topic", pa.string()),
        pa.field("source_partition", pa.int32()),
        pa.field("source_offset", pa.int64()),
        pa.field("source_arrived_at", TIME),
        pa.field("reason", pa.string()),
        pa.field("message", pa.string()),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("value_sha256", pa.string()),
        pa.field("value_size", pa.int64()),
        pa.field("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))),
    ]
)

_PRIMITIVES = {
    "string": pa.string(),
    "bytes": pa.binary(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
}


@cache
def record_schema(record: str) -> pa.Schema:
    """The columns of one of our Avro records (`Prediction` ...), without provenance."""
    struct = _arrow_type(json.loads(bundled(record).text), {})
    return pa.schema(list(struct))


@cache
def table_schema(record: str | None) -> pa.Schema:
    """All columns of the table that holds `record`, or of the dead letters where it is None."""
    own = DEAD_LETTERS if record is None else record_schema(record)
    return pa.schema([*own, *PROVENANCE])


def from_avro(record: str, batch: pa.RecordBatch) -> pa.Table:
    """The record's columns from what pyruhvro decodes: maps become lists, integers times."""
    schema = record_schema(record)
    return pa.Table.from_arrays([batch.column(field.name).cast(field.type) for field in schema], schema=schema)


def from_records(record: str, events: list[Record]) -> pa.Table:
    """The record's columns from what `codec.decode` gives."""
    schema = record_schema(record)
    rows = [{field.name: _entries(event[field.name], field.type) for field in schema} for event in events]
    return pa.Table.from_pylist(rows, schema=schema)


def to_records(record: str, columns: pa.RecordBatch) -> list[Record]:
    """What `from_records` was given: times in microseconds, maps as dictionaries; further columns are left out.

    A field that is younger than its row, and so NULL there, has its schema's default, as for a reader of the bytes.
    """
    node = json.loads(bundled(record).text)
    named = dict(_named(node))
    schema = record_schema(record)
    rows = pa.table({field.name: columns.column(field.name).cast(_counted(field.type)) for field in schema})
    return [_value(row, node, named) for row in rows.to_pylist()]


def check_range(record: str, event: Record) -> None:
    """Raises InvalidEvent (out_of_range) for a number or a time that its column cannot hold."""
    for field in record_schema(record):
        if not _fits(event[field.name], field.type):
            raise InvalidEvent("out_of_range", field.name, f"does not fit a column of type {field.type}")


def key_value(value: pa.DataType) -> pa.DataType:
    """How a map from strings is stored."""
    return pa.list_(pa.struct([("key", pa.string()), ("value", value)]))


def _arrow_type(node: Any, named: dict[str, pa.DataType]) -> pa.DataType:
    if isinstance(node, list):
        (branch,) = (item for item in node if item != "null")
        return _arrow_type(branch, named)
    if isinstance(node, str):
        return named[node] if node in named else _PRIMITIVES[node]
    kind = node["type"]
    if kind == "record":
        found = pa.struct([(field["name"], _arrow_type(field["type"], named)) for field in node["fields"]])
        return named.setdefault(node["name"], found)
    if kind == "enum":
        return named.setdefault(node["name"], pa.string())
    if kind == "array":
        return pa.list_(_arrow_type(node["items"], named))
    if kind == "map":
        return key_value(_arrow_type(node["values"], named))
    if node.get("logicalType") == "timestamp-micros":
        return TIME
    return _arrow_type(kind, named)


def _entries(value: Any, target: pa.DataType) -> Any:
    """A decoded value with its maps as lists of entries."""
    if value is None:
        return None
    if isinstance(value, dict) and pa.types.is_list(target):
        inner = target.value_type.field("value").type
        return [{"key": key, "value": _entries(item, inner)} for key, item in value.items()]
    if pa.types.is_list(target):
        return [_entries(item, target.value_type) for item in value]
    if pa.types.is_struct(target):
        return {field.name: _entries(value[field.name], field.type) for field in target}
    return value


def _counted(target: pa.DataType) -> pa.DataType:
    """The type with integers for its times: exact, and cheaper than datetimes."""
    if pa.types.is_timestamp(target):
        return pa.int64()
    if pa.types.is_list(target):
        return pa.list_(_counted(target.value_type))
    if pa.types.is_struct(target):
        return pa.struct([(field.name, _counted(field.type)) for field in target])
    return target


def _named(node: Any) -> Iterator[tuple[str, Any]]:
    """The definitions of a schema that other parts of it name."""
    if isinstance(node, list):
        for branch in node:
            yield from _named(branch)
    elif isinstance(node, dict):
        if node["type"] in ("record", "enum"):
            yield node["name"], node
        for part in (*node.get("fields", ()), node["type"], node.get("items"), node.get("values")):
            yield from _named(part)


def _value(value: Any, node: Any, named: Mapping[str, Any]) -> Any:
    """A column's value as the Avro reader gives it."""
    if isinstance(node, str):
        node = named.get(node, node)
    if value is None or isinstance(node, str):
        return value
    if isinstance(node, list):
        (branch,) = (item for item in node if item != "null")
        return _value(value, branch, named)
    kind = node["type"]
    if kind == "record":
        return {
            field["name"]: field["default"]
            if (found := value[field["name"]]) is None and "default" in field
            else _value(found, field["type"], named)
            for field in node["fields"]
        }
    if kind == "array":
        return [_value(item, node["items"], named) for item in value]
    if kind == "map":
        return {entry["key"]: _value(entry["value"], node["values"], named) for entry in value}
    return value


def _fits(value: Any, target: pa.DataType) -> bool:
    """Avro's varints are longer than Arrow's integers, and fastavro reads them all."""
    if value is None:
        return True
    if isinstance(value, dict) and pa.types.is_list(target):
        return all(_fits(item, target.value_type.field("value").type) for item in value.values())
    if pa.types.is_list(target):
        return all(_fits(item, target.value_type) for item in value)
    if pa.types.is_struct(target):
        return all(_fits(value[field.name], field.type) for field in target)
    if pa.types.is_timestamp(target):
        return bool(MIN_MICROS <= value <= MAX_MICROS)
    if pa.types.is_integer(target):
        half = 1 << target.bit_width - 1
        return bool(-half <= value < half)
    return True
