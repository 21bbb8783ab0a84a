"""Dead letters: the original message, byte for byte, with where it stood and why it was refused in its headers.

The header names are those of Kafka Connect, so that existing tools show them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

PREFIX = "__connect.errors."
TOPIC = PREFIX + "topic"
PARTITION = PREFIX + "partition"
OFFSET = PREFIX + "offset"
TIMESTAMP = PREFIX + "timestamp"
REASON = PREFIX + "exception.class.name"
MESSAGE = PREFIX + "exception.message"
SHA256 = PREFIX + "value.sha256"
SIZE = PREFIX + "value.size"

Headers = list[tuple[str, bytes | None]]


def letter(
    topic: str,
    partition: int,
    offset: int,
    arrived_at: int,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]] | None,
    reason: str,
    message: str,
    max_bytes: int,
) -> tuple[bytes | None, Headers]:
    """Value and headers of the dead letter for a message. Above `max_bytes` the value is replaced by hash and size."""
    facts = {
        TOPIC: topic,
        PARTITION: str(partition),
        OFFSET: str(offset),
        TIMESTAMP: str(arrived_at),
        REASON: reason,
        MESSAGE: message,
    }
    if value is not None and len(value) > max_bytes:
        facts |= {SHA256: hashlib.sha256(value).hexdigest(), SIZE: str(len(value))}
        value = None
    kept = [(name, content) for name, content in headers or () if not name.startswith(PREFIX)]
    return value, [*kept, *((name, text.encode()) for name, text in facts.items())]
