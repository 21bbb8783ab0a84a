"""What alert rules ask beside the counts: dead letters by minute, and how far the workers are behind.

For the whole group, whichever worker asks. What Kafka does not tell in time is None: such rules are then not judged.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from flyback.errors import BrokerError
from flyback.logs import get_logger
from flyback.settings import Settings
from flyback.streams import restore
from flyback.streams.alerts.rules import DeadLetters, Lag, Rule
from flyback.streams.clients import Clients, Cluster
from flyback.streams.log_tail import LogTail, Place
from flyback.streams.rates import MINUTE
from flyback.streams.topology import DERIVED, RAW, Topology

log = get_logger(__name__)

WATCHED = (*RAW, *DERIVED)
"""The topics whose dead letters count. An alert that could not be delivered shall not raise the next one."""

_SECONDS = 10.0
T = TypeVar("T")


class Signals:
    """Asks only what some rule asks for."""

    def __init__(
        self, clients: Clients, settings: Settings, topology: Topology, cluster: Cluster, rules: Iterable[Rule]
    ) -> None:
        """`cluster` describes the raw and the dead-letter topics."""
        kept = tuple(rules)
        self._clients = clients
        self._settings = settings
        self._cluster = cluster
        self._raw = topology.raw
        self._sources = {topology.dead_letters_of(settings.topic_prefix + each.name): each.name for each in WATCHED}
        self._lags = any(isinstance(rule, Lag) for rule in kept)
        self._window = max((rule.window for rule in kept if isinstance(rule, DeadLetters)), default=0)
        self._letters: Counter[tuple[int, str]] = Counter()
        self._tail: LogTail | None = None
        self._unanswered = set[str]()

    def dead_letters(self, now: int) -> Mapping[tuple[int, str], int] | None:
        """Counts by minute (microseconds UTC, when they were written) and topic without the prefix."""
        return self._asked("dead letters", lambda: self._count(now)) if self._window else None

    def lag(self) -> Mapping[str, float] | None:
        """Seconds since the oldest event arrived that the group of the workers has not processed.

        Nobody here knows how far the sink is: its offsets are in the lake.
        """
        return self._asked("lag", self._behind) if self._lags else None

    def close(self) -> None:
        if self._tail is not None:
            self._tail.close()

    def _asked(self, what: str, ask: Callable[[], T]) -> T | None:
        try:
            found = ask()
        except (BrokerError, KafkaException) as error:
            if what not in self._unanswered:
                log.warning(f"{what} cannot be asked for: rules on them are not judged now", reason=str(error))
            self._unanswered.add(what)
            return None
        self._unanswered.discard(what)
        return found

    def _count(self, now: int) -> Mapping[tuple[int, str], int]:
        since = now // MINUTE * MINUTE - self._window * MINUTE
        if self._tail is None:
            self._letters.clear()
            self._tail = LogTail(self._clients, self._starts(since // 1000), self._cluster.tells_log_ends)
        try:
            for messages in self._tail.to_the_end():
                for message in messages:
                    minute = message.timestamp()[1] * 1000 // MINUTE * MINUTE
                    self._letters[minute, self._sources[message.topic()]] += 1
        except (BrokerError, KafkaException):  # what it read of this was counted: from the begin again
            self._tail.close()
            self._tail = None
            raise
        self._letters = Counter({key: many for key, many in self._letters.items() if key[0] >= since})
        return self._letters

    def _starts(self, since_ms: int) -> dict[Place, int]:
        """The first offsets that were written then or later."""
        places = [(topic, p) for topic in self._sources for p in range(self._cluster.partitions[topic])]
        consumer = restore.reader(self._clients)
        try:
            ends = {
                place: consumer.get_watermark_offsets(TopicPartition(*place), timeout=restore.LOOK_UP)[1]
                for place in places
            }
            asked = [TopicPartition(*place, since_ms) for place in places]
            answered = consumer.offsets_for_times(asked, timeout=restore.LOOK_UP)
        finally:
            consumer.close()
        found = {(each.topic, each.partition): each.offset for each in answered if each.error is None}
        # nothing so new: from the end that was there before
        return {place: found[place] if found.get(place, -1) >= 0 else end for place, end in ends.items()}

    def _behind(self) -> Mapping[str, float]:
        places = [TopicPartition(topic, p) for topic in self._raw for p in range(self._cluster.partitions[topic])]
        consumer = self._clients.consumer(
            {
                "group.id": self._settings.group,  # whose offsets are asked for; it does not join
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                # offsets of a transaction that is open are not waited for: there is always one
                "isolation.level": "read_uncommitted",
                "queued.max.messages.kbytes": 4_096,
            }
        )
        try:
            starts = [
                TopicPartition(each.topic, each.partition, each.offset if each.offset >= 0 else OFFSET_BEGINNING)
                for each in consumer.committed(places, timeout=restore.LOOK_UP)
            ]
            consumer.assign(starts)
            open_places, oldest = {(each.topic, each.partition) for each in starts}, []
            deadline = time.monotonic() + _SECONDS
            while open_places:
                for message in consumer.consume(1_000, 0) or consumer.consume(1, 0.1):
                    place, error = (message.topic(), message.partition()), message.error()
                    if error is not None and error.code() != KafkaError._PARTITION_EOF:
                        raise BrokerError(f"cannot read {place[0]}/{place[1]}: {error.str()}")
                    if error is None and place in open_places:
                        oldest.append(message.timestamp()[1])
                    open_places.discard(place)  # its first event, or its end
                if time.monotonic() > deadline:
                    raise BrokerError(f"no answer for {len(open_places)} partitions of the raw topics")
        finally:
            consumer.close()
        return {"worker": max(0.0, time.time() - min(oldest) / 1000) if oldest else 0.0}
