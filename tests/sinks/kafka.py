"""Topics, messages and sinks on a real Kafka."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from flyback.schemas.catalog import Catalog
from flyback.schemas.codec import Record
from flyback.settings import Settings
from flyback.sinks.sink import Sink
from flyback.sinks.tables import landed
from flyback.streams.topology import Topology
from tests.sinks.events import CATALOG, value_of

DEADLINE = 60.0


def eventually(condition: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Poll until the condition holds; fail after the deadline."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


def create_topics(settings: Settings, topology: Topology, names: Sequence[str] = ()) -> None:
    admin = AdminClient(settings.kafka())
    new = [
        NewTopic(name, topology.partitions(name), 1, config=dict(topology.config(name)))
        for name in names or topology.names
    ]
    for created in admin.create_topics(new).values():
        created.result(timeout=30)


@dataclass
class Written:
    """Produces, and remembers how many messages went to which topic."""

    settings: Settings
    topology: Topology
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = {"partitioner": "murmur2_random", "linger.ms": 5, "message.max.bytes": 2_000_000}
        self._producer = Producer(self.settings.kafka(**config))

    def events(self, record: str, events: Sequence[Record]) -> None:
        topic = self.topology.topic_of(record)
        for event in events:
            self.raw(topic, event["task_id"].encode(), value_of(record, event))
        self.flush()

    def raw(self, topic: str, key: bytes | None, value: bytes | None, **more: Any) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, **more)
                break
            except BufferError:
                self._producer.poll(0.1)
        self.counts[topic] = self.counts.get(topic, 0) + 1

    def flush(self) -> None:
        assert self._producer.flush(30) == 0


def all_landed(settings: Settings, written: Written) -> bool:
    """Whether the lake's offsets are past everything that was written to non-transactional topics."""
    found = landed(settings.lake)
    return all(
        sum(offset for (name, _), offset in found.items() if name == topic) >= count
        for topic, count in written.counts.items()
    )


def end_offset(settings: Settings, topic: str, partition: int) -> int:
    consumer = Consumer(settings.kafka(**{"group.id": "ends", "isolation.level": "read_committed"}))
    try:
        found = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        assert found is not None
        return found[1]
    finally:
        consumer.close()


@contextmanager
def running(
    settings: Settings, topology: Topology, catalog: Catalog = CATALOG, accept_loss: bool = False
) -> Iterator[Sink]:
    """A sink in a thread; its error, if any, is raised at the end."""
    sink = Sink(settings, topology, catalog, accept_loss)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            sink.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield sink
    finally:
        sink.stop()
        thread.join(30)
        assert not thread.is_alive()
        if errors:  # rather than the assertion that fails because of it
            raise errors[0]
