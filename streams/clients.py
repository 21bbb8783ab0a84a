"""The part of confluent-kafka that the engine uses, as a seam: tests put an in-memory Kafka in its place.

One suite (`tests/streams/test_kafka_contract.py`) runs over both, so that the double cannot lie.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import confluent_kafka
from confluent_kafka import TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from flyback.errors import TopicMismatch
from flyback.login import Login
from flyback.logs import get_logger
from flyback.settings import Settings
from flyback.streams.topology import EMBEDDED_CLUSTER

log = get_logger(__name__)
_LIBRDKAFKA = logging.getLogger("librdkafka")

# Of one answer of a broker, compressed: librdkafka looks how full its queue is between two answers, not before it
# decompresses one, and what is much alike becomes twenty times as large.
_FETCH = {
    "fetch.max.bytes": 2_000_000,
    "fetch.queue.backoff.ms": 10,  # after the queue was full; by default a second, in which it runs empty
}

Headers = Sequence[tuple[str, bytes | None]]
OnPartitions = Callable[[Any, list[TopicPartition]], None]


class Message(Protocol):
    """A consumed message; its methods are confluent-kafka's."""

    def error(self) -> Any: ...
    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def timestamp(self) -> tuple[int, int]: ...
    def headers(self) -> Any: ...


class Consumer(Protocol):
    """confluent-kafka's Consumer, as far as it is used."""

    def subscribe(
        self, topics: list[str], *, on_assign: OnPartitions, on_revoke: OnPartitions, on_lost: OnPartitions
    ) -> None: ...
    def assign(self, partitions: list[TopicPartition]) -> None: ...
    def unassign(self) -> None: ...
    def pause(self, partitions: list[TopicPartition]) -> None: ...
    def resume(self, partitions: list[TopicPartition]) -> None: ...
    def seek(self, partition: TopicPartition) -> None: ...
    def consume(self, num_messages: int, timeout: float) -> Sequence[Message]: ...
    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]: ...
    def consumer_group_metadata(self) -> Any: ...
    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]: ...
    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]: ...
    def close(self) -> None: ...


class Producer(Protocol):
    """confluent-kafka's transactional Producer, as far as it is used."""

    def __len__(self) -> int: ...
    def init_transactions(self, timeout: float) -> None: ...
    def begin_transaction(self) -> None: ...
    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        on_delivery: Callable[[Any, Any], None],
        headers: Headers | None,
    ) -> None: ...
    def poll(self, timeout: float) -> int: ...
    def send_offsets_to_transaction(
        self, positions: list[TopicPartition], group_metadata: Any, timeout: float
    ) -> None: ...
    def commit_transaction(self, timeout: float) -> None: ...
    def abort_transaction(self, timeout: float) -> None: ...


@dataclass(frozen=True)
class Cluster:
    """Which cluster this is, and of its topics the ids and the numbers of partitions."""

    cluster_id: str
    topic_ids: Mapping[str, str]
    partitions: Mapping[str, int]

    @property
    def tells_log_ends(self) -> bool:
        """Whether the end of a log is what the broker says: the embedded one names its last batch's first offset."""
        return self.cluster_id != EMBEDDED_CLUSTER


class Clients(Protocol):
    """Opens consumers and producers. `config` is librdkafka's, added to address and security."""

    def consumer(self, config: Mapping[str, Any]) -> Consumer: ...
    def producer(self, config: Mapping[str, Any]) -> Producer: ...
    def describe(self, topics: Iterable[str]) -> Cluster:
        """Raises TopicMismatch where a topic is missing, KafkaException where no broker answers."""
        ...

    def ask_topic_ids(self, topics: Iterable[str]) -> Callable[[], Mapping[str, str] | None]:
        """Asks and does not wait: what it gives is called for the answer, None while there is none yet.

        The answer raises as `describe` does.
        """
        ...


class KafkaClients:
    """Real Kafka, with the settings' address and security in every client."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._login = Login(settings, log.error)
        self._asking: AdminClient | None = None

    def consumer(self, config: Mapping[str, Any]) -> Consumer:
        return confluent_kafka.Consumer(self._config(_FETCH | dict(config)))  # type: ignore[return-value]

    def producer(self, config: Mapping[str, Any]) -> Producer:
        return confluent_kafka.Producer(self._config(config))  # type: ignore[return-value]

    def describe(self, topics: Iterable[str]) -> Cluster:
        admin = AdminClient(self._config({}))
        names = list(topics)
        asked = admin.describe_topics(TopicCollection(names), request_timeout=10)
        try:
            found = {name: _description(name, answer) for name, answer in asked.items()}
        except confluent_kafka.KafkaException:
            admin.poll(0)  # for the error_cb: this may be a refused login
            raise
        cluster = admin.describe_cluster(request_timeout=10).result()
        return Cluster(
            str(cluster.cluster_id),
            {name: str(topic.topic_id) for name, topic in found.items()},
            {name: len(topic.partitions) for name, topic in found.items()},
        )

    def ask_topic_ids(self, topics: Iterable[str]) -> Callable[[], Mapping[str, str] | None]:
        if self._asking is None:
            self._asking = AdminClient(self._config({}))
        asked = self._asking.describe_topics(TopicCollection(list(topics)), request_timeout=10)

        def answer() -> Mapping[str, str] | None:
            if not all(each.done() for each in asked.values()):
                return None
            try:
                return {name: str(_description(name, each).topic_id) for name, each in asked.items()}
            except confluent_kafka.KafkaException:
                self._asking = None  # a client that lost all brokers may never find them again
                raise

        return answer

    def _config(self, more: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._settings.kafka(), "error_cb": self._told, "logger": _LIBRDKAFKA, **more}

    def _told(self, error: confluent_kafka.KafkaError) -> None:
        """What librdkafka tells besides: a broker that is down, all brokers down. It goes on trying."""
        log.debug("kafka client", error=str(error))
        self._login(error)


def _description(topic: str, asked: Any) -> Any:
    """The description of a topic, once it is there."""
    try:
        return asked.result()
    except confluent_kafka.KafkaException as error:
        if error.args[0].code() == confluent_kafka.KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise TopicMismatch(f"topic {topic} does not exist: run `flyback topics create`") from None
        raise
