"""Reading Kafka for the sink: a consumer at given offsets, without a group, and what the topics are."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from flyback.errors import BrokerError, RefusedToStart, TopicMismatch
from flyback.login import Login
from flyback.logs import get_logger
from flyback.settings import Settings
from flyback.sinks.message import Messages, Place
from flyback.sinks.tables import Source
from flyback.streams.topology import Topology

_log = get_logger(__name__)
LIBRDKAFKA = logging.getLogger("librdkafka")
_BATCH = 1_000
_TIMEOUT = 10.0  # seconds, of one question to the broker


class Sources:
    """Asks Kafka what the topics are: at the start, and again before each commit."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._login = Login(settings)
        self._admin: AdminClient | None = None

    def describe(self, topics: Iterable[str]) -> dict[str, Source]:
        """Cluster, topic id and partition count of each topic.

        Raises TopicMismatch where one is missing, BrokerError.
        """
        try:
            return self._ask(list(topics))
        except BrokerError:
            self._admin = None  # one of librdkafka 2.16 that lost its only broker may never find it again
            raise

    def _ask(self, topics: list[str]) -> dict[str, Source]:
        if self._admin is None:
            self._admin = AdminClient(self._settings.kafka() | {"error_cb": self._login, "logger": LIBRDKAFKA})
        described = {}
        try:
            cluster_id = self._login.metadata(self._admin, _TIMEOUT).cluster_id or ""
            asked = self._admin.describe_topics(TopicCollection(topics), request_timeout=_TIMEOUT)
            for topic, answer in asked.items():
                found = _described(topic, answer)
                described[topic] = Source(cluster_id, str(found.topic_id), len(found.partitions))
        except KafkaException as error:
            raise BrokerError(f"Kafka at {self._settings.bootstrap_servers}: {error.args[0].str()}") from error
        return described


def _described(topic: str, answer: Any) -> Any:
    try:
        return answer.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise TopicMismatch(
                f"the topic {topic} does not exist: run `flyback topics create`, or check FLYBACK_TOPIC_PREFIX"
            ) from None
        raise


@dataclass(slots=True)
class Read:
    """What one call brought: by topic messages, in order of offset within each partition; where partitions ended."""

    messages: dict[str, Messages] = field(default_factory=dict)
    ends: dict[Place, int] = field(default_factory=dict)
    """For a partition that was read to its end, the offset there: past all gaps and transaction markers."""


class Reader:
    """Reads given partitions from given offsets, committed messages only."""

    def __init__(
        self, settings: Settings, topology: Topology, offsets: Mapping[Place, int | None], accept_loss: bool = False
    ) -> None:
        """`offsets`: where to start, None for the log start.

        `accept_loss`: at the log start too where Kafka deleted what follows the offset. Raises RefusedToStart,
        BrokerError.
        """
        self._settings = settings
        self._login = Login(settings, _log.error)
        largest = topology.derived_max_bytes + 1_000_000
        self._consumer = Consumer(
            settings.kafka(
                **{
                    "group.id": f"{settings.group}-sink",  # only a name: the offsets are the tables'
                    "enable.auto.commit": False,
                    "auto.offset.reset": "error",
                    "isolation.level": "read_committed",
                    "enable.partition.eof": True,
                    "fetch.wait.max.ms": 100,
                    # compressed, and decompressed before the queue's limit is looked at; one larger message comes too
                    "fetch.max.bytes": 2_000_000,
                    "receive.message.max.bytes": max(100_000_000, largest + 512),
                    "queued.max.messages.kbytes": 16_384,
                    "fetch.queue.backoff.ms": 10,  # after the queue was full; by default a second, and it runs empty
                }
            )
            | {"error_cb": self._told, "logger": LIBRDKAFKA}
        )
        try:
            self._assign(offsets, accept_loss)
        except BaseException:
            self._consumer.close()
            raise

    def _assign(self, offsets: Mapping[Place, int | None], accept_loss: bool) -> None:
        known = {place: offset for place, offset in offsets.items() if offset is not None}
        starts = {place: self._watermarks(place)[0] for place in known}
        lost = [_lost(place, offset, starts[place]) for place, offset in known.items() if offset < starts[place]]
        if lost and not accept_loss:
            raise _refusal(lost)
        for each in lost:
            _log.warning("loss accepted", lost=each)
        self._consumer.assign(
            [
                TopicPartition(*place, max(known[place], starts[place]) if place in known else OFFSET_BEGINNING)
                for place in offsets
            ]
        )

    def read(self, timeout: float) -> Read:
        """What has come, after at most `timeout` seconds. Raises RefusedToStart, TopicMismatch, BrokerError."""
        read = Read()
        found = defaultdict(list)
        for message in self._consumer.consume(_BATCH, timeout):
            error = message.error()
            if error is None:
                found[message.topic() or ""].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                read.ends[message.topic() or "", message.partition() or 0] = message.offset() or 0
            else:
                self._raise(error, (message.topic() or "", message.partition() or 0), message.offset())
        read.messages = {topic: Messages.consumed(topic, messages) for topic, messages in found.items()}
        return read

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _told(self, error: KafkaError) -> None:
        _note_error(error)
        self._login(error)

    def _raise(self, error: KafkaError, place: Place, offset: int | None) -> None:
        where = f"{place[0]}/{place[1]}"
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            first, end = self._watermarks(place)
            if offset is not None and 0 <= offset < first:
                raise _refusal([_lost(place, offset, first)])
            raise RefusedToStart(
                f"{where}: the next offset of the lake is not in the topic, which holds {first} to {end} "
                f"({error.str()}): the topic was emptied or made again. Set FLYBACK_LAKE to a new folder; this one "
                "stays readable"
            )
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            raise TopicMismatch(f"the topic {where} is gone: run `flyback topics check`")
        if error.fatal() or not (error.retriable() or error.code() in _TRANSIENT):
            raise BrokerError(f"{where}: cannot be read: {error.str()}")
        _note_error(error)

    def _watermarks(self, place: Place) -> tuple[int, int]:
        try:
            found = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=_TIMEOUT)
        except KafkaException as error:
            raise BrokerError(f"Kafka at {self._settings.bootstrap_servers}: {error.args[0].str()}") from error
        return found or (0, 0)


def _lost(place: Place, offset: int, first: int) -> str:
    return (
        f"{place[0]}/{place[1]}: the lake goes on at offset {offset}, but the topic starts at {first}: Kafka deleted "
        f"offsets {offset} to {first - 1}, {first - offset} messages that never reached the lake"
    )


def _refusal(lost: Sequence[str]) -> RefusedToStart:
    return RefusedToStart(
        f"{'; '.join(lost)}. Raise retention.ms. To go on without them, start the sink once by "
        "`flyback sink --accept-loss`"
    )


_TRANSIENT: Sequence[int] = (
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
)


def _note_error(error: KafkaError) -> None:
    """librdkafka reconnects by itself; what stays wrong shows as waiting."""
    _log.debug("kafka client", error=error.str())
