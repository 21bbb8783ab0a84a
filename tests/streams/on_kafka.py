"""The engine over a real Kafka: sending to the raw topics, running it, and what the topics hold."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from flyback import history
from flyback.schemas.catalog import BundledCatalog
from flyback.settings import Settings
from flyback.streams.clients import KafkaClients
from flyback.streams.engine import Engine
from flyback.streams.topology import Topology, partition_for
from tests.streams.records import Raw
from tests.streams.verdict import Stored, Verdict


class OnKafka:
    """One producer of raw events."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topology = Topology(settings)
        self._producer = Producer({**settings.kafka(), "linger.ms": 5, "enable.idempotence": True})
        self._ends: dict[tuple[str, int], int] = defaultdict(int)

    def send(self, message: Raw) -> tuple[str, int, int]:
        """Topic, partition and offset of the message, once it is there."""
        found: list[Message] = []
        self.start_sending(message, found.append)
        self._producer.flush(60)
        [delivered] = found
        return str(delivered.topic()), int(delivered.partition() or 0), int(delivered.offset() or 0)

    def start_sending(self, message: Raw, delivered: Any = lambda _: None) -> None:
        n = self._settings.partitions
        headers: Any = list(message.headers or ())

        def done(error: KafkaError | None, sent: Message) -> None:
            assert error is None, error
            place = (str(sent.topic()), int(sent.partition() or 0))
            self._ends[place] = max(self._ends[place], int(sent.offset() or 0) + 1)
            delivered(sent)

        self._producer.produce(
            self._topology.topic_of(message.record),
            value=message.value,
            key=message.key,
            partition=(partition_for(message.task.encode(), n) + message.shift) % n,
            headers=headers,
            on_delivery=done,
        )
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(60) == 0

    def is_processed(self) -> bool:
        """Whether the group has committed all that was sent."""
        committed = history.committed(self._settings, self._settings.group, self._ends)
        return all(committed[place] >= end for place, end in self._ends.items())

    def committed(self, record: str) -> int:
        """How much of the raw topic of `record` the group has committed, all partitions together."""
        topic = self._topology.topic_of(record)
        places = [(topic, partition) for partition in range(self._settings.partitions)]
        return sum(history.committed(self._settings, self._settings.group, places).values())

    def stored(self, topic: str) -> Iterator[Stored]:
        for m in history.read(self._settings, [topic]):
            headers: Any = m.headers()
            key: Any = m.key()
            value: Any = m.value()
            yield Stored(int(m.partition() or 0), int(m.offset() or 0), key, value, headers, m.timestamp()[1])

    def verdict(self) -> Verdict:
        """Read once from Kafka, topic by topic, when first asked for."""
        read: dict[str, list[Stored]] = {}

        def once(topic: str) -> list[Stored]:
            if topic not in read:
                read[topic] = list(self.stored(topic))
            return read[topic]

        return Verdict(self._settings, once)


@contextmanager
def running(settings: Settings) -> Iterator[Engine]:
    """An engine in a thread of this process. What it raises is raised here at the end."""
    engine = Engine(settings, Topology(settings), BundledCatalog(), KafkaClients(settings))
    raised: list[BaseException] = []

    def run() -> None:
        try:
            engine.run()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield engine
    finally:
        engine.stop()
        thread.join(60)
        if raised:  # though the body failed too: it will have waited for this engine
            raise raised[0]
    assert not thread.is_alive()
