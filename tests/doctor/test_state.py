"""What `flyback doctor` says of the group's offsets and of states, on real Kafka, with states written by hand."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from flyback.doctor import state
from flyback.settings import Settings
from flyback.streams.clients import KafkaClients
from flyback.streams.state import META, Meta, Origin, StateFolder
from flyback.streams.topology import Topology
from tests.doctor.examined import examined
from tests.streams.on_kafka import OnKafka
from tests.streams.records import a_prediction


def a_state(settings: Settings, partitions: int = 2, applied: int = 0, **other: Any) -> None:
    """The state of partition 0, as a worker leaves it; `other`: fields of its origin that are not as Kafka is now."""
    raw = Topology(settings).raw
    cluster = KafkaClients(settings).describe(raw)
    origin = {
        "cluster_id": cluster.cluster_id,
        "topic_ids": dict(cluster.topic_ids),
        "partition": 0,
        "window_ms": settings.join_window // timedelta(milliseconds=1),
    }
    meta = Meta(Origin(**{**origin, **other}), partitions, dict.fromkeys(raw, applied))
    folder = StateFolder(settings.state_dir)
    folder.store(0).write({META: meta.pack()})
    folder.close()


def commit(settings: Settings, *places: TopicPartition) -> None:
    consumer = Consumer(settings.kafka(**{"group.id": settings.group}))
    consumer.commit(offsets=list(places), asynchronous=False)
    consumer.close()


def test_a_state_that_fits_is_well(settings: Settings) -> None:
    a_state(settings)
    assert examined(settings)["state"].found == "of 1 partitions, all of this Kafka"


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (
            {"window_ms": 27 * 86_400_000},
            "built with FLYBACK_JOIN_WINDOW=27 days, 0:00:00, which is now 30 days, 0:00:00",
        ),
        ({"cluster_id": "another"}, "of cluster another, this is cluster "),
        (
            {"topic_ids": {}},
            "of other raw topics: these were deleted and made again, or FLYBACK_TOPIC_PREFIX has changed",
        ),
        ({"partition": 1}, "built by another version of Flyback, or of another partition"),
        ({"derive_version": 0}, "built by another version of Flyback, or of another partition"),
    ],
)
def test_a_state_of_something_else_is_told(settings: Settings, other: dict[str, Any], says: str) -> None:
    a_state(settings, **other)
    found = examined(settings)["state"]
    assert found.verdict == "warning"
    assert says in found.found


def test_the_state_of_fewer_partitions_is_refused(settings: Settings) -> None:
    a_state(settings, partitions=1)
    found = examined(settings)["state"]
    assert found.verdict == "failed"
    assert "the raw topics have 2 partitions, it was built over 1" in found.found


def test_a_state_ahead_of_its_group_is_told(settings: Settings) -> None:
    a_state(settings, applied=1)
    found = examined(settings)["state"]
    assert found.verdict == "failed"
    assert "the state is at offset 1, the group only at 0" in found.found


def test_a_broken_state_is_told(settings: Settings) -> None:
    a_state(settings)
    (settings.state_dir / "partition-0" / "CURRENT").write_text("nothing\n")
    found = examined(settings)["state"]
    assert found.verdict == "warning"
    assert "partition-0 cannot be read" in found.found


def test_what_retention_took_from_group_and_state_is_told(settings: Settings) -> None:
    kafka = OnKafka(settings)
    topic, partition, _ = kafka.send(a_prediction())
    kafka.send(a_prediction(prediction_id="q"))
    a_state(settings, applied=0)
    place = TopicPartition(topic, partition, 2)
    admin = AdminClient(settings.kafka())
    admin.delete_records([place])[place].result(30)

    commit(settings, TopicPartition(topic, partition, 2))
    assert examined(settings)["offsets"].verdict == "ok"

    commit(settings, TopicPartition(topic, partition, 1))
    checks = examined(settings)
    assert checks["offsets"].verdict == "failed"
    assert f"{topic}/{partition}: the group's offset 1 is below the log start 2" in checks["offsets"].found
    assert checks["state"].verdict == "ok", "it is told once"


def test_a_group_without_offsets_is_told_where_events_were_derived(settings: Settings) -> None:
    producer = Producer(settings.kafka())
    producer.produce(Topology(settings).topic_of("Example"), b"whatever it is")
    producer.flush(30)
    found = examined(settings)["offsets"]
    assert found.verdict == "warning"
    assert f"group {settings.group} has no committed offsets, though the derived topics hold events" in found.found


def test_who_holds_a_state_folder_is_known_while_it_is_held(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    assert state.held_by(tmp_path / "lock") == str(os.getpid())
    folder.close()
    assert state.held_by(tmp_path / "lock") is None
    assert state.held_by(tmp_path / "nothing") is None
