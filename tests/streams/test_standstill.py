"""A client that gives nothing, or does not return, must not hold up its worker's partitions for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from confluent_kafka import KafkaError, KafkaException

from flyback.errors import BrokerError
from flyback.streams.log_ends import LogEnds
from tests.strategies import correction, prediction
from tests.streams.kafka_double import MemoryConsumer, MemoryProducer, failure
from tests.streams.records import raw
from tests.streams.stage import Stage, Worker
from tests.waiting import eventually

INTERVAL = 11.0  # seconds; a little more than between two looks


@pytest.fixture
def worker(stage: Stage) -> Worker:
    worker = stage.worker()
    worker.step(20)
    return worker


def look_again(stage: Stage, worker: Worker, times: int) -> None:
    for _ in range(times):
        stage.passed += INTERVAL
        worker.step(2)


def test_a_worker_whose_consumer_stands_still_ends_and_the_next_one_goes_on(stage: Stage, worker: Worker) -> None:
    fetch = MemoryConsumer._fetch

    def nothing_of_the_group(consumer: MemoryConsumer, place: tuple[str, int]) -> Iterator[object]:
        return iter(()) if consumer._topics else iter(fetch(consumer, place))

    stage.send(raw("Prediction", prediction("t")), raw("Correction", correction("t")))
    with (
        patch.object(MemoryConsumer, "_fetch", nothing_of_the_group),
        pytest.raises(BrokerError, match=r"stands still at offset 0.*Start this worker again"),
    ):
        look_again(stage, worker, times=4)
    worker.kill()
    stage.settle(worker)
    stage.check()


def test_while_the_consumer_always_has_something_a_partition_may_stand_still(stage: Stage) -> None:
    fetch, behind = MemoryConsumer._fetch, stage.topology.raw[1]

    def one_topic_last(consumer: MemoryConsumer, place: tuple[str, int]) -> Iterator[object]:
        return iter(()) if consumer._topics and place[0] == behind else iter(fetch(consumer, place))

    worker = stage.worker(batch_events=1)
    worker.step(20)
    stage.send(raw("Correction", correction("t")), *(raw("Prediction", prediction("t", str(i))) for i in range(60)))
    with patch.object(MemoryConsumer, "_fetch", one_topic_last):
        look_again(stage, worker, times=8)
    stage.settle(worker)
    stage.check()


def test_a_worker_that_has_read_everything_may_stand_still(stage: Stage, worker: Worker) -> None:
    stage.send(raw("Prediction", prediction("t")), raw("Correction", correction("t")))
    stage.settle(worker)
    look_again(stage, worker, times=4)
    stage.check()


def no_answer(*_: object, **__: object) -> None:
    raise failure(KafkaError._TIMED_OUT)


def test_a_worker_whose_consumer_alone_gets_no_answer_ends_and_the_next_one_goes_on(stage: Stage) -> None:
    stage.send(raw("Prediction", prediction("t")), raw("Correction", correction("t")))
    worker = stage.worker()
    with (
        patch.object(MemoryConsumer, "committed", no_answer),
        pytest.raises(BrokerError, match=r"no answer for 5 times though Kafka is there.*Start this worker again"),
    ):
        look_again(stage, worker, times=6)
    worker.kill()
    stage.settle(worker)
    stage.check()


def test_a_worker_waits_for_a_kafka_that_answers_nobody(stage: Stage) -> None:
    stage.send(raw("Prediction", prediction("t")), raw("Correction", correction("t")))
    worker = stage.worker()
    with (
        patch.object(MemoryConsumer, "committed", no_answer),
        patch.object(MemoryConsumer, "get_watermark_offsets", no_answer),
    ):
        look_again(stage, worker, times=20)
    stage.settle(worker)
    stage.check()


def test_after_no_answer_the_ends_of_logs_are_asked_for_by_another_client(stage: Stage) -> None:
    ends, topic = LogEnds(stage.kafka), stage.topology.raw[0]
    asked: list[MemoryConsumer] = []
    ask = MemoryConsumer.get_watermark_offsets

    def only_a_new_one(consumer: MemoryConsumer, place: Any, timeout: float) -> tuple[int, int]:
        asked.append(consumer)
        if consumer is asked[0]:
            raise failure(KafkaError._TRANSPORT)
        return ask(consumer, place, timeout)

    with patch.object(MemoryConsumer, "get_watermark_offsets", only_a_new_one):
        with pytest.raises(KafkaException):
            ends.of(topic, 0)
        assert ends.of(topic, 0) == (0, 0)
    ends.close()


def test_a_worker_starts_though_others_write_to_the_progress_topic_all_the_time(stage: Stage) -> None:
    stage.send(raw("Prediction", prediction("t")), raw("Correction", correction("t")))
    progress, fetch = stage.topology.topic_of("Progress"), MemoryConsumer._fetch

    def never_at_the_end(consumer: MemoryConsumer, place: tuple[str, int]) -> Iterator[Any]:
        if place[0] != progress:
            yield from fetch(consumer, place)
            return
        stage.kafka.append(progress, 0, b"somebody else's", None)
        yield from (message for message in fetch(consumer, place) if message.error() is None)

    with patch.object(MemoryConsumer, "_fetch", never_at_the_end):
        stage.settle(stage.worker())
    stage.check()


@pytest.mark.parametrize("end", ["commit_transaction", "abort_transaction"])
def test_a_marker_at_the_end_of_the_log_is_nothing_to_be_read(stage: Stage, worker: Worker, end: str) -> None:
    for topic in stage.topology.raw:
        producer = stage.kafka.producer({"transactional.id": "a service's"})
        producer.init_transactions(1.0)
        producer.begin_transaction()
        if end == "abort_transaction":
            producer.produce(topic, b"", None, 0)
        getattr(producer, end)(1.0)
    look_again(stage, worker, times=4)
    stage.check()


@pytest.mark.parametrize("name", ["send_offsets_to_transaction", "commit_transaction"])
def test_a_call_that_does_not_return_in_its_time_is_noticed(stage: Stage, name: str) -> None:
    worker = stage.worker(transaction_timeout=timedelta(seconds=0.2))
    worker.step(20)
    call, called, answer = getattr(MemoryProducer, name), threading.Event(), threading.Event()

    def late(*arguments: Any) -> None:
        called.set()
        answer.wait(60)
        call(*arguments)

    stage.send(raw("Prediction", prediction("t")), raw("Correction", correction("t")))
    engine = worker.engine
    assert engine is not None
    with patch.object(MemoryProducer, name, late), patch("flyback.streams.transactions._LATE_SECONDS", 0.0):
        thread = threading.Thread(target=worker.step, args=(5,))
        thread.start()
        assert called.wait(60)
        eventually(engine.hangs, "it is noticed")
        answer.set()
        thread.join(60)
        assert not engine.hangs()
    stage.settle(worker)
    stage.check()
