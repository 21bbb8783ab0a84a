"""What an event says, apart from when: two copies of an event are equal where their content is.

The content is the Avro body of this version's schema without its last field, `occurred_at` (a retry may carry a new
one), maps in the order of their keys, each array and map in one block, each number as short as can be: one form of
bytes for one content, whatever the writer's schema and habits.
"""

from __future__ import annotations

import io
import json
from functools import cache
from hashlib import blake2b
from typing import Any

import fastavro

from flyback.schemas import wire
from flyback.schemas.codec import Record, Schema, bundled


def fingerprint(record: str, event: Record) -> bytes:
    """16 bytes that are equal for equal content of a raw event."""
    schema, maps = _content(record)
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema, event | {name: dict(sorted(event[name].items())) for name in maps})
    return blake2b(body.getbuffer(), digest_size=16).digest()


def fingerprint_of(value: bytes) -> bytes:
    """The same from a message's value that holds exactly the content's bytes, and then `occurred_at`."""
    end = len(value) - 1
    while value[end - 1] & 0x80:  # the byte before a number's first one ends the map before it: it is 0
        end -= 1
    return blake2b(memoryview(value)[wire.HEADER : end], digest_size=16).digest()


@cache
def _content(record: str) -> tuple[Any, tuple[str, ...]]:
    """The schema of the content, and the names of its maps."""
    schema = json.loads(bundled(record).text)
    fields = schema["fields"]
    assert fields[-1]["name"] == "occurred_at", "bytes are compared without their end"
    assert fields[-2]["type"]["type"] == "map", "its last byte is 0"
    maps = tuple(f["name"] for f in fields if isinstance(f["type"], dict) and f["type"]["type"] == "map")
    return Schema(json.dumps(schema | {"fields": fields[:-1]})).parsed, maps
