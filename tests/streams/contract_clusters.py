"""Two clusters to hold the contract against, the double and a real Kafka, and clients as the engine opens them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka import Producer as RealProducer
from confluent_kafka.admin import AdminClient, NewTopic

from flyback import settings
from flyback.streams.clients import Clients, Consumer, KafkaClients, Message, Producer
from tests.streams.kafka_double import MemoryKafka
from tests.streams.kafka_double_broker import failure

SECONDS = 60.0
LAPSE = 2_000
"""Session and poll interval (ms) of members whose session shall end."""


class Double:
    """The double, with what a test does to a cluster beside its clients."""

    def __init__(self) -> None:
        self.kafka = MemoryKafka()
        self.clients: Clients = self.kafka

    def create(self, topic: str, partitions: int) -> None:
        self.kafka.create(topic, partitions)

    def delete(self, topic: str) -> None:
        self.kafka.delete(topic)

    def append(self, topic: str, *values: bytes, partition: int = 0) -> None:
        for value in values:
            self.kafka.append(topic, partition, None, value)

    def delete_records(self, topic: str, before: int) -> None:
        self.kafka.delete_records(topic, 0, before)

    def let_session_end(self, group: str, instance: str) -> None:
        self.kafka.expire(group, instance)

    def let_transaction_time_out(self, transactional_id: str, topic: str) -> None:
        self.kafka.expire_transaction(transactional_id)

    def commit_without_an_answer(self, producer: Producer) -> None:
        """Ask for the commit, and get no answer in time."""
        self.kafka.fail("after", "commit_transaction", failure(KafkaError._TIMED_OUT, retriable=True))
        producer.commit_transaction(SECONDS)


class Real:
    """A real Kafka."""

    def __init__(self, bootstrap: str) -> None:
        found = settings.load(bootstrap_servers=bootstrap)
        self.clients: Clients = KafkaClients(found)
        self._config = found.kafka()
        self._admin = AdminClient(self._config)

    def create(self, topic: str, partitions: int) -> None:
        new = NewTopic(topic, partitions, 1, config={"message.timestamp.type": "LogAppendTime"})
        self._admin.create_topics([new])[topic].result()
        self._until(lambda: topic in self._admin.list_topics(timeout=10).topics)

    def delete(self, topic: str) -> None:
        self._admin.delete_topics([topic])[topic].result()
        self._until(lambda: topic not in self._admin.list_topics(timeout=10).topics)

    def append(self, topic: str, *values: bytes, partition: int = 0) -> None:
        producer = RealProducer(self._config)
        for value in values:
            producer.produce(topic, value=value, partition=partition)
        assert producer.flush(SECONDS) == 0

    def delete_records(self, topic: str, before: int) -> None:
        place = TopicPartition(topic, 0, before)
        self._admin.delete_records([place])[place].result()

    def let_session_end(self, group: str, instance: str) -> None:
        """Nobody polls: after the poll interval the client is silent, and after the session the broker removes it."""

        def gone() -> bool:
            found = self._admin.describe_consumer_groups([group])[group].result()
            return instance not in {member.group_instance_id for member in found.members}

        self._until(gone)

    def let_transaction_time_out(self, transactional_id: str, topic: str) -> None:
        reader = self.clients.consumer({"group.id": "reader", "isolation.level": "read_committed"})
        whole = self.clients.consumer({"group.id": "reader", "isolation.level": "read_uncommitted"})
        place = TopicPartition(topic, 0)

        def stable() -> bool:
            return reader.get_watermark_offsets(place, 10)[1] == whole.get_watermark_offsets(place, 10)[1]

        self._until(stable)
        reader.close()
        whole.close()

    def commit_without_an_answer(self, producer: Producer) -> None:
        assert producer.flush(SECONDS) == 0  # else it may be these messages that no time is left for
        producer.commit_transaction(1e-6)

    @staticmethod
    def _until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)


Cluster = Double | Real


class Opened:
    """Opens clients as the engine does, and closes the consumers after the test."""

    def __init__(self, clients: Clients, stack: ExitStack) -> None:
        self._clients = clients
        self._stack = stack

    def reader(self, topic: str, offset: int, isolation: str = "read_committed", reset: str = "error") -> Consumer:
        config = {"group.id": "reader", "isolation.level": isolation, "enable.partition.eof": True}
        consumer = self._clients.consumer({**config, "auto.offset.reset": reset, "enable.auto.commit": False})
        self._stack.callback(consumer.close)
        consumer.assign([TopicPartition(topic, 0, offset)])
        return consumer

    def member(self, group: str, instance: str, topics: Sequence[str], session: int = 30_000) -> Joined:
        consumer = self._clients.consumer(
            {
                "group.id": group,
                "group.instance.id": instance,
                "partition.assignment.strategy": "range",
                "session.timeout.ms": session,
                "max.poll.interval.ms": session if session == LAPSE else 300_000,
                "heartbeat.interval.ms": 200,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
            }
        )
        return Joined(consumer, topics, self._stack)

    def producer(self, transactional_id: str, **more: Any) -> Producer:
        config = {key.replace("_", "."): value for key, value in more.items()}
        producer = self._clients.producer({"transactional.id": transactional_id, **config})
        producer.init_transactions(SECONDS)
        return producer


class Joined:
    """A member of a group that notes what it is told."""

    def __init__(self, consumer: Consumer, topics: Sequence[str], stack: ExitStack) -> None:
        self.consumer = consumer
        self.told: list[tuple[str, list[tuple[str, int]]]] = []
        self.errors: list[Any] = []
        self.messages: list[bytes | None] = []
        stack.callback(consumer.close)
        consumer.subscribe(list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)

    @property
    def places(self) -> list[tuple[str, int]] | None:
        return self.told[-1][1] if self.told and self.told[-1][0] == "assigned" else None

    @property
    def metadata(self) -> Any:
        return self.consumer.consumer_group_metadata()

    def poll(self) -> bool:
        for message in self.consumer.consume(100, 0.05):
            if message.error() is not None:
                self.errors.append(message.error())
            else:
                self.messages.append(message.value())
        return True

    def _assigned(self, _: Any, places: list[TopicPartition]) -> None:
        self.told.append(("assigned", sorted((p.topic, p.partition) for p in places)))
        # at offsets, as the engine does: the late answer to a look-up of OFFSET_END would undo a seek
        ends = [self.consumer.get_watermark_offsets(place, SECONDS)[1] for place in places]
        self.consumer.assign([TopicPartition(p.topic, p.partition, end) for p, end in zip(places, ends, strict=True)])
        self.consumer.pause(places)

    def _revoked(self, _: Any, places: list[TopicPartition]) -> None:
        self.told.append(("revoked", sorted((p.topic, p.partition) for p in places)))
        self.consumer.unassign()

    def _lost(self, _: Any, places: list[TopicPartition]) -> None:
        self.told.append(("lost", sorted((p.topic, p.partition) for p in places)))
        self.consumer.unassign()


def until(condition: Callable[[], object], *members: Joined) -> None:
    """Poll all members until the condition holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, [member.told for member in members]
        for member in members:
            member.poll()


def until_end(reader: Consumer, topic: str, end: int) -> None:
    """Wait until the log ends there, for this reader."""
    until(lambda: reader.get_watermark_offsets(TopicPartition(topic, 0), SECONDS)[1] == end)


def read_to_the_end(consumer: Consumer) -> tuple[list[bytes | None], int]:
    """All values, and the offset at which the end was met."""
    values: list[bytes | None] = []
    for message in _messages(consumer):
        if (error := message.error()) is None:
            values.append(message.value())
        elif error.code() == KafkaError._PARTITION_EOF:
            return values, message.offset()
    raise AssertionError("no end")


def next_error(consumer: Consumer) -> Any:
    return next(message for message in _messages(consumer) if message.error() is not None)


def next_message(consumer: Consumer) -> Message:
    return next(message for message in _messages(consumer) if message.error() is None)


def _messages(consumer: Consumer) -> Iterator[Message]:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        yield from consumer.consume(100, 0.05)
    raise AssertionError("nothing came")


def produce(producer: Producer, topic: str, *values: bytes, key: bytes | None = None) -> None:
    for value in values:
        producer.produce(topic, value, key, 0, headers=None)


def raised(call: Callable[[], object]) -> KafkaError:
    with pytest.raises(KafkaException) as caught:
        call()
    error: KafkaError = caught.value.args[0]
    return error
