"""The engine's rules, one by one, over a Kafka in memory: each test fails without its rule."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from flyback.errors import (
    BrokenState,
    BrokerError,
    DeadLetterRateExceeded,
    FlybackError,
    RefusedToStart,
    RegistryUnavailable,
    TopicMismatch,
    UnknownSchema,
    WorkerFenced,
)
from flyback.schemas import codec, wire
from flyback.schemas.catalog import BundledCatalog, hashed_id
from flyback.schemas.codec import Schema
from flyback.streams import engine, entries
from tests.strategies import WINDOW_MS, correction, prediction
from tests.streams.kafka_double_broker import failure
from tests.streams.records import POISON, Raw, a_correction, a_grade, a_prediction, raw
from tests.streams.stage import Stage, Worker


def timed_out() -> KafkaException:
    return failure(KafkaError._TIMED_OUT, retriable=True)


def must_abort() -> KafkaException:
    return failure(KafkaError.INVALID_TXN_STATE, txn_requires_abort=True)


# Who may work


def test_partitions_of_the_topics_that_do_not_match_are_refused(stage: Stage) -> None:
    worker = stage.worker("a")
    other = stage.kafka.consumer({"group.id": stage.settings.group, "group.instance.id": "z"})

    def ignore(_: Any, __: Any) -> None:
        return

    other.subscribe(stage.topology.raw[:1], on_assign=ignore, on_revoke=ignore, on_lost=ignore)
    other.consume(1, 0)
    with pytest.raises(RefusedToStart, match="every member of the group must use"):
        for _ in range(10):
            worker.step()
            other.consume(1, 0)


def test_a_state_folder_belongs_to_one_process(stage: Stage) -> None:
    stage.worker("a").start()
    second = Worker(stage, "a")
    with pytest.raises(RefusedToStart, match="FLYBACK_STATE_DIR"):
        second.start()


def test_a_copied_worker_id_fences_the_worker_it_was_copied_from(stage: Stage, tmp_path: Path) -> None:
    worker = stage.worker("a")
    stage.send(a_prediction())
    stage.settle(worker)
    copy = Worker(stage, "a")
    copy.folder = tmp_path / "copy"
    copy.step()

    with pytest.raises(WorkerFenced, match="state folder of its own"):
        worker.step(2)

    stage.workers["copy"] = copy
    worker.kill()
    stage.send(a_correction())
    stage.settle(copy)
    stage.check()


def test_a_missing_topic_is_named(stage: Stage) -> None:
    stage.kafka.delete("t.grades.v1")
    with pytest.raises(TopicMismatch, match=r"t\.grades\.v1"):
        stage.worker().start()


# Transactions


def test_a_commit_whose_answer_got_lost_is_asked_for_again(stage: Stage) -> None:
    worker = stage.worker()
    worker.step(10)
    stage.send(a_prediction(), a_correction())
    stage.kafka.fail("after", "commit_transaction", timed_out())
    stage.kafka.fail("before", "commit_transaction", timed_out(), skip=1)

    stage.settle(worker)

    assert stage.kafka.calls.count(("a", "abort_transaction")) == 0
    stage.check()


def test_after_a_commit_of_unknown_outcome_the_worker_ends_and_nothing_is_lost_or_double(stage: Stage) -> None:
    worker = stage.worker()
    worker.step(10)
    stage.send(a_prediction(), a_correction())
    stage.kafka.fail("after", "commit_transaction", failure(KafkaError._STATE))

    with pytest.raises(BrokerError, match="outcome cannot be known"):
        worker.step(5)

    assert worker.applied() != stage.committed(), "what may not have happened is not remembered"
    worker.kill()
    stage.settle(worker)
    stage.check()


def test_an_aborted_batch_is_read_again(stage: Stage) -> None:
    worker = stage.worker()
    worker.step(10)
    stage.send(a_prediction(), a_correction())
    stage.kafka.fail("before", "send_offsets_to_transaction", must_abort())

    stage.settle(worker)

    assert stage.kafka.calls.count(("a", "abort_transaction")) == 1
    stage.check()


def test_an_abort_that_takes_too_long_is_asked_for_again(stage: Stage) -> None:
    worker = stage.worker()
    worker.step(10)
    stage.send(a_prediction(), a_correction())
    stage.kafka.fail("before", "send_offsets_to_transaction", must_abort())
    stage.kafka.fail("before", "abort_transaction", timed_out())

    stage.settle(worker)

    assert stage.kafka.calls.count(("a", "abort_transaction")) == 2
    stage.check()


@pytest.mark.parametrize(
    ("abort", "error"),
    [
        (lambda: failure(KafkaError._FENCED, fatal=True), WorkerFenced),
        (lambda: failure(KafkaError._STATE), BrokerError),
    ],
)
def test_a_worker_whose_abort_fails_ends(
    stage: Stage, abort: Callable[[], KafkaException], error: type[FlybackError]
) -> None:
    worker = stage.worker()
    worker.step(10)
    stage.send(a_prediction(), a_correction())
    stage.kafka.fail("before", "send_offsets_to_transaction", must_abort())
    stage.kafka.fail("before", "abort_transaction", abort())
    with pytest.raises(error, match="Start this worker again"):
        worker.step(5)


def test_a_worker_whose_transaction_timed_out_ends(stage: Stage) -> None:
    worker = stage.worker()
    worker.step(10)
    stage.send(a_prediction(), a_correction())
    stage.kafka.interrupt(
        "before", "commit_transaction", lambda: stage.kafka.expire_transaction(f"t.{stage.settings.group}-a")
    )
    with pytest.raises(WorkerFenced, match="the transaction timed out"):
        worker.step(5)
    worker.kill()
    stage.settle(worker)
    stage.check()


def test_a_broker_that_aborts_everything_ends_the_worker(stage: Stage) -> None:
    worker = stage.worker()
    for _ in range(30):
        stage.kafka.fail("before", "send_offsets_to_transaction", must_abort())
    with pytest.raises(BrokerError, match="21 transactions in a row"):
        for _ in range(2_000):
            stage.passed += 1
            worker.step()


def test_after_a_state_that_could_not_be_written_nothing_is_lost_or_double(stage: Stage) -> None:
    worker = stage.worker()
    worker.step(10)
    stage.send(a_prediction(), a_correction())
    stage.kafka.fail("before", "write", OSError("no space left on device"))

    with pytest.raises(BrokenState, match="no space left on device"):
        worker.step(5)

    worker.kill()
    stage.send(a_grade())
    stage.settle(worker)
    assert stage.derived().total() == 2
    stage.check()


# What goes into a batch


def test_a_batch_is_closed_by_its_bytes(stage: Stage) -> None:
    messages = [a_prediction(prediction_id=f"p{i:02}") for i in range(12)]
    worker = stage.worker(batch_bytes=3 * len(messages[0].value or b""))
    worker.step(10)
    before = stage.kafka.calls.count(("a", "commit_transaction"))
    stage.send(*messages)

    stage.settle(worker)

    assert stage.kafka.calls.count(("a", "commit_transaction")) == before + 4, "3 messages each"


def test_the_trace_of_the_feedback_is_passed_on_also_where_it_waited(stage: Stage) -> None:
    worker = stage.worker()
    for task, order in (("t", (0, 1)), ("u", (1, 0))):
        messages = [
            raw("Prediction", prediction(task), headers=[("traceparent", b"of the prediction")]),
            raw("Correction", correction(task), headers=[("other", b"x"), ("traceparent", task.encode())]),
        ]
        for i in order:
            stage.send(messages[i])
            stage.settle(worker)
    found = stage.kafka.records(stage.topology.topic_of("Example"))
    assert {record.key: record.headers for record in found} == {task: [("traceparent", task)] for task in (b"t", b"u")}


def test_too_many_dead_letters_in_a_minute_stop_the_worker_before_they_are_written(stage: Stage) -> None:
    worker = stage.worker(max_dead_letters=3)
    poison = POISON["no value"][1]("t")
    stage.send(*[poison] * 3)
    stage.settle(worker)
    stage.kafka.now += 61_000
    stage.send(*[poison] * 2)
    stage.settle(worker)
    committed = stage.committed()
    stage.send(*[poison] * 2)

    with pytest.raises(DeadLetterRateExceeded, match="4 dead letters within a minute"):
        worker.step(5)

    assert len(stage.reasons()) == 5
    assert stage.committed() == committed


def big_pair(task: str, output: int, reason: int) -> tuple[Raw, Raw]:
    text = {"content_type": "text/plain", "body": "x" * output}
    confirmed = correction(task, verdict="CONFIRMED", reason="y" * reason)
    return raw("Prediction", prediction(task, output=text)), raw("Correction", confirmed)


@pytest.mark.parametrize(
    "pair",
    [
        big_pair("t", output=280_000, reason=280_000),
        big_pair("t" * 80_000, output=217_000, reason=139_000),  # it is the key with which the message is too large
    ],
    ids=["value", "key and value"],
)
def test_a_pair_too_large_for_the_derived_topics_is_a_dead_letter(stage: Stage, pair: tuple[Raw, Raw]) -> None:
    stage.settings = stage.settings.model_copy(update={"max_event_bytes": 300_000})
    stage.topology = type(stage.topology)(stage.settings)
    worker = stage.worker()
    stage.send(*pair, a_prediction("neighbour"), a_correction("neighbour"))

    stage.settle(worker)

    assert stage.derived().total() == 1
    assert stage.reasons() == ["pair_too_large"]


# Schemas


class Registry(BundledCatalog):
    """A catalog that can be down, and learn."""

    def __init__(self) -> None:
        super().__init__()
        self.down = 0

    def learn(self, schema: Schema) -> None:
        self._schemas[hashed_id(schema)] = schema

    def schema(self, schema_id: int) -> Schema:
        self._answer()
        return super().schema(schema_id)

    def id_for(self, record: str, topic: str) -> int:
        self._answer()
        return super().id_for(record, topic)

    def _answer(self) -> None:
        if self.down:
            self.down -= 1
            raise RegistryUnavailable("the registry is down")


NEWER = Schema(codec.bundled("Correction").text.replace("A reviewer's verdict on one prediction.", "A verdict.", 1))
UNKNOWN = wire.frame(hashed_id(NEWER), (a_correction().value or b"")[wire.HEADER :])


def of_a_newer_schema() -> Raw:
    return Raw("Correction", "t", b"t", UNKNOWN)


def test_an_unknown_schema_is_waited_for_and_then_read(stage: Stage) -> None:
    stage.catalog = catalog = Registry()
    worker = stage.worker()
    stage.send(a_prediction(), of_a_newer_schema(), a_grade())
    worker.step(100)
    assert not stage.derived()
    assert worker.engine is not None
    assert str(hashed_id(NEWER)) in worker.engine.status()["waiting"]

    catalog.learn(NEWER)
    stage.passed += 2
    stage.settle(worker)

    assert stage.derived().total() == 2
    assert worker.engine.status()["waiting"] is None
    stage.check()


def test_what_waits_lags_ever_more_until_it_is_read(stage: Stage) -> None:
    stage.catalog = catalog = Registry()
    worker = stage.worker().start()
    assert worker.engine is not None
    assert worker.engine.lag() == 0
    arrived = stage.kafka.now / 1000
    stage.send(of_a_newer_schema())
    worker.step(10)
    assert worker.engine.status()["restoring"], "it was read, dropped, and waits"
    assert worker.engine.lag() == pytest.approx(time.time() - arrived, abs=60)

    catalog.learn(NEWER)
    stage.passed += 2
    stage.settle(worker)
    worker.step()
    assert worker.engine.lag() == 0


def test_a_schema_that_stays_unknown_stops_the_worker_and_is_named(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction())
    stage.settle(worker)
    committed = stage.committed()
    stage.send(of_a_newer_schema())
    topic, partition = stage.place(a_correction())
    with pytest.raises(UnknownSchema, match=rf"{hashed_id(NEWER)} at {topic}/{partition}@0"):
        for _ in range(100):
            stage.passed += 1.1
            worker.step()
    assert stage.committed() == committed


@pytest.mark.parametrize("seconds_a_look", [0.1, 0.5])
def test_a_schema_that_stays_unknown_is_a_dead_letter_where_that_is_wanted(stage: Stage, seconds_a_look: float) -> None:
    """Also where the time-out falls between two looks at the clock in one step."""
    stage.seconds_a_look = seconds_a_look
    worker = stage.worker(unknown_schema="dead-letter", unknown_schema_timeout=timedelta(seconds=1))
    stage.send(a_prediction(), of_a_newer_schema(), a_grade())
    stage.settle(worker)
    assert stage.derived().total() == 1
    assert stage.reasons() == ["unknown_schema"]


def test_a_registry_that_is_down_is_waited_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.catalog = catalog = Registry()
    stage.send(a_prediction(), a_correction())
    worker = stage.worker().start()
    catalog.down = 5
    for _ in range(50):
        stage.passed += 1
        worker.step()
    assert catalog.down == 0
    stage.check()


def test_a_registry_that_stays_down_is_asked_less_and_less_often_and_soon_again_after_a_success(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.catalog = catalog = Registry()
    worker = stage.worker()
    stage.send(a_prediction())
    stage.settle(worker)
    asked: list[float] = []

    def answer() -> None:
        asked.append(stage.clock())
        if catalog.down:
            raise RegistryUnavailable("the registry is down")

    monkeypatch.setattr(catalog, "_answer", answer)

    def pauses() -> list[float]:
        asked.clear()
        catalog.down = 1
        worker.step(2_000)
        catalog.down = 0
        return [round(after - before, 1) for before, after in pairwise(asked)]

    stage.send(a_correction())
    first = pauses()
    assert first[:6] == pytest.approx([0.25, 0.5, 1.0, 2.0, 4.0, 5.0], abs=0.2)
    stage.passed += 5
    stage.settle(worker)
    stage.send(a_grade())
    assert pauses()[:3] == pytest.approx([0.25, 0.5, 1.0], abs=0.2)


def test_a_worker_that_is_stopped_while_the_registry_is_down_ends(stage: Stage) -> None:
    stage.catalog = catalog = Registry()
    catalog.down = 1_000
    found = engine.Engine(
        stage.settings.model_copy(update={"state_dir": stage.folder / "a"}),
        stage.topology,
        stage.catalog,
        stage.kafka,
        stage.clock,
    )
    found.stop()
    found.run()
    assert found.status()["ok"] is False


# The window


def test_an_idle_topic_does_not_keep_state_for_ever(stage: Stage) -> None:
    worker = stage.worker()
    for i in range(4):
        stage.send(a_prediction(prediction_id=f"p{i}"))
        stage.settle(worker)
        worker.step()
        stage.kafka.now += WINDOW_MS
    stage.send(a_prediction(prediction_id="p4"))
    stage.settle(worker)
    assert predictions_kept(worker, "t", 5, stage.place(a_prediction())[1]) == ["p2", "p3", "p4"]


def test_an_idle_topic_with_something_to_read_keeps_the_state(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction("old"))
    stage.settle(worker)
    service = stage.kafka.producer({"transactional.id": "service"})
    service.init_transactions(1)
    service.begin_transaction()
    topic, partition = stage.place(a_correction("old"))
    late = a_correction("old")
    service.produce(topic, late.value, late.key, partition, headers=None)
    for _ in range(4):
        stage.kafka.now += WINDOW_MS
        stage.send(*(raw("Prediction", prediction(f"u{i}", str(stage.kafka.now))) for i in range(4)))
        stage.settle(worker)
        worker.step(2)

    service.commit_transaction(1)
    stage.settle(worker)

    assert stage.derived().total() == 1, "it arrived in time, though nobody could read it until now"
    stage.check()


def test_a_leader_that_moves_while_a_partition_is_restored_is_waited_for(stage: Stage) -> None:
    stage.send(a_prediction(), a_correction())
    for _ in range(20):
        stage.kafka.fail("before", "get_watermark_offsets", failure(KafkaError.NOT_LEADER_FOR_PARTITION))
    stage.settle(stage.worker())
    stage.check()


def predictions_kept(worker: Worker, task: str, many: int, partition: int) -> list[str]:
    assert worker.engine is not None and worker.engine._folder is not None
    kept = {key for key, _ in worker.engine._folder.store(partition).scan(entries.PREDICTION)}
    return [f"p{i}" for i in range(many) if entries.PREDICTION + entries.episode_of(task, f"p{i}") in kept]


def test_feedback_on_large_predictions_takes_as_many_transactions_as_their_bytes_need(stage: Stage) -> None:
    large = "x" * 50_000
    predictions = [a_prediction(f"t{i}", input={"content_type": "text/plain", "body": large}) for i in range(20)]
    worker = stage.worker(batch_bytes=200_000)
    stage.send(*predictions)
    stage.settle(worker)
    before = committed(stage)
    stage.send(*(a_correction(f"t{i}") for i in range(20)))
    stage.settle(worker)
    stage.check()
    assert stage.derived().total() == 20
    assert committed(stage) - before >= 5
    worker.kill()
    worker.wipe()
    stage.send(a_correction("t0", correction_id="later"))
    stage.settle(worker)
    stage.check()


def committed(stage: Stage) -> int:
    return sum(call == "commit_transaction" for _, call in stage.kafka.calls)
