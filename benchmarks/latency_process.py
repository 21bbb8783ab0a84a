"""The processes beside worker and sink when latency is measured. Settings come from the environment.

python -m benchmarks.latency_process send RATE SECONDS FIRST FOLDER     events at a steady pace
python -m benchmarks.latency_process read RATE SECONDS FIRST FOLDER     when which example can be read, committed
python -m benchmarks.latency_process look RATE SECONDS FIRST FOLDER     when which example is a row in DuckDB

Each makes a file FOLDER/<its name> when it begins; `read` and `look` write what they saw to FOLDER/<its name>.json: of
each example the correction's id, and in microseconds since the epoch when the correction was sent, when Kafka took it,
when the worker wrote the example, and when it was seen.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from benchmarks.workload import bulk_producer, send, texts
from flyback import history
from flyback import settings as configuration
from flyback.bench.events import correction
from flyback.schemas import codec
from flyback.schemas.catalog import BundledCatalog
from flyback.settings import Settings
from flyback.streams.topology import Topology, partition_for

PATIENCE = 60.0
_TEMPLATES = 50
_TASK = b"task-00000000"  # stands for a task's id of the same length in an encoded event
_TRUTH = "what would have been right " * 10
_LOOK_SECONDS = 0.1  # between two queries

Seen = dict[str, tuple[int, int, int, int]]
"""By the correction's id: sent, taken by Kafka, example written, seen; microseconds since the epoch."""


@dataclass(frozen=True)
class Load:
    """Events at a steady rate. From the second second on every tenth is the correction of a prediction one second old.

    Its arrival is long past then, so that only the correction's own way is measured. Tasks are numbered from `first`.
    """

    rate: int
    seconds: float
    first: int = 0

    @property
    def events(self) -> int:
        return int(self.rate * self.seconds)

    @cached_property
    def corrections(self) -> int:
        """How many of them are corrections."""
        return sum(self.corrected_by(number) is not None for number in range(self.events))

    def corrected_by(self, number: int) -> int | None:
        """Which event an event corrects; None where it is a prediction itself."""
        about = number - 9 - -(-self.rate // 10) * 10
        return about if number % 10 == 9 and about >= 0 else None


def send_all(settings: Settings, load: Load, begin: Callable[[], None]) -> None:
    """Predictions from templates, since encoding them all would take a core of its own, and corrections.

    Messages gather for 20 ms, as in the SDK.
    """
    failures: list[str] = []
    topology, producer = Topology(settings), bulk_producer(settings, failures)
    history.bounds(settings, topology.raw)  # leaders that answer refuse no first batch: see ADR 13
    predictions = list(_predictions())
    correction_id = BundledCatalog().id_for("Correction", "")
    begin()
    began = time.monotonic()
    for number in range(load.events):
        if (early := began + number / load.rate - time.monotonic()) > 0.002:
            producer.poll(0)
            time.sleep(early)
        about = load.corrected_by(number)
        key = b"task-%08d" % (load.first + (number if about is None else about))
        if about is None:
            record, value = "Prediction", predictions[number % _TEMPLATES].replace(_TASK, key)
        else:
            record, value = (
                "Correction",
                codec.encode("Correction", correction(f"of-{key.decode()}", key.decode(), _TRUTH), correction_id),
            )
        send(producer, topology.topic_of(record), partition_for(key, settings.partitions), key, value)
    assert producer.flush(PATIENCE) == 0, "not everything was acknowledged"
    assert not failures, f"{len(failures)} events were not taken: {failures[0]}"


def read(settings: Settings, load: Load, begin: Callable[[], None]) -> Seen:
    """The examples as a reader of committed messages gets them."""
    topic = Topology(settings).topic_of("Example")
    consumer = Consumer(
        settings.kafka(
            **{
                "group.id": f"{settings.group}-latency",  # only a name
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 100,
            }
        )
    )
    ends = {place: end for place, (_, end) in history.bounds(settings, [topic]).items()}
    consumer.assign([TopicPartition(*place, end) for place, end in ends.items()])
    consumer.poll(1.0)  # connected by then
    begin()
    found: list[tuple[bytes, int, int]] = []
    last = time.monotonic()
    while len(found) < load.corrections and time.monotonic() - last < PATIENCE:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            found.append((message.value() or b"", message.timestamp()[1] * 1000, time.time_ns() // 1000))
            last = time.monotonic()
    consumer.close()
    seen: Seen = {}
    for value, written, moment in found:
        example = codec.decode("Example", value, codec.bundled("Example"))
        times = (example["feedback_occurred_at"], example["feedback_source"]["arrived_at"], written, moment)
        seen.setdefault(example["correction_id"], times)
    return seen


def look(settings: Settings, load: Load, begin: Callable[[], None]) -> Seen:
    """The examples as they appear in DuckDB, by one query every 100 ms."""
    from flyback.sinks.lake import lake

    times = "epoch_us(feedback_occurred_at), epoch_us(feedback_source.arrived_at), epoch_us(_arrived_at)"
    seen: Seen = {}
    with lake(settings.lake) as connection:
        begin()
        last = time.monotonic()
        while len(seen) < load.corrections and time.monotonic() - last < PATIENCE:
            connection.refresh()
            rows = connection.execute(f"SELECT correction_id, {times} FROM examples").fetchall()
            moment = time.time_ns() // 1000
            for correction_id, sent, arrived, written in rows:
                if correction_id not in seen:
                    seen[correction_id] = (sent, arrived, written, moment)
                    last = time.monotonic()
            time.sleep(_LOOK_SECONDS)
    return seen


def main(how: str, load: Load, folder: Path) -> None:
    """One of the three."""
    settings = configuration.load()

    def begin() -> None:
        (folder / how).touch()

    if how == "send":
        send_all(settings, load, begin)
    else:
        seen = {"read": read, "look": look}[how](settings, load, begin)
        (folder / f"{how}.json").write_text(json.dumps(seen), encoding="utf-8")


def _predictions() -> Iterator[bytes]:
    chance = random.Random(1)
    schema_id = BundledCatalog().id_for("Prediction", "")
    for number, asked, answered in zip(
        range(_TEMPLATES), texts(chance, 430, _TEMPLATES), texts(chance, 330, _TEMPLATES), strict=True
    ):
        event = {
            "prediction_id": "p",
            "task_id": _TASK.decode(),
            "actor": {"kind": "MODEL", "name": f"model-{number % 3}", "version": "2026-11"},
            "input": {"content_type": "text/plain", "body": asked},
            "output": {"content_type": "text/plain", "body": answered},
            "context": [],
            "confidence": 0.5,
            "segment": f"customer-{number % 10}",
            "attributes": {"language": "en", "tenant": "t1"},
            "occurred_at": time.time_ns() // 1000,
        }
        yield codec.encode("Prediction", event, schema_id)


if __name__ == "__main__":
    main(sys.argv[1], Load(int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])), Path(sys.argv[5]))
