"""The join, without any I/O: one pair to one derived event, and a whole history in one pass.

The engine derives pair by pair as events arrive; `batch` derives all pairs of a history at once. That both give
the same is Flyback's main correctness test.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from flyback.schemas.codec import Record
from flyback.schemas.content import fingerprint

DERIVE_VERSION = 1
"""Raised whenever `derive` or the counting of rates changes; recorded in each derived row."""

FEEDBACK_ID = {"Correction": "correction_id", "Grade": "grade_id"}

# What a derived event has as its prediction, or its feedback, has it.
STORY_FIELDS = (
    "task_id",
    "prediction_id",
    "actor",
    "input",
    "context",
    "output",
    "confidence",
    "segment",
    "attributes",
    "occurred_at",
)
CORRECTION_FIELDS = ("verdict", "authority", "reason", "error_category")
GRADE_FIELDS = ("rubric", "rubric_version", "scores", "passed", "rationale")


@dataclass(frozen=True, slots=True)
class Arrived:
    """A valid raw event and where it stands: `record` is its Avro record's name, `arrived_at` LogAppendTime in ms."""

    record: str
    event: Record
    topic: str
    partition: int
    offset: int
    arrived_at: int

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes two copies the same event."""
        episode = (self.event["task_id"], self.event["prediction_id"])
        if self.record == "Prediction":
            return (self.record, *episode)
        return (self.record, *episode, self.event[FEEDBACK_ID[self.record]])


@dataclass(frozen=True, slots=True)
class Derived:
    """A derived event: the Avro record's name and its content. The message key is `event["task_id"]`."""

    record: str
    event: Record


@dataclass(slots=True)
class Outcome:
    """What a whole history comes to."""

    derived: list[Derived] = field(default_factory=list)
    first_copies: dict[tuple[str, ...], Arrived] = field(default_factory=dict)
    duplicates: list[Arrived] = field(default_factory=list)
    conflicts: list[Arrived] = field(default_factory=list)


def pair_id(feedback: Arrived) -> str:
    """The derived event's id, of its feedback."""
    return pair_id_of(feedback.identity)


def pair_id_of(feedback: tuple[str, ...]) -> str:
    """The same from the feedback's identity: 32 hex digits of SHA-256 over it as a JSON array."""
    return hashlib.sha256(_json(feedback).encode()).hexdigest()[:32]


_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class HasArrived(Protocol):
    """Anything that has an arrival (ms)."""

    @property
    def arrived_at(self) -> int: ...


def within(prediction: HasArrived, feedback: HasArrived, window_ms: int) -> bool:
    """Whether two first copies are a pair: decided from their arrivals alone."""
    return abs(prediction.arrived_at - feedback.arrived_at) <= window_ms


def derive(prediction: Arrived, feedback: Arrived) -> Derived:
    """The derived event of one pair: Example, GradedExample or Coaching, with the whole story and its provenance."""
    p, f = prediction.event, feedback.event
    story = {
        **{name: p[name] for name in STORY_FIELDS},
        "author": f["author"],
        "sampling_probability": f["sampling_probability"],
        "feedback_attributes": f["attributes"],
        "feedback_occurred_at": f["occurred_at"],
        "prediction_source": _source(prediction),
        "feedback_source": _source(feedback),
        "derive_version": DERIVE_VERSION,
    }
    judgement = _correction(p, f) if feedback.record == "Correction" else _grade(f)
    feedback_id = f[FEEDBACK_ID[feedback.record]]
    if p["actor"]["kind"] == "HUMAN":
        own = {
            "coaching_id": pair_id(feedback),
            "feedback_kind": feedback.record.upper(),
            "feedback_id": feedback_id,
        }
        return Derived("Coaching", {**story, **judgement, **own})
    if feedback.record == "Correction":
        return Derived("Example", {**story, **judgement, "example_id": pair_id(feedback), "correction_id": feedback_id})
    return Derived(
        "GradedExample",
        {**story, **judgement, "graded_example_id": pair_id(feedback), "grade_id": feedback_id},
    )


def batch(records: Iterable[Arrived], window: timedelta | None) -> Outcome:
    """All that a history of valid raw events derives, in one pass; the reference for the stream.

    `records` may come in any order. Copies are told apart by offset (all copies of one identity share a partition):
    the first counts, equal ones are duplicates, others conflicts. With `window=None` every pair is derived: the
    reference after `reconcile`.
    """
    outcome = Outcome()
    for arrived in sorted(records, key=lambda r: (r.topic, r.partition, r.offset)):
        first = outcome.first_copies.setdefault(arrived.identity, arrived)
        if first is not arrived:
            same = fingerprint(first.record, first.event) == fingerprint(arrived.record, arrived.event)
            (outcome.duplicates if same else outcome.conflicts).append(arrived)
    for identity, feedback in outcome.first_copies.items():
        prediction = outcome.first_copies.get(("Prediction", *identity[1:3]))
        if feedback.record == "Prediction" or prediction is None:
            continue
        if window is None or within(prediction, feedback, window // timedelta(milliseconds=1)):
            outcome.derived.append(derive(prediction, feedback))
    return outcome


def _source(arrived: Arrived) -> Record:
    return {
        "topic": arrived.topic,
        "partition": arrived.partition,
        "offset": arrived.offset,
        "arrived_at": arrived.arrived_at * 1000,
    }


def _correction(prediction: Record, correction: Record) -> Record:
    truth = {
        "CONFIRMED": prediction["output"],
        "CORRECTED": correction["output"],
        "REJECTED": None,
    }[correction["verdict"]]
    return {"truth": truth, **{name: correction[name] for name in CORRECTION_FIELDS}}


def _grade(grade: Record) -> Record:
    return {name: grade[name] for name in GRADE_FIELDS}
