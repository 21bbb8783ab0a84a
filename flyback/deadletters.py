"""The dead letters in Kafka: what was refused, where it stood and why."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from confluent_kafka import Message

from flyback import history
from flyback.errors import ConfigurationError
from flyback.schemas import wire
from flyback.settings import Settings
from flyback.streams import dlq
from flyback.streams.topology import Kind, Topology

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused message. `topic`, `partition`, `offset` and `arrived_at` are those of the original.

    `value` is the original bytes; None where it was empty or over the size limit, of which `size` (bytes) and
    `sha256` tell. `headers` are the original ones.
    """

    topic: str
    partition: int
    offset: int
    arrived_at: datetime | None
    reason: str
    message: str
    key: bytes | None
    value: bytes | None
    size: int
    sha256: str | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def coordinates(self) -> str:
        """`topic/partition/offset` of the original: what `flyback dlq show` takes."""
        return f"{self.topic}/{self.partition}/{self.offset}"


def read(settings: Settings, topic: str | None = None, reason: str | None = None) -> Iterator[DeadLetter]:
    """Every dead letter so far, those of one `topic` (with or without prefix) or one `reason` where given.

    Raises ConfigurationError for a topic that has no dead letters, and as `history.read` does.
    """
    for message in history.read(settings, _dead_letter_topics(settings, topic)):
        letter = from_message(message)
        if reason is None or letter.reason == reason:
            yield letter


def from_message(message: Message) -> DeadLetter:
    """What a message of a dead-letter topic says; headers that another program left out are taken as empty."""
    headers = [(name, content or b"") for name, content in wire.headers(message)]
    facts = {name: content.decode(errors="replace") for name, content in headers if name.startswith(dlq.PREFIX)}
    value = _bytes(message.value()) or None
    size = facts.get(dlq.SIZE, "")
    sha256 = facts.get(dlq.SHA256) or (hashlib.sha256(value).hexdigest() if value else None)
    return DeadLetter(
        topic=facts.get(dlq.TOPIC) or str(message.topic()).removesuffix(".dlq"),
        partition=_number(facts.get(dlq.PARTITION), -1),
        offset=_number(facts.get(dlq.OFFSET), -1),
        arrived_at=_time(facts.get(dlq.TIMESTAMP)),
        reason=facts.get(dlq.REASON, ""),
        message=facts.get(dlq.MESSAGE, ""),
        key=None if message.key() is None else _bytes(message.key()),
        value=value,
        size=_number(size, len(value or b"")),
        sha256=sha256,
        headers=tuple((name, content) for name, content in headers if not name.startswith(dlq.PREFIX)),
    )


def _dead_letter_topics(settings: Settings, topic: str | None) -> list[str]:
    names = Topology(settings).of(Kind.DEAD_LETTERS)
    if topic is None:
        return names
    short = topic.removeprefix(settings.topic_prefix).removesuffix(".dlq")
    wanted = f"{settings.topic_prefix}{short}.dlq"
    if wanted not in names:
        known = ", ".join(name.removesuffix(".dlq") for name in names)
        raise ConfigurationError(f"topic {topic} has no dead letters: give one of {known}")
    return [wanted]


def _bytes(content: bytes | str | None) -> bytes:
    return content.encode() if isinstance(content, str) else content or b""


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.lstrip("-").isdigit() else otherwise


def _time(text: str | None) -> datetime | None:
    return None if not text or not text.isdigit() else _EPOCH + timedelta(milliseconds=int(text))
