"""Stream equals batch: what the stream put into the lake against what one pass over the raw topics derives."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from flyback import history
from flyback.errors import InvalidEvent
from flyback.schemas import codec
from flyback.schemas.catalog import open_catalog
from flyback.schemas.intake import accept
from flyback.settings import Settings
from flyback.sinks.columns import from_records, record_schema
from flyback.sinks.storage import open_table
from flyback.sinks.tables import TABLES
from flyback.streams import join, rates
from flyback.streams.join import Arrived
from flyback.streams.topology import DERIVED, FAILURE_RATES, RAW, Topology

_ID = {"Example": "example_id", "GradedExample": "graded_example_id", "Coaching": "coaching_id"}
_TABLE = {table.record: table.name for table in TABLES if table.record}
_COUNTS = ["partition", *rates.Cell._fields, *rates.Counts._fields]
_NAMED = 5  # differences that are named, of each kind


@dataclass(slots=True)
class Comparison:
    """What was compared, and how it differed. `differences` are sentences; empty where stream equals batch."""

    raw: int = 0
    refused: int = 0
    derived: dict[str, int] = field(default_factory=dict)
    rates: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return not self.differences


def compare(settings: Settings) -> Comparison:
    """Read all raw topics once, derive everything in one pass, and compare it with the lake by full content.

    Compared are the raw tables' rows (by count), every derived row (as a multiset, all columns but the sink's own)
    and the last counts of every failure rate. Meaningful at a quiet moment: see `landing.wait_until_landed`. Holds
    the whole history in memory. Raises as `history.read` does, and LakeError.
    """
    found = Comparison()
    arrived, accepted = [], Counter[str]()
    for event in _valid(settings, found):
        arrived.append(event)
        accepted[event.record] += 1
    found.raw = len(arrived)
    outcome = join.batch(arrived, settings.join_window)
    expected: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for derived in outcome.derived:
        expected[derived.record].append(derived.event)
    for record in (str(topic.record) for topic in RAW):
        _compare_counts(found, settings, record, accepted[record])
    for record in (str(topic.record) for topic in DERIVED):
        found.derived[record] = len(expected[record])
        _compare_rows(found, settings, record, expected[record])
    _compare_rates(found, settings, outcome.first_copies.values())
    return found


def _valid(settings: Settings, found: Comparison) -> Iterator[Arrived]:
    """Every valid raw event; what the engine dead-letters by itself is counted in `found.refused`."""
    topology, catalog = Topology(settings), open_catalog(settings)
    partitions = Counter(topic for topic, _ in history.places(settings, topology.raw))
    for message in history.read(settings, topology.raw):
        topic, partition = str(message.topic()), int(message.partition() or 0)
        record = str(topology[topic].record)
        key: Any = message.key()
        value: Any = message.value()
        try:
            event = accept(record, key, value, partition, partitions[topic], settings.max_event_bytes, catalog)
        except InvalidEvent:
            found.refused += 1
            continue
        yield Arrived(record, event, topic, partition, int(message.offset() or 0), message.timestamp()[1])


def _compare_counts(found: Comparison, settings: Settings, record: str, expected: int) -> None:
    handle = _table(settings, record)
    rows = 0 if handle is None else handle.count()
    if rows != expected:
        found.differences.append(f"{_TABLE[record]}: {rows} rows in the lake, {expected} valid events in Kafka")


def _compare_rows(found: Comparison, settings: Settings, record: str, events: list[dict[str, Any]]) -> None:
    names = record_schema(record).names
    identity = _ID[record]
    handle = _table(settings, record)
    batch = from_records(record, [whole(record, event) for event in events]).select(names)
    stream = batch.slice(0, 0) if handle is None else handle.to_pyarrow_table(columns=names).cast(batch.schema)
    if stream.num_rows == batch.num_rows and stream.sort_by(identity).equals(batch.sort_by(identity)):
        return
    # Equal ids in another order, or a real difference: row by row, slowly, since it is worth being named.
    in_stream, in_batch = Counter(_canonical(stream)), Counter(_canonical(batch))
    for only, where in ((in_stream - in_batch, "the stream"), (in_batch - in_stream, "batch")):
        ids = [str(dict(row)[identity]) for row in list(only)[:_NAMED]]
        if only:
            found.differences.append(
                f"{_TABLE[record]}: {only.total()} rows only by {where}, such as {identity} {', '.join(ids)}"
            )


def whole(record: str, event: codec.Record) -> codec.Record:
    """The event as a reader of its bytes sees it: fields that `derive` left to their defaults are there."""
    return codec.decode(record, codec.encode(record, event, 0), codec.bundled(record))


def _compare_rates(found: Comparison, settings: Settings, first_copies: Iterable[Arrived]) -> None:
    expected = rates.batch(first_copies, settings.join_window)
    found.rates = len(expected)
    handle = _table(settings, str(FAILURE_RATES.record))
    actual = {} if handle is None else last_counts(handle.to_pyarrow_table(columns=[*_COUNTS, "_offset"]))
    wrong = [key for key in expected.keys() | actual.keys() if expected.get(key) != actual.get(key)]
    for partition, cell in wrong[:_NAMED]:
        key = (partition, cell)
        found.differences.append(
            f"failure rates: partition {partition}, {tuple(cell)}: {actual.get(key)} by the stream, "
            f"{expected.get(key)} by batch"
        )
    if len(wrong) > _NAMED:
        found.differences.append(f"failure rates: {len(wrong) - _NAMED} more counts differ")


def last_counts(rows: pa.Table) -> dict[tuple[int, rates.Cell], rates.Counts]:
    """The last value of each key in rows of `failure_rates`: those of one key stand in one partition, by offset."""
    rows = rows.sort_by("_offset")
    minute = rows.schema.get_field_index("minute")
    rows = rows.set_column(minute, "minute", rows.column("minute").cast(pa.int64()))
    edge = 1 + len(rates.Cell._fields)
    values = zip(*(rows.column(name).to_pylist() for name in _COUNTS), strict=True)
    return {(row[0], rates.Cell(*row[1:edge])): rates.Counts(*row[edge:]) for row in values}


def _table(settings: Settings, record: str) -> DeltaTable | None:
    return open_table(settings.lake, _TABLE[record])


def _canonical(table: pa.Table) -> Iterator[tuple[tuple[str, str], ...]]:
    for row in table.to_pylist():
        yield tuple((name, value if isinstance(value, str) else repr(value)) for name, value in row.items())
