"""How far a reader of topics is behind: in events, and in seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flyback import history
from flyback.history import Place
from flyback.schemas import wire
from flyback.settings import Settings
from flyback.streams import dlq
from flyback.streams.topology import Kind, Topology

_COUNTED = 1_000
"""Messages of a partition that are read to be counted: beyond them the offsets are subtracted."""


@dataclass(frozen=True, slots=True)
class Lag:
    """What one reader has not read yet of one partition.

    `events` is exact where `exact` is true. Else it is a difference of offsets, so a little too large: transaction
    markers take offsets as well. `seconds`: since the oldest of them arrived, None where nothing waits. `deleted`:
    offsets that retention took away before they were read. `next_offset` is None where nothing was ever read.
    """

    topic: str
    partition: int
    next_offset: int | None
    end_offset: int
    events: int
    exact: bool
    seconds: float | None
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class Total:
    """Several lags in one: the sum of events, the oldest event."""

    events: int
    exact: bool
    seconds: float | None

    @classmethod
    def of(cls, lags: Iterable[Lag]) -> Total:
        every = list(lags)
        ages = [lag.seconds for lag in every if lag.seconds is not None]
        return cls(sum(lag.events for lag in every), all(lag.exact for lag in every), max(ages, default=None))


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """What one dead-letter topic holds. `reasons` are those of its newest letters, 1,000 a partition at most."""

    topic: str
    letters: int
    exact: bool
    reasons: dict[str, int] = field(default_factory=dict)


def measure(settings: Settings, reached: Mapping[Place, int | None], now: float) -> dict[Place, Lag]:
    """The lag of a reader that has reached these next offsets, None: it begins at the log start.

    `now` is Unix time in seconds. Raises TopicMismatch where a topic is missing, BrokerError.
    """
    bounds = history.bounds(settings, sorted({topic for topic, _ in reached}))
    starts, oldest, counts = {}, dict[Place, int](), Counter[Place]()
    for place, offset in reached.items():
        first, end = bounds[place]
        start = first if offset is None else max(first, offset)
        if start < end:
            starts[place] = start
    for message in history.read_from(settings, starts, _COUNTED) if starts else ():
        place = str(message.topic()), int(message.partition() or 0)
        counts[place] += 1
        oldest.setdefault(place, message.timestamp()[1])
    found = {}
    for place, offset in reached.items():
        first, end = bounds[place]
        exact = counts[place] < _COUNTED
        age = max(0.0, now - oldest[place] / 1000) if place in oldest else None
        events = counts[place] if exact else end - starts[place]
        deleted = 0 if offset is None else max(0, first - offset)
        found[place] = Lag(*place, offset, end, events, exact, age, deleted)
    return found


def dead_letters(settings: Settings, topology: Topology) -> list[DeadLetters]:
    """What the dead-letter topics hold, in their order. Raises TopicMismatch, BrokerError."""
    bounds = history.bounds(settings, topology.of(Kind.DEAD_LETTERS))
    starts = {place: max(first, end - _COUNTED) for place, (first, end) in bounds.items() if first < end}
    reasons: dict[str, Counter[str]] = {topic: Counter() for topic, _ in bounds}
    for message in history.read_from(settings, starts, _COUNTED) if starts else ():
        named = dict(wire.headers(message))
        reasons[str(message.topic())][(named.get(dlq.REASON) or b"").decode(errors="replace")] += 1
    found = []
    for topic, counted in reasons.items():
        sizes = [end - first for (name, _), (first, end) in bounds.items() if name == topic]
        exact = max(sizes) <= _COUNTED
        found.append(DeadLetters(topic, counted.total() if exact else sum(sizes), exact, dict(counted.most_common())))
    return found
