"""What a raw event must satisfy beyond its Avro schema. The SDK, the engine and the sinks apply the same rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from flyback.errors import InvalidEvent
from flyback.schemas.codec import Record

MIN_MICROS = -62_135_596_800_000_000  # 0001-01-01: what Python, Arrow, Delta and DuckDB can all hold
MAX_MICROS = 253_402_300_799_999_999  # 9999-12-31
MIN_PROBABILITY = 1e-4
"""Smallest sampling probability: the weight of one review is at most 10,000."""
MAX_LABEL = 1_000
"""Longest actor name, actor version and segment of a prediction, in characters: they name its failure rate."""


def _named(field: str, value: str) -> None:
    if not value:
        raise InvalidEvent("empty_field", field, "must not be empty")


def _label(field: str, value: str) -> None:
    """What is no label but a text would not fit into the key and the value of its failure rate."""
    if len(value) > MAX_LABEL:
        raise InvalidEvent("out_of_range", field, f"must have at most {MAX_LABEL} characters, has {len(value)}")


def _between(field: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:  # NaN fails every comparison
        raise InvalidEvent("out_of_range", field, f"must be between {low:g} and {high:g}, is {value}")


def _identified(event: Record, *fields: str) -> None:
    for field in ("task_id", "prediction_id", *fields):
        _named(field, event[field])
    if not MIN_MICROS <= event["occurred_at"] <= MAX_MICROS:
        raise InvalidEvent("out_of_range", "occurred_at", "must lie in the years 1 to 9999")


def check_prediction(event: Record) -> None:
    """Raises InvalidEvent naming the first field that breaks a rule."""
    _identified(event, "segment")
    _named("actor.name", event["actor"]["name"])
    _label("actor.name", event["actor"]["name"])
    _label("actor.version", event["actor"]["version"])
    _label("segment", event["segment"])
    _between("confidence", event["confidence"], 0, 1)


def check_correction(event: Record) -> None:
    """Raises InvalidEvent naming the first field that breaks a rule."""
    _identified(event, "correction_id")
    _named("author.name", event["author"]["name"])
    _between("sampling_probability", event["sampling_probability"], MIN_PROBABILITY, 1)
    if not -(2**31) <= event["authority"] < 2**31:  # fastavro reads and writes a longer int without complaint
        raise InvalidEvent("out_of_range", "authority", "must fit into 32 bits")
    if event["verdict"] == "CORRECTED" and event["output"] is None:
        raise InvalidEvent("missing_output", "output", "verdict CORRECTED needs the true output")


def check_grade(event: Record) -> None:
    """Raises InvalidEvent naming the first field that breaks a rule."""
    _identified(event, "grade_id", "rubric")
    _named("author.name", event["author"]["name"])
    _between("sampling_probability", event["sampling_probability"], MIN_PROBABILITY, 1)
    for i, score in enumerate(event["scores"]):
        _named(f"scores[{i}].criterion", score["criterion"])
        if not (math.isfinite(score["max_score"]) and score["max_score"] > 0):
            raise InvalidEvent("out_of_range", f"scores[{i}].max_score", f"must be above 0, is {score['max_score']}")
        if not (math.isfinite(score["score"]) and score["score"] <= score["max_score"]):
            raise InvalidEvent(
                "out_of_range",
                f"scores[{i}].score",
                f"must be finite and at most max_score, is {score['score']}",
            )


CHECKS: Mapping[str, Callable[[Record], None]] = {
    "Prediction": check_prediction,
    "Correction": check_correction,
    "Grade": check_grade,
}
