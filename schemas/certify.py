"""Which rows of a decoded batch are valid beyond doubt.

These masks say the same as `flyback.schemas.intake.accept`, for whole columns at once. They may be false for a valid
row (it then takes the slow path, which decides), never true for an invalid one: a test holds them against the rules.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from flyback.schemas.codec import bundled
from flyback.schemas.murmur import partitions_for
from flyback.schemas.rules import MAX_LABEL, MAX_MICROS, MIN_MICROS, MIN_PROBABILITY

Mask: TypeAlias = pa.BooleanArray

_MOST_ENTRIES = 50  # of a map; a row with more of them is left to the slow path


def valid(record: str, batch: pa.RecordBatch) -> Mask:
    """True where a row certainly satisfies the rules of its record; all rows of records without rules."""
    return _all([_true(batch.num_rows), *_RULES.get(record, _no_rules)(batch)])


def keyed(batch: pa.RecordBatch, keys: Sequence[bytes | None], found_in: Sequence[int], partitions: int) -> Mask:
    """True where the key is the task_id and hashes to the partition that the message was found in."""
    given = pa.array(keys, pa.binary())
    same = pc.equal(given, batch.column("task_id").cast(pa.binary()))
    there = pc.equal(partitions_for(given, partitions), pa.array(found_in, pa.int32()))
    return pc.fill_null(pc.and_(same, there), False)


def times_in_range(record: str, batch: pa.RecordBatch) -> Mask:
    """True where every time lies in the years 1 to 9999."""
    masks = [_true(batch.num_rows)]
    for field, *inner in _times(record):
        column = batch.column(field)
        masks.append(_between(pc.struct_field(column, inner) if inner else column, MIN_MICROS, MAX_MICROS))
    return _all(masks)


def distinct_map_keys(batch: pa.RecordBatch) -> Mask:
    """True where no map of the row holds a key twice: Avro allows it, a dictionary keeps the last value."""
    masks = [_true(batch.num_rows)]
    for column in batch.columns:
        if pa.types.is_map(column.type):
            masks.append(_distinct_keys(column))
    return _all(masks)


def maps_in_order(batch: pa.RecordBatch) -> Mask:
    """True where every map of the row has its keys in their order."""
    masks = [_true(batch.num_rows)]
    for column in batch.columns:
        if pa.types.is_map(column.type):
            rows, keys, _ = _entries(column)
            same_row = pc.equal(rows[1:], rows[:-1])
            masks.append(_without(len(column), rows[1:].filter(pc.and_(same_row, pc.less(keys[1:], keys[:-1])))))
    return _all(masks)


def _distinct_keys(column: pa.MapArray) -> Mask:
    rows, keys, lengths = _entries(column)
    longest = pc.max(lengths).as_py() or 0
    twice = []
    for apart in range(1, min(longest, _MOST_ENTRIES)):
        same_row = pc.equal(rows[apart:], rows[:-apart])
        twice += rows[apart:].filter(pc.and_(same_row, pc.equal(keys[apart:], keys[:-apart]))).to_pylist()
    return pc.and_(pc.less_equal(lengths, _MOST_ENTRIES), _without(len(column), pa.array(twice, rows.type)))


def _entries(column: pa.MapArray) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Of all maps' entries the row and the key, and how many each map has."""
    lists = column.cast(pa.list_(pa.struct([("key", pa.string()), ("value", column.type.item_type)])))
    # Arrow's functions take lists only
    return pc.list_parent_indices(lists), pc.struct_field(pc.list_flatten(lists), "key"), pc.list_value_length(lists)


@cache
def _times(record: str) -> tuple[tuple[str, ...], ...]:
    """Where the record has times: a field, or a field and one of the record in it."""
    named: dict[str, Any] = {}
    found: list[tuple[str, ...]] = []
    for field in json.loads(bundled(record).text)["fields"]:
        kind = field["type"]
        kind = named.get(kind, kind) if isinstance(kind, str) else kind
        if not isinstance(kind, dict):
            continue
        if kind["type"] == "record":
            named[kind["name"]] = kind
            found += [(field["name"], inner["name"]) for inner in kind["fields"] if _is_time(inner["type"])]
        elif _is_time(kind):
            found.append((field["name"],))
    return tuple(found)


def _is_time(kind: Any) -> bool:
    return isinstance(kind, dict) and kind.get("logicalType") == "timestamp-micros"


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
