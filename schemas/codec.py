"""Avro bodies to plain dictionaries and back.

Times stay what Avro holds, integer microseconds since the epoch (UTC): exact, cheap to compare, and free of
datetime's limits. Schemas are parsed without their logical types for that reason.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import fastavro

from flyback.errors import InvalidEvent
from flyback.schemas import wire

Record = dict[str, Any]
NAMESPACE = "flyback.v1"


def _plain(node: Any) -> Any:
    """The schema without logical types."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items() if key != "logicalType"}
    if isinstance(node, list):
        return [_plain(item) for item in node]
    return node


@dataclass(frozen=True)
class Schema:
    """One Avro schema as JSON text, with what is needed to read and write its bodies."""

    text: str

    @cached_property
    def name(self) -> str:
        """Full name of the record, such as `flyback.v1.Prediction`; "" where the schema is no record."""
        try:
            declared = json.loads(self.text)
        except ValueError:  # a registry also holds Protobuf
            return ""
        if not isinstance(declared, dict) or "name" not in declared:
            return ""
        name, space = str(declared["name"]), declared.get("namespace")
        return f"{space}.{name}" if space and "." not in name else name

    @cached_property
    def canonical(self) -> str:
        """The full schema, documentation and defaults included, as compact JSON with sorted keys."""
        return json.dumps(json.loads(self.text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @cached_property
    def parsed(self) -> Any:
        """fastavro's form, without logical types."""
        return fastavro.parse_schema(_plain(json.loads(self.text)))


@cache
def bundled(record: str) -> Schema:
    """The schema of one of our records (`Prediction`, `GradedExample` ...) as this version writes it."""
    stem = "".join("_" + c.lower() if c.isupper() else c for c in record).lstrip("_")
    return Schema(files("flyback.schemas").joinpath(f"{stem}.avsc").read_text(encoding="utf-8"))


@cache
def released() -> tuple[tuple[str, int, Schema], ...]:
    """Every schema ever released: (file stem of the record, release number, schema), in order."""
    found = []
    for path in files("flyback.schemas").joinpath("released").iterdir():
        if path.name.endswith(".avsc"):
            stem, number, _ = path.name.split(".")
            found.append((stem, int(number), Schema(path.read_text(encoding="utf-8"))))
    return tuple(sorted(found, key=lambda item: item[:2]))


def encode(record: str, value: Record, schema_id: int) -> bytes:
    """The message value of one of our records, framed. Raises ValueError where a field does not fit the schema."""
    return wire.frame(schema_id, body(record, value))


def body(record: str, value: Record) -> bytes:
    """The same without the frame."""
    out = io.BytesIO()
    try:
        fastavro.schemaless_writer(out, bundled(record).parsed, value)
    except (TypeError, AttributeError, KeyError, OverflowError) as error:
        raise ValueError(f"{NAMESPACE}.{record}: {error}") from error
    return out.getvalue()


def decode(record: str, value: bytes, writer: Schema) -> Record:
    """The dictionary in a framed message value, resolved to this version's schema of `record`.

    Raises InvalidEvent: wrong_record_type, incompatible_schema, truncated, trailing_bytes, invalid_utf8 or
    invalid_avro. Never reads past the value.
    """
    reader = bundled(record)
    expected = f"{NAMESPACE}.{record}"
    if writer.name != expected:
        raise InvalidEvent("wrong_record_type", "", f"the topic holds {expected}, this is {writer.name or 'no record'}")
    body = io.BytesIO(value)
    body.seek(wire.HEADER)
    try:
        found = fastavro.schemaless_reader(body, writer.parsed, None)
        if writer is not reader and writer.canonical != reader.canonical:
            # a second time, since resolving skips fields that we do not have without looking at their bytes
            body.seek(wire.HEADER)
            found = fastavro.schemaless_reader(body, writer.parsed, reader.parsed)
    except UnicodeDecodeError as error:
        raise InvalidEvent("invalid_utf8", "", f"a string is not UTF-8: {error.reason}") from None
    except EOFError:
        raise _truncated() from None
    except fastavro.read.SchemaResolutionError as error:
        raise InvalidEvent("incompatible_schema", "", f"the writer's schema does not resolve: {error}") from None
    except Exception as error:  # fastavro raises whatever the bytes provoke: IndexError, MemoryError, struct.error ...
        if isinstance(error, IndexError) and body.tell() == len(value) and value[-1] >= 0x80:
            raise _truncated() from None  # the last byte of a number announces another one
        raise InvalidEvent("invalid_avro", "", f"no Avro body of {expected}: {type(error).__name__}") from None
    if (rest := len(value) - body.tell()) > 0:
        raise InvalidEvent("trailing_bytes", "", f"{rest} bytes follow the Avro body")
    if not isinstance(found, dict):
        raise InvalidEvent("invalid_avro", "", f"no record of {expected}")
    return found


def _truncated() -> InvalidEvent:
    return InvalidEvent("truncated", "", "the Avro body ends in the middle of a field")
