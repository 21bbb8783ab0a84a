"""Hypothesis strategies for events, derived from the Avro schemas so that they cannot fall behind them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from flyback.schemas.codec import Record, bundled
from flyback.schemas.rules import MAX_MICROS, MIN_MICROS, MIN_PROBABILITY
from flyback.streams.join import Arrived
from flyback.streams.messages import Message

TOPIC = {"Prediction": "flyback.predictions.v1", "Correction": "flyback.corrections.v1", "Grade": "flyback.grades.v1"}

TEXT = st.text(max_size=12)
NAME = st.text(min_size=1, max_size=12)
_PROBABILITY = st.none() | st.floats(MIN_PROBABILITY, 1)
_PRIMITIVES: Mapping[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
    "string": TEXT,
}


def of_schema(schema: Any, rules: Mapping[str, st.SearchStrategy[Any]] | None = None) -> st.SearchStrategy[Any]:
    """Any value of an Avro schema (as parsed JSON); `rules` replaces fields, by `Record.field` or by `field`."""
    return _of(schema, rules or {}, {})


def any_event(record: str) -> st.SearchStrategy[Record]:
    """Whatever the schema of `record` allows, also what the rules refuse."""
    return of_schema(json.loads(bundled(record).text))


def _score() -> st.SearchStrategy[Record]:
    best = st.floats(0.5, 1e6)
    return best.flatmap(
        lambda most: st.fixed_dictionaries(
            {"criterion": NAME, "score": st.floats(-1e6, most), "max_score": st.just(most)}
        )
    )


_VALID: Mapping[str, st.SearchStrategy[Any]] = {
    "prediction_id": NAME,
    "task_id": NAME,
    "correction_id": NAME,
    "grade_id": NAME,
    "rubric": NAME,
    "segment": NAME,
    "Actor.name": NAME,
    "confidence": st.none() | st.floats(0, 1),
    "sampling_probability": _PROBABILITY,
    "scores": st.lists(_score(), max_size=3),
    "occurred_at": st.integers(MIN_MICROS, MAX_MICROS),
}


def valid_event(record: str) -> st.SearchStrategy[Record]:
    """A valid Prediction, Correction or Grade."""
    found: st.SearchStrategy[Record] = of_schema(json.loads(bundled(record).text), _VALID)
    if record == "Correction":
        return found.filter(lambda event: event["verdict"] != "CORRECTED" or event["output"] is not None)
    return found


def _of(schema: Any, rules: Mapping[str, st.SearchStrategy[Any]], named: dict[str, Any]) -> st.SearchStrategy[Any]:
    if isinstance(schema, list):
        return st.one_of([_of(branch, rules, named) for branch in schema])
    if isinstance(schema, str):
        return _of(named[schema], rules, named) if schema in named else _PRIMITIVES[schema]
    kind = schema["type"]
    if kind in ("record", "enum"):
        named[schema["name"]] = schema
    if kind == "enum":
        return st.sampled_from(schema["symbols"])
    if kind == "array":
        return st.lists(_of(schema["items"], rules, named), max_size=3)
    if kind == "map":
        return st.dictionaries(TEXT, _of(schema["values"], rules, named), max_size=3)
    if kind != "record":  # a primitive with a logical type
        return _of(kind, rules, named)
    fields = {}
    for field in schema["fields"]:
        plain = _of(field["type"], rules, named)  # also where a rule replaces it: it may define a name
        rule = rules.get(f"{schema['name']}.{field['name']}", rules.get(field["name"]))
        fields[field["name"]] = plain if rule is None else rule
    return st.fixed_dictionaries(fields)


WINDOW_MS = 600_000
EPOCH_MS = 1_700_000_040_000
"""A whole minute, at which histories begin."""


def prediction(task: str = "t", prediction_id: str = "p", **changed: Any) -> Record:
    """A valid prediction; the same for the same arguments."""
    return {
        "prediction_id": prediction_id,
        "task_id": task,
        "actor": {"kind": "MODEL", "name": "vader", "version": "3.3.2"},
        "input": {"content_type": "text/plain", "body": "great phone, dead in a week"},
        "output": {"content_type": "application/json", "body": '{"label":"positive"}'},
        "context": [],
        "confidence": 0.75,
        "segment": "amazon",
        "attributes": {"split": "a", "lang": "en"},
        "occurred_at": EPOCH_MS * 1000,
    } | changed


def correction(
    task: str = "t", prediction_id: str = "p", correction_id: str = "c", verdict: str = "CORRECTED", **changed: Any
) -> Record:
    """A valid correction; the same for the same arguments."""
    truth = {"content_type": "application/json", "body": '{"label":"negative"}'}
    return {
        "correction_id": correction_id,
        "task_id": task,
        "prediction_id": prediction_id,
        "verdict": verdict,
        "output": truth if verdict == "CORRECTED" else None,
        "author": {"kind": "HUMAN", "name": "ann", "version": ""},
        "authority": 0,
        "reason": "sarcasm",
        "error_category": None,
        "sampling_probability": None,
        "attributes": {"tool": "web"},
        "occurred_at": EPOCH_MS * 1000 + 60_000_000,
    } | changed


def grade(task: str = "t", prediction_id: str = "p", grade_id: str = "g", **changed: Any) -> Record:
    """A valid grade; the same for the same arguments."""
    return {
        "grade_id": grade_id,
        "task_id": task,
        "prediction_id": prediction_id,
        "rubric": "tone",
        "rubric_version": "2",
        "scores": [{"criterion": "polite", "score": 4.0, "max_score": 5.0}],
        "passed": True,
        "rationale": None,
        "author": {"kind": "MODEL", "name": "judge", "version": "1"},
        "sampling_probability": None,
        "attributes": {},
        "occurred_at": EPOCH_MS * 1000 + 60_000_000,
    } | changed


def arrived(record: str, event: Record, offset: int = 0, arrived_at: int = EPOCH_MS, partition: int = 0) -> Arrived:
    return Arrived(record, event, TOPIC[record], partition, offset, arrived_at)


@dataclass(frozen=True)
class History:
    """What arrived in one partition's topics, and one order in which a worker may read it, cut into batches."""

    batches: tuple[tuple[Arrived, ...], ...]

    @property
    def records(self) -> list[Arrived]:
        return [each for batch in self.batches for each in batch]


_STEPS_MS = st.sampled_from((0, 0, 1, 30_000, WINDOW_MS // 6, WINDOW_MS // 2, WINDOW_MS - 1, WINDOW_MS, WINDOW_MS + 1))
_EVENT_TIMES = st.sampled_from((-WINDOW_MS, -120_000, -1, 0, 30_000, 100_000, 110_000)).map(
    lambda ms: (EPOCH_MS + ms) * 1000
)


@st.composite
def _raw_event(draw: st.DrawFn, record: str) -> Record:
    task, prediction_id = draw(st.sampled_from(("t", "u"))), draw(st.sampled_from(("p", "q")))
    occurred_at = draw(_EVENT_TIMES)
    if record == "Prediction":
        actor = {"kind": draw(st.sampled_from(("MODEL", "HUMAN"))), "name": "a", "version": ""}
        if task == "t":  # of one kind, so that most copies are equal
            actor["kind"] = "MODEL"
        return prediction(task, prediction_id, actor=actor, occurred_at=occurred_at)
    feedback_id = draw(st.sampled_from(("1", "2")))
    sampled = draw(st.sampled_from((None, 0.3)))
    if record == "Grade":
        passed = {"1": False, "2": draw(st.sampled_from((True, None)))}[feedback_id]
        return grade(
            task, prediction_id, feedback_id, passed=passed, sampling_probability=sampled, occurred_at=occurred_at
        )
    verdict = {"1": "CORRECTED", "2": draw(st.sampled_from(("CONFIRMED", "REJECTED")))}[feedback_id]
    return correction(task, prediction_id, feedback_id, verdict, sampling_probability=sampled, occurred_at=occurred_at)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Few identities, so many copies, conflicts and pairs; arrivals at and around the edges of WINDOW_MS.

    No copy arrives later than one window after the first: beyond that a pair may be derived again.
    """
    kinds = draw(st.lists(st.sampled_from(tuple(TOPIC)), max_size=14))
    log: dict[str, list[Arrived]] = {record: [] for record in TOPIC}
    first: dict[tuple[str, ...], int] = {}
    clock = dict.fromkeys(TOPIC, EPOCH_MS)
    for record in kinds:
        clock[record] += draw(_STEPS_MS)
        found = arrived(record, draw(_raw_event(record)), len(log[record]), clock[record])
        if clock[record] <= first.setdefault(found.identity, clock[record]) + WINDOW_MS:
            log[record].append(found)
    order = draw(st.permutations([record for record, each in log.items() for _ in each]))
    waiting = {record: iter(each) for record, each in log.items()}
    batches: list[list[Arrived]] = [[]]
    for record in order:
        if draw(st.integers(0, 3)) == 0:
            batches.append([])
        batches[-1].append(next(waiting[record]))
    return History(tuple(tuple(batch) for batch in batches))


def message(of: Arrived, traceparent: bytes = b"") -> Message:
    """The message of a raw event, written with this version's schema."""
    from flyback.schemas.catalog import hashed_id
    from flyback.schemas.codec import encode

    schema = bundled(of.record)
    return Message.of(of, encode(of.record, of.event, hashed_id(schema)), schema, traceparent)
