"""A service that sends predictions, as a process: through the SDK, or by the least that could be written instead.

python -m benchmarks.sdk_process sdk FOLDER         (which holds job.json)
python -m benchmarks.sdk_process paced FOLDER
python -m benchmarks.sdk_process bare FOLDER

Times of the calls go to found.json.
"""

from __future__ import annotations

import io
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Producer

from benchmarks.job import Job
from benchmarks.workload import texts
from flyback import BufferFull, Client, model
from flyback.delivery import producer_config
from flyback.ids import new_id
from flyback.schemas import wire
from flyback.schemas.catalog import BundledCatalog
from flyback.schemas.codec import bundled
from flyback.settings import Settings
from flyback.streams.topology import Topology

PACE = 1_000
"""Predictions a second of a busy service."""
_FULL_SECONDS = 0.005
_TEXTS = 1_000
"""More than what a compressor looks back on; to make more would take longer than to send the events."""


def answers(events: int) -> Iterator[dict[str, Any]]:
    """What the model was asked and has answered: the arguments of `predict`, but for the actor."""
    asked, answered = texts(random.Random(1), 430, _TEXTS), texts(random.Random(2), 330, _TEXTS)
    for number in range(events):
        yield {
            "task_id": f"task-{number}",
            "input": asked[number % len(asked)],
            "output": answered[number * 7 % len(answered)],
            "confidence": 0.5,
            "segment": f"customer-{number % 10}",
            "attributes": {"language": "en", "tenant": "t1"},
        }


def paced(found: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same, PACE a second."""
    started = time.perf_counter()
    for number, answer in enumerate(found):
        if (early := started + number / PACE - time.perf_counter()) > 0:
            time.sleep(early)
        yield answer


def sdk(settings: Settings, found: Iterator[dict[str, Any]]) -> dict[str, float]:
    """As fast as the client takes them, and they come. Times of a call are in microseconds."""
    actor = model("model-1", "2026-11")
    took, full = [], 0
    with Client(settings) as client:
        for answer in found:
            while True:
                began = time.perf_counter_ns()
                try:
                    client.predict(actor=actor, **answer)
                except BufferFull:
                    full += 1
                    time.sleep(_FULL_SECONDS)
                else:
                    took.append(time.perf_counter_ns() - began)
                    break
        assert client.flush(120) == 0, "not everything was acknowledged"
        assert client.stats().failed == 0, client.stats()
    took.sort()
    at = {f"p{share}_us": took[int(len(took) * share / 100)] / 1000 for share in (50, 99, 99.9)}
    return {**at, "max_us": took[-1] / 1000, "times_full": full}


def bare(settings: Settings, events: int) -> dict[str, float]:
    """fastavro and confluent-kafka with the SDK's settings for delivery: no checks, no reports."""
    producer = Producer(producer_config(settings))
    topic, schema = Topology(settings).topic_of("Prediction"), bundled("Prediction").parsed
    header = wire.frame(BundledCatalog().id_for("Prediction", topic), b"")
    actor = {"kind": "MODEL", "name": "model-1", "version": "2026-11"}
    for answer in answers(events):
        record = {
            **answer,
            "prediction_id": new_id(),
            "actor": actor,
            "input": {"content_type": "text/plain", "body": answer["input"]},
            "output": {"content_type": "text/plain", "body": answer["output"]},
            "context": [],
            "occurred_at": time.time_ns() // 1000,
        }
        out = io.BytesIO()
        out.write(header)
        fastavro.schemaless_writer(out, schema, record)
        while True:
            try:
                producer.produce(topic, out.getvalue(), answer["task_id"].encode())
                break
            except BufferError:
                producer.poll(_FULL_SECONDS)
    assert producer.flush(120) == 0, "not everything was acknowledged"
    return {}


def main(how: str, folder: Path) -> None:
    """Send the job's events, then say how long calls took."""
    job = Job.read(folder)
    settings = job.settings(folder)
    if how == "bare":
        found = bare(settings, job.events)
    else:
        found = sdk(settings, paced(answers(job.events)) if how == "paced" else answers(job.events))
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
