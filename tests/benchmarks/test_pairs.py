"""A wrong output is noticed, whoever has written it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import engine, pairs
from benchmarks.contest import Void
from benchmarks.engine import Field
from benchmarks.workload import Expected, bulk_producer
from flyback import history
from flyback.history import Place
from flyback.schemas import codec
from flyback.schemas.catalog import hashed_id
from flyback.schemas.codec import bundled
from flyback.settings import Settings
from flyback.streams.join import Arrived, Derived, batch
from flyback.streams.topology import Topology


@pytest.fixture
def installation(field: Field, tmp_path: Path) -> Settings:
    """Over the filled topics, with nothing derived yet."""
    found = field.job().settings(tmp_path)
    engine.renew(found)
    return found


@pytest.fixture
def derived(installation: Settings) -> list[Derived]:
    """What the raw topics derive."""
    topology = Topology(installation)
    arrived = []
    for message in history.read(installation, topology.raw):
        topic, place = str(message.topic()), (int(message.partition() or 0), int(message.offset() or 0))
        record = topology[topic].record or ""
        event = codec.decode(record, message.value() or b"", bundled(record))
        arrived.append(Arrived(record, event, topic, *place, message.timestamp()[1]))
    return batch(arrived, installation.join_window).derived


def write(settings: Settings, events: list[Derived], key: bytes | None = None) -> None:
    topology, failures = Topology(settings), list[str]()
    producer = bulk_producer(settings, failures)
    for record, event in ((each.record, each.event) for each in events):
        value = codec.encode(record, event, hashed_id(bundled(record)))
        producer.produce(topology.topic_of(record), value, key or event["task_id"].encode())
    assert producer.flush(30) == 0
    assert not failures


def test_what_the_raw_topics_derive_is_right(installation: Settings, field: Field, derived: list[Derived]) -> None:
    write(installation, derived)
    found = pairs.check(installation, field.pairs)
    assert (found["derived"], found["again"]) == (len(derived), 0)
    assert found["derived_bytes"] > 500 * len(derived)


def test_a_missing_pair_is_wrong(installation: Settings, field: Field, derived: list[Derived]) -> None:
    write(installation, derived[1:])
    with pytest.raises(Void, match=f"1 of {len(derived)} pairs are missing"):
        pairs.check(installation, field.pairs)


def test_a_pair_written_twice_is_wrong_unless_copies_are_allowed(
    installation: Settings, field: Field, derived: list[Derived]
) -> None:
    write(installation, [*derived, derived[0]])
    with pytest.raises(Void, match="1 pairs were written more than once"):
        pairs.check(installation, field.pairs)
    assert pairs.check(installation, field.pairs, copies=True)["again"] == 1


def test_only_where_copies_are_allowed_may_a_pair_come_from_a_later_one(
    installation: Settings, field: Field, derived: list[Derived]
) -> None:
    source = derived[0].event["prediction_source"]
    source["offset"] += 1
    write(installation, derived)
    with pytest.raises(Void, match="says something else than its two events"):
        pairs.check(installation, field.pairs)
    pairs.check(installation, field.pairs, copies=True)


def test_another_story_is_wrong_even_where_copies_are_allowed(
    installation: Settings, field: Field, derived: list[Derived]
) -> None:
    derived[0].event["segment"] = "another"
    write(installation, derived)
    with pytest.raises(Void, match="says something else than its two events"):
        pairs.check(installation, field.pairs, copies=True)


def test_a_pair_of_no_events_is_wrong(installation: Settings, field: Field, derived: list[Derived]) -> None:
    of_id = {"Example": "example_id", "GradedExample": "graded_example_id"}[derived[0].record]
    derived[0].event[of_id] = "0" * 32
    write(installation, derived)
    with pytest.raises(Void, match="is no pair of these events"):
        pairs.check(installation, field.pairs)


def test_another_key_than_the_task_is_wrong(installation: Settings, field: Field, derived: list[Derived]) -> None:
    write(installation, derived, key=b"another")
    with pytest.raises(Void, match="has another key than its task"):
        pairs.check(installation, field.pairs)


def test_a_reference_over_half_of_what_was_sent_is_refused(installation: Settings, field: Field) -> None:
    ends: dict[Place, int] = {(Topology(installation).raw[0], 0): 1_000_000}
    with pytest.raises(Void, match="read, and sent"):
        pairs.reference(installation, field.expected, ends)
    with pytest.raises(Void, match=r"derive \d+ pairs, but 0 were sent"):
        pairs.reference(installation, Expected(reviewed=field.expected.reviewed), {})
