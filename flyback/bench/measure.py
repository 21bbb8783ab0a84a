"""What is measured, for how long, and what one part came to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

PREFIX = "bench-"
"""All names that a bench makes begin with this."""
_BULK_BYTES = 750_000_000
_SDK_SHARE = 3  # so many times fewer events go through one SDK client
_DERIVED = 1.25  # one event in ten is a correction, and what is derived from it holds two events
_ON_DISK = 2.0  # state and lake, before they are compressed
MOST_STEADY_RATE = 1_000
"""Events a second at which latency is measured, at most."""
DISK_BYTES = 256_000_000
"""Of the plain file that the disk's speed is measured with, at most."""

Progress = Callable[[str, int, int], None]
"""Called with a part (create, produce, ...), how much of it is done, and of how much."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`seconds`: of each part, and of the steady load. `events`: so many for each part, however long that takes.

    `topic_prefix` is nobody else's.
    """

    seconds: float = 10.0
    event_bytes: int = 1_000
    events: int | None = None
    topic_prefix: str = field(default_factory=lambda: f"{PREFIX}{uuid4().hex[:8]}.")

    @property
    def bulk(self) -> int:
        """Events of the plain producer, at most."""
        return self.events or max(100, _BULK_BYTES // self.event_bytes)

    @property
    def by_sdk(self) -> int:
        """Events through the SDK, at most."""
        return self.events or self.bulk // _SDK_SHARE

    @property
    def deadline(self) -> float:
        """When (monotonic) a part that begins now is over, whatever it has done."""
        return float("inf") if self.events else time.monotonic() + self.seconds

    @property
    def kafka_bytes(self) -> int:
        """Written to Kafka, at most, before compression and replication."""
        events = self.bulk + self.by_sdk + MOST_STEADY_RATE * self.seconds
        return round(events * self.event_bytes * _DERIVED)

    @property
    def disk_bytes(self) -> int:
        """Written to the folder, at most."""
        return round(self.kafka_bytes * _ON_DISK) + self.disk_sample

    @property
    def disk_sample(self) -> int:
        return min(DISK_BYTES, self.bulk * self.event_bytes)


@dataclass(slots=True)
class Sent:
    """What the raw topics hold so far."""

    predictions: int = 0
    corrections: int = 0

    @property
    def events(self) -> int:
        return self.predictions + self.corrections


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a process was at one time (monotonic). What the system does not tell is None; `counts` are its metrics."""

    cpu_seconds: float | None
    counts: Mapping[tuple[str, str], float] = field(default_factory=dict)
    at: float = field(default_factory=time.monotonic)
    machine: tuple[float, float] | None = field(default_factory=lambda: _machine())

    def count(self, metric: str, label: str | None = None) -> float:
        """A metric's value for one label, or for all together."""
        return sum(value for (name, of), value in self.counts.items() if name == metric and label in (None, of))


@dataclass(frozen=True, slots=True)
class Part:
    """What one part came to. CPU is in percent of one core, `machine_percent` of all cores, whoever used them."""

    name: str
    events: int
    seconds: float
    megabytes: float
    cpu_percent: float | None
    machine_percent: float | None
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds

    @property
    def mb_per_second(self) -> float:
        return self.megabytes / self.seconds


def part(name: str, events: int, event_bytes: int, begun: Moment, ended: Moment, **details: float) -> Part:
    """What happened between two moments of one process."""
    seconds = max(ended.at - begun.at, 1e-3)
    cpu = machine = None
    if begun.cpu_seconds is not None and ended.cpu_seconds is not None:
        cpu = 100 * (ended.cpu_seconds - begun.cpu_seconds) / seconds
    if begun.machine and ended.machine and (total := ended.machine[1] - begun.machine[1]):
        machine = 100 * (ended.machine[0] - begun.machine[0]) / total
    return Part(name, events, seconds, events * event_bytes / 1e6, cpu, machine, details)


def own_moment() -> Moment:
    """Of this process."""
    return Moment(time.process_time())


def at_percent(times: list[float], percent: int) -> float:
    """The time that so many percent of them do not exceed."""
    return sorted(times)[min(len(times) - 1, len(times) * percent // 100)]


def _machine() -> tuple[float, float] | None:
    """How long all cores together were busy, and were there (Linux)."""
    try:
        times = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    except OSError:
        return None
    return sum(times) - times[3] - times[4], sum(times)  # idle, waiting for a disk
