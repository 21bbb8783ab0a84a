"""Avro bodies to dictionaries and back, and every way in which bytes can be wrong."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyback.errors import InvalidEvent
from flyback.schemas import codec, wire
from flyback.schemas.codec import Record, Schema, bundled
from flyback.streams.topology import TOPICS
from tests.strategies import any_event, correction, grade, prediction

RECORDS = [topic.record for topic in TOPICS if topic.record]
RAW: dict[str, Record] = {"Prediction": prediction(), "Correction": correction(), "Grade": grade()}
"""With a text, a number, a float, a boolean and a map in it."""


def with_fields(record: str, *fields: dict[str, Any], without: str = "") -> Schema:
    """The schema of a producer that is older or newer than we are."""
    schema = json.loads(bundled(record).text)
    schema["fields"] = [*(field for field in schema["fields"] if field["name"] != without), *fields]
    return Schema(json.dumps(schema))


def written(schema: Schema, event: Record) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema.parsed, event)
    return wire.frame(7, body.getvalue())


def reason(record: str, value: bytes, writer: Schema | None = None) -> str:
    with pytest.raises(InvalidEvent) as caught:
        codec.decode(record, value, writer or bundled(record))
    return caught.value.reason


@given(st.sampled_from(RECORDS).flatmap(lambda record: st.tuples(st.just(record), any_event(record))))
@settings(max_examples=300, deadline=None)
def test_any_event_comes_back_as_it_was(case: tuple[str, Record]) -> None:
    record, event = case
    assert codec.decode(record, codec.encode(record, event, 7), bundled(record)) == event


@given(st.sampled_from(tuple(RAW)), st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_random_bytes_are_an_event_or_invalid(record: str, body: bytes) -> None:
    try:
        found = codec.decode(record, wire.frame(7, body), bundled(record))
    except InvalidEvent:
        return
    assert found.keys() == RAW[record].keys()


@given(
    st.sampled_from(tuple(RAW)),
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=11), st.integers(0, 3)), min_size=1, max_size=4),
)
@settings(max_examples=500, deadline=None)
def test_damaged_bytes_are_an_event_or_invalid(record: str, damage: list[tuple[int, bytes, int]]) -> None:
    value = codec.encode(record, RAW[record], 7)
    for at, inserted, removed in damage:
        place = wire.HEADER + at % (len(value) - wire.HEADER + 1)
        value = value[:place] + inserted + value[place + removed :]
    newer = with_fields(record, {"name": "later", "type": "string", "doc": "New.", "default": ""})
    for writer in (bundled(record), newer):
        try:
            codec.decode(record, value, writer)
        except InvalidEvent as error:
            assert error.reason in {"truncated", "trailing_bytes", "invalid_avro", "invalid_utf8"}


@pytest.mark.parametrize(
    "length", [b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"]
)
@pytest.mark.parametrize("record", RAW)
def test_the_longest_lengths_and_counts_neither_hang_nor_take_memory(record: str, length: bytes) -> None:
    value = codec.encode(record, RAW[record], 7)
    for place in range(wire.HEADER, len(value)):
        try:
            codec.decode(record, value[:place] + length + value[place:], bundled(record))
        except InvalidEvent:
            continue


@pytest.mark.parametrize("record", RAW)
def test_an_event_cut_anywhere_is_truncated(record: str) -> None:
    value = codec.encode(record, RAW[record], 7)
    assert {reason(record, value[:end]) for end in range(wire.HEADER, len(value))} == {"truncated"}


@pytest.mark.parametrize("record", RAW)
def test_bytes_after_the_event_are_found(record: str) -> None:
    assert reason(record, codec.encode(record, RAW[record], 7) + b"\x00") == "trailing_bytes"


def test_text_that_is_not_utf_8_is_found() -> None:
    value = codec.encode("Correction", correction(reason="sarcasm"), 7)
    assert reason("Correction", value.replace(b"sarcasm", b"sarca\xff\xff")) == "invalid_utf8"


def test_a_surrogate_written_as_utf_8_is_found() -> None:
    value = codec.encode("Correction", correction(reason="sarcasm"), 7)
    assert reason("Correction", value.replace(b"sarcasm", b"sarc\xed\xa0\x80")) == "invalid_utf8"


def test_a_branch_or_symbol_that_does_not_exist_is_invalid() -> None:
    value = codec.encode("Correction", correction(task="t", verdict="REJECTED"), 7)
    at = value.index(b"\x04", wire.HEADER + 6)  # REJECTED, the third symbol
    assert reason("Correction", value[:at] + b"\x7e" + value[at + 1 :]) == "invalid_avro"


@pytest.mark.parametrize("record", ["Correction", "Grade", "Example"])
def test_another_record_is_not_taken_for_a_prediction(record: str) -> None:
    assert reason("Prediction", b"\x00\x00\x00\x00\x07", bundled(record)) == "wrong_record_type"


@pytest.mark.parametrize(
    "text",
    [
        '"string"',
        '["null", "string"]',
        "[]",
        "7",
        '{"type": "map", "values": "string"}',
        '{"type": "object"}',
        'syntax = "proto3"; message Prediction { string task_id = 1; }',
        "",
        '{"type": "record", "name": "Prediction", "namespace": "other", "fields": []}',
    ],
)
def test_what_is_no_record_of_ours_is_of_the_wrong_type(text: str) -> None:
    assert reason("Prediction", b"\x00\x00\x00\x00\x07", Schema(text)) == "wrong_record_type"


def test_a_schema_of_our_name_that_cannot_be_read_is_no_crash() -> None:
    broken = Schema('{"type": "record", "name": "Prediction", "namespace": "flyback.v1", "fields": [{"name": "x"}]}')
    assert reason("Prediction", b"\x00\x00\x00\x00\x07", broken) == "invalid_avro"


def test_a_name_with_its_namespace_inside_is_the_same_name() -> None:
    assert Schema('{"type": "record", "name": "flyback.v1.A", "namespace": "x", "fields": []}').name == "flyback.v1.A"


def test_an_older_producer_s_event_gets_the_defaults() -> None:
    older = with_fields("Prediction", without="segment")
    event = {name: value for name, value in prediction().items() if name != "segment"}
    assert codec.decode("Prediction", written(older, event), older) == prediction(segment="default")


NEW_FIELDS: list[tuple[Any, Any]] = [
    ("string", "hello"),
    ("bytes", b"hello"),
    ("boolean", True),
    ("long", 2**40),
    ("double", 0.5),
    (["null", "string"], "hello"),
    ({"type": "map", "values": "string"}, {"k": "v"}),
    ({"type": "array", "items": "double"}, [0.5, 0.25]),
    ({"type": "fixed", "name": "Digest", "size": 9}, b"123456789"),
]


@pytest.mark.parametrize(("kind", "value"), NEW_FIELDS)
def test_a_newer_producer_s_field_is_left_out(kind: Any, value: Any) -> None:
    newer = with_fields("Prediction", {"name": "later", "type": kind})
    assert codec.decode("Prediction", written(newer, {**prediction(), "later": value}), newer) == prediction()


@pytest.mark.parametrize(("kind", "value"), NEW_FIELDS)
def test_a_newer_producer_s_event_cut_in_a_field_we_do_not_have_is_truncated(kind: Any, value: Any) -> None:
    newer = with_fields("Prediction", {"name": "later", "type": kind})
    whole = written(newer, {**prediction(), "later": value})
    known = len(codec.encode("Prediction", prediction(), 7))
    assert {reason("Prediction", whole[:end], newer) for end in range(known, len(whole))} == {"truncated"}
    assert reason("Prediction", whole + b"\x00", newer) == "trailing_bytes"


def test_text_that_is_not_utf_8_is_found_in_a_field_we_do_not_have() -> None:
    newer = with_fields("Prediction", {"name": "later", "type": "string"})
    value = written(newer, {**prediction(), "later": "hello"})
    assert reason("Prediction", value.replace(b"hello", b"hell\xff"), newer) == "invalid_utf8"


def test_a_field_that_became_another_type_does_not_resolve() -> None:
    other = with_fields("Prediction", {"name": "segment", "type": "long"}, without="segment")
    assert reason("Prediction", written(other, {**prediction(), "segment": 5}), other) == "incompatible_schema"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_id", None),
        ("task_id", 5),
        ("task_id", "\ud800"),
        ("occurred_at", 2**63),
        ("occurred_at", "now"),
        ("attributes", ["a"]),
        ("attributes", {1: "a"}),
        ("author", None),
        ("verdict", "MAYBE"),
        ("output", {"content_type": "text/plain"}),
        ("sampling_probability", "often"),
    ],
)
def test_a_value_that_does_not_fit_the_schema_is_a_value_error(name: str, value: object) -> None:
    with pytest.raises(ValueError):
        codec.encode("Correction", correction() | {name: value}, 7)


def test_a_missing_field_without_a_default_is_a_value_error_and_one_with_a_default_is_not() -> None:
    event = correction()
    with pytest.raises(ValueError, match="task_id"):
        codec.encode("Correction", {name: value for name, value in event.items() if name != "task_id"}, 7)
    value = codec.encode("Correction", {name: value for name, value in event.items() if name != "attributes"}, 7)
    assert codec.decode("Correction", value, bundled("Correction"))["attributes"] == {}
