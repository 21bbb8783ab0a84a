"""The restore rule: where a partition goes on, and how its state is brought level with that.

The raw topics are the changelog. On assignment the state is behind the committed offsets or level with them; what
lies between is replayed, its output thrown away. Losing the disk is the same rule from the start of the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, TopicPartition

from flyback.errors import BrokerError, RefusedToStart
from flyback.logs import get_logger
from flyback.streams.clients import Clients, Consumer, Message

log = get_logger(__name__)

Offsets = Mapping[str, int]
"""Offsets of one partition, by topic."""

LOOK_UP = 5.0
"""Seconds that one question about a log may take."""
_SAY_SECONDS = 5.0


def starting_offsets(
    partition: int,
    committed: Mapping[str, int | None],
    log_start: Offsets,
    log_end: Offsets,
    accept_loss: bool = False,
) -> dict[str, int]:
    """Where the group goes on in one partition: at its committed offsets, at the log start where it has none.

    Raises RefusedToStart where retention has deleted events that the group never processed (with `accept_loss` they
    are told of and left out), and where the log ends before the group's offset. `log_end`: {} where no one knows it.
    """
    for topic, offset in committed.items():
        if offset is not None and offset > log_end.get(topic, offset):
            raise RefusedToStart(
                f"{topic}/{partition}: the group's offset {offset} is past the log's end {log_end[topic]}: the topic "
                "lost events, or is another one of this name. Stop all workers, set the group's offsets to the end "
                "(kafka-consumer-groups --reset-offsets --to-latest) and delete the workers' state folders"
            )
    lost = [
        f"{topic}/{partition}: the group's offset {offset} is below the log start {log_start[topic]}: retention "
        f"deleted offsets {offset} to {log_start[topic] - 1}, {log_start[topic] - offset} events that were never "
        "processed"
        for topic, offset in committed.items()
        if offset is not None and offset < log_start[topic]
    ]
    if lost and not accept_loss:
        raise RefusedToStart(
            f"{'; '.join(lost)}. Raise retention.ms. To go on without them, start each worker once by "
            "`flyback worker --accept-loss`"
        )
    for each in lost:
        log.warning("loss accepted", lost=each)
    return {topic: max(offset or 0, log_start[topic]) for topic, offset in committed.items()}


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
    """Reads one partition of the raw topics from one set of offsets to another, without a group.

    In the order of arrival over all topics, as it was read when it was new: feedback that is read long before its
    prediction would have to wait in the state. So each topic has a consumer of its own, and none gets ahead.
    """

    def __init__(self, clients: Clients, partition: int, begin: Offsets, end: Offsets) -> None:
        self.partition = partition
        self.end = dict(end)
        self._at = {topic: min(begin[topic], offset) for topic, offset in end.items()}
        self.first: dict[str, int] = {}
        """Arrival (ms) of the first event read, by topic."""
        self._readers: dict[str, Consumer] = {}
        self._ahead = {topic: _Ahead() for topic in end}
        for topic, offset in end.items():
            if self._at[topic] < offset:
                self._readers[topic] = reader(clients)
                self._readers[topic].assign([TopicPartition(topic, partition, begin[topic])])

    @property
    def done(self) -> bool:
        """Whether everything up to the end has been read."""
        return not self._readers and not any(ahead.messages for ahead in self._ahead.values())

    @property
    def left(self) -> int:
        """How many offsets are still to be read: as many events, or more where there are gaps."""
        return sum(offset - self._at[topic] + len(self._ahead[topic].messages) for topic, offset in self.end.items())

    def read(self, at_most: int, timeout: float) -> dict[str, list[Message]]:
        """The next messages below the end offsets by topic, at most so many."""
        for topic in [topic for topic in self._readers if not self._ahead[topic].messages]:
            self._consume(topic, at_most, timeout)
        # what a topic has still to give arrived after all of this
        reached = min((max(self._ahead[topic].arrivals, default=-1) for topic in self._readers), default=None)
        found = {}
        for topic, ahead in self._ahead.items():
            if taken := ahead.take(at_most, reached):
                found[topic] = taken
                at_most -= len(taken)
        return found

    def close(self) -> None:
        for topic in list(self._readers):
            self._readers.pop(topic).close()

    def _consume(self, topic: str, at_most: int, timeout: float) -> None:
        """Offsets have gaps, so the end of the log ends a topic too."""
        end, at = self.end[topic], self._at[topic]
        found = _fetched(self._readers[topic], at_most, timeout)
        messages = [message for message in found if message.error() is None]
        if messages:
            self.first.setdefault(topic, messages[0].timestamp()[1])
            at = messages[-1].offset() + 1
            if at > end:
                messages = [message for message in messages if message.offset() < end]
            self._ahead[topic].add(messages)
        for error in [message.error() for message in found] if len(messages) < len(found) else ():
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                at = end
            elif error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise BrokerError(
                    f"{topic}/{self.partition}: retention deleted events while they were replayed: {error.str()}. "
                    "Start this worker again: its state is then rebuilt from the log start"
                )
        self._at[topic] = min(at, end)
        if at >= end:
            self._readers.pop(topic).close()


def _fetched(consumer: Consumer, at_most: int, timeout: float) -> Sequence[Message]:
    """What the client has; where it has nothing, the first that comes. `consume` alone waits until it has so many."""
    return consumer.consume(at_most, 0) or [*consumer.consume(1, timeout), *consumer.consume(at_most, 0)]


class _Ahead:
    """Messages of one topic that were read and not yet given, with their arrivals (ms)."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.arrivals: list[int] = []

    def add(self, messages: list[Message]) -> None:
        self.messages += messages
        self.arrivals += [message.timestamp()[1] for message in messages]

    def take(self, at_most: int, reached: int | None) -> list[Message]:
        """The first of them, up to one that arrived after `reached` (ms)."""
        many = min(at_most, len(self.messages))
        if reached is not None and max(self.arrivals, default=reached) > reached:
            many = next((i for i, arrived_at in enumerate(self.arrivals[:many]) if arrived_at > reached), many)
        taken = self.messages[:many]
        del self.messages[:many], self.arrivals[:many]
        return taken


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
        "queued.max.messages.kbytes": 16_384,
    }
    return clients.consumer(config)


def anything_between(clients: Clients, partition: int, topic: str, begin: int, end: int) -> bool | None:
    """Whether there is a committed record; None where nothing tells in time."""
    replay = Replay(clients, partition, {topic: begin}, {topic: end})
    deadline = time.monotonic() + LOOK_UP
    try:
        while not replay.done:
            if replay.read(1, timeout=0.1):
                return True
            if time.monotonic() > deadline:
                return None
    finally:
        replay.close()
    return False
