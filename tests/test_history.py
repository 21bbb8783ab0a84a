"""Reading to the end: what is committed, nothing else, and all of it."""

from __future__ import annotations

import threading
import time

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from flyback import history
from flyback.errors import BrokerError, TopicMismatch
from flyback.settings import Settings, load


def settings_with_topic(bootstrap: str, topic: str) -> Settings:
    settings = load(bootstrap_servers=bootstrap)
    admin = AdminClient(settings.kafka())
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(10)
    return settings


def send(producer: Producer, topic: str, count: int) -> None:
    for number in range(count):
        producer.produce(topic, str(number).encode(), partition=0)


def transactional(settings: Settings, topic: str) -> Producer:
    producer = Producer(settings.kafka(transactional_id=topic))
    producer.init_transactions(10)
    return producer


def values(settings: Settings, topic: str) -> list[bytes | str | None]:
    return [message.value() for message in history.read(settings, [topic])]


def test_aborted_messages_and_markers_count_neither_as_messages_nor_as_the_end(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    settings = settings_with_topic(kafka_bootstrap, topic_prefix)
    producer = transactional(settings, topic_prefix)
    producer.begin_transaction()
    send(producer, topic_prefix, 3)
    producer.commit_transaction(10)
    for _ in range(3):  # more of them than one look back takes in
        producer.begin_transaction()
        send(producer, topic_prefix, 100)
        producer.flush(10)
        producer.abort_transaction(10)
    assert values(settings, topic_prefix) == [b"0", b"1", b"2"]
    assert history.next_offsets(settings, [topic_prefix]) == {(topic_prefix, 0): 3, (topic_prefix, 1): 0}


def test_the_end_waits_for_a_transaction_that_is_open(kafka_bootstrap: str, topic_prefix: str) -> None:
    settings = settings_with_topic(kafka_bootstrap, topic_prefix)
    producer = transactional(settings, topic_prefix)
    producer.begin_transaction()
    send(producer, topic_prefix, 5)
    assert producer.flush(10) == 0
    with pytest.raises(BrokerError, match="still open"):
        history.next_offsets(settings, [topic_prefix], seconds=0.5)
    committing = threading.Timer(0.3, producer.commit_transaction, [10])
    committing.start()
    assert history.next_offsets(settings, [topic_prefix])[topic_prefix, 0] == 5
    committing.join()


def test_the_embedded_broker_is_read_to_its_real_end(embedded_bootstrap: str, topic_prefix: str) -> None:
    """It answers the question for the end with the start of the last batch."""
    settings = settings_with_topic(embedded_bootstrap, topic_prefix)
    producer = Producer(settings.kafka(linger_ms=200))
    send(producer, topic_prefix, 50)
    assert producer.flush(10) == 0
    assert len(values(settings, topic_prefix)) == 50
    assert history.next_offsets(settings, [topic_prefix])[topic_prefix, 0] == 50


def test_a_reader_may_take_longer_over_a_message_than_kafka_may(
    kafka_bootstrap: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_with_topic(kafka_bootstrap, topic_prefix)
    producer = Producer(settings.kafka())
    send(producer, topic_prefix, 2)
    assert producer.flush(10) == 0
    monkeypatch.setattr(history, "_BATCH", 1)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in history.read(settings, [topic_prefix]):
        now += 3600


def test_an_empty_topic_has_nothing_and_ends_at_once(kafka_bootstrap: str, topic_prefix: str) -> None:
    settings = settings_with_topic(kafka_bootstrap, topic_prefix)
    assert values(settings, topic_prefix) == []
    assert set(history.next_offsets(settings, [topic_prefix]).values()) == {0}


def test_a_topic_that_does_not_exist_is_named(kafka_bootstrap: str, topic_prefix: str) -> None:
    with pytest.raises(TopicMismatch, match=topic_prefix):
        values(load(bootstrap_servers=kafka_bootstrap), topic_prefix)


def test_a_group_without_offsets_has_committed_nothing(kafka_bootstrap: str, topic_prefix: str) -> None:
    settings = settings_with_topic(kafka_bootstrap, topic_prefix)
    assert history.committed(settings, topic_prefix, [(topic_prefix, 0)]) == {(topic_prefix, 0): 0}


def test_the_first_few_messages_of_each_partition_can_be_had_without_the_rest(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    settings = settings_with_topic(kafka_bootstrap, topic_prefix)
    producer = Producer(settings.kafka())
    send(producer, topic_prefix, 500)
    producer.produce(topic_prefix, b"other", partition=1)
    assert producer.flush(10) == 0
    starts = {(topic_prefix, 0): 100, (topic_prefix, 1): 0}
    found = list(history.read_from(settings, starts, at_most=3))
    assert sorted(str(message.value()) for message in found) == ["b'100'", "b'101'", "b'102'", "b'other'"]


def test_an_offset_that_a_group_never_committed_is_told_from_one_at_the_start(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    settings = settings_with_topic(kafka_bootstrap, topic_prefix)
    places = [(topic_prefix, 0), (topic_prefix, 1)]
    assert history.committed_or_none(settings, topic_prefix, places) == dict.fromkeys(places)
    assert history.committed(settings, topic_prefix, places) == dict.fromkeys(places, 0)
    assert history.bounds(settings, [topic_prefix]) == dict.fromkeys(places, (0, 0))
