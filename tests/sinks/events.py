"""Small valid events, and their Kafka messages."""

from __future__ import annotations

from typing import Any

from flyback.schemas import codec
from flyback.schemas.catalog import BundledCatalog
from flyback.schemas.codec import Record
from flyback.sinks.message import Message
from flyback.streams.join import Arrived, derive
from flyback.streams.topology import partition_for

CATALOG = BundledCatalog()
MINUTE = 1_760_000_040_000_000 // 60_000_000 * 60_000_000
MODEL = {"kind": "MODEL", "name": "vader", "version": "3"}
HUMAN = {"kind": "HUMAN", "name": "ann", "version": ""}


def text(body: str) -> Record:
    return {"content_type": "text/plain", "body": body}


def prediction(task: str, number: str = "p1", **changed: Any) -> Record:
    return {
        "prediction_id": number,
        "task_id": task,
        "actor": MODEL,
        "input": text(f"question of {task}"),
        "output": text("positive"),
        "context": [],
        "confidence": 0.5,
        "segment": "amazon",
        "attributes": {},
        "occurred_at": MINUTE + 1,
    } | changed


def correction(task: str, number: str = "c1", verdict: str = "CORRECTED", **changed: Any) -> Record:
    return {
        "correction_id": number,
        "task_id": task,
        "prediction_id": "p1",
        "verdict": verdict,
        "output": text("negative") if verdict == "CORRECTED" else None,
        "author": HUMAN,
        "authority": 0,
        "reason": None,
        "error_category": None,
        "sampling_probability": None,
        "attributes": {},
        "occurred_at": MINUTE + 60_000_000,
    } | changed


def grade(task: str, number: str = "g1", passed: bool | None = True, **changed: Any) -> Record:
    return {
        "grade_id": number,
        "task_id": task,
        "prediction_id": "p1",
        "rubric": "tone",
        "rubric_version": "1",
        "scores": [{"criterion": "polite", "score": 4.0, "max_score": 5.0}],
        "passed": passed,
        "rationale": None,
        "author": HUMAN,
        "sampling_probability": None,
        "attributes": {},
        "occurred_at": MINUTE + 120_000_000,
    } | changed


def value_of(record: str, event: Record) -> bytes:
    return codec.encode(record, event, CATALOG.id_for(record, ""))


def message(record: str, event: Record, offset: int = 0, partitions: int = 4, **changed: Any) -> Message:
    """As it would come from the record's topic."""
    key = event["task_id"].encode()
    return Message(
        record.lower(), partition_for(key, partitions), offset, 1_760_000_000_000, key, value_of(record, event), []
    )._replace(**changed)


def derived(given: Record, feedback: Record) -> Record:
    """What the engine derives from the pair, as it is read from its topic."""
    kind = "Grade" if "grade_id" in feedback else "Correction"
    found = derive(Arrived("Prediction", given, "predictions", 0, 0, 1), Arrived(kind, feedback, "feedback", 0, 0, 2))
    return as_read(found.record, found.event)


def as_read(record: str, event: Record) -> Record:
    """An event as it comes from its topic: with every field."""
    return codec.decode(record, value_of(record, event), codec.bundled(record))
