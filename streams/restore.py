"""The restore rule: where a partition goes on, and how its state is brought level with that.

The raw topics are the changelog. On assignment the state is behind the committed offsets or level with them; what
lies between is replayed, its output thrown away. Losing the disk is the same rule from the start of the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from flyback.errors import RefusedToStart
from flyback.logs import get_logger
from flyback.schemas import codec, wire
from flyback.schemas.catalog import Catalog
from flyback.settings import Settings
from flyback.streams.clients import Clients, Cluster, Consumer, Message
from flyback.streams.topology import Kind, Topology

log = get_logger(__name__)

Offsets = Mapping[str, int]
"""Offsets of one partition, by topic."""

_LOOK_UP = 10.0
_POLL = 0.1
_SAY_SECONDS = 5.0
_PATIENCE = 50  # polls without an answer


def starting_offsets(partition: int, committed: Mapping[str, int | None], log_start: Offsets) -> dict[str, int]:
    """Where the group goes on in one partition: at its committed offsets, at the log start where it has none.

    Raises RefusedToStart where retention has deleted events that the group never processed.
    """
    for topic, offset in committed.items():
        if offset is not None and offset < log_start[topic]:
            raise RefusedToStart(
                f"{topic}/{partition}: the group's offset {offset} is below the log start {log_start[topic]}: "
                f"retention deleted {log_start[topic] - offset} events that were never processed. Raise the topic's "
                "retention.ms; to go on without them, set the group's offsets to the log start with "
                "kafka-consumer-groups --reset-offsets"
            )
    return {topic: log_start[topic] if offset is None else offset for topic, offset in committed.items()}


def replay_from(partition: int, applied: Offsets, start: Offsets, log_start: Offsets) -> dict[str, int] | None:
    """Where the replay begins, by topic; None where the state is too old to be brought on and must be rebuilt.

    Raises RefusedToStart where the state is ahead of Kafka: it then holds events that the group has not processed.
    """
    for topic, offset in applied.items():
        if offset > start[topic]:
            raise RefusedToStart(
                f"{topic}/{partition}: the state is at offset {offset}, the group only at {start[topic]}: the group's "
                "offsets were set back. Put them to where they were; or, to process everything again from where the "
                "group stands (derived events will be repeated under the same ids), delete the worker's state folder"
            )
    if any(offset < log_start[topic] and offset < start[topic] for topic, offset in applied.items()):
        return None
    return {topic: applied.get(topic, log_start[topic]) for topic in start}


class Replay:
    """Reads one partition of the raw topics from one set of offsets to another, without a group."""

    def __init__(self, clients: Clients, partition: int, begin: Offsets, end: Offsets) -> None:
        self.partition = partition
        self.end = dict(end)
        self._at = {topic: min(begin[topic], offset) for topic, offset in end.items()}
        self._open = {topic for topic, offset in end.items() if self._at[topic] < offset}
        self._consumer: Consumer | None = None
        if self._open:
            self._consumer = reader(clients)
            self._consumer.assign([TopicPartition(topic, partition, begin[topic]) for topic in self._open])

    @property
    def done(self) -> bool:
        """Whether everything up to the end has been read."""
        return not self._open

    @property
    def left(self) -> int:
        """How many offsets are still to be read: as many events, or more where there are gaps."""
        return sum(offset - self._at[topic] for topic, offset in self.end.items())

    def read(self, at_most: int, timeout: float) -> list[Message]:
        """The next messages below the end offsets. Offsets have gaps, so the end of the log ends a topic too."""
        if self._consumer is None:
            return []
        found = []
        for message in self._consumer.consume(at_most, timeout):
            topic = message.topic()
            if (error := message.error()) is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    self._reach(topic, self.end[topic])
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    raise RefusedToStart(f"{topic}/{self.partition}: events to be replayed are gone: {error.str()}")
                continue
            if message.offset() < self.end[topic]:
                found.append(message)
            self._reach(topic, message.offset() + 1)
        return found

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _reach(self, topic: str, offset: int) -> None:
        self._at[topic] = min(offset, self.end[topic])
        if offset >= self.end[topic]:
            self._open.discard(topic)


class Progress:
    """How far the restoring of a partition is, for people: in the log now and then, and in `/healthz`."""

    def __init__(self, partition: int, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`total`: events to replay (offsets; gaps count as events)."""
        self.total = total
        self.done = 0
        self._partition = partition
        self._clock = clock
        self._began = self._said = clock()
        if total:
            log.info("restoring", partition=partition, events=total)

    def left(self, events: int) -> None:
        """Only so many are left."""
        self.done = self.total - events
        now = self._clock()
        if not self.total or (events and now - self._said < _SAY_SECONDS):
            return
        self._said = now
        log.info(
            "restoring" if events else "restored",
            partition=self._partition,
            done=self.done,
            events=self.total,
            percent=100 * self.done // self.total,
            events_per_second=round(self.done / max(now - self._began, 0.001)),
        )


def reader(clients: Clients, isolation: str = "read_committed") -> Consumer:
    """A consumer that belongs to no group: it is assigned by hand, commits nothing, and sees committed records."""
    config: dict[str, Any] = {
        "group.id": "flyback-reader",  # librdkafka wants one; nothing is subscribed or committed
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": isolation,
        "enable.partition.eof": True,
    }
    return clients.consumer(config)


def read_progress(
    clients: Clients, topology: Topology, settings: Settings, catalog: Catalog, cluster: Cluster
) -> dict[tuple[str, int], int]:
    """The group's offsets by (topic, partition) as `progress.v1` has them, if they are of this cluster and topic."""
    topic = topology.topic_of("Progress")
    latest = {message.key(): message.value() for message in _all(clients, [topic], {topic: 1})}
    found = {}
    for value in latest.values():
        if value is None:
            continue
        entry = codec.decode("Progress", value, catalog.schema(wire.schema_id(value)))
        known = cluster.topic_ids.get(entry["topic"]) == entry["topic_id"]
        if known and entry["group"] == settings.group and entry["cluster_id"] == cluster.cluster_id:
            found[entry["topic"], entry["partition"]] = entry["next_offset"]
    return found


def anything_derived(clients: Clients, topology: Topology, cluster: Cluster) -> bool:
    """Whether any derived topic holds a committed record: then somebody has processed the raw topics before."""
    return any(True for _ in _all(clients, topology.of(Kind.DERIVED), cluster.partitions))


def _all(clients: Clients, topics: Sequence[str], partitions: Mapping[str, int]) -> Iterable[Message]:
    """Every committed record of these topics, from the log start to the end as it is now.

    Waits for transactions that are open there: what stands behind them may be committed already. Raises KafkaException
    where nothing comes any more, so that the worker goes on polling and may be stopped.
    """
    places = [TopicPartition(topic, p) for topic in topics for p in range(partitions[topic])]
    edges = _watermarks(clients, places)
    consumer = reader(clients)
    try:
        consumer.assign([TopicPartition(topic, p, start) for (topic, p), (start, _) in edges.items()])
        left = set(edges)
        silent = 0
        while left:
            messages = consumer.consume(1_000, timeout=_POLL)
            silent = 0 if messages else silent + 1
            if silent > _PATIENCE:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            for message in messages:
                place = message.topic(), message.partition()
                if (error := message.error()) is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF and message.offset() >= edges[place][1]:
                    left.discard(place)
    finally:
        consumer.close()


def _watermarks(clients: Clients, places: Sequence[TopicPartition]) -> dict[tuple[str, int], tuple[int, int]]:
    """Start and end of each log, open transactions included."""
    consumer = reader(clients, isolation="read_uncommitted")
    try:
        return {(p.topic, p.partition): consumer.get_watermark_offsets(p, timeout=_LOOK_UP) for p in places}
    finally:
        consumer.close()
