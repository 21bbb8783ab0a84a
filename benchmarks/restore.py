"""How fast a worker that lost its state has it again, beside a consumer that only reads the same topics.

Real Kafka, four partitions, about 1 KB an event. The group has processed everything; the state folder is empty. The
restored state is checked. What restoring alone takes, without starting and joining the group, is among the details.

    python -m benchmarks.restore --events 400000
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, TopicPartition

from benchmarks import contest
from benchmarks.contest import Contender, Ground, Run, Void
from benchmarks.job import PARTITIONS, Job
from benchmarks.workload import Expected, fill
from flyback import topics
from flyback.history import Place
from flyback.settings import Settings
from flyback.streams import entries, state

_SMALL = 4  # times smaller than the large size


def measure(ground: Ground, given: argparse.Namespace) -> list[Run]:
    """Both contenders, with a small and a large size."""
    contenders = [
        contender
        for size in (given.events // _SMALL, given.events)
        for contender in contenders_of(ground.bootstrap, size)
    ]
    return contest.hold("restore", contenders, given.runs, ground)


def contenders_of(bootstrap: str, size: int) -> list[Contender]:
    """Over new topics with so many events."""
    prefix = f"bench-{uuid4().hex[:8]}."
    settings = Job(bootstrap, prefix, prefix, 0).settings(Path())
    topics.create(settings)
    ends = fill(settings, size, expected := Expected())
    total = sum(ends.values())

    def consume(folder: Path) -> Sequence[str]:
        Job(bootstrap, prefix, prefix, total).write(folder)
        return [sys.executable, "-m", "benchmarks.raw", "consume", str(folder)]

    def check_consumed(folder: Path) -> Mapping[str, Any]:
        if (found := _found(folder)["bytes"]) != expected.bytes:
            raise Void(f"{found} bytes were read of {expected.bytes}")
        return {}

    def restore(folder: Path) -> Sequence[str]:
        # in a group of its own, where no earlier worker is waited for; and with no events but the restored ones
        job = Job(bootstrap, prefix, f"{prefix}{folder.name}", 0)
        job.write(folder)
        commit(job.settings(folder), ends)
        return [sys.executable, "-m", "benchmarks.engine_process", str(folder)]

    def check_restored(folder: Path) -> Mapping[str, Any]:
        check(folder / "state", expected)
        found = _found(folder)
        return {
            "restored/s": total / found["seconds"],
            "restored per CPU-second": total / found["cpu_seconds"],
        }

    return [
        Contender("raw-consume", size, total, consume, check_consumed),
        Contender("restore", size, total, restore, check_restored),
    ]


def commit(settings: Settings, ends: Mapping[Place, int]) -> None:
    """Leave the group where a worker that has processed everything leaves it."""
    consumer = Consumer({**settings.kafka(), "group.id": settings.group})
    consumer.commit(offsets=[TopicPartition(*place, end) for place, end in ends.items()], asynchronous=False)
    consumer.close()


def check(state_dir: Path, expected: Expected) -> None:
    """Raises Void where the restored state is not what the events come to."""
    folder = state.StateFolder(state_dir)
    predictions = feedback = counted = reviewed = 0
    for number in range(PARTITIONS):
        store = folder.store(number)
        predictions += sum(1 for _ in store.scan(entries.PREDICTION))
        feedback += sum(1 for _ in store.scan(entries.FEEDBACK))
        for _, packed in store.scan(entries.CELL):
            counts = entries.unpack_counts(packed)
            counted += counts.predictions
            reviewed += counts.reviewed
    folder.close()
    found = predictions, feedback, counted, reviewed
    wanted = expected.predictions, expected.feedback, expected.predictions, len(expected.reviewed)
    if found != wanted:
        raise Void(f"restored predictions, feedback, counted and reviewed: {found}, expected {wanted}")


def _found(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    details = ("restored/s", "restored per CPU-second")
    sys.exit(contest.command_line("restore", __doc__, 400_000, measure, details))
