"""What `flyback doctor` says of topics, on real Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from flyback import topics
from flyback.doctor import brokers
from flyback.doctor import topics as doctor_topics
from flyback.settings import Settings, load
from flyback.streams.topology import Topology
from tests.cli.test_topics import alter
from tests.doctor.examined import examined
from tests.waiting import eventually


@pytest.mark.parametrize(
    ("topic", "option", "value", "name", "verdict"),
    [
        ("predictions.v1", "message.timestamp.type", "CreateTime", "timestamps", "failed"),
        ("corrections.v1", "retention.ms", "3600000", "retention", "failed"),
        ("grades.v1", "retention.bytes", "1000000", "retention", "failed"),
        ("grades.v1", "cleanup.policy", "compact", "cleanup", "failed"),
        ("examples.v1", "max.message.bytes", "1000", "message sizes", "failed"),
        ("corrections.v1.dlq", "max.message.bytes", "1000", "message sizes", "failed"),
        ("examples.v1", "retention.ms", "3600000", "retention", "warning"),
    ],
)
def test_a_topic_that_is_configured_otherwise_is_told_with_the_command_that_mends_it(
    settings: Settings, topic: str, option: str, value: str, name: str, verdict: str
) -> None:
    alter(settings, settings.topic_prefix + topic, option, value)
    eventually(lambda: topics.check(settings), "the broker shows the change")
    _, kafka = brokers.connect(settings)
    assert kafka is not None
    found = {check.name: check for check in doctor_topics.as_the_topology_says(settings, kafka)}
    assert found[name].verdict == verdict
    assert found[name].found.startswith(f"{settings.topic_prefix}{topic}: {option} is {value}")
    assert "kafka-configs.sh --bootstrap-server HOST:PORT --alter --entity-type topics" in str(found[name].mend)
    assert {check.verdict for other, check in found.items() if other != name} == {"ok"}


def test_where_there_are_no_topics_the_prefix_may_be_wrong(
    kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    settings = load(
        bootstrap_servers=kafka_bootstrap,
        topic_prefix=topic_prefix,
        state_dir=tmp_path / "state",
        lake=str(tmp_path / "lake"),
    )
    found = examined(settings)
    assert found["topics"].verdict == "failed"
    assert (
        found["topics"].found == f"none of the {len(Topology(settings).names)} exists under the prefix {topic_prefix}"
    )
    assert found["topics"].mend == "is FLYBACK_TOPIC_PREFIX right? Else type `flyback topics create`"
    assert {found[name].verdict for name in ("partitions", "retention", "replication", "offsets")} == {"skipped"}


def test_missing_topics_are_told_in_one_line(settings: Settings) -> None:
    """As after an upgrade that brings a topic."""
    missing = [settings.topic_prefix + name for name in ("replays.v1", "alerts.v1")]
    admin = AdminClient(settings.kafka())
    for gone in admin.delete_topics(missing).values():
        gone.result(30)
    eventually(lambda: not {*missing} & {*admin.list_topics(timeout=10).topics}, "they are gone")
    found = examined(settings)
    assert found["topics"].verdict == "failed"
    assert found["topics"].found == f"{', '.join(missing)}: does not exist"
    assert found["topics"].mend == "type `flyback topics create`"
    assert found["retention"].verdict == "ok"


def test_different_partition_counts_are_told(settings: Settings) -> None:
    name = settings.topic_prefix + "grades.v1"
    admin = AdminClient(settings.kafka())
    admin.create_partitions([NewPartitions(name, 3)])[name].result(10)
    eventually(lambda: topics.check(settings), "the broker shows the new partition")
    found = examined(settings)
    assert found["partitions"].verdict == "failed"
    assert "has 2 partitions, another raw topic has 3" in found["partitions"].found


@pytest.mark.parametrize(
    ("leader", "replicas", "in_sync", "least", "problem", "fatal"),
    [
        (-1, 3, 2, 2, "no leader", True),
        (1, 3, 1, 2, "1 replicas in sync, min.insync.replicas is 2", True),
        (1, 3, 2, 2, "2 of 3 replicas in sync", False),
        (1, 1, 1, 1, "replication factor 1", False),
        (1, 3, 3, 1, "min.insync.replicas is 1", False),
        (1, 3, 3, 3, "min.insync.replicas is 3 of 3", False),
    ],
)
def test_too_few_copies_are_told(
    leader: int, replicas: int, in_sync: int, least: int, problem: str, fatal: bool
) -> None:
    found = list(doctor_topics._of(leader, replicas, in_sync, least))
    assert [one[2] for one in found if problem in one[0]] == [fatal]


def test_three_copies_of_which_two_must_be_in_sync_are_fine() -> None:
    assert list(doctor_topics._of(1, 3, 3, 2)) == []
