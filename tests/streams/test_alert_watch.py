"""Alerts are written once each, as a replay gives them, whoever watches and whatever happens to him. In memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from confluent_kafka import KafkaError

from flyback import metrics
from flyback.errors import BrokerError, FlybackError, TopicMismatch, UnknownSchema, WorkerFenced
from flyback.streams import alert_table
from flyback.streams.alert_log import Stopped
from flyback.streams.alert_watch import Watch
from flyback.streams.rates import MINUTE, Counts
from flyback.streams.transactions import TransactionAborted
from tests.streams.alert_stage import CATALOG, SINCE, AlertStage, brief
from tests.streams.alerts.counted import cell, reviewed, rule
from tests.streams.kafka_double_broker import Crash, failure

HIGH = rule("rate", 'above = 0.2\nwindow = "5m"\nfor = "2m"\nby = "segment"')
SILENT = rule("no-predictions", 'window = "3m"\nwithin = "20m"', "silent")
STORY = [(1, "PENDING"), (3, "FIRING"), (6, "RESOLVED")]


@pytest.fixture
def stage() -> AlertStage:
    return AlertStage([HIGH])


def story(stage: AlertStage, watch: Watch) -> None:
    """A minute in which most fail: an alert begins, fires, and is over when the minute has left the window."""
    stage.step(watch)
    stage.count(cell(0), reviewed(100, 90))
    stage.pass_minutes(watch, 8)


def owner(*watches: Watch) -> list[bool]:
    return [watch._tenure is not None for watch in watches]


def test_an_alert_is_pending_then_firing_then_resolved_once_each_as_a_replay_says(stage: AlertStage) -> None:
    story(stage, stage.watch())
    assert brief(stage.written()) == STORY
    assert stage.written() == stage.expected(SINCE + 8 * MINUTE)


def test_records_are_keyed_by_their_alert(stage: AlertStage) -> None:
    story(stage, stage.watch())
    [identity] = {record["alert_id"] for record in stage.written()}
    assert {record.key for record in stage.kafka.records(stage.alerts)} == {identity.encode()}


def test_counts_of_all_partitions_are_added_and_the_last_of_a_cell_counts(stage: AlertStage) -> None:
    watch = stage.watch()
    stage.step(watch)
    stage.count(cell(0), reviewed(100, 10), partition=0)
    stage.count(cell(0), reviewed(100, 10), partition=1)
    stage.count(cell(0), reviewed(50, 45), partition=1)
    stage.pass_minutes(watch, 1)
    [record] = stage.written()
    assert "26.0% failed" in record["message"], "65 of 250"


def test_what_is_written_after_a_minute_began_is_looked_at_in_the_next_one(stage: AlertStage) -> None:
    watch = stage.watch()
    stage.step(watch)
    stage.next_minute()
    stage.count(cell(-1), reviewed(100, 90))
    stage.count(cell(-1), reviewed(100, 0))
    stage.step(watch)
    assert stage.written() == []
    stage.pass_minutes(watch, 1)
    assert brief(stage.written()) == [(2, "PENDING")]
    assert stage.written() == stage.expected(SINCE + 2 * MINUTE)


def test_a_minute_is_not_looked_at_before_what_was_written_in_it_can_be_committed(stage: AlertStage) -> None:
    watch = stage.watch()
    stage.step(watch)
    stage.count(cell(0), reviewed(100, 90))
    stage.kafka.now = stage.next_minute() // 1000 + 1_000
    stage.step(watch)
    assert stage.written() == []
    stage.kafka.now += 1_000
    stage.step(watch)
    assert brief(stage.written()) == [(1, "PENDING")]


def test_what_another_committed_behind_an_open_transaction_is_waited_for(stage: AlertStage) -> None:
    watch = stage.watch()
    stage.step(watch)
    topic = stage.topology.topic_of("FailureRate")
    stage.kafka.append_open("of-a-killed-worker", (topic, 0), b"", b"", None)
    stage.count(cell(0), reviewed(100, 90))
    serve, slices = watch._serve, count()

    def until_the_broker_ends_it(seconds: float) -> None:
        serve(seconds)
        if seconds == 0 and next(slices) == 5:  # it has been reading for a while
            stage.kafka.expire_transaction("of-a-killed-worker")

    watch._serve = until_the_broker_ends_it  # type: ignore[method-assign]
    stage.pass_minutes(watch, 1)
    assert brief(stage.written()) == [(1, "PENDING")]
    assert stage.written() == stage.expected(SINCE + MINUTE)


def test_a_transaction_that_stays_open_does_not_hold_up_the_alerts(
    stage: AlertStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_table, "_OPEN_SECONDS", 0.05)
    watch = stage.watch()
    stage.step(watch)
    stage.count(cell(0), reviewed(100, 90))
    stage.kafka.append_open("hangs", (stage.topology.topic_of("FailureRate"), 0), b"", b"", None)
    stage.count(cell(0), reviewed(100, 10))
    stage.pass_minutes(watch, 1)
    [record] = stage.written()
    assert "90.0% failed" in record["message"]


def test_one_watches_and_the_other_stands_by_until_that_one_leaves(stage: AlertStage) -> None:
    one, other = stage.watch(), stage.watch()
    stage.step(one, other)
    assert sorted([one.phase, other.phase]) == ["standing by", "watching"]
    watching, standing = (one, other) if one.phase == "watching" else (other, one)
    stage.count(cell(0), reviewed(100, 90))
    stage.next_minute()
    stage.step(one, other)
    watching.close()
    stage.step(standing)
    for _ in range(7):
        stage.pass_minutes(standing, 1)
    assert standing.phase == "watching"
    assert stage.written() == stage.expected(SINCE + 8 * MINUTE)


def test_who_keeps_the_partition_over_a_rebalance_goes_on_with_what_he_knows(stage: AlertStage) -> None:
    watch = stage.watch()
    stage.step(watch)
    tenure = watch._tenure
    stage.kafka.groups[stage.topology.alert_group].rebalance()
    stage.step(watch)
    assert tenure is not None
    assert watch._tenure is tenure
    story(stage, watch)
    assert brief(stage.written()) == STORY


def test_one_who_lost_the_partition_without_noticing_writes_nothing_more(stage: AlertStage) -> None:
    zombie = stage.watch()
    stage.step(zombie)
    stage.count(cell(0), reviewed(100, 90))
    stage.kill(zombie)  # for the coordinator
    successor = stage.watch()
    stage.step(successor)
    stage.next_minute()
    stage.step(successor)
    with pytest.raises(WorkerFenced):
        assert zombie._tenure is not None
        zombie._tenure.judge(SINCE + MINUTE, lambda: None)
    assert brief(stage.written()) == [(1, "PENDING")]


CALLS = ("init_transactions", "begin_transaction", "produce", "commit_transaction", "get_watermark_offsets", "consume",
         "committed", "send_offsets_to_transaction")  # fmt: skip


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("skip", [0, 1, 3])
def test_killed_at_any_call_the_alerts_are_written_once_by_the_next_one(
    stage: AlertStage, when: str, call: str, skip: int
) -> None:
    def again(watch: Watch) -> Watch:
        try:
            stage.step(watch)
            return watch
        except Crash:
            stage.kill(watch)
            successor = stage.watch()
            stage.step(successor)
            return successor

    watch = again(stage.watch())
    stage.count(cell(0), reviewed(100, 90))
    stage.kafka.fail(when, call, Crash(), skip=skip)
    for _ in range(8):
        stage.next_minute()
        watch = again(watch)
    assert stage.written() == stage.expected(SINCE + 8 * MINUTE)


@pytest.mark.parametrize(
    ("when", "call", "error", "raised"),
    [
        ("before", "commit_transaction", failure(KafkaError.INVALID_TXN_STATE), TransactionAborted),
        ("after", "commit_transaction", failure(KafkaError._FENCED, fatal=True), WorkerFenced),
        ("before", "produce", failure(KafkaError._FATAL, fatal=True), BrokerError),
    ],
)
def test_whatever_a_commit_comes_to_all_begins_anew_from_what_was_written(
    stage: AlertStage, when: str, call: str, error: Exception, raised: type[Exception]
) -> None:
    watch = stage.watch()
    stage.step(watch)
    stage.count(cell(0), reviewed(100, 90))
    stage.kafka.fail(when, call, error)
    stage.next_minute()
    with pytest.raises(raised):
        stage.step(watch)
    watch.close()
    successor = stage.watch()
    stage.step(successor)
    stage.pass_minutes(successor, 7)
    assert stage.written() == stage.expected(SINCE + 8 * MINUTE)


@pytest.mark.parametrize("seed", range(12))
def test_the_stream_of_alerts_equals_a_replay_over_kills_rebalances_and_lost_commits(seed: int) -> None:
    chance = random.Random(seed)
    stage = AlertStage([HIGH, SILENT])
    watches = [stage.watch()]

    def attempt(act: Callable[[], Any], watch: Watch) -> None:
        try:
            act()
        except Crash:
            stage.kill(watch)
            watches[watches.index(watch)] = stage.watch()
        except (FlybackError, TransactionAborted):
            watch.close()
            watches[watches.index(watch)] = stage.watch()

    minute = SINCE
    for _ in range(40):
        for _ in range(chance.randint(0, 3)):
            many = chance.randint(0, 60)
            counts = reviewed(many, chance.randint(0, many) // 2)
            of = cell(chance.randint(0, 3), chance.choice("ab"), running=minute // MINUTE)
            stage.count(of, counts, chance.randint(0, 1))
        if chance.random() < 0.3:
            stage.kafka.fail(
                chance.choice(["before", "after"]), chance.choice(CALLS), Crash(), skip=chance.randint(0, 20)
            )
        if chance.random() < 0.2:
            lost = failure(KafkaError.INVALID_TXN_STATE)
            stage.kafka.fail("before", "commit_transaction", lost)
        if chance.random() < 0.2 and len(watches) < 3:
            watches.append(stage.watch())
        if chance.random() < 0.2 and len(watches) > 1:
            leaving = watches.pop(chance.randrange(len(watches)))
            try:
                leaving.close()
            except Crash:
                stage.kill(leaving)
        minute = stage.next_minute()
        for _ in range(60):
            for watch in list(watches):
                attempt(watch.step, watch)
            if any(watch._tenure is not None and watch._tenure.judged == minute for watch in watches):
                break
        else:
            raise AssertionError(f"nobody looked at the rules: {[watch.phase for watch in watches]}")
    found = stage.written()
    assert found == stage.expected(minute)
    assert {record["state"] for record in found} == {"PENDING", "FIRING", "RESOLVED"}


def test_what_cannot_be_read_is_passed_over_and_counted(stage: AlertStage) -> None:
    stage.kafka.append(stage.alerts, 0, b"key", b"nothing of ours")
    stage.kafka.append(stage.topology.topic_of("FailureRate"), 0, b"key", b"nothing of ours")
    stage.kafka.append(stage.topology.topic_of("FailureRate"), 0, None, None)
    story(stage, stage.watch())
    assert brief(stage.written()) == STORY
    body = metrics.REGISTRY.get_sample_value
    assert body("flyback_app_skipped_total", {"topic": stage.alerts, "reason": "no_magic_byte"})


def test_an_alert_of_a_newer_version_stops_the_watch_instead_of_being_passed_over(stage: AlertStage) -> None:
    stage.kafka.append(stage.alerts, 0, b"key", b"\x00\x00\x00\x00\x01x")
    with pytest.raises(UnknownSchema):
        stage.step(stage.watch())


def test_a_topic_that_is_missing_is_named(stage: AlertStage) -> None:
    stage.kafka.delete(stage.topology.dead_letters_of(stage.alerts))
    with pytest.raises(TopicMismatch, match="dlq does not exist: run `flyback topics create`"):
        stage.step(stage.watch())


def test_old_counts_are_forgotten_and_what_comes_for_them_later_is_passed_over(stage: AlertStage) -> None:
    watch = stage.watch()
    old = cell(0)
    stage.count(old, reviewed(100, 90))
    stage.step(watch)
    stage.kafka.now += 3 * 3_600_000
    stage.pass_minutes(watch, 1)
    assert watch._tenure is not None
    table = watch._tenure._table
    assert not table._known._open
    stage.count(old, reviewed(100, 90))
    stage.pass_minutes(watch, 1)
    assert not table._known._open


def test_the_metrics_say_what_is_open_and_when_it_was_looked_at_last(stage: AlertStage) -> None:
    value = metrics.REGISTRY.get_sample_value
    looked = value("flyback_alert_evaluations_total") or 0.0
    watch = stage.watch()
    stage.step(watch)
    stage.count(cell(0), reviewed(100, 90))
    stage.pass_minutes(watch, 4)
    assert value("flyback_alerts_open", {"rule": "r", "state": "FIRING"}) == 1
    assert value("flyback_alerts_open", {"rule": "r", "state": "PENDING"}) == 0
    assert value("flyback_alert_evaluations_total") == looked + 5
    assert value("flyback_alert_last_evaluation_timestamp_seconds") == (SINCE + 4 * MINUTE) / 1e6
    watch.close()
    assert value("flyback_alerts_open", {"rule": "r", "state": "FIRING"}) is None, "another one shows it"


def test_a_process_that_stops_does_not_wait_for_the_broker(stage: AlertStage) -> None:
    parts = stage.settings, stage.topology, CATALOG, stage.kafka, stage.rules, None
    watch = Watch(*parts, clock=lambda: stage.kafka.now / 1000, stopping=lambda: True)
    with pytest.raises(Stopped):
        stage.step(watch)


def test_who_stands_by_notices_that_his_client_lost_the_brokers(stage: AlertStage) -> None:
    one, other = stage.watch(), stage.watch()
    stage.step(one, other)
    standing = one if one.phase == "standing by" else other
    stage.kafka.now += 61_000
    stage.kafka.fail("before", "get_watermark_offsets", failure(KafkaError._ALL_BROKERS_DOWN))
    with pytest.raises(Exception, match="_ALL_BROKERS_DOWN"):
        standing.step()


def test_counts_that_no_rule_looks_at_change_nothing(stage: AlertStage) -> None:
    watch = stage.watch()
    stage.step(watch)
    stage.count(cell(0), Counts(predictions=1_000))
    stage.pass_minutes(watch, 3)
    assert stage.written() == []
