"""The join for many pairs at once: the same derived events as `join.derive`, as Avro bodies.

Decoding, deriving and encoding one pair takes as long as a hundred events that nobody waits for, most of it in fields
that are only copied. Here they are columns. What is not certainly the same this way is left to `join.derive`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro

from flyback.schemas import certain, wire
from flyback.streams.join import CORRECTION_FIELDS, DERIVE_VERSION, FEEDBACK_ID, GRADE_FIELDS, STORY_FIELDS, pair_id_of
from flyback.streams.matcher import Pair
from flyback.streams.messages import Message

_FEW = 16  # pairs below which one by one is faster
_PIECE = 4_000_000  # bytes of messages that are decoded at once

Columns: TypeAlias = Mapping[str, pa.Array]


def bodies(pairs: Sequence[Pair]) -> list[tuple[str, bytes] | None]:
    """For each pair the derived event's Avro record and body; None where `join.derive` has to do it."""
    found: list[tuple[str, bytes] | None] = [None] * len(pairs)
    alike: defaultdict[Any, list[int]] = defaultdict(list)
    for i, (prediction, feedback) in enumerate(pairs):
        alike[feedback.record, prediction.schema, feedback.schema].append(i)
    for positions in alike.values():
        sizes = [len(pairs[i].prediction.value) + len(pairs[i].feedback.value) for i in positions]
        for piece in certain.pieces(positions, sizes, _PIECE):
            if len(piece) >= _FEW:
                for i, derived in zip(piece, _derived([pairs[i] for i in piece]), strict=True):
                    found[i] = derived
    return found


def _derived(pairs: Sequence[Pair]) -> Sequence[tuple[str, bytes] | None]:
    """Of pairs whose predictions, and whose feedback, have one schema each."""
    found: list[tuple[str, bytes] | None] = [None] * len(pairs)
    record = pairs[0].feedback.record
    predictions = _rows("Prediction", [pair.prediction for pair in pairs])
    feedback = _rows(record, [pair.feedback for pair in pairs])
    if predictions is None or feedback is None:
        return found
    sure = pc.and_(predictions[1], feedback[1])
    by_human = pc.equal(pc.struct_field(predictions[0].column("actor"), "kind"), "HUMAN")
    for target, of_target in (("Coaching", by_human), (_OF_MODEL[record], pc.invert(by_human))):
        mask = pc.and_(sure, of_target)
        positions = pc.indices_nonzero(mask).to_pylist()
        if positions:
            some = [pairs[i] for i in positions]
            encoded = _encoded(target, _columns(target, some, predictions[0].filter(mask), feedback[0].filter(mask)))
            for i, body in zip(positions, encoded or [], strict=encoded is not None):
                found[i] = target, body
    return found


def _rows(record: str, messages: Sequence[Message]) -> tuple[pa.RecordBatch, pa.BooleanArray] | None:
    """The rows of messages that have one schema, and which of them are certain; None where none is."""
    if not certain.same_body(messages[0].schema, record):
        return None
    return certain.rows_of(record, [message.value[wire.HEADER :] for message in messages])


def _columns(target: str, pairs: Sequence[Pair], predictions: pa.RecordBatch, feedback: pa.RecordBatch) -> Columns:
    record = pairs[0].feedback.record
    ids = feedback.column(FEEDBACK_ID[record])
    identities = zip(*map(pa.Array.to_pylist, (*map(feedback.column, ("task_id", "prediction_id")), ids)), strict=True)
    derived_ids = pa.array([pair_id_of((record, *identity)) for identity in identities], pa.string())
    own = {
        "Example": {"example_id": derived_ids, "correction_id": ids},
        "GradedExample": {"graded_example_id": derived_ids, "grade_id": ids},
        "Coaching": {"coaching_id": derived_ids, "feedback_id": ids, "feedback_kind": _all(record.upper(), len(pairs))},
    }[target]
    return {
        **{name: predictions.column(name) for name in STORY_FIELDS},
        "author": feedback.column("author"),
        "sampling_probability": feedback.column("sampling_probability"),
        "feedback_attributes": feedback.column("attributes"),
        "feedback_occurred_at": feedback.column("occurred_at"),
        "prediction_source": _sources([pair.prediction for pair in pairs]),
        "feedback_source": _sources([pair.feedback for pair in pairs]),
        "derive_version": _all(DERIVE_VERSION, len(pairs)),
        **_JUDGEMENT[record](predictions, feedback),
        **own,
    }


def _correction(predictions: pa.RecordBatch, corrections: pa.RecordBatch) -> Columns:
    verdict, given = corrections.column("verdict"), corrections.column("output")
    answered = predictions.column("output").cast(given.type)
    corrected = pc.if_else(pc.equal(verdict, "CORRECTED"), given, pa.nulls(len(given), given.type))
    truth = pc.if_else(pc.equal(verdict, "CONFIRMED"), answered, corrected)
    return {"truth": truth, **{name: corrections.column(name) for name in CORRECTION_FIELDS}}


def _grade(_: pa.RecordBatch, grades: pa.RecordBatch) -> Columns:
    return {name: grades.column(name) for name in GRADE_FIELDS}


_OF_MODEL = {"Correction": "Example", "Grade": "GradedExample"}
_JUDGEMENT: Mapping[str, Callable[[pa.RecordBatch, pa.RecordBatch], Columns]] = {
    "Correction": _correction,
    "Grade": _grade,
}


def _sources(messages: Sequence[Message]) -> pa.StructArray:
    columns = {
        "topic": pa.array([message.topic for message in messages], pa.string()),
        "partition": pa.array([message.partition for message in messages], pa.int32()),
        "offset": pa.array([message.offset for message in messages], pa.int64()),
        "arrived_at": pa.array([message.arrived_at * 1000 for message in messages], pa.int64()),
    }
    return pa.StructArray.from_arrays(list(columns.values()), list(columns))


def _all(value: str | int, rows: int) -> pa.Array:
    return pa.repeat(value, rows)


def _encoded(target: str, columns: Columns) -> list[bytes] | None:
    schema, rows = _schema(target), len(columns["task_id"])
    arrays = [
        columns[field.name].cast(field.type) if field.name in columns else _nothing(field, rows) for field in schema
    ]
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    encoded = certain.encoded(target, batch)
    return None if encoded is None else encoded.to_pylist()


def _nothing(field: pa.Field, rows: int) -> pa.Array:
    """What a coaching moment has of the other kind of feedback."""
    return pa.nulls(rows, field.type) if field.nullable else pa.array([[]] * rows, field.type)


@cache
def _schema(record: str) -> pa.Schema:
    """The columns that pyruhvro encodes."""
    return pyruhvro.deserialize_array([], certain.pyruhvro_schema(record)).schema
