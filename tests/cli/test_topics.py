"""`flyback topics` and `flyback.topics` on real Kafka; creation on the embedded broker too."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from flyback import topics
from flyback.errors import TopicMismatch
from flyback.settings import Settings, load
from flyback.streams.topology import Kind, Topology
from tests.cli.conftest import Flyback
from tests.waiting import eventually


def alter(settings: Settings, topic: str, option: str, value: str) -> None:
    entry = ConfigEntry(option, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient(settings.kafka())
    admin.incremental_alter_configs([resource])[resource].result(10)


def described(settings: Settings, topic: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    admin = AdminClient(settings.kafka())
    return {name: entry.value for name, entry in admin.describe_configs([resource])[resource].result(10).items()}


def test_create_makes_every_topic_as_the_topology_says_and_then_nothing(
    flyback: Flyback, kafka_bootstrap: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYBACK_TOPIC_PREFIX", topic_prefix)
    names = Topology(load()).names
    assert flyback("topics", "create", "--bootstrap", kafka_bootstrap, "--json").json == {"made": names, "existed": []}
    again = flyback("topics", "create", "--bootstrap", kafka_bootstrap)
    assert again.code == 0
    assert again.out == f"0 made, {len(names)} were there already\n"
    assert flyback("topics", "check", "--bootstrap", kafka_bootstrap, "--json").json == []


def test_create_works_on_the_embedded_broker(embedded_bootstrap: str, topic_prefix: str) -> None:
    settings = load(bootstrap_servers=embedded_bootstrap, topic_prefix=topic_prefix)
    assert topics.create(settings) == Topology(settings).names
    assert topics.create(settings) == []
    topics.require(settings)


def test_a_missing_topic_is_fatal_and_says_what_to_type(
    flyback: Flyback, kafka_bootstrap: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYBACK_TOPIC_PREFIX", topic_prefix)
    said = flyback("topics", "check", "--bootstrap", kafka_bootstrap)
    assert said.code == 1
    assert f"wrong: {topic_prefix}predictions.v1: does not exist; type `flyback topics create`" in said.out


@pytest.mark.parametrize(
    ("topic", "option", "value", "fatal"),
    [
        ("predictions.v1", "message.timestamp.type", "CreateTime", True),
        ("corrections.v1", "retention.ms", "3600000", True),
        ("grades.v1", "retention.bytes", "1000000", True),
        ("grades.v1", "cleanup.policy", "compact", True),
        ("examples.v1", "max.message.bytes", "1000", True),
        ("failure-rates.v1", "cleanup.policy", "delete", True),
        ("examples.v1", "retention.ms", "3600000", False),
    ],
)
def test_a_topic_that_is_configured_otherwise_is_found(
    own_topics: Settings, topic: str, option: str, value: str, fatal: bool
) -> None:
    name = own_topics.topic_prefix + topic
    alter(own_topics, name, option, value)
    eventually(lambda: topics.check(own_topics), "the broker shows the change")
    (finding,) = topics.check(own_topics)
    assert finding.topic == name
    assert f"{option} is {value}" in finding.problem
    assert f"--entity-name {name} --add-config {option}=" in finding.advice
    assert finding.fatal is fatal
    if fatal:
        with pytest.raises(TopicMismatch, match=option):
            topics.require(own_topics)
    else:
        topics.require(own_topics)


@pytest.mark.parametrize("value", ["-1", "99999999999"])
def test_longer_retention_than_needed_is_fine(own_topics: Settings, value: str) -> None:
    name = own_topics.topic_prefix + "predictions.v1"
    alter(own_topics, name, "retention.ms", value)
    eventually(lambda: described(own_topics, name)["retention.ms"] == value, "the broker shows the change")
    assert topics.check(own_topics) == []


def test_raw_topics_with_different_partition_counts_are_refused(kafka_bootstrap: str, topic_prefix: str) -> None:
    settings = load(bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix)
    config: Any = dict(Topology(settings).config(topic_prefix + "grades.v1"))
    grades = NewTopic(topic_prefix + "grades.v1", 2, 1, config=config)
    admin = AdminClient(settings.kafka())
    admin.create_topics([grades])[grades.topic].result(10)
    topics.create(settings)
    with pytest.raises(TopicMismatch, match=r"grades\.v1: has 2 partitions, another raw topic has 4"):
        topics.require(settings)


def test_more_partitions_than_the_default_are_fine_where_all_topics_have_them(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    topics.create(load(bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix, partitions=6))
    assert topics.check(load(bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix)) == []


def test_a_derived_topic_with_another_partition_count_is_refused(own_topics: Settings, topic_prefix: str) -> None:
    admin = AdminClient(own_topics.kafka())
    name = topic_prefix + "examples.v1"
    admin.create_partitions([NewPartitions(name, 5)])[name].result(10)
    eventually(lambda: topics.check(own_topics), "the broker shows the new partition")
    with pytest.raises(TopicMismatch, match="has 5 partitions, the raw topics have 4"):
        topics.require(own_topics)


def test_list_shows_partitions_and_what_is_missing(flyback: Flyback, own_topics: Settings) -> None:
    def by_kind(kind: str) -> dict[str, Any]:
        return next(row for row in flyback("topics", "list", "--json").json if row["kind"] == kind)

    listed = flyback("topics", "list", "--json").json
    assert [row["name"] for row in listed] == Topology(own_topics).names
    by_name = {row["name"]: row for row in listed}
    assert by_name[own_topics.topic_prefix + "predictions.v1"] == {
        "name": own_topics.topic_prefix + "predictions.v1",
        "kind": Kind.RAW.value,
        "record": "Prediction",
        "partitions": 4,
        "replicas": 1,
    }
    assert by_name[own_topics.topic_prefix + "progress.v1"]["partitions"] == 1
    admin = AdminClient(own_topics.kafka())
    admin.delete_topics([own_topics.topic_prefix + "alerts.v1"])[own_topics.topic_prefix + "alerts.v1"].result(10)
    eventually(lambda: by_kind("alerts")["partitions"] == 0, "the topic is gone")
    line = next(line for line in flyback("topics", "list").out.splitlines() if "alerts.v1" in line)
    assert "missing" in line
