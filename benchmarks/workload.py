"""Raw events as a busy site sends them: about 1 KB of text, one in ten is feedback, some early, some twice.

Seeded: the same numbers give the same events, but for their times, which are now. Feedback that is not early comes
right after its prediction, or, where older predictions are given, is about one of these.
"""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

from confluent_kafka import KafkaError, Message, Producer

from flyback import history
from flyback.bench.events import texts as texts
from flyback.errors import FlybackError
from flyback.schemas import codec
from flyback.schemas.catalog import BundledCatalog
from flyback.schemas.codec import Record
from flyback.settings import Settings
from flyback.streams.topology import Topology, partition_for

FEEDBACK = 0.10
EARLY = 0.10
COPIES = 0.01
_OLDER = 200_000  # predictions that are kept to be reviewed later


Named = tuple[str, str]
"""Task and prediction."""


@dataclass
class Expected:
    """What there must be after all of it: first copies, the tasks that have feedback, and the bytes of all values.

    `older`: some of the predictions that have no feedback yet.
    """

    bytes: int = 0
    predictions: int = 0
    feedback: int = 0
    reviewed: set[str] = field(default_factory=set)
    unreviewed: int = 0
    older: list[Named] = field(default_factory=list)


def fill(
    settings: Settings, events: int, expected: Expected, seed: int = 1, late: bool = False
) -> dict[tuple[str, int], int]:
    """Send so many raw events; how many by topic and partition. Raises FlybackError where any was not taken.

    `late`: feedback is about the older predictions among what is expected so far.
    """
    failures: list[str] = []
    topology, producer = Topology(settings), bulk_producer(settings, failures)
    # until each partition has a leader: a new one may refuse the first batch and take the second (ADR 13)
    history.bounds(settings, topology.raw)
    ends = Counter({(topic, number): 0 for topic in topology.raw for number in range(settings.partitions)})
    for record, partition, key, value in messages(events, settings.partitions, expected, seed, late):
        topic = topology.topic_of(record)
        send(producer, topic, partition, key, value)
        ends[topic, partition] += 1
        expected.bytes += len(value)
    left = producer.flush(120)
    if left or failures:
        raise FlybackError(f"{left} events are not acknowledged, {len(failures)} were refused: {failures[:1]}")
    return dict(ends)


def bulk_producer(settings: Settings, failures: list[str] | None = None) -> Producer:
    """An idempotent producer, set for throughput; whatever it could not deliver is added to `failures`."""
    config = settings.kafka(**{"linger.ms": 20, "compression.type": settings.compression, "enable.idempotence": True})
    return Producer(config if failures is None else {**config, "on_delivery": _noting(failures)})


def _noting(failures: list[str]) -> Callable[[KafkaError | None, Message], None]:
    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None or message.offset() is None:
            failures.append(error.str() if error is not None else "acknowledged without an offset")

    return delivered


def send(producer: Producer, topic: str, partition: int, key: bytes, value: bytes) -> None:
    """Produce, waiting while the producer's buffer is full."""
    while True:
        try:
            producer.produce(topic, value, key, partition)
            return
        except BufferError:
            producer.poll(0.1)


def messages(
    events: int, partitions: int, expected: Expected, seed: int = 1, late: bool = False
) -> Iterator[tuple[str, int, bytes, bytes]]:
    """Record, partition, key and value of so many raw events, in the order in which they are sent."""
    chance = random.Random(seed)
    inputs, outputs = _texts(430), _texts(330)
    catalog = BundledCatalog()
    ids = {record: catalog.id_for(record, "") for record in ("Prediction", "Correction", "Grade")}

    def framed(record: str, event: Record) -> tuple[str, int, bytes, bytes]:
        key = event["task_id"].encode()
        return record, partition_for(key, partitions), key, codec.encode(record, event, ids[record])

    def new_id() -> str:
        return str(uuid.UUID(int=chance.getrandbits(128), version=4))

    def text(body: str) -> Record:
        return {"content_type": "text/plain", "body": body}

    def feedback(task: str, prediction: str) -> tuple[str, int, bytes, bytes]:
        expected.feedback += 1
        expected.reviewed.add(task)
        common = {
            "task_id": task,
            "prediction_id": prediction,
            "author": {"kind": "HUMAN", "name": f"reviewer-{chance.randrange(20)}", "version": ""},
            "sampling_probability": 0.1,
            "attributes": {"tool": "web"},
            "occurred_at": time.time_ns() // 1000,
        }
        if chance.random() < 0.2:
            scores = [{"criterion": name, "score": float(chance.randrange(6)), "max_score": 5.0} for name in "abc"]
            rubric = {"rubric": "tone", "rubric_version": "2", "rationale": None, "passed": chance.random() < 0.7}
            return framed("Grade", {"grade_id": new_id(), "scores": scores, **rubric, **common})
        wrong = chance.random() < 0.4
        verdict = {
            "verdict": "CORRECTED" if wrong else "CONFIRMED",
            "output": text(chance.choice(outputs)) if wrong else None,
            "authority": 0,
            "reason": chance.choice(inputs)[:80],
            "error_category": None,
        }
        return framed("Correction", {"correction_id": new_id(), **verdict, **common})

    sent = 0
    while sent < events:
        task, prediction = new_id(), new_id()
        reviewed = chance.random() < FEEDBACK / (1 - FEEDBACK)
        early = reviewed and chance.random() < EARLY
        burst = [feedback(task, prediction)] if early else []
        burst.append(
            framed(
                "Prediction",
                {
                    "prediction_id": prediction,
                    "task_id": task,
                    "actor": {"kind": "MODEL", "name": f"model-{chance.randrange(3)}", "version": "2026-11"},
                    "input": text(chance.choice(inputs)),
                    "output": text(chance.choice(outputs)),
                    "context": [],
                    "confidence": chance.random(),
                    "segment": f"customer-{chance.randrange(10)}",
                    "attributes": {"language": "en", "tenant": "t1"},
                    "occurred_at": time.time_ns() // 1000,
                },
            )
        )
        expected.predictions += 1
        if reviewed and not early:
            burst.append(feedback(*(_one_of(expected.older, chance) if late else (task, prediction))))
        elif not reviewed:
            _keep(expected, (task, prediction), chance)
        if chance.random() < COPIES:
            burst.append(chance.choice(burst))
        yield from burst
        sent += len(burst)


@cache
def _texts(characters: int) -> list[str]:
    return texts(random.Random(characters), characters)


def _keep(expected: Expected, named: Named, chance: random.Random) -> None:
    """As one of those that may be reviewed later; each prediction is as likely to be kept as any other."""
    expected.unreviewed += 1
    if len(expected.older) < _OLDER:
        expected.older.append(named)
    elif (number := chance.randrange(expected.unreviewed)) < _OLDER:
        expected.older[number] = named


def _one_of(older: list[Named], chance: random.Random) -> Named:
    """Any of them, which is none of them from then on."""
    number = chance.randrange(len(older))
    older[number], older[-1] = older[-1], older[number]
    return older.pop()
