"""Equal content has one form of bytes, whoever wrote it and however."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyback.schemas import codec, wire
from flyback.schemas.catalog import hashed_id
from flyback.schemas.codec import Record, Schema, bundled
from flyback.schemas.content import fingerprint, fingerprint_of
from tests.strategies import TOPIC, any_event

RECORDS = tuple(TOPIC)


def in_key_order(event: Record) -> Record:
    return event | {"attributes": dict(sorted(event["attributes"].items()))}


@pytest.mark.parametrize("record", RECORDS)
@given(data=st.data())
@settings(deadline=None)
def test_bytes_with_maps_in_key_order_are_hashed_as_they_are(record: str, data: st.DataObject) -> None:
    event = in_key_order(data.draw(any_event(record)))
    value = codec.encode(record, event, hashed_id(bundled(record)))
    assert fingerprint_of(value) == fingerprint(record, event)


@pytest.mark.parametrize("record", RECORDS)
@given(data=st.data())
@settings(deadline=None)
def test_another_content_has_another_fingerprint(record: str, data: st.DataObject) -> None:
    one, other = data.draw(any_event(record)), data.draw(any_event(record))
    same = _said(one) == _said(other)
    assert (fingerprint(record, one) == fingerprint(record, other)) == same


def _said(event: Record) -> str:
    """As text, in which 0.0 and -0.0 differ."""
    return json.dumps(event | {"occurred_at": 0}, sort_keys=True)


@given(any_event("Grade"))
@settings(deadline=None)
def test_a_writer_with_another_schema_says_the_same(event: Record) -> None:
    event = event | {"rationale": None}
    older: dict[str, Any] = json.loads(bundled("Grade").text)
    older["fields"] = [f for f in reversed(older["fields"]) if f["name"] != "rationale"]
    schema = Schema(json.dumps(older))
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema.parsed, event)
    found = codec.decode("Grade", wire.frame(1, body.getvalue()), schema)
    assert fingerprint("Grade", found) == fingerprint("Grade", event)
