"""What a prediction costs the service that sends it: the SDK's `predict()` beside the least one could write instead.

About 1 KB an event, a real Kafka with four partitions. The bare loop writes the same record by fastavro and
confluent-kafka, idempotently, with the SDK's settings for delivery; it checks nothing and learns of no failure. Both
send as fast as they can. The paced SDK sends 1,000 events a second, as a busy service may: there the times of a call
are its own, and not those of a full machine. Every event is looked up in the topic afterwards. (There is no outbox to
measure: the SDK keeps events in memory only.)

    python -m benchmarks.sdk --events 100000
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks import contest
from benchmarks.contest import Contender, Ground, Run, Void
from benchmarks.job import Job
from benchmarks.sdk_process import answers
from flyback import history, topics
from flyback.schemas import codec
from flyback.streams.topology import Topology

_SMALL = 4  # times smaller than the large size
_PACED = 10
_DECODED = 100  # of so many messages one is decoded


def measure(ground: Ground, given: argparse.Namespace) -> list[Run]:
    """SDK and bare loop with a small and a large size each, and the SDK at a steady pace."""
    sizes = (given.events // _SMALL, given.events)
    contenders = [contender(ground.bootstrap, how, size) for how in ("sdk", "bare") for size in sizes]
    contenders.append(contender(ground.bootstrap, "paced", given.events // _PACED))
    return contest.hold("sdk", contenders, given.runs, ground)


def contender(bootstrap: str, how: str, events: int) -> Contender:
    """One way to send so many predictions; each run has topics of its own."""

    def prepare(folder: Path) -> Sequence[str]:
        prefix = f"bench-{uuid4().hex[:8]}."
        job = Job(bootstrap, prefix, prefix, events)
        settings = job.settings(folder)
        topics.create(settings)
        history.bounds(settings, Topology(settings).raw)  # leaders that answer refuse no first batch: see ADR 13
        job.write(folder)
        return [sys.executable, "-m", "benchmarks.sdk_process", how, str(folder)]

    def check(folder: Path) -> Mapping[str, Any]:
        check_sent(Job.read(folder), folder)
        found: dict[str, Any] = json.loads((folder / "found.json").read_text(encoding="utf-8"))
        return found

    return Contender({"bare": "bare loop", "paced": "sdk, paced"}.get(how, how), events, events, prepare, check)


def check_sent(job: Job, folder: Path) -> None:
    """Raises Void unless the topic holds every prediction once, as it was given."""
    settings = job.settings(folder)
    wanted = {answer["task_id"]: answer for answer in answers(job.events)}
    schema = codec.bundled("Prediction")
    for number, message in enumerate(history.read(settings, [Topology(settings).topic_of("Prediction")])):
        answer = wanted.pop((message.key() or b"").decode(), None)
        if answer is None:
            raise Void(f"{message.key()!r} was sent twice, or is none of the tasks")
        if number % _DECODED == 0:
            event = codec.decode("Prediction", message.value() or b"", schema)
            if (event["task_id"], event["output"]["body"]) != (answer["task_id"], answer["output"]):
                raise Void(f"the prediction of {answer['task_id']} is not the one that was given")
    if wanted:
        raise Void(f"{len(wanted)} of {job.events} predictions did not arrive")


if __name__ == "__main__":
    sys.exit(contest.command_line("sdk", __doc__, 100_000, measure, ("p50_us", "p99_us", "p99.9_us", "max_us")))
