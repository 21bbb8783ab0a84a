"""What alert rules ask beside the counts: dead letters by minute and lag, over a Kafka in memory."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition
from structlog.testing import CapturingLogger

from flyback.streams import alert_signals
from flyback.streams.alert_signals import Signals
from flyback.streams.alerts.rules import Rule
from flyback.streams.rates import MINUTE
from flyback.streams.topology import Kind
from tests.streams.alert_stage import SINCE, AlertStage, brief
from tests.streams.alerts.counted import rule
from tests.streams.kafka_double_broker import failure

MANY = rule("dead-letters", 'above = 2\nwindow = "3m"', "many")
LATE = rule("lag", 'above = "60s"', "late")
HIGH = rule("rate", 'above = 0.2\nwindow = "5m"', "high")
DOWN = failure(KafkaError._ALL_BROKERS_DOWN)


def signals(stage: AlertStage) -> Signals:
    topics = [*stage.topology.raw, *stage.topology.of(Kind.DEAD_LETTERS)]
    cluster = stage.kafka.describe(topics)
    stage.kafka.calls.clear()
    return Signals(stage.kafka, stage.settings, stage.topology, cluster, stage.rules)


def bury(stage: AlertStage, topic: str, many: int = 1, partition: int = 0) -> None:
    for _ in range(many):
        stage.kafka.append(f"{stage.settings.topic_prefix}{topic}.dlq", partition, b"k", b"refused")


def asked(stage: AlertStage) -> set[str]:
    """The calls of clients so far."""
    return {call for _, call in stage.kafka.calls}


@pytest.fixture
def stage() -> AlertStage:
    return AlertStage([MANY, LATE])


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    logger = CapturingLogger()
    monkeypatch.setattr(alert_signals, "log", logger)
    return logger.calls


def test_dead_letters_of_all_partitions_are_counted_by_minute_and_topic(stage: AlertStage) -> None:
    asking = signals(stage)
    bury(stage, "predictions.v1", 2, partition=0)
    bury(stage, "predictions.v1", 1, partition=1)
    bury(stage, "examples.v1")
    assert asking.dead_letters(SINCE) == {(SINCE, "predictions.v1"): 3, (SINCE, "examples.v1"): 1}
    bury(stage, "grades.v1")
    stage.kafka.now += 60_000
    bury(stage, "predictions.v1")
    assert asking.dead_letters(SINCE + MINUTE) == {
        (SINCE, "predictions.v1"): 3,
        (SINCE, "examples.v1"): 1,
        (SINCE, "grades.v1"): 1,
        (SINCE + MINUTE, "predictions.v1"): 1,
    }


def test_only_what_was_written_within_the_longest_window_is_counted() -> None:
    stage = AlertStage([MANY, rule("dead-letters", 'above = 2\nwindow = "5m"', "longer")])
    for _ in range(8):
        bury(stage, "predictions.v1")
        stage.kafka.now += 60_000
    now = SINCE + 7 * MINUTE
    asking = signals(stage)
    assert asking.dead_letters(now) == {(SINCE + m * MINUTE, "predictions.v1"): 1 for m in range(2, 8)}
    assert asking.dead_letters(now + 2 * MINUTE) == {(SINCE + m * MINUTE, "predictions.v1"): 1 for m in range(4, 8)}


def test_old_letters_are_not_even_read(stage: AlertStage) -> None:
    bury(stage, "predictions.v1", 5)
    stage.kafka.delete_records(stage.settings.topic_prefix + "predictions.v1.dlq", 0, 3)
    stage.kafka.now += 3_600_000
    asking = signals(stage)
    assert asking.dead_letters(SINCE + 60 * MINUTE) == {}
    assert asking._tail is not None
    assert asking._tail.end((stage.settings.topic_prefix + "predictions.v1.dlq", 0)) == 5


@pytest.mark.parametrize(
    ("rules", "letters", "lag"),
    [([HIGH], False, False), ([HIGH, MANY], True, False), ([LATE], False, True), ([], False, False)],
)
def test_nothing_is_asked_that_no_rule_asks_for(rules: list[Rule], letters: bool, lag: bool) -> None:
    stage = AlertStage(rules)
    asking = signals(stage)
    assert (asking.dead_letters(SINCE) is not None, asking.lag() is not None) == (letters, lag)
    assert ("offsets_for_times" in asked(stage), "committed" in asked(stage)) == (letters, lag)
    assert (letters or lag) == bool(asked(stage))
    asking.close()


def test_alerts_that_could_not_be_delivered_do_not_count(stage: AlertStage) -> None:
    bury(stage, "alerts.v1", 5)
    assert signals(stage).dead_letters(SINCE) == {}


@pytest.mark.parametrize(
    ("when", "call", "skip"),
    [
        ("before", "get_watermark_offsets", 0),
        ("before", "get_watermark_offsets", 15),
        ("before", "offsets_for_times", 0),
        ("after", "consume", 0),
        ("before", "consume", 1),
        ("after", "consume", 2),
    ],
)
def test_a_broker_that_fails_is_told_of_once_and_then_all_is_counted_again_without_doubles(
    stage: AlertStage, warned: list[Any], when: str, call: str, skip: int
) -> None:
    stage.kafka.chance = random.Random(7)  # messages come by and by
    asking = signals(stage)
    bury(stage, "predictions.v1", 3)
    assert asking.dead_letters(SINCE) == {(SINCE, "predictions.v1"): 3}
    bury(stage, "predictions.v1", 9)
    stage.kafka.fail("after", "consume", DOWN, skip=1)
    assert asking.dead_letters(SINCE) is None
    stage.kafka.fail(when, call, DOWN, skip=skip)
    assert asking.dead_letters(SINCE) is None
    assert [(each.method_name, each.args[0]) for each in warned] == [
        ("warning", "dead letters cannot be asked for: rules on them are not judged now")
    ]
    assert "_ALL_BROKERS_DOWN" in warned[0].kwargs["reason"]
    assert asking.dead_letters(SINCE) == {(SINCE, "predictions.v1"): 12}
    stage.kafka.fail("before", "consume", DOWN)
    assert asking.dead_letters(SINCE) is None
    assert len(warned) == 2, "it had answered meanwhile"


def test_a_dead_letter_topic_that_may_not_be_read_is_named(stage: AlertStage, warned: list[Any]) -> None:
    topic = stage.settings.topic_prefix + "grades.v1.dlq"
    stage.kafka.unreadable[topic, 1] = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    assert signals(stage).dead_letters(SINCE) is None
    [said] = warned
    assert said.kwargs["reason"].startswith(f"cannot read {topic}/1: ")


def arrived(stage: AlertStage, topic: str, partition: int, ago: float) -> float:
    """An event; the time (s) of its arrival."""
    stage.kafka.now = round((time.time() - ago) * 1_000)
    stage.kafka.append(stage.settings.topic_prefix + topic, partition, b"k", b"event")
    return stage.kafka.now / 1_000


def processed(stage: AlertStage, topic: str, partition: int, offset: int) -> None:
    stage.kafka.groups[stage.settings.group].offsets[stage.settings.topic_prefix + topic, partition] = offset


def is_since(stage: AlertStage, oldest: float) -> bool:
    """Whether the lag is that of an event which arrived then."""
    before = time.time()
    lag = signals(stage).lag()
    assert lag is not None
    assert set(lag) == {"worker"}
    return before - oldest <= lag["worker"] <= time.time() - oldest


def test_with_nothing_new_the_lag_is_zero(stage: AlertStage) -> None:
    assert signals(stage).lag() == {"worker": 0.0}
    arrived(stage, "predictions.v1", 0, ago=500)
    processed(stage, "predictions.v1", 0, 1)
    assert signals(stage).lag() == {"worker": 0.0}


def test_the_lag_is_the_time_since_the_oldest_event_of_any_partition_that_was_not_processed(stage: AlertStage) -> None:
    arrived(stage, "predictions.v1", 0, ago=900)
    processed(stage, "predictions.v1", 0, 1)
    arrived(stage, "predictions.v1", 0, ago=200)
    processed(stage, "corrections.v1", 1, 0)
    oldest = arrived(stage, "corrections.v1", 1, ago=300)
    arrived(stage, "corrections.v1", 1, ago=100)
    assert is_since(stage, oldest)
    processed(stage, "corrections.v1", 1, 2)
    assert not is_since(stage, oldest)


def test_a_group_that_processed_nothing_yet_is_behind_by_all_that_there_is(stage: AlertStage) -> None:
    arrived(stage, "grades.v1", 1, ago=900)
    oldest = arrived(stage, "grades.v1", 1, ago=300)
    stage.kafka.delete_records(stage.settings.topic_prefix + "grades.v1", 1, 1)
    assert is_since(stage, oldest)


def test_where_retention_deleted_what_was_not_processed_the_lag_is_that_of_the_oldest_left(stage: AlertStage) -> None:
    arrived(stage, "grades.v1", 1, ago=900)
    oldest = arrived(stage, "grades.v1", 1, ago=300)
    processed(stage, "grades.v1", 1, 0)
    stage.kafka.delete_records(stage.settings.topic_prefix + "grades.v1", 1, 1)
    assert is_since(stage, oldest)


def test_offsets_of_a_transaction_that_is_open_are_not_waited_for(stage: AlertStage) -> None:
    oldest = arrived(stage, "grades.v1", 1, ago=300)
    place = stage.settings.topic_prefix + "grades.v1", 1
    stage.kafka.groups[stage.settings.group].pending["worker"] = {place: TopicPartition(*place, 1)}
    assert is_since(stage, oldest)


def test_an_event_from_a_clock_that_is_ahead_is_no_lag(stage: AlertStage) -> None:
    arrived(stage, "grades.v1", 1, ago=-600)
    assert signals(stage).lag() == {"worker": 0.0}


def test_the_lag_is_not_known_while_a_partition_does_not_answer(
    stage: AlertStage, warned: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_signals, "_SECONDS", 0.05)
    place = stage.settings.topic_prefix + "grades.v1", 1
    stage.kafka.unreadable[place] = None
    asking = signals(stage)
    assert asking.lag() is None
    assert asking.lag() is None
    [said] = warned
    assert said.args == ("lag cannot be asked for: rules on them are not judged now",)
    assert said.kwargs == {"reason": "no answer for 1 partitions of the raw topics"}
    del stage.kafka.unreadable[place]
    assert asking.lag() == {"worker": 0.0}


def test_the_lag_is_not_known_where_the_group_cannot_be_asked(stage: AlertStage, warned: list[Any]) -> None:
    stage.kafka.fail("before", "committed", failure(KafkaError._TIMED_OUT))
    assert signals(stage).lag() is None
    assert "_TIMED_OUT" in warned[0].kwargs["reason"]


def test_a_raw_topic_that_may_not_be_read_is_not_taken_for_one_without_events(
    stage: AlertStage, warned: list[Any]
) -> None:
    topic = stage.settings.topic_prefix + "grades.v1"
    arrived(stage, "grades.v1", 1, ago=300)
    stage.kafka.unreadable[topic, 1] = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    assert signals(stage).lag() is None
    assert warned[0].kwargs["reason"].startswith(f"cannot read {topic}/1: ")


def test_an_alert_on_dead_letters_lasts_as_long_as_they_are_in_its_window_and_while_nobody_can_tell() -> None:
    stage = AlertStage([MANY])
    watch = stage.watch()
    stage.step(watch)
    bury(stage, "predictions.v1", 3)
    stage.pass_minutes(watch, 2)
    stage.kafka.unreadable[stage.settings.topic_prefix + "grades.v1.dlq", 0] = DOWN.args[0]
    stage.pass_minutes(watch, 4)
    assert brief(stage.written()) == [(1, "PENDING"), (1, "FIRING")]
    stage.kafka.unreadable.clear()
    stage.pass_minutes(watch, 1)
    assert brief(stage.written()) == [(1, "PENDING"), (1, "FIRING"), (7, "RESOLVED")]
