"""Is all well, and how far behind is it: from Kafka and from what workers and sinks say of themselves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from flyback import endpoints, history
from flyback.endpoints import Answer
from flyback.errors import LakeError
from flyback.history import Place
from flyback.settings import Settings
from flyback.sinks.tables import TABLES, landed
from flyback.status import groups, lag
from flyback.status.groups import Group
from flyback.status.lag import DeadLetters, Lag, Total
from flyback.streams.topology import EMBEDDED_CLUSTER, Topology

LATE_SECONDS = 60.0
"""An event that waits longer than this is behind, not merely under way."""

Verdict = Literal["well", "behind", "not well"]


@dataclass(frozen=True, slots=True)
class Joined:
    """One partition of the three raw topics. What only its worker knows is None where that did not answer.

    `live`: it is processed; else `restored` of `to_restore` events are replayed into its state first. `last_commit` in
    Unix time.
    """

    partition: int
    worker: str | None
    host: str | None
    lags: list[Lag]
    live: bool | None = None
    restored: int | None = None
    to_restore: int | None = None
    state_bytes: int | None = None
    last_commit: float | None = None


@dataclass(frozen=True, slots=True)
class Landed:
    """What is in a lake. `source` says where its offsets are from: the address of a sink, or the tables."""

    lake: str
    source: str
    lags: list[Lag]
    last_commit: float | None = None


@dataclass(slots=True)
class Status:
    """Everything `flyback status` tells. `problems` and `unknown` are sentences."""

    verdict: Verdict
    at: float
    streams: Group
    partitions: list[Joined]
    sinks: list[Landed]
    windows: Group
    windows_lags: list[Lag]
    dead_letters: list[DeadLetters]
    problems: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def joining(self) -> Total:
        """How far the workers are behind."""
        return Total.of(one for partition in self.partitions for one in partition.lags)

    @property
    def landing(self) -> Total:
        """How far the lakes are behind the topics, those that the workers have yet to write not counted."""
        return Total.of(one for sink in self.sinks for one in sink.lags)

    @property
    def restoring(self) -> list[Joined]:
        return [partition for partition in self.partitions if partition.live is False]


def examine(
    settings: Settings, workers: Sequence[str] = (), sinks: Sequence[str] = (), read_lake: bool = False
) -> Status:
    """Ask Kafka, and the endpoints at these addresses (none: the ones the settings name).

    The tables of the settings' lake are read where no sink tells its offsets; by `read_lake` also where sinks only
    tell those of other lakes.

    Raises BrokerError and TopicMismatch where Kafka or the topics are not there, ConfigurationError for an address that
    is none; endpoints that are down only leave things unknown.
    """
    topology, now = Topology(settings), time.time()
    of_workers = endpoints.ask(workers or endpoints.usual(settings, settings.worker_http_port), mark="assigned")
    of_sinks = endpoints.ask(sinks or endpoints.usual(settings, settings.sink_http_port), mark="lake")
    streams = groups.describe(settings, settings.group, topology.raw)
    windows = groups.describe(settings, topology.app_group, [topology.topic_of("FailureRate")])
    if streams.cluster_id == EMBEDDED_CLUSTER:
        groups.add_workers(streams, of_workers)
    unknown = [f"worker at {a.address} {a.problem}: its state and restoring" for a in of_workers if a.problem]
    members = {member.name for member in streams.members}
    unknown += [
        f"worker at {a.address} is no member of group {streams.name}: what it does"
        for a in of_workers
        if a.health and a.health["worker_id"] not in members
    ]
    unknown += [f"sink at {a.address} {a.problem}: whether it runs" for a in of_sinks if a.problem]
    of_sinks = [a for a in of_sinks if _is_ours(a, streams.cluster_id, unknown)]
    commits = groups.last_commits(settings, topology)
    found = Status(
        verdict="well",
        at=now,
        streams=streams,
        partitions=_joined(settings, topology, streams, of_workers, commits, now),
        sinks=_landed(settings, topology, of_sinks, read_lake, unknown, now),
        windows=windows,
        windows_lags=_lags_of_group(settings, windows.name, [topology.topic_of("FailureRate")], now),
        dead_letters=lag.dead_letters(settings, topology),
        unknown=unknown,
    )
    found.problems = _problems(found, [*of_workers, *of_sinks], groups.whose(settings, commits))
    if found.problems:
        found.verdict = "not well"
    elif max(found.joining.seconds or 0, found.landing.seconds or 0) > LATE_SECONDS:
        found.verdict = "behind"
    return found


def _is_ours(sink: Answer, cluster_id: str, unknown: list[str]) -> bool:
    """Not one that fills the lake of another Kafka; its offsets would look like ours."""
    its = (sink.health or {}).get("cluster_id")
    if its in (None, cluster_id):
        return True
    unknown.append(
        f"sink at {sink.address} is of another Kafka (cluster {its}, this is {cluster_id}): whether ours runs"
    )
    return False


def _joined(
    settings: Settings,
    topology: Topology,
    group: Group,
    answers: list[Answer],
    commits: Mapping[tuple[str, int], float],
    now: float,
) -> list[Joined]:
    lags = _lags_of_group(settings, settings.group, topology.raw, now)
    health = {answer.health["worker_id"]: answer.health for answer in answers if answer.health}
    found = []
    for number in sorted({one.partition for one in lags}):
        owner = group.owners.get(number)
        said = health.get(owner.name, {}).get("partitions", {}).get(str(number), {}) if owner else {}
        found.append(
            Joined(
                number,
                owner.name if owner else None,
                owner.host if owner else None,
                [one for one in lags if one.partition == number],
                last_commit=commits.get((group.name, number)),
                **{name: said.get(name) for name in ("live", "restored", "to_restore", "state_bytes")},
            )
        )
    return found


def _lags_of_group(settings: Settings, group: str, topics: Sequence[str], now: float) -> list[Lag]:
    reached = history.committed_or_none(settings, group, history.places(settings, topics))
    return list(lag.measure(settings, reached, now).values())


def _landed(
    settings: Settings, topology: Topology, answers: list[Answer], read_lake: bool, unknown: list[str], now: float
) -> list[Landed]:
    places = history.places(settings, [topic for table in TABLES for topic in table.topics(topology)])
    offsets: dict[str, dict[Place, int]] = {}
    told: dict[str, Answer] = {}
    for answer in answers:
        if answer.health and (said := answer.health.get("offsets")) is not None:
            mine = offsets.setdefault(answer.health["lake"], {})
            for name, offset in said.items():
                topic, _, partition = name.rpartition("/")
                mine[topic, int(partition)] = max(offset, mine.get((topic, int(partition)), 0))
            told[answer.health["lake"]] = answer
    sources = {lake: answer.address for lake, answer in told.items()}
    if not offsets or (read_lake and settings.lake not in offsets):
        try:
            offsets[settings.lake] = landed(settings.lake)
            sources[settings.lake] = "its tables"
        except LakeError as error:
            unknown.append(f"{error}: how far the lake is")
    return [
        Landed(
            lake,
            sources[lake],
            list(lag.measure(settings, {place: reached.get(place) for place in places}, now).values()),
            (told[lake].health or {}).get("last_commit") if lake in told else None,
        )
        for lake, reached in offsets.items()
    ]


def _problems(status: Status, answers: list[Answer], whose: str) -> list[str]:
    found = []
    group = status.streams
    orphans = [str(partition.partition) for partition in status.partitions if partition.worker is None]
    if not group.members:
        unless = ", or give its endpoint by --worker" if group.cluster_id == EMBEDDED_CLUSTER else ""
        found.append(f"no worker in group {group.name}: {whose}start `flyback worker`{unless}")
    elif orphans:
        found.append(f"nobody owns partition {', '.join(orphans)} (group {group.name} is {group.state})")
    for answer in answers:
        health: dict[str, Any] = answer.health or {}
        if waiting := health.get("waiting") or health.get("waiting_for"):
            found.append(f"{answer.address} waits: {waiting}")
        elif not health.get("ok", True):
            found.append(f"{answer.address}: {health.get('error') or health.get('engine') or 'not ok'}")
    readers = [(f"group {group.name}", "worker", [one for p in status.partitions for one in p.lags])]
    readers += [(sink.lake, "sink", sink.lags) for sink in status.sinks]
    for reader, command, lags in readers:
        for late in lags:
            if late.deleted:
                found.append(
                    f"{late.topic}/{late.partition}: retention deleted {late.deleted} events before {reader} had them "
                    f"(next offset {late.next_offset}): raise retention.ms, and go on once by "
                    f"`flyback {command} --accept-loss`"
                )
    return found
