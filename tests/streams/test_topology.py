"""Names, configurations, and the partition that each key belongs to."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from aiokafka.partitioner import murmur2  # type: ignore[import-untyped]
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from hypothesis import given
from hypothesis import strategies as st

from flyback.settings import load
from flyback.streams.topology import ALERTS, DEAD_LETTERS, DERIVED, RAW, TOPICS, Kind, Topology, partition_for

DAY_MS = 86_400_000


def topology(**given: object) -> Topology:
    return Topology(load(**given))


def test_the_topics_are_those_of_the_design() -> None:
    assert [topic.name for topic in TOPICS] == [
        "predictions.v1",
        "corrections.v1",
        "grades.v1",
        "examples.v1",
        "graded-examples.v1",
        "coaching.v1",
        "failure-rates.v1",
        "progress.v1",
        "replays.v1",
        "alerts.v1",
        "predictions.v1.dlq",
        "corrections.v1.dlq",
        "grades.v1.dlq",
        "examples.v1.dlq",
        "graded-examples.v1.dlq",
        "coaching.v1.dlq",
        "alerts.v1.dlq",
    ]


def test_every_name_has_the_prefix() -> None:
    names = topology(topic_prefix="team-a.").names
    assert names == [f"team-a.{topic.name}" for topic in TOPICS]


def test_a_topic_is_found_by_its_full_name_and_by_its_record() -> None:
    found = topology()
    for topic in TOPICS:
        assert found[f"flyback.{topic.name}"] is topic
        if topic.record:
            assert found.topic_of(topic.record) == f"flyback.{topic.name}"


def test_raw_and_derived_topics_and_the_alerts_have_their_dead_letters_and_no_other_has() -> None:
    found = topology()
    expected = [found.dead_letters_of(f"flyback.{topic.name}") for topic in (*RAW, *DERIVED, ALERTS)]
    assert found.of(Kind.DEAD_LETTERS) == expected
    assert [topic.writers for topic in DEAD_LETTERS] == [("engine",)] * 3 + [("sink",)] * 3 + [("alert watch",)]


def test_raw_derived_and_count_topics_have_the_same_number_of_partitions() -> None:
    found = topology(partitions=7)
    by_kind = {kind: {found.partitions(name) for name in found.of(kind)} for kind in Kind}
    assert by_kind == {
        Kind.RAW: {7},
        Kind.DERIVED: {7},
        Kind.COUNTS: {7},
        Kind.DEAD_LETTERS: {7},
        Kind.OFFSETS: {1},
        Kind.REPLAYS: {1},
        Kind.ALERTS: {1},
    }


def test_raw_topics_are_kept_longer_than_three_windows_by_time_only() -> None:
    found = topology(join_window=timedelta(days=2))
    assert found.minimum_raw_retention == timedelta(days=6)
    for name in found.raw:
        assert found.config(name) == {
            "cleanup.policy": "delete",
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(1_000_000 + 65_536),
            "retention.ms": str(8 * DAY_MS),
            "retention.bytes": "-1",
        }


@pytest.mark.parametrize("max_event_bytes", [1_000, 1_000_000, 100_000_000])
def test_derived_and_dead_letter_topics_take_two_raw_events_and_room(max_event_bytes: int) -> None:
    found = topology(max_event_bytes=max_event_bytes)
    for name in found.of(Kind.DERIVED) + found.of(Kind.DEAD_LETTERS):
        assert int(found.config(name)["max.message.bytes"]) >= 2 * max_event_bytes + 64 * 1024


def test_absolute_values_offsets_and_replays_are_compacted() -> None:
    found = topology(join_window="1d")
    for name in ("progress.v1", "replays.v1"):  # a mark that were deleted would let its dead letter in twice
        assert found.config(f"flyback.{name}")["cleanup.policy"] == "compact"
    assert found.config("flyback.failure-rates.v1") == {
        "cleanup.policy": "compact,delete",
        "retention.ms": str(2 * DAY_MS),
    }


def test_the_longest_window_still_has_a_retention_that_kafka_takes() -> None:
    found = topology(join_window=timedelta(days=365_000))
    assert all(int(found.config(name)["retention.ms"]) < 2**63 for name in found.raw)


@given(st.binary(min_size=1, max_size=64), st.integers(1, 500))
def test_the_partition_is_that_of_java_s_partitioner(key: bytes, partitions: int) -> None:
    assert partition_for(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_keys_hash_as_kafka_s_own_tests_say(key: bytes, hashed: int) -> None:
    assert partition_for(key, 2**31) == hashed & 0x7FFFFFFF


def test_librdkafka_puts_keys_where_we_expect_them(kafka_bootstrap: str, topic_prefix: str) -> None:
    settings = load(bootstrap_servers=kafka_bootstrap)
    topic, partitions = f"{topic_prefix}keys", 13
    admin = AdminClient(settings.kafka())
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(20)
    chance = random.Random(5)
    keys = [chance.randbytes(n) for n in range(1, 60)]
    keys += [str(uuid4()).encode() for _ in range(100)] + ["ключ ☃".encode()]
    placed: dict[bytes | None, int | None] = {}
    producer = Producer(settings.kafka(partitioner="murmur2_random"))
    for key in keys:
        producer.produce(
            topic, key=key, on_delivery=lambda error, m: placed.update({m.key(): None if error else m.partition()})
        )
    deadline = time.monotonic() + 30
    while len(placed) < len(keys) and time.monotonic() < deadline:
        producer.poll(0.1)
    assert placed == {key: partition_for(key, partitions) for key in keys}
