"""The engine's transactions: all of a batch becomes visible, or nothing does, or the process ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from flyback import metrics
from flyback.errors import BrokerError, WorkerFenced
from flyback.logs import get_logger
from flyback.settings import Settings
from flyback.streams.clients import Clients
from flyback.streams.deliveries import Deliveries
from flyback.streams.outputs import Output
from flyback.streams.topology import Topology

log = get_logger(__name__)

_LATE_SECONDS = 3.0


class TransactionAborted(Exception):
    """The transaction was aborted: nothing of it is visible, and the batch must be dropped."""


class Transactions:
    """One transactional producer under a stable id: a second process with the same id fences the first."""

    def __init__(
        self, clients: Clients, settings: Settings, topology: Topology, name: str, transactional_id: str | None = None
    ) -> None:
        """`name` is the worker's id; `transactional_id` takes the place of the one that follows from group and name."""
        self._timeout = settings.transaction_timeout / timedelta(seconds=1)
        self._asked_at: float | None = None
        self._deliveries = Deliveries()
        milliseconds = round(self._timeout * 1000)
        largest = topology.derived_max_bytes + 65_536
        self._producer = clients.producer(
            {
                "transactional.id": transactional_id or f"{settings.topic_prefix}{settings.group}-{name}",
                "transaction.timeout.ms": milliseconds,
                "message.timeout.ms": milliseconds,
                "acks": "all",
                "compression.type": settings.compression,
                "linger.ms": 1,
                "partitioner": "murmur2_random",
                "message.max.bytes": largest,
                # raw topics, into which dead letters go back, take no larger one
                "batch.size": min(1_000_000, settings.max_event_bytes + 65_536),
                "queue.buffering.max.kbytes": max(32_768, 2 * largest // 1024),
                "client.id": name,
            }
        )

    def start(self, stopping: Callable[[], bool]) -> bool:
        """Fence an earlier process of the same id; wait for the broker as long as it takes. False: stopped."""
        while not stopping():
            try:
                self._producer.init_transactions(2.0)
                return True
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise BrokerError(f"cannot start transactions: {error.args[0].str()}") from error
                metrics.WAITS.labels("broker").inc()
        return False

    def commit(
        self, outputs: Sequence[Output], offsets: list[TopicPartition] | None = None, group_metadata: Any = None
    ) -> None:
        """Write the outputs and commit the input offsets, where there are any, in one transaction.

        Raises TransactionAborted after any failure that left nothing behind; WorkerFenced or BrokerError where
        this process can no longer know or write, and has to end.
        """
        begun = time.monotonic()
        try:
            self._producer.begin_transaction()
            self._deliveries = Deliveries()  # what an aborted one still reports does not count
            for output in outputs:
                self._produce(output)
            self._ask(self._deliveries.finish, self._producer, self._timeout)
            if offsets:
                self._ask(self._producer.send_offsets_to_transaction, offsets, group_metadata, self._timeout)
            self._insist(self._producer.commit_transaction)
        except KafkaException as error:
            self._abort(error.args[0])
            metrics.TRANSACTIONS.labels("aborted").inc()
            raise TransactionAborted(error.args[0].str()) from error
        metrics.TRANSACTIONS.labels("committed").inc()
        metrics.TRANSACTION_SECONDS.observe(time.monotonic() - begun)

    def overdue(self) -> bool:
        """From any thread: whether a call has outlasted its time-out.

        Sending offsets has none in librdkafka (5456), and never ends where the group's coordinator was taken off the
        brokers' list meanwhile, as it is while it restarts (5511).
        """
        asked_at = self._asked_at
        return asked_at is not None and time.monotonic() - asked_at > self._timeout + _LATE_SECONDS

    def _ask(self, call: Callable[..., None], *arguments: Any) -> None:
        self._asked_at = time.monotonic()
        try:
            call(*arguments)
        finally:
            self._asked_at = None

    def _produce(self, output: Output) -> None:
        while True:
            try:
                self._producer.produce(
                    output.topic,
                    output.value,
                    output.key,
                    output.partition,
                    on_delivery=self._deliveries.reported,
                    headers=output.headers,
                )
                return
            except BufferError:  # librdkafka's queue is full: it empties itself while we wait
                self._producer.poll(0.05)

    def _insist(self, end: Callable[[float], None]) -> None:
        """Commit or abort. A time-out says nothing about the outcome; asking again does, for a while."""
        deadline = time.monotonic() + 2 * self._timeout
        while True:
            try:
                return self._ask(end, self._timeout)
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() >= deadline:
                    raise

    def _abort(self, cause: KafkaError) -> None:
        if cause.fatal():
            raise _ended(cause)
        try:
            self._insist(self._producer.abort_transaction)
        except KafkaException as error:
            raise _ended(error.args[0]) from error


def _ended(error: KafkaError) -> WorkerFenced | BrokerError:
    fenced = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED)
    if error.code() in fenced:
        return WorkerFenced(
            f"a process with the same worker id took over, or the transaction timed out: {error.str()}. "
            "Start this worker again; give each worker a state folder of its own"
        )
    return BrokerError(f"the transaction's outcome cannot be known here: {error.str()}. Start this worker again")
