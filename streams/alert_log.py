"""`alerts.v1`, for the one who writes it: what was written, what to write, and how far the webhook was told.

Made, it has fenced the writer before it, by one transactional id for all workers: what that one had open is decided,
and nothing of his can follow. Only then is the topic read to its end. So who judges knows all that was ever written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from flyback import metrics
from flyback.errors import InvalidEvent
from flyback.schemas import codec, wire
from flyback.schemas.catalog import Catalog
from flyback.schemas.codec import Record
from flyback.settings import Settings
from flyback.streams import dlq, restore
from flyback.streams.alerts import states
from flyback.streams.clients import Clients, Cluster, Consumer, Message
from flyback.streams.log_tail import LogTail
from flyback.streams.outputs import Output
from flyback.streams.topology import Topology
from flyback.streams.transactions import Transactions

RECORD = "Alert"


class Written(NamedTuple):
    """One record of `alerts.v1`, and the message that it was in."""

    offset: int
    record: Record
    message: Message


class Stopped(Exception):
    """The process ends."""


class AlertLog:
    """`known` is what the records say, `told` the offset that follows what the webhook need not be told any more."""

    def __init__(
        self,
        clients: Clients,
        settings: Settings,
        topology: Topology,
        catalog: Catalog,
        cluster: Cluster,
        group: Consumer,
        stopping: Callable[[], bool],
    ) -> None:
        """Fence, then read; waits for brokers. `group` is the member of the alerts' group that owns their partition.

        Raises Stopped, BrokerError, KafkaException, UnknownSchema, RegistryUnavailable.
        """
        self.known: states.Known = {}
        self._settings = settings
        self._topology = topology
        self._catalog = catalog
        self._group = group
        self._place = topology.topic_of(RECORD), 0
        self._schema_id = catalog.id_for(RECORD, self._place[0])
        self._transactions = Transactions(
            clients, settings, topology, "flyback-alerts", f"{settings.topic_prefix}alerts"
        )
        if not self._transactions.start(stopping):
            raise Stopped
        self._tail = LogTail(clients, {self._place: OFFSET_BEGINNING}, cluster.tells_log_ends)
        try:
            self.before = list(self._read())
            """What had been written."""
            self.told = self._begin_telling()
        except BaseException:
            self.close()
            raise

    def write(self, step: states.Step) -> list[Written]:
        """Write what a look at the rules came to, and read it back.

        Raises TransactionAborted, WorkerFenced or BrokerError; whatever it is, what is known here counts no more.
        """
        if step.records:
            self._transactions.commit([self._output(record) for record in step.records])
            self.known = step.known
        return list(self._read())

    def tell(self, told: int, undelivered: Iterable[tuple[Written, str]] = ()) -> None:
        """Remember what the webhook was told, and what it could not be told and why. Raises as `write` does."""
        letters = [self._letter(written, why) for written, why in undelivered]
        position = TopicPartition(*self._place, told)
        self._transactions.commit(letters, [position], self._group.consumer_group_metadata())
        self.told = told

    def close(self) -> None:
        self._tail.close()

    def _begin_telling(self) -> int:
        """A group that never told anything begins with what comes, and says so before anything does."""
        end = self._tail.end(self._place)
        [position] = self._group.committed([TopicPartition(*self._place)], restore.LOOK_UP)
        if not 0 <= position.offset <= end:
            self.tell(end)
            return end
        return int(position.offset)

    def _read(self) -> Iterator[Written]:
        for messages in self._tail.to_the_end():
            found = [
                Written(message.offset(), record, message)
                for message in messages
                if (record := self._decoded(message)) is not None
            ]
            self.known = states.fold(self.known, [written.record for written in found])
            yield from found

    def _decoded(self, message: Message) -> Record | None:
        value = message.value() or b""
        try:
            return codec.decode(RECORD, value, self._catalog.schema(wire.schema_id(value)))
        except InvalidEvent as error:  # nothing of ours
            metrics.APP_SKIPPED.labels(self._place[0], error.reason).inc()
            return None

    def _output(self, record: Record) -> Output:
        value = codec.encode(RECORD, record, self._schema_id)
        return Output(*self._place, record["alert_id"].encode(), value)

    def _letter(self, written: Written, why: str) -> Output:
        message = written.message
        value, headers = dlq.letter(
            *self._place,
            written.offset,
            message.timestamp()[1],
            message.value(),
            wire.headers(message),
            dlq.UNDELIVERED,
            why,
            self._settings.max_event_bytes,
        )
        topic = self._topology.dead_letters_of(self._place[0])
        return Output(topic, 0, message.key(), value, headers, self._place[0], dlq.UNDELIVERED)
