"""A consumer that starts elsewhere than it was told must not make the group commit past what it skipped."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from confluent_kafka import OFFSET_END, TopicPartition

from tests.strategies import correction, prediction
from tests.streams.kafka_double import MemoryConsumer
from tests.streams.records import Raw, raw
from tests.streams.stage import Stage


def pair(task: str) -> tuple[Raw, Raw]:
    return raw("Prediction", prediction(task)), raw("Correction", correction(task))


def test_events_that_a_lost_seek_skipped_are_gone_back_for(stage: Stage) -> None:
    seek = MemoryConsumer.seek
    sought: set[tuple[str, int]] = set()

    def undone_at_first(consumer: MemoryConsumer, place: TopicPartition) -> None:
        seek(consumer, place)
        if (place.topic, place.partition) not in sought:
            sought.add((place.topic, place.partition))
            # what librdkafka does where the late answer to a look-up of OFFSET_END overtakes the seek
            seek(consumer, TopicPartition(place.topic, place.partition, OFFSET_END))

    worker = stage.worker()
    stage.send(*pair("skipped"))
    with patch.object(MemoryConsumer, "seek", undone_at_first):
        worker.step(20)
        assert stage.derived().total() == 0
        for n in range(8):
            stage.send(*pair(f"later-{n}"))
        stage.settle(worker)
    assert stage.derived().total() == 9
    stage.check()


@pytest.mark.parametrize("end", ["commit_transaction", "abort_transaction"])
def test_a_gap_that_a_transaction_left_is_no_skip(stage: Stage, end: str) -> None:
    worker = stage.worker()
    worker.step(20)
    for n in range(8):
        stage.send(*pair(f"before-{n}"))
    for topic in stage.topology.raw:
        for partition in range(stage.settings.partitions):
            producer = stage.kafka.producer({"transactional.id": "a service's"})
            producer.init_transactions(1.0)
            producer.begin_transaction()
            producer.produce(topic, b"", None, partition)
            getattr(producer, end)(1.0)
    worker.stop()
    for n in range(8):
        stage.send(*pair(f"after-{n}"))
    stage.settle(worker)
    assert stage.derived().total() == 16
    stage.check()
