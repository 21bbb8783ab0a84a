"""How fast a worker that lost its state has it again, beside a consumer that only reads the same topics.

Real Kafka, four partitions, about 1 KB an event. The group has processed everything; the state folder is empty. The
restored state is checked. Two workers share the partitions. What restoring alone takes, without starting and joining
the group, is among the details.

    python -m benchmarks.restore --events 400000
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, TopicPartition

from benchmarks import contest
from benchmarks.contest import Contender, Ground, Run, Void
from benchmarks.job import Job
from benchmarks.workload import Expected, fill
from flyback import topics
from flyback.history import Place
from flyback.settings import Settings
from flyback.streams import entries, state

_SMALL = 4  # times smaller than the large size


def measure(ground: Ground, given: argparse.Namespace) -> list[Run]:
    """All contenders, with a small and a large size."""
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

    def restore(workers: int, folder: Path) -> Sequence[str]:
        # in a group of its own, where no earlier worker is waited for; and with no events but the restored ones
        job = Job(bootstrap, prefix, f"{prefix}{folder.name}", 0, workers=workers)
        commit(job.settings(folder), ends)
        for each in _folders(folder, workers):
            each.mkdir()
            job.write(each)
        return [sys.executable, "-m", "benchmarks.engine_process", *map(str, _folders(folder, workers))]

    def check_restored(workers: int, folder: Path) -> Mapping[str, Any]:
        found = {each: _found(each) for each in _folders(folder, workers)}
        check({each / "state": one["assigned"] for each, one in found.items()}, expected)
        return {
            "restored/s": total / max(one["seconds"] for one in found.values()),
            "restored per CPU-second": total / sum(one["cpu_seconds"] for one in found.values()),
        }

    return [
        Contender("raw-consume", size, total, consume, check_consumed),
        *(
            Contender(name, size, total, partial(restore, workers), partial(check_restored, workers))
            for name, workers in (("restore", 1), ("restore, two workers", 2))
        ),
    ]


def _folders(folder: Path, workers: int) -> list[Path]:
    return [folder / f"worker-{number}" for number in range(workers)]


def commit(settings: Settings, ends: Mapping[Place, int]) -> None:
    """Leave the group where a worker that has processed everything leaves it."""
    consumer = Consumer({**settings.kafka(), "group.id": settings.group})
    consumer.commit(offsets=[TopicPartition(*place, end) for place, end in ends.items()], asynchronous=False)
    consumer.close()


def check(states: Mapping[Path, Sequence[int]], expected: Expected) -> None:
    """Raises Void where what these partitions of the states hold is not what the events come to."""
    predictions = feedback = counted = reviewed = 0
    for state_dir, partitions in states.items():
        folder = state.StateFolder(state_dir)
        for store in map(folder.store, partitions):
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


def _found(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    details = ("restored/s", "restored per CPU-second")
    sys.exit(contest.command_line("restore", __doc__, 400_000, measure, details))
