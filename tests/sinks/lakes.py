"""Lakes written by hand, without Kafka."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from flyback.schemas.codec import Record
from flyback.settings import load
from flyback.sinks.columns import from_records
from flyback.sinks.message import Message, Messages, Place
from flyback.sinks.sink import with_provenance
from flyback.sinks.tables import TABLES, Source, Table, TableWriter
from flyback.streams.join import Arrived
from flyback.streams.topology import Topology
from tests.sinks.events import MINUTE

TOPOLOGY = Topology(load())
BY_NAME = {table.name: table for table in TABLES}
SOURCES = {table.name: {topic: Source("cluster", "topic", 4) for topic in table.topics(TOPOLOGY)} for table in TABLES}


def rows_of(table: Table, events: Sequence[Record], offset: int = 0, partition: int = 0) -> pa.Table:
    """Rows as the sink writes them, at consecutive offsets of one partition."""
    assert table.record is not None
    (topic,) = table.topics(TOPOLOGY)
    messages = [
        Message(topic, partition, offset + i, 1_760_000_000_000 + offset + i, None, None, [])
        for i in range(len(events))
    ]
    return with_provenance(from_records(table.record, list(events)), Messages.of(messages))


def as_arrived(events: Mapping[str, Sequence[Record]]) -> list[Arrived]:
    """Raw events by record, each at its place in a partition of its own."""
    return [
        Arrived(record, event, record, 0, offset, MINUTE // 1000)
        for record, found in events.items()
        for offset, event in enumerate(found)
    ]


class HandMade:
    """A lake in a folder, filled table by table; every `add` is one commit."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        path.mkdir(parents=True, exist_ok=True)
        self._offsets: dict[Place, int] = {}
        self._writers = {table.name: TableWriter(self.path, table, SOURCES[table.name]) for table in TABLES}

    def add(self, name: str, *events: Record, partition: int = 0) -> None:
        table = BY_NAME[name]
        (topic,) = table.topics(TOPOLOGY)
        place = (topic, partition)
        before = {place: self._offsets[place]} if place in self._offsets else {}
        offset = self._offsets.get(place, 0)
        after = {place: offset + len(events)}
        self._writers[name].commit(rows_of(table, events, offset, partition), before, after)
        self._offsets |= after

    def add_rows(self, name: str, rows: pa.Table, place: Place) -> None:
        before = {place: self._offsets[place]} if place in self._offsets else {}
        after = {place: self._offsets.get(place, 0) + rows.num_rows}
        self._writers[name].commit(rows, before, after)
        self._offsets |= after
