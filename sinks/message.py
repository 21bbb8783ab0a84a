"""Kafka messages, as the sink keeps them until they are rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from flyback.schemas import wire

if TYPE_CHECKING:
    from confluent_kafka import Message as KafkaMessage

Place = tuple[str, int]
"""A topic (full name) and a partition."""

Headers = Sequence[tuple[str, bytes | None]]
_OVERHEAD = 300  # bytes, a guess of what Python needs around a key and a value


class Message(NamedTuple):
    """`arrived_at` is the record's Kafka timestamp, ms since the epoch."""

    topic: str
    partition: int
    offset: int
    arrived_at: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(slots=True)
class Messages:
    """Many messages, part by part: an object for each of them costs more than to decode it."""

    topics: list[str] = field(default_factory=list)
    partitions: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    arrivals: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)

    @classmethod
    def consumed(cls, topic: str, messages: Sequence[KafkaMessage]) -> Messages:
        """What confluent-kafka consumed from one topic, without errors."""
        return cls(
            [topic] * len(messages),
            [message.partition() for message in messages],  # type: ignore[misc]  # consumed messages have coordinates
            [message.offset() for message in messages],  # type: ignore[misc]
            [message.timestamp()[1] for message in messages],
            [message.key() for message in messages],
            [message.value() for message in messages],
            wire.all_headers(messages),
        )

    @classmethod
    def of(cls, messages: Iterable[Message]) -> Messages:
        """Single messages in their order."""
        found = cls()
        for message in messages:
            for column, part in zip(found._columns(), message, strict=True):
                column.append(part)
        return found

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, position: int) -> Message:
        return Message(*(column[position] for column in self._columns()))

    def __iter__(self) -> Iterator[Message]:
        return map(Message, *self._columns())

    @property
    def size(self) -> int:
        """Bytes of keys and values, and a guess of what Python needs around them."""
        return sum(map(len, filter(None, chain(self.keys, self.values)))) + _OVERHEAD * len(self)

    def extend(self, more: Messages) -> None:
        """Add messages at the end."""
        for column, added in zip(self._columns(), more._columns(), strict=True):
            column.extend(added)

    def only(self, positions: Sequence[int]) -> Messages:
        """The messages at these positions, each named once, in ascending order."""
        if len(positions) == len(self):
            return self
        return Messages(*([column[i] for i in positions] for column in self._columns()))

    def next_offsets(self) -> dict[Place, int]:
        """Of each partition the offset after its last message."""
        last = dict(zip(zip(self.topics, self.partitions, strict=True), self.offsets, strict=True))
        return {place: offset + 1 for place, offset in last.items()}

    def _columns(self) -> tuple[list[Any], ...]:
        return tuple(getattr(self, each.name) for each in fields(self))
