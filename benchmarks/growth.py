"""The engine with more and more state: throughput, latency, disk and memory while stored predictions grow.

One installation, one worker, one state folder. At each size, `--probe` events whose feedback is about predictions of
any age are joined in bulk, so often as `--runs` says; then events come at 2,000 a second, as in `benchmarks.latency`.
The smallest size is measured with 4 and with 64 partitions. The state is compared with what was sent, and the derived
events are counted.

    python -m benchmarks.growth --events 1000000 --probe 100000
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks import contest, latency
from benchmarks.contest import Figures, Ground, Run, Void
from benchmarks.job import PARTITIONS, Job
from benchmarks.latency_process import Load
from benchmarks.restore import check as check_state
from benchmarks.workload import Expected, fill
from flyback import history, topics
from flyback.cli import output
from flyback.local.process import free_port
from flyback.streams.topology import Kind, Topology

SHARES = (0.05, 0.25, 1.0)  # of --events: 1 M, 5 M and 20 M of 20 M
MANY_PARTITIONS = 64
_PATIENCE = 7_200.0
_STEADY = 2_000  # events a second


@dataclass
class Installation:
    """Topics with a prefix of their own, the state of the one worker, and what both must hold."""

    ground: Ground
    folder: Path
    partitions: int
    job: Job = field(init=False)
    expected: Expected = field(default_factory=Expected)
    steps: int = 0
    tasks: int = 0  # that latency was measured with: each has one correction in ten events

    def __post_init__(self) -> None:
        prefix = f"bench-{uuid4().hex[:8]}."
        self.job = Job(self.ground.bootstrap, prefix, prefix, 0, partitions=self.partitions)
        self.folder.mkdir(parents=True)
        topics.create(self.job.settings(self.folder))

    def join(self, events: int, late: bool = False) -> tuple[Figures, dict[str, Any]]:
        """Send so many events, then let an engine join them; what it took as a process, and from its assignment on."""
        self.steps += 1
        sent = fill(self.job.settings(self.folder), events, self.expected, seed=self.steps, late=late)
        told = Job(**{**vars(self.job), "events": sum(sent.values())})
        told.write(self.folder)
        command = [sys.executable, "-m", "benchmarks.engine_process", str(self.folder)]
        figures = contest.measured("the engine", command, self.folder, _PATIENCE)
        found: dict[str, Any] = json.loads((self.folder / "found.json").read_text(encoding="utf-8"))
        return figures, found

    def steady(self, seconds: float) -> dict[str, Any]:
        """The latency under a steady load, joined by a worker."""
        self.steps += 1
        load = Load(_STEADY, seconds, first=self.tasks)
        own = {"worker_http_port": free_port(), "sink_http_port": free_port()}
        folder = self.folder / f"steady-{self.steps}"
        folder.mkdir()
        settings = self.job.settings(self.folder).model_copy(update=own)
        case = latency.Case(load, latency.DEFAULT_TRANSACTION, "read")
        run = latency.observed(settings, case, folder, self.ground.broker)
        self.tasks += load.events
        self.expected.predictions += load.events - load.corrections
        self.expected.feedback += load.corrections
        self.expected.reviewed |= {str(number) for number in range(self.tasks - load.corrections, self.tasks)}
        return run.detail

    def state_bytes(self) -> int:
        """What the state takes on disk."""
        return sum(file.stat().st_size for file in (self.folder / "state").rglob("*") if file.is_file())

    def check(self) -> None:
        """Raises Void where state or derived events are not what they should be."""
        check_state({self.folder / "state": range(self.partitions)}, self.expected)
        settings = self.job.settings(self.folder)
        derived = sum(1 for _ in history.read(settings, Topology(settings).of(Kind.DERIVED)))
        if derived != self.expected.feedback:
            raise Void(f"{self.expected.feedback} feedback events became {derived} pairs")


def measure(ground: Ground, given: argparse.Namespace) -> list[Run]:
    """All sizes with few partitions, then the smallest with many."""
    sizes = [int(given.events * share) for share in SHARES]
    runs = grown(Installation(ground, ground.folder / "few", PARTITIONS), sizes, given)
    return runs + grown(Installation(ground, ground.folder / "many", MANY_PARTITIONS), sizes[:1], given)


def grown(installation: Installation, sizes: list[int], given: argparse.Namespace) -> list[Run]:
    """What was measured at each size. Raises Void."""
    runs = []
    for size in sizes:
        if (missing := size - installation.expected.predictions) > 0:
            installation.join(missing * 10 // 9)
        on_disk, raw = installation.state_bytes(), installation.expected.bytes
        found = [installation.join(given.probe, late=True) for _ in range(given.runs)]
        detail = {
            "partitions": installation.partitions,
            "state_mb": on_disk / 1e6,
            "of_raw": on_disk / raw,
            **installation.steady(given.steady),
        }
        name = f"{size:,} predictions, {installation.partitions} partitions"
        for number, (figures, one) in enumerate(found):
            spent = one["seconds"], one["cpu_seconds"], figures.rss_mb
            runs.append(Run("growth", name, size, number, *spent, one["events"], detail))
        output.note(f"{name}: {detail['state_mb']:,.0f} MB on disk, p99 {detail['p99_ms']:.0f} ms")
    installation.check()
    return runs


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--probe", type=int, default=200_000, help="events of a probe (default: %(default)s)")
    parser.add_argument("--steady", type=float, default=20.0, help="seconds of steady load (default: %(default)s)")


if __name__ == "__main__":
    details = ("state_mb", "of_raw", "p50_ms", "p99_ms", "worker_percent")
    sys.exit(contest.command_line("growth", __doc__, 20_000_000, measure, details, _options))
