"""The dead letters in Kafka: what was refused, where it stood and why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from confluent_kafka import Message

from flyback import history
from flyback.errors import ConfigurationError, InvalidEvent
from flyback.history import Place
from flyback.schemas import wire
from flyback.schemas.rules import MAX_MICROS
from flyback.settings import Settings
from flyback.streams import dlq
from flyback.streams.topology import Kind, Topology

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT, _LONG = 2**31 - 1, 2**63 - 1


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused message. `topic`, `partition`, `offset` and `arrived_at` are those of the original; -1, and
    None, where the headers do not say.

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


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters: those for which everything that is given holds. `topic` with or without prefix.

    `since` (inclusive) and `until` (exclusive) are about the arrival of the original message.
    """

    topic: str | None = None
    reason: str | None = None
    coordinates: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def has(self, letter: DeadLetter) -> bool:
        """Whether all but the topic holds for the letter."""
        at = letter.arrived_at
        return (
            self.reason in (None, letter.reason)
            and self.coordinates in (None, letter.coordinates)
            and (self.since is None or (at is not None and at >= self.since))
            and (self.until is None or (at is not None and at < self.until))
        )


EVERYTHING = Selection()


def read(
    settings: Settings, selection: Selection = EVERYTHING, ends: Mapping[Place, int] | None = None
) -> Iterator[DeadLetter]:
    """The dead letters so far, where `ends` is given only those before these offsets of the dead-letter topics.

    Raises ConfigurationError for a topic that has no dead letters, and as `history.read` does.
    """
    for message in history.read(settings, dead_letter_topics(settings, selection.topic)):
        place = (str(message.topic()), int(message.partition() or 0))
        if ends is not None and int(message.offset() or 0) >= ends[place]:
            continue
        letter = from_message(message)
        if selection.has(letter):
            yield letter


def mark(letter: DeadLetter) -> bytes:
    """The key that `flyback dlq replay` remembers it by.

    The arrival is part of it: a topic that was deleted and made again has the same offsets once more.
    """
    at = letter.arrived_at
    place = [letter.topic, letter.partition, letter.offset, None if at is None else round(at.timestamp() * 1_000_000)]
    return json.dumps(place, separators=(",", ":")).encode()


def marks(settings: Settings) -> set[bytes]:
    """Those of all dead letters that were put back. Raises as `history.read` does."""
    topic = Topology(settings).topic_of("Replay")
    return {_bytes(message.key()) for message in history.read(settings, [topic])}


def original(settings: Settings, letter: DeadLetter) -> bytes | None:
    """The refused value, read from its topic where the letter only refers to it.

    Raises InvalidEvent (`gone`) where it is not there any more, and as `history.message_at` does.
    """
    if letter.value is not None or letter.size == 0:
        return letter.value
    message = history.message_at(settings, letter.topic, letter.partition, letter.offset)
    value = None if message is None else _bytes(message.value())
    if value is None or hashlib.sha256(value).hexdigest() != letter.sha256:
        text = f"{letter.coordinates} does not hold the message any more, of which the letter has only the hash"
        raise InvalidEvent("gone", "", text)
    return value


def from_message(message: Message) -> DeadLetter:
    """What a message of a dead-letter topic says; headers that another program left out are taken as empty."""
    headers = [(name, content or b"") for name, content in wire.headers(message)]
    facts = {name: content.decode(errors="replace") for name, content in headers if name.startswith(dlq.PREFIX)}
    value = _bytes(message.value()) or None
    partition = dlq.integer(facts.get(dlq.PARTITION), _INT)
    offset = dlq.integer(facts.get(dlq.OFFSET), _LONG)
    size = dlq.integer(facts.get(dlq.SIZE), _LONG)
    sha256 = facts.get(dlq.SHA256) or (hashlib.sha256(value).hexdigest() if value else None)
    return DeadLetter(
        topic=facts.get(dlq.TOPIC) or str(message.topic()).removesuffix(".dlq"),
        partition=-1 if partition is None else partition,
        offset=-1 if offset is None else offset,
        arrived_at=_time(facts.get(dlq.TIMESTAMP)),
        reason=facts.get(dlq.REASON, ""),
        message=facts.get(dlq.MESSAGE, ""),
        key=None if message.key() is None else _bytes(message.key()),
        value=value,
        size=len(value or b"") if size is None else size,
        sha256=sha256,
        headers=tuple((name, content) for name, content in headers if not name.startswith(dlq.PREFIX)),
    )


def dead_letter_topics(settings: Settings, topic: str | None) -> list[str]:
    """The dead-letter topics, of all or of one topic. Raises ConfigurationError for one that has none."""
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


def _time(text: str | None) -> datetime | None:
    milliseconds = dlq.integer(text, MAX_MICROS // 1000)  # a topic of CreateTime holds what its producer claimed
    return None if milliseconds is None else _EPOCH + timedelta(milliseconds=milliseconds)
