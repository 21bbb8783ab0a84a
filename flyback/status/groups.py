"""Who is in a consumer group, and when it last committed: as Kafka knows it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from flyback import history
from flyback.endpoints import Answer
from flyback.errors import BrokerError
from flyback.login import Login
from flyback.settings import Settings
from flyback.streams.topology import Topology

_SECONDS = 20.0
_NEWEST = 1_000


@dataclass(frozen=True, slots=True)
class Member:
    """One process in a group; `name` is a worker's id."""

    name: str
    host: str


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group. `state` is Kafka's word: stable, empty, dead (there is none) ...; `owners` by partition."""

    name: str
    cluster_id: str
    state: str
    members: list[Member] = field(default_factory=list)
    owners: dict[int, Member] = field(default_factory=dict)


def describe(settings: Settings, name: str, topics: list[str]) -> Group:
    """The group, and who owns which partition of these topics. Raises BrokerError."""
    login = Login(settings)
    admin = AdminClient(settings.kafka() | {"log_level": 0, "error_cb": login})
    deadline = time.monotonic() + _SECONDS
    try:
        cluster_id = login.metadata(admin, _SECONDS).cluster_id or ""
        found: Any = None
        while found is None:
            try:
                found = admin.describe_consumer_groups([name], request_timeout=_SECONDS)[name].result()
            except KafkaException as error:
                if error.args[0].code() not in history.COORDINATOR_MOVES or time.monotonic() >= deadline:
                    text = f"cannot ask for the members of group {name}: {error.args[0].str()}"
                    raise BrokerError(text) from error
                time.sleep(0.1)
    finally:
        # librdkafka aborts the process where the coordinator comes back after the time-out (issue 4605): what is
        # raised here, Ctrl-C too, must not keep the client alive
        del admin
    group = Group(name, cluster_id, found.state.name.lower())
    for described in found.members:
        member = Member(described.client_id, described.host.removeprefix("/"))
        group.members.append(member)
        for place in described.assignment.topic_partitions if described.assignment else ():
            if place.topic in topics:
                group.owners[place.partition] = member
    return group


def add_workers(group: Group, answers: Iterable[Answer]) -> None:
    """Take workers at their word, where the broker names no members of any group: the embedded one does not."""
    for answer in answers:
        if answer.health and answer.health["assigned"]:
            member = Member(answer.health["worker_id"], answer.address.rpartition(":")[0])
            group.members.append(member)
            group.owners.update(dict.fromkeys(answer.health["assigned"], member))


def last_commits(settings: Settings, topology: Topology) -> dict[tuple[str, int], float]:
    """When workers last committed, by group and partition, in Unix time, as far as the newest progress records say."""
    topic = topology.topic_of("Progress")
    bounds = history.bounds(settings, [topic])
    starts = {place: max(first, end - _NEWEST) for place, (first, end) in bounds.items() if first < end}
    found: dict[tuple[str, int], float] = {}
    for message in history.read_from(settings, starts, _NEWEST) if starts else ():
        try:
            group, _, partition = json.loads(message.key() or b"")
        except (ValueError, TypeError):  # somebody else's
            continue
        found[group, partition] = max(found.get((group, partition), 0.0), message.timestamp()[1] / 1000)
    return found


def whose(settings: Settings, commits: Iterable[tuple[str, int]]) -> str:
    """A question where only workers of other groups ever committed, "" where ours did or nobody.

    `commits`: as `last_commits` gives them.
    """
    groups = sorted({group for group, _ in commits})
    if not groups or settings.group in groups:
        return ""
    return f"the workers of these topics were in {', '.join(groups)}, is FLYBACK_GROUP right? Else "
