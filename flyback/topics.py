"""The topics on a broker: made, checked against the topology, listed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata, ConfigResource, NewTopic, ResourceType

from flyback.errors import BrokerError, TopicMismatch
from flyback.login import Login
from flyback.settings import Settings
from flyback.streams.topology import Kind, Topology

_SECONDS = 10.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """One way in which a topic is not as the topology says. `fatal`: pairs would be lost or misplaced.

    `about` is the topic's option, such as retention.ms, or existence, or partitions.
    """

    topic: str
    problem: str
    advice: str
    fatal: bool
    about: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.problem}; {self.advice}"


@dataclass(frozen=True, slots=True)
class Listed:
    """A topic of the topology on the broker; `partitions` and `replicas` are 0 where it is missing."""

    name: str
    kind: Kind
    record: str | None
    partitions: int
    replicas: int


def create(settings: Settings) -> list[str]:
    """Make the topics that are missing and wait until every broker shows them. Gives the names of those made.

    Existing ones are left as they are. Raises BrokerError when the broker is not reachable, refuses, or the
    topics do not show in time.
    """
    topology = Topology(settings)
    admin = _Admin(settings)
    there = admin.metadata().topics
    missing = [name for name in topology.names if name not in there]
    wanted = [
        NewTopic(name, topology.partitions(name), settings.replication_factor, config=dict(topology.config(name)))
        for name in missing
    ]
    made = [
        name
        for name, future in (admin.create_topics(wanted, request_timeout=_SECONDS) if wanted else {}).items()
        if _made(name, future)
    ]
    _wait_until_shown(settings, topology.names)
    return made


def check(settings: Settings) -> list[Finding]:
    """What is not as the topology says, worst first. Raises BrokerError when the broker is not reachable."""
    topology = Topology(settings)
    admin = _Admin(settings)
    there = admin.metadata().topics
    partitions = {name: len(there[name].partitions) if name in there else 0 for name in topology.names}
    findings = [
        Finding(name, "does not exist", "type `flyback topics create`", True, "existence")
        for name, count in partitions.items()
        if not count
    ]
    findings += _uneven(topology, partitions)
    present = [name for name, count in partitions.items() if count]
    for name, found in _configs(admin, present).items():
        findings += _differences(topology, name, found)
    return sorted(findings, key=lambda finding: not finding.fatal)


def require(settings: Settings) -> None:
    """Raise TopicMismatch with every fatal finding; what a worker or a sink asks for before it starts."""
    fatal = [str(finding) for finding in check(settings) if finding.fatal]
    if fatal:
        raise TopicMismatch(
            f"topics at {settings.bootstrap_servers} are not as the topology says:\n" + "\n".join(fatal)
        )


def listing(settings: Settings) -> list[Listed]:
    """Every topic of the topology, in its order. Raises BrokerError when the broker is not reachable."""
    topology = Topology(settings)
    there = _Admin(settings).metadata().topics
    listed = []
    for name in topology.names:
        found = list(there[name].partitions.values()) if name in there else []
        replicas = max((len(partition.replicas) for partition in found), default=0)
        listed.append(Listed(name, topology[name].kind, topology[name].record, len(found), replicas))
    return listed


def _uneven(topology: Topology, partitions: Mapping[str, int]) -> Iterator[Finding]:
    """Partition *p* of one keyed topic belongs to partition *p* of every other."""
    raw = {name: partitions[name] for name in topology.raw if partitions[name]}
    expected = max(raw.values(), default=0)
    for name, count in raw.items():
        if count != expected:
            yield Finding(
                name,
                f"has {count} partitions, another raw topic has {expected}",
                "a key must have the same partition in all of them: make new topics under another "
                "FLYBACK_TOPIC_PREFIX and move the producers there",
                True,
                "partitions",
            )
    one_for_one = topology.of(Kind.DERIVED) + topology.of(Kind.COUNTS) + topology.of(Kind.DEAD_LETTERS)
    for name in one_for_one:
        if expected and 0 < partitions[name] != expected:
            yield Finding(
                name,
                f"has {partitions[name]} partitions, the raw topics have {expected}",
                f"delete it if it is empty, then type `FLYBACK_PARTITIONS={expected} flyback topics create`",
                True,
                "partitions",
            )


def _differences(topology: Topology, name: str, found: Mapping[str, str | None]) -> Iterator[Finding]:
    kind = topology[name].kind
    for option, wanted in topology.config(name).items():
        actual = found.get(option)
        least = wanted
        if option == "retention.ms" and kind is Kind.RAW:
            least = str(round(topology.minimum_raw_retention.total_seconds() * 1000))
        if actual is None:
            problem = f"the broker does not say what its {option} is"
            yield Finding(name, problem, f"make sure that it is {wanted}", False, option)
        elif not _satisfies(option, actual, least):
            set_to = f"[{wanted}]" if "," in wanted else wanted
            fatal = kind is Kind.RAW or option in ("max.message.bytes", "cleanup.policy")
            yield Finding(
                name,
                f"{option} is {actual}, {'at least ' if least.isdigit() else ''}{least} is needed",
                "type `kafka-configs.sh --bootstrap-server HOST:PORT --alter --entity-type topics "
                f"--entity-name {name} --add-config {option}={set_to}`",
                fatal,
                option,
            )


def _satisfies(option: str, actual: str, wanted: str) -> bool:
    if option == "cleanup.policy":
        return {word.strip() for word in actual.split(",")} == set(wanted.split(","))
    if option == "retention.ms":
        return actual == "-1" or int(actual) >= int(wanted)
    if option == "max.message.bytes":
        return int(actual) >= int(wanted)
    return actual == wanted


def _configs(admin: AdminClient, names: list[str]) -> dict[str, dict[str, str | None]]:
    if not names:
        return {}
    asked = admin.describe_configs(
        [ConfigResource(ResourceType.TOPIC, name) for name in names], request_timeout=_SECONDS
    )
    try:
        return {
            resource.name: {option: entry.value for option, entry in future.result().items()}
            for resource, future in asked.items()
        }
    except KafkaException as error:
        raise BrokerError(f"cannot read the topics' configuration: {_text(error)}") from error


def _made(name: str, future: Future[Any]) -> bool:
    try:
        future.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:  # another process was quicker
            return False
        raise BrokerError(f"cannot create topic {name}: {_text(error)}") from error
    return True


def _wait_until_shown(settings: Settings, names: list[str]) -> None:
    """Ask every broker in turn: each learns of a new topic in its own time, and a client may ask any."""
    deadline = time.monotonic() + _SECONDS
    brokers = _Admin(settings).metadata().brokers.values()
    for address in [f"{broker.host}:{broker.port}" for broker in brokers]:
        admin = _Admin(settings, bootstrap_servers=address)
        while waiting := _unshown(admin.metadata(), names):
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"broker {address} does not show {', '.join(waiting)} after {_SECONDS:g} s: "
                    "is the cluster healthy? Type `flyback topics create` again"
                )
            time.sleep(_POLL_SECONDS)


def _unshown(metadata: ClusterMetadata, names: list[str]) -> list[str]:
    return [
        name
        for name in names
        if name not in metadata.topics
        or not metadata.topics[name].partitions
        or any(partition.leader < 0 for partition in metadata.topics[name].partitions.values())
    ]


class _Admin(AdminClient):
    def __init__(self, settings: Settings, **more: Any) -> None:
        self._login = Login(settings)
        # librdkafka would print what the calls raise as errors of ours
        quiet: dict[str, Any] = {"log_level": 0, "error_cb": self._login}
        super().__init__(settings.kafka(**more) | quiet)

    def metadata(self) -> ClusterMetadata:
        return self._login.metadata(self, _SECONDS)


def _text(error: KafkaException) -> str:
    return str(error.args[0].str()) if error.args else str(error)
