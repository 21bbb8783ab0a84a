"""The brokers: whether they answer, and whether their settings fit ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata, ConfigResource, ResourceType

from flyback.doctor.check import Check, failed, ok, skipped, warning, worst
from flyback.errors import BrokerError
from flyback.login import Login
from flyback.settings import Settings
from flyback.streams.topology import Topology

SECONDS = 10.0
_MS = timedelta(milliseconds=1)
_ROOM = 131_072  # what a request needs besides its largest message
_SLOW_CLEANUP_MS = 2_000

Options = Mapping[str, str | None]


@dataclass(frozen=True)
class Kafka:
    """A Kafka that answers."""

    admin: AdminClient
    metadata: ClusterMetadata

    def options(self, kind: ResourceType, names: Sequence[str]) -> dict[str, Options]:
        """The configuration of brokers or topics. Raises KafkaException where we may not see it."""
        asked = self.admin.describe_configs([ConfigResource(kind, name) for name in names], request_timeout=SECONDS)
        return {
            resource.name: {option: entry.value for option, entry in future.result().items()}
            for resource, future in asked.items()
        }


def connect(settings: Settings) -> tuple[Check, Kafka | None]:
    """Whether Kafka answers, and what to ask it by."""
    login = Login(settings)
    quiet: dict[str, Any] = {"log_level": 0, "error_cb": login}
    try:
        admin = AdminClient(settings.kafka() | quiet)
        metadata = login.metadata(admin, SECONDS)
    except BrokerError as error:
        return failed("broker", str(error), "start Kafka, or set KAFKA_BOOTSTRAP_SERVERS to where it is"), None
    except KafkaException as error:  # settings that librdkafka refuses, such as a file that is no certificate
        return failed(
            "broker",
            str(error.args[0].str()),
            "mend the setting that it names: ssl.ca.location is KAFKA_SSL_CA_LOCATION",
        ), None
    brokers = ", ".join(f"{broker.host}:{broker.port}" for broker in metadata.brokers.values())
    # which version of Kafka the brokers run, no client is told
    return ok("broker", f"cluster {metadata.cluster_id}, brokers {brokers}"), Kafka(admin, metadata)


def settings_fit(settings: Settings, kafka: Kafka) -> Iterator[Check]:
    """Transactions, sessions, request sizes: what brokers refuse although they run."""
    names = [str(number) for number in kafka.metadata.brokers]
    try:
        brokers = kafka.options(ResourceType.BROKER, names)
    except KafkaException as error:
        why = f"the brokers' settings cannot be read ({error.args[0].str()}): it needs DESCRIBE_CONFIGS on the cluster"
        for name in ("transactions", "sessions", "request size", "new topics", "internal topics"):
            yield skipped(name, why)
        return
    for check, name, fine in (
        (_transactions, "transactions", f"timeout {_ms(settings.transaction_timeout)} ms is allowed"),
        (_sessions, "sessions", f"session timeout {_ms(settings.session_timeout)} ms is allowed"),
        (_requests, "request size", f"{Topology(settings).derived_max_bytes} bytes fit into a request"),
        (_new_topics, "new topics", "are not made by themselves"),
        (_internal_topics, "internal topics", "the group's and transactions' own topics are replicated as they can be"),
    ):
        wrong = [one for number, options in brokers.items() for one in check(name, settings, kafka, number, options)]
        yield worst(name, wrong, fine)


def _transactions(name: str, settings: Settings, kafka: Kafka, broker: str, options: Options) -> Iterator[Check]:
    ours = _ms(settings.transaction_timeout)
    most = _number(options, "transaction.max.timeout.ms")
    if most is not None and most < ours:
        yield failed(
            name,
            f"broker {broker} allows transactions of {most} ms (transaction.max.timeout.ms), ours may take {ours} ms",
            f"set FLYBACK_TRANSACTION_TIMEOUT={most}ms, or raise transaction.max.timeout.ms in the broker's "
            "server.properties",
        )
    cleanup = _number(options, "transaction.abort.timed.out.transaction.cleanup.interval.ms")
    if cleanup is not None and cleanup > _SLOW_CLEANUP_MS:
        yield warning(
            name,
            f"broker {broker} looks for abandoned transactions every {cleanup} ms only: after a worker was killed, "
            f"readers and its successor wait up to {ours + cleanup} ms",
            "set transaction.abort.timed.out.transaction.cleanup.interval.ms=1000 in the broker's server.properties",
        )


def _sessions(name: str, settings: Settings, kafka: Kafka, broker: str, options: Options) -> Iterator[Check]:
    ours = _ms(settings.session_timeout)
    least = _number(options, "group.min.session.timeout.ms") or 0
    most = _number(options, "group.max.session.timeout.ms") or max(least, ours)
    if not least <= ours <= most:
        yield failed(
            name,
            f"broker {broker} allows session timeouts from {least} to {most} ms (group.min and "
            f"max.session.timeout.ms), ours is {ours} ms",
            f"set FLYBACK_SESSION_TIMEOUT={min(max(ours, least), most)}ms, or change the broker's server.properties",
        )


def _requests(name: str, settings: Settings, kafka: Kafka, broker: str, options: Options) -> Iterator[Check]:
    needed = Topology(settings).derived_max_bytes + _ROOM
    most = _number(options, "socket.request.max.bytes")
    if most is not None and most < needed:
        yield failed(
            name,
            f"broker {broker} takes requests of at most {most} bytes (socket.request.max.bytes), a derived event with "
            f"two events of FLYBACK_MAX_EVENT_BYTES={settings.max_event_bytes} needs {needed}",
            f"set socket.request.max.bytes={needed} in the broker's server.properties, or lower "
            "FLYBACK_MAX_EVENT_BYTES",
        )


def _new_topics(name: str, settings: Settings, kafka: Kafka, broker: str, options: Options) -> Iterator[Check]:
    if options.get("auto.create.topics.enable") == "true":
        yield warning(
            name,
            f"broker {broker} makes topics by itself: a producer with a mistyped FLYBACK_TOPIC_PREFIX would send its "
            "events to a topic that nobody reads",
            "set auto.create.topics.enable=false in the broker's server.properties",
        )


def _internal_topics(name: str, settings: Settings, kafka: Kafka, broker: str, options: Options) -> Iterator[Check]:
    brokers = len(kafka.metadata.brokers)
    for option in ("offsets.topic.replication.factor", "transaction.state.log.replication.factor"):
        replicas = _number(options, option)
        if replicas is not None and replicas < min(3, brokers):
            yield warning(
                name,
                f"broker {broker} has {option}={replicas} though there are {brokers} brokers: where the broker with "
                "the only copy is down, no worker commits",
                f"set {option}=3 in the brokers' server.properties before the topic is made; one that is there grows "
                "by `kafka-reassign-partitions.sh`",
            )


def _number(options: Options, name: str) -> int | None:
    value = options.get(name)
    return int(value) if value is not None and value.lstrip("-").isdigit() else None


def _ms(duration: timedelta) -> int:
    return duration // _MS
