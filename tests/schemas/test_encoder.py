"""What the encoder gives is what fastavro gives; what it does not take is left to fastavro."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyback.schemas import codec, encoder
from flyback.schemas.codec import Record, bundled
from flyback.streams.topology import TOPICS
from tests.strategies import any_event, prediction

RECORDS = [topic.record for topic in TOPICS if topic.record]
EVENTS = st.sampled_from(RECORDS).flatmap(lambda record: st.tuples(st.just(record), any_event(record)))


class Text(str):
    """As numpy's and other libraries' strings are."""


STRANGE = [
    None, True, 0, -1, 64, 2**31, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 0.0, -0.0, 1.5, float("nan"), Decimal(1),
    "", "x", "ä" * 64, "\ud800", Text("x"), b"x", "MODEL", "CORRECTED", [], ["x"], (), ("string", "x"), ("a", "b", "c"),
    {}, {"a": "b"}, {"a": 1}, {1: "a"}, {"content_type": "x", "body": "y"}, [{"content_type": "x", "body": "y"}],
    {"content_type": "x", "body": "y", "more": "z"}, {"content_type": "x", "body": "y", "-type": "flyback.v1.Actor"},
]  # fmt: skip


def by_fastavro(record: str, event: Record) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, bundled(record).parsed, event)
    return out.getvalue()


@given(EVENTS)
@settings(max_examples=300, deadline=None)
def test_any_event_has_the_bytes_that_fastavro_gives(case: tuple[str, Record]) -> None:
    record, event = case
    assert bundled(record).encode(event) == by_fastavro(record, event)


@given(EVENTS, st.data())
@settings(max_examples=1_000, deadline=None)
def test_a_strange_value_anywhere_is_refused_or_has_the_bytes_that_fastavro_gives(
    case: tuple[str, Record], data: st.DataObject
) -> None:
    record, event = case
    place: Any = event
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not (place[key] and isinstance(place[key], (dict, list)) and data.draw(st.booleans())):
            break
        place = place[key]
    place[key] = data.draw(st.sampled_from(STRANGE))
    try:
        found = bundled(record).encode(event)
    except Exception:
        return
    assert found == by_fastavro(record, event)


def test_what_the_encoder_refuses_is_written_by_fastavro() -> None:
    event = prediction(confidence=1)  # a whole number where a double is meant
    with pytest.raises(TypeError):
        bundled("Prediction").encode(event)
    assert codec.body("Prediction", event) == by_fastavro("Prediction", event)


@pytest.mark.parametrize("schema", ["int", ["null", "int"]])
def test_a_whole_number_of_more_than_32_bits_is_left_to_fastavro(schema: Any) -> None:
    # which writes it, but not where null may stand too
    encode = encoder.compiled(fastavro.parse_schema(schema))
    assert encode(2**31 - 1).endswith(b"\xfe\xff\xff\xff\x0f")
    with pytest.raises(TypeError):
        encode(2**31)


@pytest.mark.parametrize("size", [0, 63, 64, 8_191, 8_192, 1_048_575, 1_048_576])
def test_lengths_of_any_size_are_written(size: int) -> None:
    schema = fastavro.parse_schema("string")
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, "x" * size)
    assert encoder.compiled(schema)("x" * size) == out.getvalue()


@pytest.mark.parametrize("schema", ["bytes", "float", ["string", "null"], ["null", "string", "long"]])
def test_a_schema_unlike_ours_is_refused_at_once(schema: Any) -> None:
    with pytest.raises(NotImplementedError):
        encoder.compiled(fastavro.parse_schema(schema))
