"""What a worker asks Kafka beside its reading.

May an unused topic follow the others, does the consumer get on, are the topics still the same?
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from flyback.errors import BrokerError, TopicMismatch
from flyback.settings import Settings
from flyback.streams.clients import Clients, Cluster, Consumer
from flyback.streams.log_ends import LogEnds
from flyback.streams.partition import Partition
from flyback.streams.restore import LOOK_UP, anything_between
from flyback.streams.topology import Topology

_IDLE_SECONDS = 60.0
_TOPICS_SECONDS = 1.0
_CLOCK_SKEW_MS = 60_000
_NO_ANSWER = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._WAIT_COORD)
_SILENCES = 5  # more than one would come of an open transaction of a predecessor
_STILL = 2  # looks, each after the consumer had nothing to give; after one, a fetch may still be on its way


class Lookout:
    """Looks at each thing in its own interval. `consumer` is the group's."""

    def __init__(
        self,
        settings: Settings,
        topology: Topology,
        clients: Clients,
        cluster: Cluster,
        consumer: Consumer,
        ends: LogEnds,
        clock: Callable[[], float],
    ) -> None:
        self._topics = topology.raw
        self._clients = clients
        self._cluster = cluster
        self._consumer = consumer
        self._ends = ends
        self._clock = clock
        self._topic_ids: Callable[[], Mapping[str, str] | None] = dict
        self._silences = 0
        self._ran_dry = False
        session = settings.session_timeout.total_seconds()
        self._due = {
            self._let_idle_topics_follow: _IDLE_SECONDS,
            self._check_moving: session,
            self._check_connected: session,
            self._check_topics: _TOPICS_SECONDS,
        }
        self._looked = dict.fromkeys(self._due, clock())

    def look(self, partitions: Iterable[Partition], ran_dry: bool) -> None:
        """What is due. Raises BrokerError where the consumer does not get on, TopicMismatch where a topic changed.

        `ran_dry`: the consumer had nothing more to give just now.
        """
        self._ran_dry = self._ran_dry or ran_dry
        owned = list(partitions)
        for look, seconds in self._due.items():
            if self._clock() - self._looked[look] >= seconds:
                self._looked[look] = self._clock()
                with suppress(KafkaException):  # no broker answers: another time
                    look(owned)

    def _let_idle_topics_follow(self, partitions: list[Partition]) -> None:
        """Topics that are at their end follow the others, so that an unused topic does not keep state for ever.

        The end of a log is asked for after an arrival was seen on another topic: what is appended later arrives later,
        save for the skew between the brokers' clocks.
        """
        for partition in partitions:
            marks = partition.meta.watermarks
            if not partition.live or not marks:
                continue
            reached = max(marks.values()) - _CLOCK_SKEW_MS
            for topic in self._topics:
                behind = marks.get(topic, reached - 1) < reached
                if behind and self._ends.of(topic, partition.number)[1] <= partition.meta.applied.get(topic, 0):
                    marks[topic] = reached

    def _check_moving(self, partitions: list[Partition]) -> None:
        """Raises BrokerError where the consumer gives nothing, from one look to the next, of what was there already.

        A client of librdkafka 2.16 that was told of no broker at all, as where the only one restarts, may never find
        one again (issue 5301). While it always has something to give, what is missing may come after that.
        """
        if not self._ran_dry:
            return
        self._ran_dry = False
        for partition in partitions:
            before, partition.waiting = partition.waiting, {}
            for topic in self._topics if partition.live else ():
                at, (_, end) = partition.meta.applied.get(topic, 0), self._ends.of(topic, partition.number)
                known_at, known_end, times = before.get(topic, (at, at, 0))
                times = times + 1 if known_at == at < known_end else 0
                if times >= _STILL and anything_between(self._clients, partition.number, topic, at, known_end):
                    raise BrokerError(
                        f"{topic}/{partition.number}: the consumer stands still at offset {at}, though the log goes "
                        f"on to {end}. Start this worker again"
                    )
                partition.waiting[topic] = at, end, times

    def _check_connected(self, partitions: list[Partition]) -> None:
        """Raises BrokerError where partitions wait, or there are none, while another client reaches Kafka and the
        group's consumer does not: again and again, for the same reason as above.
        """
        silences, self._silences = self._silences, 0
        if partitions and all(partition.live for partition in partitions):
            return
        topic = self._topics[0]
        try:
            self._consumer.committed([TopicPartition(topic, 0)], timeout=LOOK_UP)
        except KafkaException as error:
            if error.args[0].code() not in _NO_ANSWER:
                return
            self._ends.of(topic, 0)
            self._silences = silences + 1
            if self._silences == _SILENCES:
                raise BrokerError(
                    f"the consumer has got no answer for {_SILENCES} times though Kafka is there: "
                    f"{error.args[0].str()}. Start this worker again"
                ) from error

    def _check_topics(self, _: list[Partition]) -> None:
        """Raises TopicMismatch where a raw topic was deleted, or made again: a consumer goes on reading the new one
        at its old position as if nothing had happened. Asks Kafka, and sees the answer at the next look.
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
