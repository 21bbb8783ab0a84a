"""Where the group stands: its committed offsets, and the second copy of them in `progress.v1`.

Both have the id of the topic with each offset (the group's in its metadata), so that the offset of a topic that was
deleted and made again is not taken for one of its successor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from flyback.errors import RefusedToStart
from flyback.logs import get_logger
from flyback.schemas import codec, wire
from flyback.schemas.catalog import Catalog
from flyback.settings import Settings
from flyback.streams.clients import Clients, Cluster, Consumer, Message
from flyback.streams.restore import reader
from flyback.streams.topology import Kind, Topology

log = get_logger(__name__)

_LOOK_UP = 5.0
_POLL = 0.1
_PATIENCE = 50  # polls without an answer


class Recorded(NamedTuple):
    """An offset as `progress.v1` has it, and the id of the topic that it is an offset of."""

    offset: int
    topic_id: str


class GroupOffsets:
    """The offsets of one group on the raw topics. `consumer` is a member of it.

    All methods raise KafkaException where Kafka does not answer, or has to wait for an open transaction.
    """

    def __init__(
        self,
        settings: Settings,
        topology: Topology,
        catalog: Catalog,
        clients: Clients,
        cluster: Cluster,
        consumer: Consumer,
    ) -> None:
        self._settings = settings
        self._topology = topology
        self._catalog = catalog
        self._clients = clients
        self._cluster = cluster
        self._consumer = consumer
        self._progress: dict[tuple[str, int], Recorded] | None = None

    def forget(self) -> None:
        """Read `progress.v1` anew when it is needed next."""
        self._progress = None

    def committed(self, partition: int) -> dict[str, int | None]:
        """By raw topic what the group has committed, None where that is nothing.

        Raises RefusedToStart where an offset is of a former topic of this name. Kafka forgets offsets with their topic,
        but a worker that still ran may have committed once more.
        """
        found = self._committed([TopicPartition(topic, partition) for topic in self._topology.raw])
        for place in found:
            topic_id = self._cluster.topic_ids[place.topic]
            if place.offset >= 0 and place.metadata and place.metadata != topic_id:  # none: set by hand
                raise RefusedToStart(
                    f"{place.topic}/{partition}: the group's offset {place.offset} is of a former topic of this name "
                    f"(its id was {place.metadata} and is {topic_id}): the topic was deleted and made again. Stop all "
                    f"workers, type `kafka-consumer-groups --bootstrap-server {self._settings.bootstrap_servers} "
                    f"--group {self._settings.group} --topic {place.topic} --delete-offsets`, start them again: they "
                    "begin at the log start of the new topic"
                )
        return {place.topic: place.offset if place.offset >= 0 else None for place in found}

    def with_lost(self, partition: int, committed: Mapping[str, int | None]) -> dict[str, int | None]:
        """`committed`, and where it has none what `progress.v1` has; still None where a topic was never begun.

        Raises RefusedToStart where nobody knows any offset though something was derived.
        """
        # of all partitions at once: the first one that is claimed again is no sign that the group lost nothing
        progress = self._recorded()
        found = dict(committed)
        for topic, offset in committed.items():
            recorded = progress.get((topic, partition))
            if offset is None and recorded is not None and recorded.topic_id == self._cluster.topic_ids[topic]:
                log.warning(
                    "the group's offset is gone: taken from the progress topic",
                    topic=topic,
                    partition=partition,
                    offset=recorded.offset,
                )
                found[topic] = recorded.offset
        if not progress and not self._has_any() and self._derived_anything() and not self._has_any():
            # asked again since a worker that starts beside us commits offsets together with what it derives
            raise RefusedToStart(
                f"group {self._settings.group} has no committed offsets and {self._topology.topic_of('Progress')} has "
                "none of it, though the derived topics are not empty: going on from the log start would derive "
                "everything again. Restore the group's offsets (kafka-consumer-groups --reset-offsets), or start anew "
                "under another FLYBACK_GROUP and FLYBACK_TOPIC_PREFIX"
            )
        return found

    def _committed(self, places: list[TopicPartition]) -> list[TopicPartition]:
        found = self._consumer.committed(places, timeout=_LOOK_UP)
        for place in found:
            if place.error is not None:
                raise KafkaException(place.error)
        return found

    def _has_any(self) -> bool:
        every = [TopicPartition(t, p) for t in self._topology.raw for p in range(self._cluster.partitions[t])]
        return any(place.offset >= 0 for place in self._committed(every))

    def _recorded(self) -> dict[tuple[str, int], Recorded]:
        """What `progress.v1` has of this group in this cluster, by (topic, partition); of former topics too."""
        if self._progress is None:
            topic = self._topology.topic_of("Progress")
            latest = {message.key(): message.value() for message in _all(self._clients, self._cluster, [topic])}
            found = {}
            for value in filter(None, latest.values()):
                entry = codec.decode("Progress", value, self._catalog.schema(wire.schema_id(value)))
                if (entry["group"], entry["cluster_id"]) == (self._settings.group, self._cluster.cluster_id):
                    found[entry["topic"], entry["partition"]] = Recorded(entry["next_offset"], entry["topic_id"])
            self._progress = found
        return self._progress

    def _derived_anything(self) -> bool:
        """Whether any derived topic holds a committed record: then somebody has processed the raw topics before."""
        return any(True for _ in _all(self._clients, self._cluster, self._topology.of(Kind.DERIVED)))


def _all(clients: Clients, cluster: Cluster, topics: Sequence[str]) -> Iterable[Message]:
    """Every committed record of these topics, from the log start to the end as it is now.

    Waits for transactions that are open there: what stands behind them may be committed already. Raises KafkaException
    where nothing comes any more, so that the worker goes on polling and may be stopped.
    """
    places = [TopicPartition(topic, p) for topic in topics for p in range(cluster.partitions[topic])]
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
                    # who waited for the end of a topic that is written to would wait for ever
                    reached = message.offset() + 1 if cluster.tells_log_ends else -1
                elif error.code() == KafkaError._PARTITION_EOF:
                    reached = message.offset()
                else:
                    continue
                if reached >= edges[place][1]:
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
