"""One Kafka message, as the sink keeps it until it is a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flyback.schemas import wire

if TYPE_CHECKING:
    from confluent_kafka import Message as KafkaMessage

Place = tuple[str, int]
"""A topic (full name) and a partition."""


class Message(NamedTuple):
    """`arrived_at` is the record's Kafka timestamp, ms since the epoch."""

    topic: str
    partition: int
    offset: int
    arrived_at: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]

    @classmethod
    def of(cls, message: KafkaMessage) -> Message:
        """What confluent-kafka consumed, without its error."""
        return cls(
            message.topic() or "",
            _number(message.partition()),
            _number(message.offset()),
            message.timestamp()[1],
            _bytes(message.key()),
            _bytes(message.value()),
            wire.headers(message),
        )

    @property
    def size(self) -> int:
        """Bytes of key and value, and a guess of what Python needs around them."""
        return len(self.key or b"") + len(self.value or b"") + 300


def _number(value: int | None) -> int:
    assert value is not None  # consumed messages have their coordinates
    return value


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
