"""Which partitions this worker owns, and the barrier: none is processed before its state is level with Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from flyback import metrics
from flyback.errors import BrokenState, RefusedToStart
from flyback.logs import get_logger
from flyback.schemas.catalog import Catalog
from flyback.settings import Settings
from flyback.streams import restore
from flyback.streams.clients import Clients, Cluster, Consumer, Message
from flyback.streams.folder_size import FolderSize
from flyback.streams.group_offsets import GroupOffsets
from flyback.streams.log_ends import LogEnds
from flyback.streams.lookout import Lookout
from flyback.streams.matcher import Matcher
from flyback.streams.partition import Partition
from flyback.streams.restore import Progress, Replay, anything_between
from flyback.streams.state import Meta, Origin, StateFolder, Store
from flyback.streams.topology import Topology

log = get_logger(__name__)

_SLICE = 5_000


class Assignment:
    """The consumer of the raw topics and the partitions it was given."""

    def __init__(
        self,
        settings: Settings,
        topology: Topology,
        catalog: Catalog,
        clients: Clients,
        cluster: Cluster,
        folder: StateFolder,
        clock: Callable[[], float],
        accept_loss: bool = False,
    ) -> None:
        """`accept_loss`: go on where retention deleted events that were never processed."""
        self._settings = settings
        self._topology = topology
        self._catalog = catalog
        self._clients = clients
        self._cluster = cluster
        self._folder = folder
        self._window_ms = settings.join_window // timedelta(milliseconds=1)
        self._topics = topology.raw
        self._accept_loss = accept_loss
        self._replay: Replay | None = None
        self.partitions: dict[int, Partition] = {}
        self._ends = LogEnds(clients)
        self.consumer = self._open()
        self._lookout = Lookout(settings, topology, clients, cluster, self.consumer, self._ends, clock)
        self._offsets = GroupOffsets(settings, topology, catalog, clients, cluster, self.consumer)

    def _open(self) -> Consumer:
        session = round(self._settings.session_timeout.total_seconds() * 1000)
        consumer = self._clients.consumer(
            {
                "group.id": self._settings.group,
                "group.instance.id": self._folder.worker_id,
                "client.id": self._folder.worker_id,
                # the default of newer protocols and cooperative-sticky give the topics' partitions to different workers
                "partition.assignment.strategy": "range",
                "session.timeout.ms": session,
                "heartbeat.interval.ms": max(200, min(3_000, session // 4)),
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": max(16_384, self._settings.batch_bytes // 1024),
            }
        )
        consumer.subscribe(self._topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
        return consumer

    def restored(self) -> bool:
        """Whether every owned partition is live."""
        return all(partition.live for partition in self.partitions.values())

    @property
    def replaying(self) -> bool:
        """Whether a replay is under way: then nobody should wait for live messages."""
        return self._replay is not None

    def owns(self, message: Message) -> Partition | None:
        """The live partition of a message, None where it is not ours, not restored, or was processed already."""
        partition = self.partitions.get(message.partition())
        if partition is None or not partition.live:
            return None
        topic, offset = message.topic(), message.offset()
        if topic in partition.unseen:
            partition.unseen.discard(topic)
            start = partition.start[topic]
            # a gap alone says nothing: offsets are taken by transaction markers and aborted records too
            if offset > start and anything_between(self._clients, partition.number, topic, start, offset) is not False:
                log.warning("events were skipped: gone back", topic=topic, partition=partition.number, at=offset)
                self._hold_back([partition])
                return None
        return partition if offset >= partition.meta.applied.get(topic, 0) else None

    def rewind(self) -> None:
        """Put every partition behind the barrier again: after a batch that was dropped."""
        self._drop_replay()
        self._hold_back(self.partitions.values())

    def restore(self, apply: Callable[[Partition, dict[str, list[Message]]], None]) -> Partition | None:
        """One slice of restoring one partition; the partition, where this brought it level with its start.

        `apply` takes a slice of replayed messages into the state. Raises RefusedToStart.
        """
        if self._replay is None:
            partition = next((p for p in self.partitions.values() if not p.live), None)
            if partition is None or not self._begin(partition):
                return None
        assert self._replay is not None
        partition = self.partitions[self._replay.partition]
        if messages := self._replay.read(_SLICE, timeout=0.1):
            apply(partition, messages)
            metrics.RESTORED.inc(sum(map(len, messages.values())))
        if partition.progress is not None:
            partition.progress.left(self._replay.left)
        if not self._replay.done:
            return None
        self._say_what_may_be_missing(partition, self._replay)
        self._drop_replay()
        return partition

    def go_live(self, partition: Partition) -> bool:
        """Let a restored partition through at its start offsets; False where the consumer is not ready for that yet."""
        places = [TopicPartition(topic, partition.number, offset) for topic, offset in partition.start.items()]
        try:
            for place in places:
                self.consumer.seek(place)
        except KafkaException as error:
            if error.args[0].code() == KafkaError._STATE:
                return False  # the fetcher of a new assignment has not started
            raise
        partition.live = True
        partition.unseen = set(self._topics)
        partition.meta.applied = {**partition.meta.applied, **partition.start}
        self.consumer.resume(places)
        self._gauge()
        return True

    def look_around(self, ran_dry: bool) -> None:
        """Now and then, between batches: see `Lookout.look`."""
        self._lookout.look(self.partitions.values(), ran_dry)

    def close(self) -> None:
        """Leave without giving up the static membership: the consumer first, the databases are closed after it."""
        with suppress(BrokenState):  # to be restored again
            self._drop_replay()
        self.consumer.close()  # which may still assign
        self._ends.close()
        self.partitions.clear()

    def _assigned(self, _: Any, places: list[TopicPartition]) -> None:
        numbers = sorted({place.partition for place in places})
        if len(places) != len(numbers) * len(self._topics):
            with suppress(KafkaException):
                self._clients.describe(self._topics)  # raises TopicMismatch where one was deleted
            raise RefusedToStart(
                "the group gave this worker different partitions of the raw topics, which cannot be joined: "
                "every member of the group must use partition.assignment.strategy=range"
            )
        for number in numbers:
            self.partitions[number] = self._open_partition(number)
        places = self._with_any_offset(places)
        self.consumer.assign(places)
        self.consumer.pause(places)
        self._gauge()
        log.info("partitions assigned", partitions=numbers)

    def _with_any_offset(self, places: list[TopicPartition]) -> list[TopicPartition]:
        """The places with offsets that exist; paused there, they are sought to the right ones when they go live.

        Not OFFSET_END or another logical one: librdkafka looks those up, and asks again where a seek made the answer
        outdated, so that the late answer undoes the seek (found in 2.16; see `rd_kafka_toppar_handle_Offset`).
        """
        found = []
        reachable = True
        for place in places:
            offset = self.partitions[place.partition].meta.applied.get(place.topic, 0)
            if reachable:
                try:
                    _, offset = self._ends.of(place.topic, place.partition)
                except KafkaException:
                    reachable = False
            found.append(TopicPartition(place.topic, place.partition, offset))
        return found

    def _revoked(self, _: Any, places: list[TopicPartition]) -> None:
        log.info("partitions revoked", partitions=sorted({place.partition for place in places}))
        self._drop_replay()
        self._offsets.forget()
        self.partitions.clear()
        self.consumer.unassign()
        self._gauge()

    def _open_partition(self, number: int) -> Partition:
        origin = Origin(
            self._cluster.cluster_id,
            {topic: self._cluster.topic_ids[topic] for topic in self._topics},
            number,
            self._window_ms,
        )
        store = self._folder.store(number)
        meta = store.meta()
        count = self._cluster.partitions[self._topics[0]]
        if meta is not None and meta.origin.topic_ids == origin.topic_ids and meta.partitions != count:
            raise RefusedToStart(
                f"the raw topics have {count} partitions, this state was built over {meta.partitions}: adding "
                "partitions moves keys away from their history. Make new topics under another FLYBACK_TOPIC_PREFIX"
            )
        if meta is not None and meta.origin != origin:
            log.warning("state is of another cluster, topic, partition, window or version: discarded", partition=number)
            store, meta = self._folder.discard(number), None
        if meta is None:
            meta = Meta(origin, count)
        return self._partition(number, store, meta)

    def _partition(self, number: int, store: Store, meta: Meta) -> Partition:
        records = {self._topology[topic].record or "": topic for topic in self._topics}
        size = FolderSize(self._folder.path / f"partition-{number}")
        return Partition(number, store, Matcher(store, records, self._window_ms), meta, size)

    def _begin(self, partition: Partition) -> bool:
        """Plan the restoring of a partition; False where its committed offsets cannot be read yet."""
        try:
            committed = self._offsets.committed(partition.number)
            edges = {topic: self._ends.of(topic, partition.number) for topic in self._topics}
            known = committed
            if None in committed.values():
                known = self._offsets.with_lost(partition.number, committed)
        except KafkaException as error:
            if not _passing(error.args[0]):
                raise
            return False  # an open transaction of a predecessor, or no broker: asked again in the next step
        log_start = {topic: first for topic, (first, _) in edges.items()}
        log_end = {topic: end for topic, (_, end) in edges.items()} if self._cluster.tells_log_ends else {}
        partition.start = restore.starting_offsets(partition.number, known, log_start, log_end, self._accept_loss)
        partition.unclaimed = partition.start != committed
        begin = restore.replay_from(partition.number, partition.meta.applied, partition.start, log_start)
        if begin is None:
            log.warning(
                "state is older than the log: rebuilt from the log start",
                partition=partition.number,
                applied=partition.meta.applied,
                log_start=log_start,
            )
            store = self._folder.discard(partition.number)
            fresh = self._partition(partition.number, store, Meta(partition.meta.origin, partition.meta.partitions))
            fresh.start, fresh.unclaimed = partition.start, partition.unclaimed
            self.partitions[partition.number] = partition = fresh
            begin = dict(log_start)
        partition.cut = {topic for topic in self._topics if topic not in partition.meta.applied and log_start[topic]}
        partition.store.begin_replay()
        self._replay = Replay(self._clients, partition.number, begin, partition.start)
        partition.progress = Progress(partition.number, self._replay.left)
        return True

    def _say_what_may_be_missing(self, partition: Partition, replay: Replay) -> None:
        """Where a state was built from a log that retention cut within the window: it lacks what was deleted."""
        newest = max(partition.meta.watermarks.values(), default=0)
        for topic in sorted(partition.cut):
            if replay.first.get(topic, newest) > newest - self._window_ms:
                log.warning(
                    "the state was built from a log that starts within the join window: pairs with events that "
                    "retention deleted before are not derived; `flyback reconcile` derives those that the lake holds",
                    topic=topic,
                    partition=partition.number,
                )

    def _hold_back(self, partitions: Iterable[Partition]) -> None:
        held = list(partitions)
        for partition in held:
            partition.live = False
            partition.waiting = {}
        self.consumer.pause([TopicPartition(topic, p.number) for p in held for topic in self._topics])
        self._gauge()

    def _drop_replay(self) -> None:
        if self._replay is not None:
            self._replay.close()
            if (partition := self.partitions.get(self._replay.partition)) is not None:
                partition.store.end_replay()
            self._replay = None

    def _gauge(self) -> None:
        metrics.ASSIGNED.set(len(self.partitions))
        metrics.RESTORING.set(sum(not partition.live for partition in self.partitions.values()))


def _passing(error: KafkaError) -> bool:
    """Whether asking again may help."""
    return error.retriable() or error.code() in (
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._WAIT_COORD,
        KafkaError._UNKNOWN_PARTITION,  # of a broker that has just started; where it is gone, `check_topics` tells
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    )
