"""Which part is the narrowest, and what limits it. Pure: figures in, words out.

Where no core of the machine is free, or a process is busy for nearly all of one, that is the limit; else it is what the
process waits for: Kafka, where it takes nearly all that a plain client gets from there, the ends of transactions, the
disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from flyback.bench.measure import Part

What = Literal["cpu", "machine", "partitions", "broker", "network", "disk", "unclear"]

_BUSY = 85.0  # percent of a core
_FULL = 90.0  # percent of a machine
_NEAR = 0.7  # of a plain client's rate
_MOSTLY = 50.0  # percent of the time
_FAR_MS = 1.0

IN_THE_WAY = ("produce", "consume", "worker", "sink")
"""The parts that every event goes through; services are many, so that one SDK client is no limit."""

_BY: Mapping[What, str] = {
    "cpu": "CPU: one core is what this process can use",
    "machine": "CPU: no core of this machine was free",
    "partitions": "partitions: there is one, so no second worker can help",
    "broker": "the broker",
    "network": "the network",
    "disk": "the disk",
    "unclear": "nothing that was seen: neither CPU nor Kafka nor the disk was busy",
}
_NEXT: Mapping[tuple[str, What], str] = {
    ("produce", "cpu"): "Kafka takes more than one process of this machine can send: nothing to do.",
    ("consume", "cpu"): "Kafka gives more than one process of this machine can read: nothing to do.",
    ("worker", "cpu"): "Start a second worker with a FLYBACK_STATE_DIR of its own; one a partition is the most.",
    ("worker", "partitions"): "Make topics with more partitions, under a new FLYBACK_TOPIC_PREFIX: one a worker.",
    ("sdk", "cpu"): "More service processes send more; this is what one of them can send.",
    (
        "sink",
        "cpu",
    ): "Let it commit less often (FLYBACK_COMMIT_ROWS, FLYBACK_COMMIT_INTERVAL), or give it a faster core.",
    ("sink", "disk"): "Put the lake on a faster disk, or let the sink commit less often (FLYBACK_COMMIT_INTERVAL).",
}
_NEXT_OF: Mapping[What, str] = {
    "cpu": "Give it a faster core.",
    "machine": "Run the broker and the other processes on other machines, or use one with more cores.",
    "broker": "Look at the brokers' disks, threads and replication (acks=all waits for all replicas in sync).",
    "network": "Run the processes nearer to the brokers, or look at the network between them.",
    "unclear": "Repeat it on a quiet machine, with more --seconds; then look at what the process waits for.",
}


@dataclass(frozen=True, slots=True)
class Limit:
    """What limits one part, in a word and in some, and what to do about it."""

    what: What
    by: str
    next: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The narrowest part, and the limits of all. `most_workers`: more of them would stand idle."""

    narrowest: str
    limits: Mapping[str, Limit]
    worker_events_per_second: float
    most_workers: int
    all_workers_events_per_second: float


def judge(parts: Mapping[str, Part], partitions: int, connect_ms: float | None) -> Verdict:
    """`parts` by name. All workers together carry at most what one producer brings, and one consumer gets."""
    worker = parts["worker"].events_per_second
    kafka = min(parts["produce"].events_per_second, parts["consume"].events_per_second)
    return Verdict(
        min(IN_THE_WAY, key=lambda name: parts[name].events_per_second),
        {name: _limit(part, _what(part, parts, partitions, connect_ms)) for name, part in parts.items()},
        worker,
        partitions,
        max(worker, min(kafka, worker * partitions)),
    )


def _limit(part: Part, what: What) -> Limit:
    return Limit(what, _BY[what], _NEXT.get((part.name, what)) or _NEXT_OF[what])


def _what(part: Part, parts: Mapping[str, Part], partitions: int, connect_ms: float | None) -> What:
    if (part.machine_percent or 0) >= _FULL:
        return "machine"
    if (part.cpu_percent or 0) >= _BUSY:
        return "partitions" if part.name == "worker" and partitions == 1 else "cpu"
    if part.name in ("produce", "consume"):
        return _throughput(parts)
    plain = parts["produce" if part.name == "sdk" else "consume"]
    if part.events_per_second >= _NEAR * plain.events_per_second:
        return _throughput(parts)
    if part.details.get("transactions_percent", 0) >= _MOSTLY:
        return _latency(parts["produce"], connect_ms)
    written, plainly = (part.details.get(name, 0) for name in ("disk_mb_per_second", "disk_plain_mb_per_second"))
    return "disk" if written and written >= plainly / 2 else "unclear"


def _throughput(parts: Mapping[str, Part]) -> What:
    """A network carries as much one way as the other; a broker, which writes the one to disk, does not."""
    produced, consumed = parts["produce"], parts["consume"]
    even = _NEAR <= produced.mb_per_second / consumed.mb_per_second <= 1 / _NEAR
    return "network" if even and (consumed.cpu_percent or 0) < _BUSY else "broker"


def _latency(produced: Part, connect_ms: float | None) -> What:
    """Whether an acknowledgement is mostly on its way."""
    if connect_ms is None or connect_ms < _FAR_MS:
        return "broker"
    return "network" if connect_ms >= produced.details["ack_p50_ms"] / 2 else "broker"
