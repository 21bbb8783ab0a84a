"""The cold path: pairs in the lake that the stream never derived, derived and written with the ids it would have used.

    fence      an earlier run: a fixed transactional id aborts what that one left open
    wait       until the group committed the raw ends, and the lake holds all that was derived until then
    compare    every pair of first copies below those ends with the derived rows
    write      what is missing, in short transactions

So what the stream has still to derive is never taken for missing, nor what an earlier run wrote: a second one finds
nothing. What a sink refused in these very bytes is left to `flyback dlq replay`: it would be refused again. Feedback
later than the join window, state lost beyond retention and events repaired late end here.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from datetime import timedelta

from confluent_kafka import KafkaException

from flyback import deadletters, history
from flyback.deadletters import Selection
from flyback.errors import BrokerError, LakeError
from flyback.landing import STALL_SECONDS, Progress, Stalled, wait_until_landed
from flyback.reconcile.compare import Comparison
from flyback.reconcile.spool import Spool
from flyback.reconcile.writer import Writer
from flyback.schemas import codec
from flyback.schemas.catalog import open_catalog
from flyback.settings import Settings
from flyback.sinks.lake import lake, pin
from flyback.sinks.storage import is_remote
from flyback.sinks.tables import TABLES, Source, TableWriter, landed
from flyback.status import groups
from flyback.streams.clients import KafkaClients
from flyback.streams.join import derive, pair_id, within
from flyback.streams.messages import Message
from flyback.streams.outputs import Output, Outputs
from flyback.streams.topology import EMBEDDED_CLUSTER, Kind, Topology

NAMED = 5
"""Ids that a finding names, of each kind."""


@dataclass(slots=True)
class Finding:
    """What is wrong with one derived topic: numbers of pairs, and of rows for `without_raw`.

    `late` pairs arrived further apart than the join window, `other` ones did not: there the stream lost something.
    Of both together `too_large` do not fit the topic, `refused` are dead letters of a sink as they would be written,
    and `written` were written. `without_raw` are derived rows of which a raw event is not in the lake. `*_ids` are
    those of the first few.
    """

    topic: str
    late: int = 0
    other: int = 0
    too_large: int = 0
    too_large_ids: list[str] = field(default_factory=list)
    refused: int = 0
    refused_ids: list[str] = field(default_factory=list)
    written: int = 0
    without_raw: int = 0
    without_raw_ids: list[str] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """Pairs without a derived row."""
        return self.late + self.other


def reconcile(
    settings: Settings,
    progress: Progress,
    write: bool = True,
    check: Callable[[], None] = lambda: None,
    stall_seconds: float = STALL_SECONDS,
) -> list[Finding]:
    """Find the pairs that the stream never derived, and `write` them. One finding for each derived topic.

    Safe while workers, sinks and producers go on; safe to break off and to run again. `progress` is told of the steps
    "joined", "landed", "derived" and "written"; `check` is called while waiting, and may raise. Raises LakeError (no
    lake), RefusedToStart (the lake is another cluster's), Stalled (there is no worker and never was in this group; or a
    worker or a sink does not get on for `stall_seconds`), WorkerFenced (another run took over), RegistryUnavailable,
    BrokerError. What was written until then counts: a new run adds the rest.
    """
    topology = Topology(settings)
    clients = KafkaClients(settings)
    _refuse_foreign(settings, topology, clients)
    _refuse_absent(settings, topology)
    outputs = Outputs(settings, topology, open_catalog(settings))
    writer = Writer(clients, settings, topology) if write else None
    before = landed(settings.lake)
    ends = wait_until_landed(settings, progress, check, stall_seconds)
    # Retention may have emptied a partition whose rows are in the lake: the stream cannot derive those any more.
    ends = {place: max(end, before.get(place, 0)) for place, end in ends.items()}
    refused = _refused(settings)  # a sink writes them before it commits: those of all that has landed are there
    findings = {topic: Finding(topic) for topic in topology.of(Kind.DERIVED)}
    with tempfile.TemporaryDirectory(prefix="flyback-") as folder, Spool() as spool, lake(settings.lake) as tables:
        comparison = Comparison(tables, topology, ends, folder)
        for output in _derived(settings, comparison, outputs, refused, findings, progress):
            spool.add(output)
        for topic, found in findings.items():
            found.without_raw, found.without_raw_ids = comparison.without_raw(topic, NAMED)
        if writer is not None and len(spool):
            writer.write(spool, lambda done: progress("written", done, len(spool)))
            for topic, written in spool.topics.items():
                findings[topic].written = written
    return list(findings.values())


def _refuse_foreign(settings: Settings, topology: Topology, clients: KafkaClients) -> None:
    """Raises LakeError where there is no lake, RefusedToStart where it was filled from other topics than ours."""
    there = pin(settings.lake, None)
    if is_remote(settings.lake) and not any(there.values()):  # of a folder `pin` knows whether it exists
        raise LakeError(f"no lake at {settings.lake}: no table of ours is there, is FLYBACK_LAKE (or --lake) right?")
    try:
        cluster = clients.describe(topology.names)
    except KafkaException as error:
        raise BrokerError(f"Kafka at {settings.bootstrap_servers}: {error.args[0].str()}") from error
    sources = {
        topic: Source(cluster.cluster_id, topic_id, cluster.partitions[topic])
        for topic, topic_id in cluster.topic_ids.items()
    }
    for table in TABLES:
        TableWriter(settings.lake, table, {topic: sources[topic] for topic in table.topics(topology)}).open()


def _refuse_absent(settings: Settings, topology: Topology) -> None:
    """Raises Stalled where nobody joins as this group and nobody did, which would be waited for in vain."""
    bounds = history.bounds(settings, topology.raw)
    committed = history.committed_or_none(settings, settings.group, bounds)
    if any(offset is not None for offset in committed.values()) or all(end == 0 for _, end in bounds.values()):
        return
    group = groups.describe(settings, settings.group, topology.raw)
    if not group.members and group.cluster_id != EMBEDDED_CLUSTER:
        whose = groups.whose(settings, groups.last_commits(settings, topology))
        raise Stalled(f"group {group.name} has no worker and has joined nothing yet: {whose}start `flyback worker`")


def _refused(settings: Settings) -> set[str]:
    """SHA-256 of the derived events that are dead letters; the limit on these keeps them few.

    Asked of Kafka and not of the lake: what is not there any more `flyback dlq replay` cannot put back.
    """
    sources = Topology(settings).of(Kind.DERIVED)
    return {letter.sha256 or "" for topic in sources for letter in deadletters.read(settings, Selection(topic))}


def _derived(
    settings: Settings,
    comparison: Comparison,
    outputs: Outputs,
    refused: Set[str],
    findings: dict[str, Finding],
    progress: Progress,
) -> Iterator[Output]:
    """The missing derived events that fit their topic and were not refused, ready to produce; all are counted."""
    window_ms = settings.join_window // timedelta(milliseconds=1)
    for done, (prediction, feedback) in enumerate(comparison.missing(), 1):
        derived = derive(prediction, feedback)
        found = findings[comparison.topology.topic_of(derived.record)]
        if within(prediction, feedback, window_ms):
            found.other += 1
        else:
            found.late += 1
        # The bytes that the feedback came in are not in the lake, nor its trace; only a dead letter would need them.
        output = outputs.pair(derived, Message.of(feedback, b"", codec.bundled(feedback.record)))
        if output.reason:
            found.too_large += 1
            found.too_large_ids += [pair_id(feedback)] if found.too_large <= NAMED else []
        elif hashlib.sha256(output.value or b"").hexdigest() in refused:
            found.refused += 1
            found.refused_ids += [pair_id(feedback)] if found.refused <= NAMED else []
        else:
            yield output
        progress("derived", done, comparison.total)
