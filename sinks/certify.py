"""Which rows of a decoded batch are valid beyond doubt.

These masks say the same as `flyback.schemas.intake.accept`, for whole columns at once. They may be false for a valid
row (it then takes the slow path, which decides), never true for an invalid one: a test holds them against the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from flyback.schemas.rules import MAX_LABEL, MAX_MICROS, MIN_MICROS, MIN_PROBABILITY
from flyback.sinks.columns import key_value, record_schema
from flyback.streams.topology import partition_for

Mask: TypeAlias = pa.BooleanArray

_partition_for = lru_cache(maxsize=65_536)(partition_for)  # the events of a task share their key


def valid(record: str, batch: pa.RecordBatch) -> Mask:
    """True where a row certainly satisfies the rules of its record; all rows of records without rules."""
    return _all([_true(batch.num_rows), *_RULES.get(record, _no_rules)(batch)])


def keyed(batch: pa.RecordBatch, keys: Sequence[bytes | None], partitions: Sequence[int], partition_count: int) -> Mask:
    """True where the key is the task_id and hashes to the partition that the message was found in."""
    task_ids = batch.column("task_id").cast(pa.binary())
    same = pc.fill_null(pc.equal(pa.array(keys, pa.binary()), task_ids), False)
    there = [
        bool(key) and _partition_for(key, partition_count) == partition
        for key, partition in zip(keys, partitions, strict=True)
    ]
    return pc.and_(same, pa.array(there, pa.bool_()))


def times_in_range(record: str, batch: pa.RecordBatch) -> Mask:
    """True where every time lies in the years 1 to 9999."""
    masks = [_true(batch.num_rows)]
    for field in record_schema(record):
        column, types = batch.column(field.name), [field]
        if pa.types.is_struct(field.type):
            types = list(field.type)
        for inner in types:
            if pa.types.is_timestamp(inner.type):
                times = column if inner is field else pc.struct_field(column, inner.name)
                masks.append(_between(times, MIN_MICROS, MAX_MICROS))
    return _all(masks)


def distinct_map_keys(batch: pa.RecordBatch) -> Mask:
    """True where no map of the row holds a key twice: Avro allows it, a dictionary keeps the last value."""
    masks = [_true(batch.num_rows)]
    for column in batch.columns:
        if pa.types.is_map(column.type):
            column = column.cast(key_value(column.type.item_type))  # Arrow's functions take lists only
            rows = pc.list_parent_indices(column)
            entries = pa.table({"row": rows, "key": pc.struct_field(pc.list_flatten(column), "key")})
            counts = entries.group_by(["row", "key"]).aggregate([([], "count_all")])
            twice = counts.filter(pc.greater(counts["count_all"], 1))["row"]
            masks.append(_without(batch.num_rows, twice))
    return _all(masks)


def _prediction(batch: pa.RecordBatch) -> Iterable[Mask]:
    yield from _identified(batch, "segment")
    name, version = (pc.struct_field(batch.column("actor"), field) for field in ("name", "version"))
    yield _named(name)
    for label in (name, version, batch.column("segment")):
        yield pc.less_equal(pc.utf8_length(label), MAX_LABEL)
    yield _between(batch.column("confidence"), 0.0, 1.0)


def _correction(batch: pa.RecordBatch) -> Iterable[Mask]:
    yield from _identified(batch, "correction_id")
    yield _named(pc.struct_field(batch.column("author"), "name"))
    yield _between(batch.column("sampling_probability"), MIN_PROBABILITY, 1.0)
    yield pc.or_(pc.not_equal(batch.column("verdict"), "CORRECTED"), batch.column("output").is_valid())


def _grade(batch: pa.RecordBatch) -> Iterable[Mask]:
    yield from _identified(batch, "grade_id", "rubric")
    yield _named(pc.struct_field(batch.column("author"), "name"))
    yield _between(batch.column("sampling_probability"), MIN_PROBABILITY, 1.0)
    scores = batch.column("scores")
    flat = pc.list_flatten(scores)
    score, most = pc.struct_field(flat, "score"), pc.struct_field(flat, "max_score")
    good = _all(
        [
            _named(pc.struct_field(flat, "criterion")),
            pc.is_finite(score),
            pc.is_finite(most),
            pc.greater(most, 0.0),
            pc.less_equal(score, most),
        ]
    )
    yield _without(batch.num_rows, pc.list_parent_indices(scores).filter(pc.invert(good)))


def _no_rules(batch: pa.RecordBatch) -> Iterable[Mask]:
    return ()


_RULES: Mapping[str, Callable[[pa.RecordBatch], Iterable[Mask]]] = {
    "Prediction": _prediction,
    "Correction": _correction,
    "Grade": _grade,
}


def _identified(batch: pa.RecordBatch, *fields: str) -> Iterable[Mask]:
    for field in ("task_id", "prediction_id", *fields):
        yield _named(batch.column(field))
    yield _between(batch.column("occurred_at"), MIN_MICROS, MAX_MICROS)


def _named(column: pa.Array) -> Mask:
    return pc.greater(pc.binary_length(column), 0)


def _between(column: pa.Array, low: float, high: float) -> Mask:
    inside = pc.and_(pc.greater_equal(column, low), pc.less_equal(column, high))  # false for NaN
    return pc.or_(column.is_null(), pc.fill_null(inside, False))


def _all(masks: Iterable[Mask]) -> Mask:
    first, *rest = masks
    for mask in rest:
        first = pc.and_(first, mask)
    return pc.fill_null(first, False)


def _true(rows: int) -> Mask:
    return pa.repeat(True, rows)


def _without(rows: int, bad: pa.Array) -> Mask:
    """True for all rows but those whose indices are in `bad`."""
    if len(bad) == 0:
        return _true(rows)
    excluded = set(bad.to_pylist())
    return pa.array([row not in excluded for row in range(rows)], pa.bool_())
