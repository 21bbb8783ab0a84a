"""Confluent's wire format: one zero byte, the schema id in four bytes, big endian, then the Avro body."""

from __future__ import annotations

from collections.abc import Sequence
from operator import methodcaller
from typing import Any

from flyback.errors import InvalidEvent

MAGIC = b"\x00"
HEADER = 5


def frame(schema_id: int, body: bytes) -> bytes:
    """The message value for a body written with this schema."""
    return MAGIC + schema_id.to_bytes(4, "big") + body


def schema_id(value: bytes | None) -> int:
    """The schema id of a message value. Raises InvalidEvent: empty_value, no_magic_byte or truncated."""
    if not value:
        raise InvalidEvent("empty_value", "", "the message has no value")
    if value[:1] != MAGIC:
        raise InvalidEvent(
            "no_magic_byte", "", f"the first byte is 0x{value[0]:02x}, not 0x00: not Confluent's wire format"
        )
    if len(value) < HEADER:
        raise InvalidEvent("truncated", "", f"the value has {len(value)} bytes, its header alone needs {HEADER}")
    return int.from_bytes(value[1:HEADER], "big")


# A plain call, once the interpreter has specialised it, skips the check that turns the bad answer into a SystemError.
_checked_headers = methodcaller("headers")


def headers(message: Any) -> list[tuple[str, bytes | None]]:
    """The headers of a consumed confluent-kafka message. All are left out where the name of one is not UTF-8."""
    return list(all_headers([message])[0])


def all_headers(messages: Sequence[Any]) -> list[Sequence[tuple[str, bytes | None]]]:
    """The same for many messages."""
    found: list[Sequence[tuple[str, bytes | None]] | None] = []
    left = iter(messages)
    while len(found) < len(messages):
        try:
            found.extend(map(_checked_headers, left))  # those before one that fails are kept
        except (SystemError, UnicodeDecodeError):
            # asked again it would answer, with a name that is no object: whoever touches it crashes (found in 2.16)
            messages[len(found)].set_headers([])
            found.append(None)
    return [headers or [] for headers in found]
