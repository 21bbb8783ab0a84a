"""Dead letters of the derived topics. Those of the raw topics are the engine's: the sink only skips and counts them."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from flyback import metrics
from flyback.errors import BrokerError
from flyback.settings import Settings
from flyback.sinks.message import Message
from flyback.streams import dlq
from flyback.streams.topology import Kind, Topology

_TIMEOUT = 10.0


class DeadLetterProducer:
    """Sends invalid derived messages to their dead-letter topics. Connects at the first one."""

    def __init__(self, settings: Settings, topology: Topology) -> None:
        self._settings = settings
        self._topology = topology
        self._derived = frozenset(topology.of(Kind.DERIVED))
        self._pending: list[tuple[Message, str, str]] = []
        self._producer: Producer | None = None

    def send(self, message: Message, reason: str, sentence: str) -> None:
        """Keep a message for `flush`; nothing for topics that have no dead letters of ours."""
        if message.topic in self._derived:
            self._pending.append((message, reason, sentence))

    def waiting(self) -> Counter[tuple[str, str]]:
        """How many wait for `flush`, by topic and reason."""
        return Counter((message.topic, reason) for message, reason, _ in self._pending)

    def flush(self) -> int:
        """How many, once Kafka has all of them. Raises BrokerError; the next call sends again what may be missing."""
        if not self._pending:
            return 0
        failures: list[str] = []

        def reported(error: KafkaError | None, delivered: Any) -> None:
            if error is not None:
                failures.append(error.str())
            elif delivered.offset() is None:  # only concluded: see `flyback.streams.deliveries`
                failures.append("one was acknowledged without an offset")

        producer = self._connected()
        for message, reason, sentence in self._pending:
            value, headers = dlq.letter(
                message.topic,
                message.partition,
                message.offset,
                message.arrived_at,
                message.value,
                message.headers,
                reason,
                sentence,
                self._topology.derived_max_bytes,
            )
            try:
                producer.produce(
                    self._topology.dead_letters_of(message.topic),
                    value=value,
                    key=message.key,
                    partition=message.partition,
                    headers=headers,  # type: ignore[arg-type]
                    on_delivery=reported,
                )
            except (KafkaException, BufferError) as error:
                failures.append(str(error))
        missing = producer.flush(_TIMEOUT)
        if failures or missing:
            self._producer = None  # what it still holds would come late and twice
            producer.purge()
            raise BrokerError(f"dead letters were not taken: {failures[0] if failures else f'{missing} unanswered'}")
        for message, reason, _ in self._pending:
            metrics.DEAD_LETTERS.labels(message.topic, reason).inc()
        written = len(self._pending)
        self._pending.clear()
        return written

    def close(self) -> None:
        """Drop what was not flushed: it is read again at the next start."""
        if self._producer is not None:
            self._producer.purge()

    def _connected(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(
                self._settings.kafka(
                    **{
                        "enable.idempotence": True,
                        "compression.type": self._settings.compression,
                        "message.max.bytes": self._topology.derived_max_bytes + 65_536,
                        "delivery.timeout.ms": int(_TIMEOUT * 1000),
                    }
                ),
                logger=logging.getLogger("librdkafka"),
            )
        return self._producer
