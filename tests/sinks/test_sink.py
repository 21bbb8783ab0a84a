"""The sink on a real Kafka: every valid message one row, whatever happens."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from flyback.errors import RefusedToStart, RegistryUnavailable, TopicMismatch, UnknownSchema
from flyback.schemas import wire
from flyback.schemas.codec import Schema
from flyback.settings import Settings
from flyback.sinks.lake import lake
from flyback.sinks.reader import Sources
from flyback.sinks.sink import Sink
from flyback.sinks.storage import open_table
from flyback.sinks.tables import landed
from flyback.streams.topology import Topology, partition_for
from tests.sinks.events import CATALOG, correction, derived, prediction, value_of
from tests.sinks.kafka import Written, all_landed, create_topics, end_offset, eventually, running


def table(settings: Settings, name: str) -> pa.Table:
    handle = open_table(settings.lake, name)
    assert handle is not None
    return handle.to_pyarrow_table()


def tasks(settings: Settings, name: str) -> list[str]:
    return sorted(table(settings, name)["task_id"].to_pylist())


def changed(settings: Settings, **values: object) -> Settings:
    return settings.model_copy(update=values)


def test_every_valid_message_becomes_one_row_with_its_provenance(
    settings: Settings, topology: Topology, written: Written
) -> None:
    written.events("Prediction", [prediction(f"t{i}") for i in range(500)])
    written.events("Correction", [correction(f"t{i}") for i in range(500)])
    with running(settings, topology) as sink:
        eventually(lambda: all_landed(settings, written), "all rows")
        eventually(lambda: sink.offsets() == landed(settings.lake), "status is the lake's")
        said = sink.status()
    assert said["ok"]
    assert {source.cluster_id for source in Sources(settings).describe(topology.raw).values()} == {said["cluster_id"]}
    rows = table(settings, "predictions").to_pylist()
    assert sorted(row["task_id"] for row in rows) == sorted(f"t{i}" for i in range(500))
    assert {row["_topic"] for row in rows} == {topology.topic_of("Prediction")}
    assert len({(row["_partition"], row["_offset"]) for row in rows}) == 500
    assert all(row["_arrived_at"] <= row["_ingested_at"] for row in rows)
    assert table(settings, "corrections").num_rows == 500


def test_a_restarted_sink_goes_on_where_the_tables_end(
    settings: Settings, topology: Topology, written: Written
) -> None:
    for start in (0, 100, 200):
        written.events("Prediction", [prediction(f"t{start + i}") for i in range(100)])
        with running(settings, topology):
            eventually(lambda: all_landed(settings, written), "all rows")
    assert tasks(settings, "predictions") == sorted(f"t{i}" for i in range(300))


def test_stopping_commits_what_was_read(settings: Settings, topology: Topology, written: Written) -> None:
    written.events("Prediction", [prediction(f"t{i}") for i in range(50)])
    patient = changed(settings, commit_interval=settings.join_window)
    with running(patient, topology) as sink:
        eventually(lambda: sum(len(b.messages) for b in sink._buffers.values()) == 50, "all read")
        assert landed(settings.lake) == {}
    assert all_landed(settings, written)


@pytest.mark.parametrize("limit", [{"commit_rows": 40}, {"commit_bytes": 10_000}])
def test_a_full_buffer_is_committed_before_its_time(
    settings: Settings, topology: Topology, written: Written, limit: dict[str, int]
) -> None:
    written.events("Prediction", [prediction(f"t{i}") for i in range(100)])
    with running(changed(settings, commit_interval=settings.join_window, **limit), topology):
        eventually(lambda: bool(landed(settings.lake)), "a commit")


def test_the_lake_reaches_the_end_of_topics_written_in_transactions(
    settings: Settings, topology: Topology, written: Written
) -> None:
    topic = topology.topic_of("Example")
    producer = Producer(settings.kafka(**{"transactional.id": topic, "partitioner": "murmur2_random"}))
    producer.init_transactions(30)
    for i, commits in enumerate((True, False, True, False)):
        producer.begin_transaction()
        event = derived(prediction(f"t{i}"), correction(f"t{i}"))
        producer.produce(topic, value_of("Example", event), event["task_id"].encode(), partition=0)
        producer.flush(30)
        producer.commit_transaction(30) if commits else producer.abort_transaction(30)
    end = end_offset(settings, topic, 0)
    assert end == 8  # each transaction has a marker
    with running(settings, topology):
        eventually(lambda: landed(settings.lake).get((topic, 0)) == end, "the marker of the last transaction")
    assert tasks(settings, "examples") == ["t0", "t2"]


def test_invalid_raw_messages_are_skipped_and_counted_and_their_neighbours_kept(
    settings: Settings, topology: Topology, written: Written
) -> None:
    topic = topology.topic_of("Prediction")
    good = value_of("Prediction", prediction("t1"))
    home = partition_for(b"t1", 4)
    bad = {
        "empty_value": (b"t1", None, home),
        "no_magic_byte": (b"t1", b"{}", home),
        "truncated": (b"t1", good[:-1], home),
        "trailing_bytes": (b"t1", good + b"\0", home),
        "wrong_record_type": (b"t1", value_of("Correction", correction("t1")), home),
        "missing_key": (None, good, home),
        "key_mismatch": (b"t2", good, partition_for(b"t2", 4)),
        "wrong_partition": (b"t1", good, (home + 1) % 4),
        "invalid_utf8": (b"t1", good.replace(b"positive", b"positiv\xff"), home),
        "out_of_range": (b"t1", value_of("Prediction", prediction("t1", confidence=float("nan"))), home),
        "empty_field": (b"t1", value_of("Prediction", prediction("t1", segment="")), home),
        "oversized": (b"t1", value_of("Prediction", prediction("t1", segment="x" * 1_000_001)), home),
    }
    for key, value, partition in bad.values():
        written.raw(topic, b"t1", good, partition=home)
        written.raw(topic, key, value, partition=partition)
    written.flush()
    with running(settings, topology) as sink:
        eventually(lambda: all_landed(settings, written), "all rows")
        assert sink.status()["skipped"] == {topic: len(bad)}
    assert tasks(settings, "predictions") == ["t1"] * len(bad)
    assert open_table(settings.lake, "dead_letters") is None  # the engine writes those


def test_invalid_derived_messages_become_dead_letters(settings: Settings, topology: Topology, written: Written) -> None:
    topic = topology.topic_of("Example")
    good = value_of("Example", derived(prediction("t1"), correction("t1")))
    written.raw(topic, b"t1", good, partition=2)
    written.raw(topic, b"t1", good[:-1], partition=2, headers=[("traceparent", b"00-1")])
    written.raw(topic, b"t1", good, partition=2)
    written.flush()
    with running(settings, topology):
        eventually(lambda: (topology.dead_letters_of(topic), 2) in landed(settings.lake), "the dead letter")
        eventually(lambda: all_landed(settings, written), "all rows")
    with lake(settings.lake) as connection:
        (found,) = connection.sql(
            "SELECT source_topic, source_partition, source_offset, reason, key, value, headers FROM dead_letters"
        ).fetchall()
        assert connection.sql("SELECT count(*) FROM raw.examples").fetchall() == [(2,)]
    headers = [{"key": "traceparent", "value": b"00-1"}]
    assert found == (topic, 2, 1, "truncated", b"t1", good[:-1], headers)


@dataclass
class LearningCatalog:
    """The bundled schemas under another id, once somebody has registered it."""

    schema_id: int
    failures: list[Exception] = field(default_factory=list)

    def id_for(self, record: str, topic: str) -> int:
        return CATALOG.id_for(record, topic)

    def schema(self, schema_id: int) -> Schema:
        if schema_id != self.schema_id:
            return CATALOG.schema(schema_id)
        if self.failures:
            raise self.failures.pop()
        return CATALOG.schema(CATALOG.id_for("Prediction", ""))


@pytest.mark.parametrize("failure", [UnknownSchema(99), RegistryUnavailable("no answer")])
def test_an_unknown_schema_and_a_registry_that_is_down_are_waited_for(
    settings: Settings, topology: Topology, written: Written, failure: Exception
) -> None:
    value = wire.frame(99, value_of("Prediction", prediction("t1"))[wire.HEADER :])
    written.raw(topology.topic_of("Prediction"), b"t1", value)
    written.flush()
    with running(settings, topology, LearningCatalog(99, [failure] * 3)):
        eventually(lambda: all_landed(settings, written), "the row")
    assert tasks(settings, "predictions") == ["t1"]


def test_a_schema_that_stays_unknown_stops_the_sink_or_is_skipped_as_configured(
    settings: Settings, topology: Topology, written: Written
) -> None:
    value = wire.frame(99, value_of("Prediction", prediction("t1"))[wire.HEADER :])
    written.raw(topology.topic_of("Prediction"), b"t1", value)
    written.flush()
    soon = changed(settings, unknown_schema_timeout=settings.commit_interval)
    with pytest.raises(UnknownSchema, match="99"):
        Sink(soon, topology, CATALOG).run()
    assert landed(settings.lake) == {}
    with running(changed(soon, unknown_schema="dead-letter"), topology) as sink:
        eventually(lambda: sink.status()["waiting_for"] == "unknown_schema", "it waits")
        time.sleep(3 * soon.unknown_schema_timeout.total_seconds())
        assert landed(settings.lake) == {}, "the worker may still learn the schema, and join the event"
        pass_by(settings, topology.topic_of("Prediction"))
        eventually(lambda: all_landed(settings, written), "the offset")
    assert tasks(settings, "predictions") == []


def pass_by(settings: Settings, topic: str) -> None:
    """Let the worker be past all messages of a topic."""
    consumer = Consumer(settings.kafka() | {"group.id": settings.group})
    places = [TopicPartition(topic, partition, 1) for partition in range(settings.partitions)]
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()


def test_a_lake_that_cannot_be_written_is_waited_for(
    settings: Settings, topology: Topology, written: Written, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the lake's folder should be", encoding="utf-8")
    written.events("Prediction", [prediction("t1")])
    waiting = changed(settings, lake=str(blocked / "lake"))
    with running(waiting, topology) as sink:
        eventually(lambda: sink.status()["waiting_for"] == "lake", "the sink says what it waits for")
        assert not sink.status()["ok"]
        assert sink.status()["offsets"] is None, "they are not known, which is another thing than none"
        blocked.unlink()
        eventually(lambda: all_landed(waiting, written), "the row")


def test_a_topic_that_was_deleted_and_made_again_is_refused(
    settings: Settings, topology: Topology, written: Written
) -> None:
    written.events("Prediction", [prediction("t1")])
    with running(settings, topology):
        eventually(lambda: all_landed(settings, written), "the row")
    admin = AdminClient(settings.kafka())
    topic = topology.topic_of("Prediction")
    admin.delete_topics([topic], operation_timeout=30)[topic].result()
    eventually(lambda: topic not in admin.list_topics(timeout=10).topics, "the topic is gone")
    with pytest.raises(TopicMismatch, match="flyback topics create"):
        Sink(settings, topology, CATALOG).run()
    create_topics(settings, topology, [topic])
    with pytest.raises(RefusedToStart, match=r"deleted and made again.*FLYBACK_LAKE"):
        Sink(settings, topology, CATALOG).run()
    assert tasks(settings, "predictions") == ["t1"]


def test_messages_that_kafka_deleted_before_they_were_read_are_refused(
    settings: Settings, topology: Topology, written: Written
) -> None:
    topic, partition = topology.topic_of("Prediction"), partition_for(b"t1", 4)
    written.events("Prediction", [prediction("t1")])
    with running(settings, topology):
        eventually(lambda: all_landed(settings, written), "the row")
    written.events("Prediction", [prediction("t1")] * 5)
    admin = AdminClient(settings.kafka())
    for deleted in admin.delete_records([TopicPartition(topic, partition, 4)]).values():
        deleted.result(timeout=30)
    with pytest.raises(RefusedToStart, match="goes on at offset 1, but the topic starts at 4") as caught:
        Sink(settings, topology, CATALOG).run()
    assert "deleted offsets 1 to 3, 3 messages that never reached the lake" in str(caught.value)
    assert "`flyback sink --accept-loss`" in str(caught.value)

    with running(settings, topology, accept_loss=True) as accepting:
        eventually(lambda: accepting.offsets().get((topic, partition)) == 6, "what is left")
    with running(settings, topology) as sink:
        eventually(lambda: sink.status()["ok"] is True and bool(sink.offsets()), "it runs without the flag")
    assert tasks(settings, "predictions") == ["t1"] * 3


def test_a_topic_that_is_made_again_under_a_running_sink_adds_no_row(
    settings: Settings, topology: Topology, written: Written
) -> None:
    topic = topology.topic_of("Prediction")
    written.events("Prediction", [prediction("t1")])
    admin = AdminClient(settings.kafka())

    def make_again() -> None:
        eventually(lambda: all_landed(settings, written), "the row")
        admin.delete_topics([topic], operation_timeout=30)[topic].result()
        eventually(lambda: topic not in admin.list_topics(timeout=10).topics, "the topic is gone")
        create_topics(settings, topology, [topic])
        written.events("Prediction", [prediction("t1")] * 3)

    meanwhile = threading.Thread(target=make_again)
    meanwhile.start()
    with pytest.raises(RefusedToStart, match=r"deleted and made again.*FLYBACK_LAKE"):
        Sink(settings, topology, CATALOG).run()
    meanwhile.join()
    assert tasks(settings, "predictions") == ["t1"]


def test_an_offset_past_the_end_of_the_topic_is_refused(
    settings: Settings, topology: Topology, written: Written
) -> None:
    place = (topology.topic_of("Prediction"), partition_for(b"t1", 4))
    written.events("Prediction", [prediction("t1")])
    sink = Sink(settings, topology, CATALOG)
    with running(settings, topology):
        eventually(lambda: all_landed(settings, written), "the row")
    sink._open().close()
    empty = sink._writers["predictions"].table.schema.empty_table()
    sink._writers["predictions"].commit(empty, {place: 1}, {place: 77})
    with pytest.raises(RefusedToStart, match="holds 0 to 1"):
        Sink(settings, topology, CATALOG).run()
