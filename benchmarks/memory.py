"""How much memory a worker and a sink take at most: under a burst of small events, and a run of very large ones.

    python -m benchmarks.memory

Each load has a worker and a sink of its own, as processes of the command line with the default settings (for the
large events with the size limit raised), over one real Kafka. The figure is the peak resident set that the kernel
kept (VmHWM in /proc), so this runs on Linux only. Everything that was sent is joined and in the lake at the end.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from confluent_kafka import Producer

from benchmarks import contest
from flyback import settings, topics
from flyback.cli import output
from flyback.errors import FlybackError
from flyback.landing import wait_until_landed
from flyback.local.kafka import KafkaBroker
from flyback.local.process import ChildProcess, free_port
from flyback.schemas import codec
from flyback.schemas.catalog import hashed_id
from flyback.settings import Settings
from flyback.streams.topology import Topology

LIMITS = {"worker": 600, "sink": 800}  # MB
LARGE = 8_000_000
PATIENCE = 300.0
COLUMNS = ("load", "events", "sent events/s", "landed after (s)", "process", "peak RSS (MB)", "limit (MB)")
_TASK = b"task-00000000"  # stands for a task's id of the same length in an encoded event

Event = tuple[str, bytes, bytes]
"""Record, key, value."""


@dataclass(frozen=True)
class Load:
    """Events of whole pairs, and the settings that worker and sink need for them."""

    name: str
    pairs: int
    body_bytes: int
    settings: dict[str, Any]
    events_per_second: int = 1_000_000

    def events(self) -> Iterator[Event]:
        """All predictions' and corrections' messages, each correction soon after its prediction."""
        bodies = [_text(self.body_bytes, seed) for seed in range(4)]
        templates = [(record, _framed(record, body)) for body in bodies for record in ("Prediction", "Correction")]
        for number in range(self.pairs):
            key = b"task-%08d" % number
            for record, value in templates[2 * (number % 4) :][:2]:
                yield record, key, value.replace(_TASK, key)


@dataclass(frozen=True)
class Peak:
    """The largest resident memory of one process under one load, MB."""

    load: str
    events: int
    sent_per_second: float
    landed_after: float
    process: str
    megabytes: int
    limit: int

    def shown(self) -> tuple[str, ...]:
        """A line of the table."""
        rate, landed = f"{self.sent_per_second:,.0f}", f"{self.landed_after:.1f}"
        return self.load, f"{self.events:,}", rate, landed, self.process, str(self.megabytes), str(self.limit)


def main(
    pairs: Annotated[int, typer.Option(help="Pairs of small events in the burst.")] = 500_000,
    large_pairs: Annotated[int, typer.Option(help="Pairs of 8 MB events.")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure and print one table. Exits 1 where a limit is exceeded."""
    raised = {"max_event_bytes": LARGE + 500_000}
    loads = [
        Load("burst of small events", pairs, 300, {}, events_per_second=100_000),
        Load("run of 8 MB events", large_pairs, LARGE, raised),
    ]
    peaks: list[Peak] = []
    with tempfile.TemporaryDirectory() as folder, KafkaBroker(Path(folder) / "kafka") as broker:
        for number, load in enumerate(loads):
            if load.pairs:
                peaks += measure(load, broker.bootstrap, Path(folder) / str(number))
    contest.report("memory", peaks, contest.table(COLUMNS, [peak.shown() for peak in peaks]), as_json)
    if any(peak.megabytes > peak.limit for peak in peaks):
        raise typer.Exit(1)


def measure(load: Load, bootstrap: str, folder: Path) -> list[Peak]:
    """One of the worker and one of the sink."""
    configured = settings.load(
        bootstrap_servers=bootstrap,
        topic_prefix=f"{folder.name}.",
        group=f"group-{folder.name}",
        state_dir=folder / "state",
        lake=str(folder / "lake"),
        worker_http_port=free_port(),
        sink_http_port=free_port(),
        **load.settings,
    )
    topics.create(configured)
    with ExitStack() as running:
        processes = {
            name: running.enter_context(
                ChildProcess(
                    name,
                    [sys.executable, "-m", "flyback", name],
                    folder / f"{name}.log",
                    env={**os.environ, **configured.environment()},
                    cwd=folder,
                )
            )
            for name in LIMITS
        }
        begun = time.monotonic()
        sent, seconds = send(configured, load)
        wait_until_landed(configured, lambda *_: None, _checking(processes), PATIENCE)
        landed = time.monotonic() - begun
        peaks = {name: peak_megabytes(process) for name, process in processes.items()}
        output.note(f"{load.name}: landed after {landed:.0f} s, MB at most: {peaks}")
    return [Peak(load.name, sent, sent / seconds, landed, name, peaks[name], limit) for name, limit in LIMITS.items()]


def send(configured: Settings, load: Load) -> tuple[int, float]:
    """Send the load no faster than it says. Gives how many events, and in how many seconds they were acknowledged."""
    topology = Topology(configured)
    producer = Producer(
        configured.kafka(
            **{
                "partitioner": "murmur2_random",
                "message.max.bytes": configured.max_event_bytes + 65_536,
                "queue.buffering.max.messages": 200_000,
                "queue.buffering.max.kbytes": 262_144,
                "linger.ms": 20,
                "compression.type": configured.compression,
            }
        )
    )
    failures: list[str] = []
    begun = time.monotonic()
    sent = 0
    for record, key, value in load.events():
        while True:
            try:
                producer.produce(
                    topology.topic_of(record),
                    value,
                    key,
                    on_delivery=lambda error, _: failures.append(error.str()) if error else None,
                )
                break
            except BufferError:
                producer.poll(0.05)
        sent += 1
        if sent % 1_000 == 0:
            producer.poll(0)
            time.sleep(max(0.0, begun + sent / load.events_per_second - time.monotonic()))
    producer.flush(PATIENCE)
    if failures:
        raise FlybackError(f"{len(failures)} events were not taken: {failures[0]}")
    return sent, time.monotonic() - begun


def peak_megabytes(process: ChildProcess) -> int:
    """The largest resident set that the command under the guard ever had, in MB."""
    [child] = (Path(f"/proc/{process.pid}/task/{process.pid}/children")).read_text(encoding="ascii").split()
    lines = Path(f"/proc/{child}/status").read_text(encoding="utf-8").splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return round(int(kilobytes) * 1024 / 1e6)


def _checking(processes: dict[str, ChildProcess]) -> Callable[[], None]:
    def check() -> None:
        for process in processes.values():
            if not process.running:
                raise FlybackError(f"the {process.name} ended with {process.exit_code}:\n{process.log_tail()}")

    return check


def _text(size: int, seed: int) -> str:
    """Text that hardly compresses."""
    return random.Random(seed).randbytes(size // 2).hex()


def _framed(record: str, body: str) -> bytes:
    content = {"content_type": "text/plain", "body": body}
    now = time.time_ns() // 1000
    common = {"task_id": _TASK.decode(), "prediction_id": "p", "occurred_at": now, "attributes": {}}
    event = {
        "Prediction": {
            **common,
            "actor": {"kind": "MODEL", "name": "m", "version": "1"},
            "input": content,
            "output": {"content_type": "text/plain", "body": "positive"},
            "context": [],
            "confidence": None,
            "segment": "default",
        },
        "Correction": {
            **common,
            "correction_id": "c",
            "verdict": "CORRECTED",
            "output": content,
            "author": {"kind": "HUMAN", "name": "ann", "version": ""},
            "authority": 0,
            "reason": None,
            "error_category": None,
            "sampling_probability": None,
        },
    }[record]
    return codec.encode(record, event, hashed_id(codec.bundled(record)))


if __name__ == "__main__":
    typer.run(main)
