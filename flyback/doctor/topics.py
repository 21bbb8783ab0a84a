"""The topics: there, alike, kept long enough, and on enough brokers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from confluent_kafka import KafkaException
from confluent_kafka.admin import ResourceType

from flyback import topics
from flyback.doctor.brokers import Kafka
from flyback.doctor.check import Check, failed, skipped, warning, worst
from flyback.errors import BrokerError
from flyback.settings import Settings
from flyback.streams.topology import Topology
from flyback.topics import Finding

_ABOUT = {
    "existence": "topics",
    "partitions": "partitions",
    "message.timestamp.type": "timestamps",
    "retention.ms": "retention",
    "retention.bytes": "retention",
    "max.message.bytes": "message sizes",
}
_OTHER = "cleanup"


def as_the_topology_says(settings: Settings, kafka: Kafka) -> Iterator[Check]:
    """What `flyback topics check` finds, by what it is about."""
    topology = Topology(settings)
    there = [name for name in topology.names if name in kafka.metadata.topics]
    three_windows = str(topology.minimum_raw_retention).removesuffix(", 0:00:00")
    fine = {
        "topics": f"all {len(topology.names)} under the prefix {settings.topic_prefix}",
        "partitions": "as many of every event topic",
        "timestamps": "raw topics stamp arrival (LogAppendTime)",
        "retention": f"raw events stay for three join windows ({three_windows}) or longer, whatever their size",
        "message sizes": f"events of FLYBACK_MAX_EVENT_BYTES={settings.max_event_bytes} and what they become fit",
        _OTHER: "compacted and deleted as they have to be",
    }
    try:
        findings = topics.check(settings)
    except BrokerError as error:
        for name in fine:
            yield skipped(name, str(error))
        return
    by_name: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_name[_ABOUT.get(finding.about, _OTHER)].append(finding)
    for name, otherwise in fine.items():
        if not there and name == "topics":
            found = f"none of the {len(topology.names)} exists under the prefix {settings.topic_prefix}"
            yield failed(name, found, "is FLYBACK_TOPIC_PREFIX right? Else type `flyback topics create`")
        elif not there:
            yield skipped(name, "there are no topics yet")
        else:
            yield worst(name, [*_checks(name, by_name[name])], otherwise)


def _checks(name: str, findings: list[Finding]) -> Iterator[Check]:
    """One for each problem, however many topics have it."""
    alike: dict[tuple[str, bool], list[Finding]] = defaultdict(list)
    for finding in findings:
        alike[finding.problem, finding.fatal].append(finding)
    for (problem, fatal), same in alike.items():
        found = f"{', '.join(finding.topic for finding in same)}: {problem}"
        mend = "\n".join(dict.fromkeys(finding.advice for finding in same))
        yield failed(name, found, mend) if fatal else warning(name, found, mend)


def replicated(settings: Settings, kafka: Kafka) -> Check:
    """Whether a broker may be lost without losing events or standing still."""
    name = "replication"
    there = [topic for topic in Topology(settings).names if topic in kafka.metadata.topics]
    if not there:
        return skipped(name, "there are no topics yet")
    try:
        options = kafka.options(ResourceType.TOPIC, there)
    except KafkaException as error:
        return skipped(name, f"the topics' settings cannot be read: {error.args[0].str()}")
    wrong: dict[tuple[str, str, bool], list[str]] = defaultdict(list)
    for topic in there:
        in_sync = int(options[topic].get("min.insync.replicas") or 1)
        partitions = kafka.metadata.topics[topic].partitions.values()
        for problem in {
            problem for p in partitions for problem in _of(p.leader, len(p.replicas), len(p.isrs), in_sync)
        }:
            wrong[problem].append(topic)
    checks = [
        (failed if fatal else warning)(name, f"{_names(names, there)}: {problem}", mend)
        for (problem, mend, fatal), names in sorted(wrong.items())
    ]
    return worst(name, checks, "every topic survives the loss of a broker")


def _of(leader: int, replicas: int, in_sync: int, least: int) -> Iterator[tuple[str, str, bool]]:
    """Problem, how to mend it, whether it is fatal, of one partition."""
    if leader < 0:
        yield "a partition has no leader", "start the brokers that are down", True
    elif in_sync < least:
        yield (
            f"a partition has {in_sync} replicas in sync, min.insync.replicas is {least}: nothing can be written to it",
            "start the brokers that are down",
            True,
        )
    elif in_sync < replicas:
        yield f"a partition has {in_sync} of {replicas} replicas in sync", "look at the brokers that lag behind", False
    if replicas == 1:
        yield (
            "replication factor 1: what the one broker's disk loses is lost, acknowledged or not",
            "on three brokers or more: `FLYBACK_REPLICATION_FACTOR=3 flyback topics create` with a new "
            "FLYBACK_TOPIC_PREFIX, and min.insync.replicas=2",
            False,
        )
    elif least == 1:
        yield (
            "min.insync.replicas is 1: an acknowledged event may be on one broker only",
            "type `kafka-configs.sh --bootstrap-server HOST:PORT --alter --entity-type topics --entity-name TOPIC "
            "--add-config min.insync.replicas=2`",
            False,
        )
    elif least >= replicas:
        yield (
            f"min.insync.replicas is {least} of {replicas} replicas: while one broker restarts nothing can be written",
            f"set min.insync.replicas={replicas - 1} by `kafka-configs.sh`",
            False,
        )


def _names(some: list[str], every: list[str]) -> str:
    return f"all {len(every)} topics" if len(some) == len(every) else ", ".join(some)
