"""Reading topics from their start to their present end, by a consumer that joins no group and commits nothing.

An end is where a `read_committed` reader meets it, or passes where it was at first: who waits for the end of a topic
that is written to waits for ever. Offsets have gaps (control records, aborted transactions, compaction), so that no
message need ever stand at "last offset".
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from flyback.errors import BrokerError, TopicMismatch
from flyback.login import Login
from flyback.settings import Settings
from flyback.streams.topology import EMBEDDED_CLUSTER, Topology

_SECONDS = 30.0
_TRANSACTION_SECONDS = 90.0  # what a process of ours that was killed has open is aborted before
_METADATA_SECONDS = 10.0
_BATCH = 10_000
_LOOK_BACK = 64
# A broker that has just started loads what it has to know of the group.
COORDINATOR_MOVES = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)
# A topic that was just made, or whose leader is moving: over in a moment.
_PASSING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._TRANSPORT,
)
_NO_GROUP = "flyback-reader"  # librdkafka wants a name; it never reaches a coordinator

Place = tuple[str, int]
"""A topic's full name and a partition."""


def read(
    settings: Settings, topics: Sequence[str], seconds: float = _SECONDS, partition: int | None = None
) -> Iterator[Message]:
    """Every committed message of these topics (of one partition of each, where given), in order within each partition.

    Ends once it has met the end of every partition. Raises TopicMismatch for a topic that does not exist,
    BrokerError when nothing comes for `seconds`.
    """
    consumer = _Reader(settings)
    try:
        there = _places(consumer, settings, topics)
        everything = dict.fromkeys((place for place in there if partition in (None, place[1])), 0)
        yield from _to_the_end(consumer, everything, seconds)
    finally:
        consumer.close()


def message_at(
    settings: Settings, topic: str, partition: int, offset: int, seconds: float = _SECONDS
) -> Message | None:
    """The message at these coordinates, None where there is none (any more). Raises as `read` does."""
    consumer = _Reader(settings)
    try:
        if (topic, partition) not in _places(consumer, settings, [topic]):
            return None
        low, high = _watermarks(consumer, (topic, partition), seconds)
        if not low <= offset < high:
            return None
        first = next(_to_the_end(consumer, {(topic, partition): offset}, seconds), None)
        return first if first is not None and first.offset() == offset else None
    finally:
        consumer.close()


def places(settings: Settings, topics: Sequence[str]) -> list[Place]:
    """Every partition of these topics. Raises TopicMismatch for a topic that does not exist, BrokerError."""
    consumer = _Reader(settings)
    try:
        return _places(consumer, settings, topics)
    finally:
        consumer.close()


def next_offsets(settings: Settings, topics: Sequence[str], seconds: float = _TRANSACTION_SECONDS) -> dict[Place, int]:
    """For every partition the offset after its last committed message; 0 where there is none.

    What a reader of all messages must have reached. Transactions that are open at first are waited for. Raises as
    `read` does.
    """
    consumer = _Reader(settings)
    try:
        _wait_for_open_transactions(settings, consumer, topics, seconds)
        found: dict[Place, int] = {}
        pending = dict.fromkeys(_places(consumer, settings, topics), _LOOK_BACK)
        while pending:
            starts, whole = _starts(consumer, pending, seconds)
            for message in _to_the_end(consumer, starts, seconds):
                place = (str(message.topic()), int(message.partition() or 0))
                found[place] = int(message.offset() or 0) + 1
            # nothing but gaps so near to the end: look further back
            pending = {p: back * 16 for p, back in pending.items() if p not in found and p not in whole}
            found |= dict.fromkeys(whole - found.keys(), 0)
        return found
    finally:
        consumer.close()


def bounds(settings: Settings, topics: Sequence[str], seconds: float = _SECONDS) -> dict[Place, tuple[int, int]]:
    """For every partition its first offset, and its end as a reader of committed messages sees it.

    The end counts gaps too: see `next_offsets`, which takes longer. Raises TopicMismatch, BrokerError.
    """
    consumer = _Reader(settings)
    try:
        return {place: _watermarks(consumer, place, seconds) for place in _places(consumer, settings, topics)}
    finally:
        consumer.close()


def read_from(
    settings: Settings, starts: Mapping[Place, int], at_most: int, seconds: float = _SECONDS
) -> Iterator[Message]:
    """The first `at_most` committed messages of each partition from an offset of it on. Raises BrokerError."""
    consumer = _Reader(settings)
    try:
        yield from _to_the_end(consumer, starts, seconds, at_most)
    finally:
        consumer.close()


def committed(settings: Settings, group: str, asked_for: Iterable[Place]) -> dict[Place, int]:
    """The offsets that a consumer group has committed; 0 where it has none. Raises BrokerError."""
    return {place: offset or 0 for place, offset in committed_or_none(settings, group, asked_for).items()}


def committed_or_none(settings: Settings, group: str, asked_for: Iterable[Place]) -> dict[Place, int | None]:
    """As `committed`, and None where there is none."""
    consumer = _Reader(settings, group)
    asked = [TopicPartition(topic, partition) for topic, partition in asked_for]
    deadline = time.monotonic() + _SECONDS
    try:
        while True:
            try:
                answered = consumer.committed(asked, timeout=_SECONDS)
                break
            except KafkaException as error:
                if error.args[0].code() not in COORDINATOR_MOVES or time.monotonic() > deadline:
                    raise BrokerError(f"cannot read the offsets of group {group}: {error.args[0].str()}") from error
                time.sleep(0.1)
    finally:
        consumer.close()
    return {(place.topic, place.partition): place.offset if place.offset >= 0 else None for place in answered}


class _Reader(Consumer):
    def __init__(self, settings: Settings, group: str = _NO_GROUP, isolation: str = "read_committed") -> None:
        self.login = Login(settings)
        config: dict[str, Any] = {
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",  # what retention has removed meanwhile is not there to be read
            "enable.partition.eof": True,
            "isolation.level": isolation,
            "fetch.wait.max.ms": 50,
            "receive.message.max.bytes": max(100_000_000, Topology(settings).derived_max_bytes + 1_000_000),
            "log_level": 0,
            "error_cb": self.login,
        }
        super().__init__(settings.kafka() | config)


def _places(consumer: _Reader, settings: Settings, topics: Sequence[str]) -> list[Place]:
    there = consumer.login.metadata(consumer, _METADATA_SECONDS).topics
    missing = [topic for topic in topics if topic not in there]
    if missing:
        raise TopicMismatch(
            f"no topic {', '.join(missing)} at {settings.bootstrap_servers}: is FLYBACK_TOPIC_PREFIX right? "
            "Else type `flyback topics create`"
        )
    return [(topic, partition) for topic in topics for partition in sorted(there[topic].partitions)]


def _wait_for_open_transactions(settings: Settings, consumer: _Reader, topics: Sequence[str], seconds: float) -> None:
    """A transaction's offsets can be visible in the group before its messages are: their markers come one by one."""
    everything = _Reader(settings, isolation="read_uncommitted")
    try:
        ends = {place: _watermarks(everything, place, seconds)[1] for place in _places(consumer, settings, topics)}
    finally:
        everything.close()
    deadline = time.monotonic() + seconds
    for place, end in ends.items():
        while _watermarks(consumer, place, seconds)[1] < end:
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"a transaction in {place[0]}/{place[1]} is still open after {seconds:g} s: is a "
                    "producer stuck? Its transaction.timeout.ms ends it; try again then"
                )
            time.sleep(0.02)


def _watermarks(consumer: Consumer, place: Place, seconds: float) -> tuple[int, int]:
    """First offset, and the one after the last that this consumer may see."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            low, high = consumer.get_watermark_offsets(TopicPartition(*place), timeout=seconds)
        except KafkaException as error:
            if error.args[0].code() not in _PASSING or time.monotonic() > deadline:
                raise BrokerError(f"cannot ask for the end of {place[0]}/{place[1]}: {error.args[0].str()}") from error
            time.sleep(0.05)
        else:
            return int(low), int(high)


def _starts(consumer: Consumer, look_back: Mapping[Place, int], seconds: float) -> tuple[dict[Place, int], set[Place]]:
    """Where to start so far before the end, and which partitions are thereby read whole."""
    starts, whole = {}, set()
    for place, back in look_back.items():
        low, high = _watermarks(consumer, place, seconds)
        starts[place] = max(low, high - back)
        if high - back <= low:
            whole.add(place)
    return starts, whole


def _ends(consumer: _Reader, places: Iterable[Place], seconds: float) -> dict[Place, int]:
    """Where logs end; {} where nobody tells: the embedded broker names the first offset of the last batch."""
    if consumer.login.metadata(consumer, _METADATA_SECONDS).cluster_id == EMBEDDED_CLUSTER:
        return {}
    return {place: _watermarks(consumer, place, seconds)[1] for place in places}


def _to_the_end(
    consumer: _Reader, starts: Mapping[Place, int], seconds: float, at_most: int | None = None
) -> Iterator[Message]:
    open_places = set(starts)
    ends = _ends(consumer, starts, seconds)
    seen = Counter[Place]()
    consumer.assign([TopicPartition(*place, starts[place]) for place in starts])
    deadline = time.monotonic() + seconds
    while open_places:
        messages = consumer.consume(_BATCH, 0.1)
        for message in messages:
            place = (str(message.topic()), int(message.partition() or 0))
            error = message.error()
            if error is None:
                if place in open_places:
                    yield message
                    seen[place] += 1
                    if seen[place] == at_most or int(message.offset() or 0) + 1 >= ends.get(place, sys.maxsize):
                        open_places.discard(place)
                        consumer.incremental_unassign([TopicPartition(*place)])
            elif error.code() == KafkaError._PARTITION_EOF:
                open_places.discard(place)
            elif error.fatal() or not error.retriable():
                raise BrokerError(f"cannot read {place[0]}/{place[1]}: {error.str()}")
        if messages:  # whoever takes them may have taken long
            deadline = time.monotonic() + seconds
        elif open_places and time.monotonic() > deadline:
            names = ", ".join(f"{topic}/{partition}" for topic, partition in sorted(open_places))
            raise BrokerError(f"nothing came from {names} for {seconds:g} s: is the broker healthy?")
