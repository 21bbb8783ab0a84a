"""What a site promised against what it did, from outside: the raw topics read once in batch, against everything else.

One partition of all topics at a time, so that a long history fits into memory. Compared as multisets, by id and by
content: the derived topics, the last failure rates and the dead-letter topics in Kafka; all tables of the lake.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flyback import history
from flyback.schemas.catalog import open_catalog
from flyback.settings import Settings
from flyback.sinks.columns import PROVENANCE, from_records
from flyback.sinks.storage import open_table
from flyback.sinks.tables import TABLES
from flyback.streams import dlq
from flyback.streams.join import FEEDBACK_ID, Arrived, Derived
from flyback.streams.topology import Kind, Topology
from flyback.verify import last_counts, whole
from tests.chaos.producer_process import EXPECTED
from tests.streams import verdict as streams
from tests.streams.verdict import Letter, Stored, letter_of

NAMED = 5
"""Events that are named, of each kind of difference."""
_ID = {"Example": "example_id", "GradedExample": "graded_example_id", "Coaching": "coaching_id"}
_TABLE_OF = {table.record: table.name for table in TABLES}

Row = tuple[Hashable, object]
"""A key and what must be there under it."""


@dataclass
class Findings:
    """How many events are lost, double or wrong, by where (`examples in Kafka`), and the names of the first few."""

    lost: Counter[str] = field(default_factory=Counter)
    double: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)
    raw: int = 0
    derived: int = 0
    letters: Counter[str] = field(default_factory=Counter)
    """Dead letters that there must be, by reason."""
    seen: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Numbers of the load's events in the raw topics, by service."""

    @property
    def clean(self) -> bool:
        return not self.lost and not self.double and not self.wrong

    def compare(self, where: str, expected: Iterable[Row], actual: Iterable[Row]) -> None:
        """Each expected row once and as it must be, and no other."""
        found: dict[Hashable, list[object]] = defaultdict(list)
        for key, content in actual:
            found[key].append(content)
        for key, content in expected:
            copies = found.pop(key, [])
            if not copies:
                self.note(self.lost, where, "lost", key)
            elif any(copy != content for copy in copies):
                self.note(self.wrong, where, "wrong", key)
            if len(copies) > 1:
                self.note(self.double, where, f"there {len(copies)} times", key)
        for key in found:
            self.note(self.wrong, where, "there, but must not be", key)

    def note(self, kind: Counter[str], where: str, what: str, key: object) -> None:
        kind[where] += 1
        if kind[where] <= NAMED:
            self.named.append(f"{where}: {what}: {key}")


@dataclass
class Part:
    """What was read of one partition: records by topic, and rows by table (None: no such table)."""

    number: int
    records: Mapping[str, list[Stored]]
    tables: Mapping[str, pa.Table | None]


def judge(settings: Settings, reconciled: bool = False) -> Findings:
    """The verdict on a site that is at rest. `reconciled`: pairs further apart than the join window must be there too.

    Raises as `history.read` does, and LakeError; AssertionError where a record of ours stands where it must not.
    """
    findings = Findings()
    for number in range(settings.partitions):
        judge_part(settings, read_part(settings, number), findings, reconciled)
    return findings


def read_part(settings: Settings, number: int) -> Part:
    """One partition of all topics with `read_committed`, and its rows of all tables."""
    topology = Topology(settings)
    kinds = (Kind.RAW, Kind.DERIVED, Kind.COUNTS, Kind.DEAD_LETTERS)
    records: dict[str, list[Stored]] = {topic: [] for kind in kinds for topic in topology.of(kind)}
    for m in history.read(settings, list(records), partition=number):
        key: Any = m.key()
        value: Any = m.value()
        headers: Any = m.headers()
        stored = Stored(int(m.partition() or 0), int(m.offset() or 0), key, value, headers, m.timestamp()[1])
        records[str(m.topic())].append(stored)
    return Part(number, records, {table.name: _rows(settings, table.name, number) for table in TABLES})


def judge_part(settings: Settings, part: Part, findings: Findings, reconciled: bool = False) -> None:
    """Add what is to be said of one partition."""
    topics = streams.Verdict(settings, part.records.__getitem__, open_catalog(settings))
    expected = topics.expected(reconciled)
    derived, letters = expected.outcome.derived, [_letter(*refused) for refused in expected.letters]
    findings.raw += len(expected.valid)
    findings.derived += len(derived)
    findings.letters.update(letter.reason for letter, _ in expected.letters)
    _see(expected.valid, findings)
    _check_reasons(expected.letters, findings)

    events = ((_key(name, event), _digest(name, event)) for name, event in topics.derived_events())
    findings.compare("derived topics", ((_key(d.record, d.event), _digest(d.record, d.event)) for d in derived), events)
    findings.compare("failure rates in Kafka", expected.rates.items(), topics.rates().items())
    refused = [record for topic in Topology(settings).of(Kind.DEAD_LETTERS) for record in part.records[topic]]
    findings.compare("dead-letter topics", letters, (_letter(letter_of(record), record) for record in refused))

    for record in ("Prediction", "Correction", "Grade"):
        _compare_tables(findings, part, record, _arrivals(record, expected.valid), ["_offset"])
    for record, identity in _ID.items():
        _compare_tables(findings, part, record, _derivations(record, derived), [identity])
    counts = part.tables[_TABLE_OF["FailureRate"]]
    actual = {} if counts is None else last_counts(counts)
    findings.compare("failure rates in the lake", expected.rates.items(), actual.items())
    rows = part.tables["dead_letters"]
    findings.compare("dead letters in the lake", letters, [] if rows is None else map(_lettered_row, rows.to_pylist()))


def _rows(settings: Settings, name: str, partition: int) -> pa.Table | None:
    handle = open_table(settings.lake, name)
    return None if handle is None else handle.to_pyarrow_dataset().to_table(filter=pc.field("_partition") == partition)


def _see(valid: Iterable[Arrived], findings: Findings) -> None:
    for arrived in valid:
        attributes = arrived.event["attributes"]
        if "load" in attributes:
            findings.seen[attributes["load"]].add(int(attributes["number"]))


def _check_reasons(letters: Iterable[tuple[Letter, Stored]], findings: Findings) -> None:
    """The load says in a header for which reason it expects a message to be refused."""
    for letter, record in letters:
        said = dict(record.headers or ()).get(EXPECTED)
        if said is not None and said.decode() != letter.reason:
            findings.note(findings.wrong, "reasons", f"refused for {letter.reason} instead of {said.decode()}", letter)


def _key(record: str, event: Mapping[str, Any]) -> Hashable:
    """Kind and id, and names that a person can look for."""
    feedback = event.get("feedback_id") or event.get("correction_id") or event.get("grade_id")
    return record, event[_ID[record]], event["task_id"], event["prediction_id"], feedback


def _digest(record: str, event: Mapping[str, Any]) -> bytes:
    return hashlib.blake2b(streams.text(record, dict(event)).encode(), digest_size=16).digest()


def _letter(letter: Letter, record: Stored) -> Row:
    """Where a refused message stood; its reason and its bytes, or what the letter says of bytes that were too many."""
    said = dict(record.headers or ())
    sha, size = said.get(dlq.SHA256), said.get(dlq.SIZE)
    return letter[:3], (letter.reason, record.key, record.value or None, sha and sha.decode(), size and int(size))


def _lettered_row(row: Mapping[str, Any]) -> Row:
    by_reference = row["value"] is None and row["value_size"] > 0
    sha, size = (row["value_sha256"], row["value_size"]) if by_reference else (None, None)
    where = row["source_topic"], row["source_partition"], row["source_offset"]
    return where, (row["reason"], row["key"], row["value"] or None, sha, size)


def _arrivals(record: str, valid: Iterable[Arrived]) -> pa.Table:
    """The rows of a raw table: every valid event, copies included, and where it stood."""
    arrived = [a for a in valid if a.record == record]
    rows = from_records(record, [a.event for a in arrived])
    values = [
        [a.topic for a in arrived],
        [a.partition for a in arrived],
        [a.offset for a in arrived],
        [a.arrived_at * 1000 for a in arrived],
    ]
    for column, content in zip(PROVENANCE, values, strict=False):  # the last one is the sink's own clock
        rows = rows.append_column(column, pa.array(content, column.type))
    return rows


def _derivations(record: str, derived: Iterable[Derived]) -> pa.Table:
    return from_records(record, [whole(record, d.event) for d in derived if d.record == record])


def _compare_tables(findings: Findings, part: Part, record: str, expected: pa.Table, order: list[str]) -> None:
    """At once where they are equal, row by row where they are not: then each row is worth a name."""
    found = part.tables[_TABLE_OF[record]]
    actual = expected.slice(0, 0) if found is None else found.select(expected.column_names).cast(expected.schema)
    by = [(name, "ascending") for name in order]
    if actual.num_rows != expected.num_rows or not actual.sort_by(by).equals(expected.sort_by(by)):
        where = f"{_TABLE_OF[record]} in the lake"
        findings.compare(where, _named_rows(record, expected, order), _named_rows(record, actual, order))


def _named_rows(record: str, rows: pa.Table, order: list[str]) -> Iterator[Row]:
    names = [*order, "task_id", "prediction_id", *([FEEDBACK_ID[record]] if record in FEEDBACK_ID else ())]
    for row in rows.to_pylist():
        yield tuple(row[name] for name in names), repr(sorted(row.items()))
