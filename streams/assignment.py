"""Which partitions this worker owns, and the barrier: none is processed before its state is level with Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from flyback import metrics
from flyback.errors import BrokenState, BrokerError, RefusedToStart, TopicMismatch
from flyback.logs import get_logger
from flyback.schemas.catalog import Catalog
from flyback.settings import Settings
from flyback.streams import restore
from flyback.streams.clients import Clients, Cluster, Consumer, Message
from flyback.streams.folder_size import FolderSize
from flyback.streams.group_offsets import GroupOffsets
from flyback.streams.matcher import Matcher
from flyback.streams.restore import Progress, Replay
from flyback.streams.state import Meta, Origin, StateFolder, Store
from flyback.streams.topology import Topology

log = get_logger(__name__)

_LOOK_UP = 5.0
_SLICE = 5_000
_CLOCK_SKEW_MS = 60_000


@dataclass
class Partition:
    """One number of all three raw topics, with this worker's state of it."""

    number: int
    store: Store
    matcher: Matcher
    meta: Meta
    size: FolderSize
    live: bool = False
    start: dict[str, int] = field(default_factory=dict)
    """Where live processing goes on, by topic; known once the committed offsets were read."""
    unseen: set[str] = field(default_factory=set)
    """Topics of which no message has come since the partition went live."""
    waiting: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Where it was and where the log ended, by topic, when it was last looked at."""
    unclaimed: bool = False
    """Whether the group has not committed where it starts for some topic of it."""
    cut: set[str] = field(default_factory=set)
    """Topics that are replayed from a log start that is not the first offset."""
    progress: Progress | None = None
    """How far it is restored; None until that is planned."""

    def status(self) -> dict[str, Any]:
        """For health checks: events replayed of those to be replayed (None until that is known), bytes of state."""
        return {
            "live": self.live,
            "restored": self.progress.done if self.progress else None,
            "to_restore": self.progress.total if self.progress else None,
            "state_bytes": self.size(),
        }


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
        self._topic_ids: Callable[[], Mapping[str, str] | None] = dict
        self.partitions: dict[int, Partition] = {}
        # asks for the logs' ends on a connection of its own: on the main one answers queue behind waiting fetches
        self._lookup = restore.reader(clients, isolation="read_uncommitted")
        self.consumer = self._open()
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
            if offset > start and self._anything_between(partition.number, topic, start, offset) is not False:
                log.warning("events were skipped: gone back", topic=topic, partition=partition.number, at=offset)
                self._hold_back([partition])
                return None
        return partition if offset >= partition.meta.applied.get(topic, 0) else None

    def rewind(self) -> None:
        """Put every partition behind the barrier again: after a batch that was dropped."""
        self._drop_replay()
        self._hold_back(self.partitions.values())

    def restore(self, apply: Callable[[Partition, list[Message]], None]) -> Partition | None:
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
            metrics.RESTORED.inc(len(messages))
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

    def idle_watermarks(self) -> None:
        """Let topics that are at their end follow the others, so that an unused topic does not keep state for ever.

        The end of a log is asked for after an arrival was seen on another topic: what is appended later arrives later,
        save for the skew between the brokers' clocks.
        """
        for partition in self.partitions.values():
            marks = partition.meta.watermarks
            if not partition.live or not marks:
                continue
            reached = max(marks.values()) - _CLOCK_SKEW_MS
            try:
                for topic in self._topics:
                    if marks.get(topic, reached - 1) < reached and self._at_end(topic, partition):
                        marks[topic] = reached
            except KafkaException:
                return  # no broker answers: another time

    def check_moving(self) -> None:
        """Raises BrokerError where the consumer gives nothing, from one call to the next, of what was there already.

        Seen with librdkafka 2.16 after a broker was killed: assigned, sought and resumed, and nothing comes.
        """
        for partition in self.partitions.values():
            before, partition.waiting = partition.waiting, {}
            for topic in self._topics if partition.live else ():
                at = partition.meta.applied.get(topic, 0)
                place = TopicPartition(topic, partition.number)
                try:
                    _, end = self._lookup.get_watermark_offsets(place, timeout=_LOOK_UP)
                except KafkaException:
                    return  # no broker answers: another time
                known_at, known_end = before.get(topic, (at, at))
                if known_at == at < known_end and self._anything_between(partition.number, topic, at, known_end):
                    raise BrokerError(
                        f"{topic}/{partition.number}: the consumer stands still at offset {at}, though the log goes "
                        f"on to {end}. Start this worker again"
                    )
                partition.waiting[topic] = at, end

    def check_topics(self) -> None:
        """Raises TopicMismatch where a raw topic was deleted, or made again: a consumer goes on reading the new one
        at its old position as if nothing had happened. Asks Kafka, and sees the answer in the next call.
        """
        found: Mapping[str, str] | None = {}
        with suppress(KafkaException):  # no broker answered: asked again
            found = self._topic_ids()
        if found is None:
            return
        self._topic_ids = self._clients.ask_topic_ids(self._topics)
        for topic, topic_id in found.items():
            if topic_id != self._cluster.topic_ids[topic]:
                raise TopicMismatch(
                    f"{topic} was deleted and made again while this worker ran: what it knows of the former one does "
                    "not count. Start this worker again"
                )

    def close(self) -> None:
        """Leave without giving up the static membership: the consumer first, the databases are closed after it."""
        with suppress(BrokenState):  # to be restored again
            self._drop_replay()
        self._lookup.close()
        self.consumer.close()
        self.partitions.clear()

    def _at_end(self, topic: str, partition: Partition) -> bool:
        _, end = self._lookup.get_watermark_offsets(TopicPartition(topic, partition.number), timeout=_LOOK_UP)
        return end <= partition.meta.applied.get(topic, 0)

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
                    _, offset = self._lookup.get_watermark_offsets(place, timeout=_LOOK_UP)
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
        places = [TopicPartition(topic, partition.number) for topic in self._topics]
        try:
            committed = self._offsets.committed(partition.number)
            edges = {p.topic: self._lookup.get_watermark_offsets(p, timeout=_LOOK_UP) for p in places}
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

    def _anything_between(self, partition: int, topic: str, begin: int, end: int) -> bool | None:
        """Whether there is a committed record; None where nothing tells in time."""
        replay = Replay(self._clients, partition, {topic: begin}, {topic: end})
        deadline = time.monotonic() + _LOOK_UP
        try:
            while not replay.done:
                if replay.read(1, timeout=0.1):
                    return True
                if time.monotonic() > deadline:
                    return None
        finally:
            replay.close()
        return False

    def _hold_back(self, partitions: Iterable[Partition]) -> None:
        held = list(partitions)
        for partition in held:
            partition.live = False
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
