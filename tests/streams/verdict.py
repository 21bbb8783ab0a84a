"""What the topics hold, and what one pass over the raw ones says they should."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import NamedTuple

from flyback.errors import InvalidEvent, UnknownSchema
from flyback.schemas import codec
from flyback.schemas.catalog import BundledCatalog, Catalog
from flyback.schemas.intake import accept
from flyback.settings import Settings
from flyback.streams import dlq, join, rates
from flyback.streams.clients import Headers
from flyback.streams.join import Arrived
from flyback.streams.rates import Cell, Counts
from flyback.streams.topology import Kind, Topology


class Stored(NamedTuple):
    """A committed record; `timestamp` in ms."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None
    timestamp: int


class Letter(NamedTuple):
    """Where a refused message stood, and why it was refused."""

    topic: str
    partition: int
    offset: int
    reason: str


class Expected(NamedTuple):
    """What one pass over the raw topics gives."""

    valid: list[Arrived]
    outcome: join.Outcome
    rates: dict[tuple[int, Cell], Counts]
    letters: list[tuple[Letter, Stored]]
    """Each refused message, with why it must be."""


class Verdict:
    """Reads topics with `read`, which gives all committed records of one in the order of each partition."""

    def __init__(
        self, settings: Settings, read: Callable[[str], Iterable[Stored]], catalog: Catalog | None = None
    ) -> None:
        self._settings = settings
        self._topology = Topology(settings)
        self._read = read
        self._catalog = catalog or BundledCatalog()

    def check(self) -> None:
        """Stream equals batch."""
        expected = self.expected()
        assert self.derived() == Counter(text(d.record, d.event) for d in expected.outcome.derived)
        assert self.rates() == expected.rates
        assert Counter(letter_of(record) for record in self.letters()) == Counter(
            letter for letter, _ in expected.letters
        )

    def derived(self) -> Counter[str]:
        """The content of the derived topics."""
        return Counter(text(name, event) for name, event in self.derived_events())

    def derived_events(self) -> Iterator[tuple[str, codec.Record]]:
        """What the derived topics hold: the Avro record's name and the event."""
        for topic in self._topology.of(Kind.DERIVED):
            name = str(self._topology[topic].record)
            for record in self._read(topic):
                event = _decoded(name, record)
                assert record.key == event["task_id"].encode()
                yield name, event

    def rates(self) -> dict[tuple[int, Cell], Counts]:
        """The last counts of each cell."""
        found = {}
        for record in self._read(self._topology.topic_of("FailureRate")):
            event = _decoded("FailureRate", record)
            cell = Cell(*(event[name] for name in Cell._fields))
            assert record.key is not None
            assert json.loads(record.key) == [event["partition"], *cell]
            assert record.partition == event["partition"]
            found[event["partition"], cell] = Counts(*(event[name] for name in Counts._fields))
        return found

    def letters(self) -> list[Stored]:
        """The dead letters of the raw topics."""
        return [record for topic in self._topology.raw for record in self._read(f"{topic}.dlq")]

    def expected(self, reconciled: bool = False) -> Expected:
        """Derived events, counts and dead letters by one pass over the raw topics.

        `reconciled`: pairs that arrived further apart than the join window are derived too.
        """
        window: timedelta = self._settings.join_window
        valid: list[Arrived] = []
        letters: list[tuple[Letter, Stored]] = []
        stored: dict[tuple[str, int, int], Stored] = {}
        n, limit = self._settings.partitions, self._settings.max_event_bytes
        for topic in self._topology.raw:
            name = str(self._topology[topic].record)
            for record in self._read(topic):
                try:
                    event = accept(name, record.key, record.value, record.partition, n, limit, self._catalog)
                except (InvalidEvent, UnknownSchema) as error:
                    reason = error.reason if isinstance(error, InvalidEvent) else "unknown_schema"
                    letters.append((Letter(topic, record.partition, record.offset, reason), record))
                else:
                    stored[topic, record.partition, record.offset] = record
                    valid.append(Arrived(name, event, topic, record.partition, record.offset, record.timestamp))
        outcome = join.batch(valid, None if reconciled else window)
        letters += (
            (Letter(e.topic, e.partition, e.offset, "conflict"), stored[e.topic, e.partition, e.offset])
            for e in outcome.conflicts
        )
        return Expected(valid, outcome, rates.batch(outcome.first_copies.values(), window), letters)


def letter_of(record: Stored) -> Letter:
    """What the headers of a dead letter say."""
    said = {name: content or b"" for name, content in record.headers or ()}
    return Letter(said[dlq.TOPIC].decode(), int(said[dlq.PARTITION]), int(said[dlq.OFFSET]), said[dlq.REASON].decode())


def _decoded(name: str, record: Stored) -> codec.Record:
    assert record.value is not None
    return codec.decode(name, record.value, codec.bundled(name))


def text(name: str, event: codec.Record) -> str:
    """The event as its reader sees it, comparable."""
    return json.dumps([name, codec.decode(name, codec.encode(name, event, 0), codec.bundled(name))], sort_keys=True)
