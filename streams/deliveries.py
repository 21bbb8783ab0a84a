"""Whether Kafka has what a transactional producer sent, beyond what its client says (ADR 13)."""

from __future__ import annotations

import time
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException


class Polled(Protocol):
    """A producer, as far as it is used. Its length is how many messages have not reported yet."""

    def __len__(self) -> int: ...
    def poll(self, timeout: float) -> int: ...


class Deliveries:
    """Those of one transaction: `reported` is the `on_delivery` of each of its messages.

    librdkafka also calls delivered what it concludes to be, since a later batch of the partition was taken; then it
    knows of no offset. A partition that has just got its leader may have refused the one and taken the other.
    """

    def __init__(self) -> None:
        self._unsure = False

    def reported(self, error: KafkaError | None, message: Any) -> None:
        """What failed is told by the transaction's end."""
        if error is None and message.offset() is None:
            self._unsure = True

    def finish(self, producer: Polled, timeout: float) -> None:
        """Wait until all that was sent is there. Raises KafkaException where some may not be."""
        deadline = time.monotonic() + timeout
        while (left := len(producer)) and time.monotonic() < deadline:
            producer.poll(0.1)  # not flush, which goes on reporting after a fatal error was raised: a SystemError
        if left:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{left} messages were not acknowledged"))
        if self._unsure:
            raise KafkaException(KafkaError(KafkaError._INCONSISTENT, "a message was acknowledged without an offset"))
