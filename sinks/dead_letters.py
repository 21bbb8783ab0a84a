"""Dead letters as rows: where the message stood and why it was refused, from the headers of Kafka Connect's names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from flyback.schemas.rules import MAX_MICROS
from flyback.sinks.columns import DEAD_LETTERS
from flyback.sinks.message import Message
from flyback.streams import dlq

_INT, _LONG = 2**31 - 1, 2**63 - 1


def rows(messages: Iterable[Message]) -> pa.Table:
    """The columns of dead letters. What another program put there without our headers is kept, as `unknown`."""
    return pa.Table.from_pylist([_row(message) for message in messages], schema=DEAD_LETTERS)


def _row(message: Message) -> dict[str, Any]:
    headers = {name: (content or b"").decode(errors="replace") for name, content in message.headers}
    value = message.value
    arrived_at = dlq.integer(headers.get(dlq.TIMESTAMP), MAX_MICROS // 1000)
    size = dlq.integer(headers.get(dlq.SIZE), _LONG)
    return {
        "source_topic": headers.get(dlq.TOPIC, message.topic.removesuffix(".dlq")),
        "source_partition": dlq.integer(headers.get(dlq.PARTITION), _INT),
        "source_offset": dlq.integer(headers.get(dlq.OFFSET), _LONG),
        "source_arrived_at": None if arrived_at is None else arrived_at * 1000,
        "reason": headers.get(dlq.REASON, "unknown"),
        "message": headers.get(dlq.MESSAGE),
        "key": message.key,
        "value": value,
        "value_sha256": headers.get(dlq.SHA256) or (None if value is None else hashlib.sha256(value).hexdigest()),
        "value_size": len(value or b"") if size is None else size,
        "headers": [
            {"key": name, "value": content} for name, content in message.headers if not name.startswith(dlq.PREFIX)
        ],
    }
