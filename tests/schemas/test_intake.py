"""What a raw message must satisfy, field by field, and the reason that each fault is given."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyback.errors import InvalidEvent, UnknownSchema
from flyback.schemas import codec, wire
from flyback.schemas.catalog import BundledCatalog, hashed_id
from flyback.schemas.codec import Record, bundled
from flyback.schemas.intake import REASONS, accept
from flyback.schemas.rules import CHECKS, MAX_MICROS, MIN_MICROS, MIN_PROBABILITY
from flyback.streams.topology import partition_for
from tests.strategies import TOPIC, correction, grade, prediction, valid_event

CATALOG = BundledCatalog()
PARTITIONS = 4
MAX_BYTES = 10_000
EVENTS: dict[str, Record] = {"Prediction": prediction(), "Correction": correction(), "Grade": grade()}
KEY = b"t"
HOME = partition_for(KEY, PARTITIONS)


def value_of(record: str, **changed: Any) -> bytes:
    return codec.encode(record, EVENTS[record] | changed, hashed_id(bundled(record)))


def taken(record: str, value: bytes | None, key: bytes | None = KEY, partition: int = HOME) -> Record:
    return accept(record, key, value, partition, PARTITIONS, MAX_BYTES, CATALOG)


def refused(record: str, value: bytes | None, key: bytes | None = KEY, partition: int = HOME) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as caught:
        taken(record, value, key, partition)
    return caught.value


GOOD = value_of("Correction")
BAD: dict[str, tuple[bytes | None, bytes | None, int]] = {
    "empty_value": (None, KEY, HOME),
    "no_magic_byte": (b'{"task_id": "t"}', KEY, HOME),
    "truncated": (GOOD[:-1], KEY, HOME),
    "trailing_bytes": (GOOD + b"\x00", KEY, HOME),
    "invalid_avro": (GOOD[: wire.HEADER] + b"\x02c\x02t\x02p\x7e", KEY, HOME),
    "invalid_utf8": (GOOD.replace(b"sarcasm", b"sarcas\xff"), KEY, HOME),
    "wrong_record_type": (value_of("Grade"), KEY, HOME),
    "empty_field": (value_of("Correction", correction_id=""), KEY, HOME),
    "out_of_range": (value_of("Correction", sampling_probability=math.nan), KEY, HOME),
    "missing_output": (value_of("Correction", output=None), KEY, HOME),
    "missing_key": (GOOD, None, HOME),
    "key_mismatch": (GOOD, b"u", partition_for(b"u", PARTITIONS)),
    "wrong_partition": (GOOD, KEY, (HOME + 1) % PARTITIONS),
    "oversized": (value_of("Correction", reason="x" * MAX_BYTES), KEY, HOME),
}
OF_OTHERS = {"unknown_schema", "conflict", "pair_too_large"}
"""Given by the engine: they depend on its settings, its state, and what is derived."""


@pytest.mark.parametrize("record", EVENTS)
def test_a_valid_message_is_the_event_in_it(record: str) -> None:
    assert taken(record, value_of(record)) == EVENTS[record]


@given(st.sampled_from(tuple(TOPIC)).flatmap(lambda record: st.tuples(st.just(record), valid_event(record))))
@settings(deadline=None)
def test_every_valid_event_is_taken(case: tuple[str, Record]) -> None:
    record, event = case
    key = event["task_id"].encode()
    value = codec.encode(record, event, hashed_id(bundled(record)))
    assert accept(record, key, value, partition_for(key, 4), 4, MAX_BYTES, CATALOG) == event


@pytest.mark.parametrize("reason", BAD)
def test_each_fault_is_refused_with_its_reason(reason: str) -> None:
    assert refused("Correction", *BAD[reason]).reason == reason


def test_every_reason_is_covered_here_or_given_by_the_engine() -> None:
    assert {*BAD, "incompatible_schema", *OF_OTHERS} == set(REASONS)
    assert len(set(REASONS)) == len(REASONS)


def test_a_schema_that_does_not_resolve_is_refused_with_its_reason() -> None:
    other = codec.Schema(
        '{"type": "record", "name": "Correction", "namespace": "flyback.v1",'
        ' "fields": [{"name": "correction_id", "type": "long"}]}'
    )
    value = wire.frame(hashed_id(other), b"\x02")
    with pytest.raises(InvalidEvent) as caught:
        accept("Correction", KEY, value, HOME, PARTITIONS, MAX_BYTES, BundledCatalog([other]))
    assert caught.value.reason == "incompatible_schema"


def test_an_unknown_schema_is_not_refused_since_it_may_become_known() -> None:
    with pytest.raises(UnknownSchema, match="12345"):
        taken("Correction", wire.frame(12345, GOOD[wire.HEADER :]))


def test_an_empty_value_is_refused_like_none() -> None:
    assert refused("Grade", b"").reason == "empty_value"


def test_an_empty_key_is_not_the_task() -> None:
    assert refused("Grade", value_of("Grade"), b"").reason == "key_mismatch"


def test_the_key_is_the_task_in_utf_8() -> None:
    key = "täsk".encode()
    assert taken("Grade", value_of("Grade", task_id="täsk"), key, partition_for(key, PARTITIONS))["task_id"] == "täsk"
    assert refused("Grade", value_of("Grade", task_id="täsk"), "täsk".encode("latin-1")).reason == "key_mismatch"


def test_a_value_of_exactly_the_largest_size_is_taken() -> None:
    short = value_of("Correction", reason="x" * 9000)
    value = value_of("Correction", reason="x" * (9000 + MAX_BYTES - len(short)))
    assert len(value) == MAX_BYTES
    assert taken("Correction", value)
    assert refused("Correction", value_of("Correction", reason="x" * (9001 + MAX_BYTES - len(short)))).reason == (
        "oversized"
    )


def test_the_right_partition_and_the_way_to_it_are_named() -> None:
    error = refused("Grade", value_of("Grade"), KEY, (HOME + 1) % PARTITIONS)
    assert str(HOME) in str(error)
    assert "murmur2_random" in str(error)


EMPTY = [
    ("Prediction", "task_id"),
    ("Prediction", "prediction_id"),
    ("Prediction", "segment"),
    ("Prediction", "actor.name"),
    ("Correction", "task_id"),
    ("Correction", "prediction_id"),
    ("Correction", "correction_id"),
    ("Correction", "author.name"),
    ("Grade", "task_id"),
    ("Grade", "prediction_id"),
    ("Grade", "grade_id"),
    ("Grade", "rubric"),
    ("Grade", "author.name"),
]


@pytest.mark.parametrize(("record", "name"), EMPTY)
def test_what_names_something_must_not_be_empty(record: str, name: str) -> None:
    outer, _, inner = name.partition(".")
    value = EVENTS[record][outer] | {inner: ""} if inner else ""
    with pytest.raises(InvalidEvent) as caught:
        CHECKS[record](EVENTS[record] | {outer: value})
    assert (caught.value.reason, caught.value.field) == ("empty_field", name)


NUMBERS: list[tuple[str, str, list[Any], list[Any]]] = [
    ("Prediction", "confidence", [None, 0.0, 0.5, 1.0], [math.nan, -1e-9, 1.0000001, math.inf, -math.inf]),
    ("Correction", "sampling_probability", [None, MIN_PROBABILITY, 1.0], [0.0, 9e-5, 1.1, math.nan, -0.5, math.inf]),
    ("Grade", "sampling_probability", [None, MIN_PROBABILITY, 1.0], [0.0, 9e-5, 1.1, math.nan, -0.5, math.inf]),
    ("Correction", "authority", [-(2**31), 0, 2**31 - 1], [2**31, -(2**31) - 1, 2**40]),
    *(
        (record, "occurred_at", [MIN_MICROS, -1, 0, MAX_MICROS], [MIN_MICROS - 1, MAX_MICROS + 1, 2**63 - 1, -(2**63)])
        for record in EVENTS
    ),
]


@pytest.mark.parametrize(
    ("record", "name", "number"), [(record, name, each) for record, name, good, _ in NUMBERS for each in good]
)
def test_numbers_up_to_their_bounds_are_taken(record: str, name: str, number: Any) -> None:
    assert taken(record, value_of(record, **{name: number}))[name] == number


@pytest.mark.parametrize(
    ("record", "name", "number"), [(record, name, each) for record, name, _, bad in NUMBERS for each in bad]
)
def test_numbers_out_of_their_bounds_are_refused_by_name(record: str, name: str, number: Any) -> None:
    error = refused(record, value_of(record, **{name: number}))
    assert (error.reason, error.field) == ("out_of_range", name)
    assert str(error).startswith(f"{name}: must ")


def score(criterion: str = "polite", score: float = 4.0, max_score: float = 5.0) -> Record:
    return {"criterion": criterion, "score": score, "max_score": max_score}


@pytest.mark.parametrize("scores", [[], [score(score=5.0)], [score(score=-3.0)], [score(), score("short")]])
def test_scores_up_to_the_best_are_taken(scores: list[Record]) -> None:
    assert taken("Grade", value_of("Grade", scores=scores))["scores"] == scores


@pytest.mark.parametrize(
    ("second", "reason", "name"),
    [
        (score(criterion=""), "empty_field", "criterion"),
        (score(score=5.1), "out_of_range", "score"),
        (score(score=math.nan), "out_of_range", "score"),
        (score(score=-math.inf), "out_of_range", "score"),
        (score(score=math.inf, max_score=math.inf), "out_of_range", "max_score"),
        (score(max_score=math.nan), "out_of_range", "max_score"),
        (score(score=-1.0, max_score=0.0), "out_of_range", "max_score"),
    ],
)
def test_a_score_that_means_nothing_is_refused_by_its_place(second: Record, reason: str, name: str) -> None:
    error = refused("Grade", value_of("Grade", scores=[score(), second]))
    assert (error.reason, error.field) == (reason, f"scores[1].{name}")


@pytest.mark.parametrize("verdict", ["CONFIRMED", "REJECTED"])
def test_only_a_corrected_one_needs_an_output(verdict: str) -> None:
    assert taken("Correction", value_of("Correction", verdict=verdict, output=None))["output"] is None


def test_refusals_never_repeat_the_content() -> None:
    canary = "canary-in-the-content"
    for record in EVENTS:
        text = {"content_type": "text/plain", "body": canary}
        changed = {"output": text, "input": text} if record == "Prediction" else {"rationale": canary, "reason": canary}
        value = value_of(record, **changed)
        for end in range(len(value)):
            assert canary not in str(refused(record, value[:end]))
        assert canary not in str(refused(record, value, canary.encode()))
