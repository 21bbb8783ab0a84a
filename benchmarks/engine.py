"""The engine, everything on, beside what Kafka alone can do and beside other ways to build the same join.

Four full partitions of about 1 KB an event. Each contender reads them from their start with an empty state, decodes
every event, joins feedback with its prediction in either order, and writes the derived records, which are compared
with what one pass over the raw topics derives.

    python -m benchmarks.engine --events 160000 --only flyback --only kafka-streams-processor
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from confluent_kafka.admin import AdminClient

from benchmarks import contest, pairs
from benchmarks.contest import Contender, Ground, Run, Void
from benchmarks.job import Job
from benchmarks.peers import environments as peers
from benchmarks.workload import Expected, fill
from flyback import history, topics
from flyback.schemas import codec
from flyback.settings import Settings
from flyback.streams.topology import Kind, Topology

_SMALL = 4  # times smaller than the large size
_ROUNDS = 5  # of those that only read or write
_SECONDS = 30.0


@dataclass(frozen=True)
class Field:
    """The topics of one size, under a prefix of their own, and what they must come to."""

    bootstrap: str
    prefix: str
    events: int
    bytes: int
    expected: Expected
    pairs: pairs.Pairs

    def job(self, rounds: int = 1) -> Job:
        """What a contender is told, in a group that nobody has been in."""
        return Job(self.bootstrap, self.prefix, f"{self.prefix}{uuid4().hex[:8]}", self.events, rounds)


@dataclass(frozen=True)
class Entrant:
    """How to get a contender's command, to which its folder is added, and how to check what it has done.

    `share`: of the events that others are given, where that would take too long. `rounds`: how often it does the whole,
    where once would be too short to be measured.
    """

    command: Callable[[], Sequence[str]]
    check: Callable[[Field, Settings, Path], Mapping[str, Any]]
    share: float = 1.0
    rounds: int = 1


def measure(ground: Ground, given: argparse.Namespace) -> list[Run]:
    """All contenders, or those that were asked for, with a small and a large size each."""
    chosen = {name: ENTRANTS[name] for name in given.only or ENTRANTS}
    commands = {name: entrant.command() for name, entrant in chosen.items()}
    fields: dict[int, Field] = {}
    contenders = []
    for name, entrant in chosen.items():
        for size in (int(given.events * entrant.share) // _SMALL, int(given.events * entrant.share)):
            if size not in fields:
                fields[size] = filled(ground.bootstrap, size)
            contenders.append(contender(name, size, commands[name], entrant, fields[size]))
    return contest.hold("engine", contenders, given.runs, ground)


def filled(bootstrap: str, events: int) -> Field:
    """New topics with so many raw events, and by one pass over them what they derive."""
    prefix = f"bench-{uuid4().hex[:8]}."
    job = Job(bootstrap, prefix, prefix, events)
    settings, expected = job.settings(Path()), Expected()
    topics.create(settings)
    ends = fill(settings, events, expected)
    found = pairs.reference(settings, expected, ends)
    return Field(bootstrap, prefix, sum(ends.values()), expected.bytes, expected, found)


def contender(name: str, size: int, command: Sequence[str], entrant: Entrant, field: Field) -> Contender:
    """One entrant on topics of one size."""

    def prepare(folder: Path) -> Sequence[str]:
        job = field.job(entrant.rounds)
        renew(job.settings(folder))
        job.write(folder)
        return [*command, str(folder)]

    def check(folder: Path) -> Mapping[str, Any]:
        return entrant.check(field, field.job().settings(folder), folder)

    return Contender(name, size, field.events * entrant.rounds, prepare, check)


def renew(settings: Settings) -> None:
    """Make everything under the prefix new but the raw topics: what the run before has written is gone."""
    topology, admin = Topology(settings), AdminClient(settings.kafka())

    def written() -> list[str]:
        there = admin.list_topics(timeout=_SECONDS).topics
        return [name for name in there if settings.topic_prefix in name and name not in topology.raw]

    if old := written():
        for gone in admin.delete_topics(old, operation_timeout=_SECONDS).values():
            gone.result()
    deadline = time.monotonic() + _SECONDS
    while written():
        if time.monotonic() > deadline:
            raise Void(f"the broker still has topics that were deleted {_SECONDS:g} s ago")
        time.sleep(0.05)
    topics.create(settings)
    history.bounds(settings, topology.names)  # until each partition has its leader


def check_consumed(field: Field, settings: Settings, folder: Path) -> Mapping[str, Any]:
    """Everything was read: counted, and by its bytes."""
    found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    if found != (wanted := {"events": field.events * _ROUNDS, "bytes": field.bytes * _ROUNDS}):
        raise Void(f"read {found}, not {wanted}")
    return {}


def check_produced(field: Field, settings: Settings, folder: Path) -> Mapping[str, Any]:
    """As many events are there as should be."""
    found = sum(1 for _ in history.read(settings, [Topology(settings).topic_of("Example")]))
    if found != field.events * _ROUNDS:
        raise Void(f"{found} events were produced, not {field.events * _ROUNDS}")
    return {}


def check_flyback(field: Field, settings: Settings, folder: Path) -> Mapping[str, Any]:
    """Each pair once, nothing dead-lettered, and every prediction and review in the counts."""
    topology = Topology(settings)
    if letters := sum(1 for _ in history.read(settings, topology.of(Kind.DEAD_LETTERS))):
        raise Void(f"{letters} events were dead-lettered")
    counts = {message.key(): message.value() for message in history.read(settings, topology.of(Kind.COUNTS))}
    schema = codec.bundled("FailureRate")
    rates = [codec.decode("FailureRate", value, schema) for value in counts.values() if value]
    counted = tuple(sum(rate[what] for rate in rates) for what in ("predictions", "reviewed"))
    if counted != (wanted := (field.expected.predictions, len(field.expected.reviewed))):
        raise Void(f"predictions and reviews counted: {counted}, not {wanted}")
    return pairs.check(settings, field.pairs)


def check_pairs(field: Field, settings: Settings, folder: Path) -> Mapping[str, Any]:
    """Each pair once."""
    return pairs.check(settings, field.pairs)


def check_pairs_and_copies(field: Field, settings: Settings, folder: Path) -> Mapping[str, Any]:
    """Each pair at least once: a copy of an event makes its pair again."""
    return pairs.check(settings, field.pairs, copies=True)


def _ours(*module: str) -> Callable[[], Sequence[str]]:
    return lambda: [sys.executable, "-m", *module]


ENTRANTS = {
    "raw-consume": Entrant(_ours("benchmarks.raw", "consume"), check_consumed, rounds=_ROUNDS),
    "raw-produce": Entrant(_ours("benchmarks.raw", "produce"), check_produced, rounds=_ROUNDS),
    "flyback": Entrant(_ours("benchmarks.engine_process"), check_flyback),
    "kafka-streams-dsl": Entrant(lambda: peers.kafka_streams("dsl"), check_pairs_and_copies),
    "kafka-streams-processor": Entrant(lambda: peers.kafka_streams("processor"), check_pairs),
    "quixstreams": Entrant(peers.quixstreams, check_pairs, share=0.5),
    "faust-tables": Entrant(peers.faust_tables, check_pairs, share=0.125),
}


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", action="append", choices=ENTRANTS, help="this contender; may be given again")


if __name__ == "__main__":
    sys.exit(contest.command_line("engine", __doc__, 160_000, measure, ("broker_cpu_seconds", "again"), _options))
