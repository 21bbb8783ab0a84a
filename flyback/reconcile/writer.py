"""Transactions under a fixed id: all of one becomes visible or nothing does, and a later run fences this one.

An open transaction holds back every reader of the derived topics, the sink among them: after a kill until it times
out. So each is short, however much there is to write.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import NoReturn

from confluent_kafka import KafkaError, KafkaException

from flyback.errors import BrokerError, WorkerFenced
from flyback.settings import Settings
from flyback.streams.clients import KafkaClients
from flyback.streams.deliveries import Deliveries
from flyback.streams.outputs import Output
from flyback.streams.topology import Topology

_SECONDS = 5.0
"""After which a transaction is committed and the next one begun."""
_TIMEOUT_SECONDS = 60
"""After which the broker aborts a transaction. It has to be enough to send what librdkafka's queue holds."""
_DELIVERY_SECONDS = 60.0
_FENCED = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
_AGAIN = "Run `flyback reconcile` again: it adds only what is missing"


class Writer:
    """Made, it has fenced every earlier run of this group and aborted what that one had open."""

    def __init__(self, clients: KafkaClients, settings: Settings, topology: Topology) -> None:
        """Raises BrokerError."""
        self._id = f"{settings.topic_prefix}{settings.group}-reconcile"
        self._deliveries = Deliveries()
        largest = topology.derived_max_bytes + 65_536
        self._producer = clients.producer(
            {
                "transactional.id": self._id,
                "transaction.timeout.ms": _TIMEOUT_SECONDS * 1000,
                "message.timeout.ms": round(_DELIVERY_SECONDS * 1000),
                "acks": "all",
                "compression.type": settings.compression,
                "linger.ms": 20,
                "message.max.bytes": largest,
                "queue.buffering.max.kbytes": max(16_384, 2 * largest // 1024),
                "client.id": "flyback-reconcile",
            }
        )
        deadline = time.monotonic() + _DELIVERY_SECONDS
        while True:
            try:
                return self._producer.init_transactions(5.0)
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise BrokerError(f"cannot start transactions as {self._id}: {error.args[0].str()}") from error

    def write(self, outputs: Iterable[Output], progress: Callable[[int], None]) -> None:
        """Write all of them. `progress` is told how many are sent. Raises WorkerFenced, BrokerError.

        Whatever ends it before leaves whole transactions.
        """
        try:
            self._begin()
            enough = time.monotonic() + _SECONDS
            for sent, output in enumerate(outputs, 1):
                if time.monotonic() >= enough:
                    self._commit()
                    self._begin()
                    enough = time.monotonic() + _SECONDS
                self._produce(output)
                progress(sent)
            self._commit()
        except KafkaException as error:
            self._abort(error.args[0])
        except BaseException:
            with contextlib.suppress(KafkaException):  # it may be committed already
                self._producer.abort_transaction(_DELIVERY_SECONDS)
            raise

    def _begin(self) -> None:
        self._producer.begin_transaction()
        self._deliveries = Deliveries()

    def _produce(self, output: Output) -> None:
        while True:
            try:
                self._producer.produce(
                    output.topic, output.value, output.key, output.partition, self._deliveries.reported, None
                )
                return
            except BufferError:  # librdkafka's queue is full: it empties itself while we wait
                self._producer.poll(0.05)

    def _commit(self) -> None:
        """A time-out says nothing about the outcome; asking again does, until the deadline."""
        self._deliveries.finish(self._producer, _DELIVERY_SECONDS)
        deadline = time.monotonic() + 2 * _DELIVERY_SECONDS
        while True:
            try:
                return self._producer.commit_transaction(_DELIVERY_SECONDS)
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
                if time.monotonic() >= deadline:
                    raise BrokerError(
                        f"whether the transaction of {self._id} was committed cannot be known: "
                        f"{error.args[0].str()}. All of it is there, or nothing. {_AGAIN}"
                    ) from error

    def _abort(self, cause: KafkaError) -> NoReturn:
        try:
            if not cause.fatal():
                self._producer.abort_transaction(_DELIVERY_SECONDS)
        except KafkaException as error:
            if error.args[0].fatal():
                cause = error.args[0]
        if cause.code() in _FENCED:
            raise WorkerFenced(
                "another `flyback reconcile` of this group took over, or a transaction was open for longer than "
                f"{_TIMEOUT_SECONDS} s: {cause.str()}. {_AGAIN}"
            )
        raise BrokerError(f"a transaction was aborted: {cause.str()}. Nothing of it is visible. {_AGAIN}")
