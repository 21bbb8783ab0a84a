"""The fast decoder gives what the reference gives, for every record and for every kind of bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pyruhvro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyback.errors import InvalidEvent, RegistryUnavailable, UnknownSchema
from flyback.schemas import certain, codec, wire
from flyback.schemas.catalog import BundledCatalog, Catalog
from flyback.schemas.codec import Record, Schema, bundled
from flyback.schemas.intake import REASONS
from flyback.schemas.rules import MAX_LABEL
from flyback.sinks.columns import check_range, from_records, record_schema
from flyback.sinks.decode import Decoder
from flyback.sinks.message import Message, Messages
from flyback.sinks.tables import TABLES
from tests.sinks.events import CATALOG, correction, grade, message, prediction, value_of

pytestmark = pytest.mark.usefixtures("columns_for_few")

RECORDS = [table.record for table in TABLES if table.record]
RAW = {"Prediction": prediction, "Correction": correction, "Grade": grade}
LIMIT = 100_000

texts = st.text(max_size=12) | st.sampled_from(
    ["", "\0", "é", "\U0001f600", "x" * 300, "é" * MAX_LABEL, "x" * (MAX_LABEL + 1)]
)
doubles = st.floats(allow_nan=True) | st.sampled_from([0.0, -0.0, 0.5, 1.0, 1e-4, math.inf])


def values(node: Any, named: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of an Avro type, its extremes included."""
    if isinstance(node, list):
        return st.one_of(*(values(branch, named) for branch in node))
    if isinstance(node, str):
        if node in named:
            return values(named[node], named)
        return {
            "null": st.none(),
            "string": texts,
            "boolean": st.booleans(),
            "int": st.integers(-(2**31), 2**31 - 1),
            "long": st.integers(-(2**63), 2**63 - 1) | st.integers(0, 10),
            "double": doubles,
        }[node]
    kind = node["type"]
    if kind in ("record", "enum"):
        named[node["name"]] = node
    if kind == "record":
        return st.fixed_dictionaries({field["name"]: values(field["type"], named) for field in node["fields"]})
    if kind == "enum":
        return st.sampled_from(node["symbols"])
    if kind == "array":
        return st.lists(values(node["items"], named), max_size=3)
    if kind == "map":
        return st.dictionaries(texts, values(node["values"], named), max_size=3)
    if node.get("logicalType") == "timestamp-micros":
        ends = [-62_135_596_800_000_000, 253_402_300_799_999_999, -(2**63), 2**63 - 1]
        return st.sampled_from(ends) | st.integers(0, 2**51)
    return values(kind, named)


@cache
def events(record: str) -> st.SearchStrategy[Record]:
    return values(json.loads(bundled(record).text), {})


def decoder(record: str, catalog: Catalog = CATALOG) -> Decoder:
    return Decoder(record, 4, LIMIT, catalog)


def expected(record: str, messages: Sequence[Message]) -> tuple[list[int], list[tuple[int, str]], list[Record]]:
    """What the slow path says about each message by itself."""
    kept, rejected, found = [], [], []
    for i, one in enumerate(messages):
        try:
            event = decoder(record)._reference(one)
            check_range(record, event)
        except InvalidEvent as error:
            rejected.append((i, error.reason))
        else:
            kept.append(i)
            found.append(event)
    return kept, rejected, found


def assert_like_the_reference(record: str, messages: Sequence[Message]) -> None:
    kept, rejected, found = expected(record, messages)
    decoded = decoder(record).decode(Messages.of(messages))
    assert decoded.kept == kept
    assert [(item.index, item.reason) for item in decoded.rejected] == rejected
    assert decoded.columns.schema == record_schema(record)
    # as text, since NaN is not equal to itself
    assert str(decoded.columns.to_pylist()) == str(from_records(record, found).to_pylist())


def on_topic(record: str, event: Record) -> Message:
    if "task_id" in event:
        return message(record, event)
    return Message(record, 0, 0, 0, None, value_of(record, event), [])


@pytest.mark.parametrize("record", RECORDS)
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_decoders_agree_on_everything_that_can_be_written(record: str, data: st.DataObject) -> None:
    found = data.draw(st.lists(events(record), min_size=12, max_size=20))
    assert_like_the_reference(record, [on_topic(record, event) for event in found])


@pytest.mark.parametrize("record", RECORDS)
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_decoders_agree_on_damaged_bytes(record: str, data: st.DataObject) -> None:
    good = on_topic(record, data.draw(events(record)))
    assert good.value is not None

    def damaged() -> Message:
        body = bytearray(good.value or b"")
        for _ in range(data.draw(st.integers(1, 2))):
            place = data.draw(st.integers(wire.HEADER, len(body)))
            how = data.draw(st.sampled_from(["set", "insert", "cut"]))
            if how == "cut":
                del body[place:]
            elif how == "insert" or place == len(body):
                body.insert(place, data.draw(st.integers(0, 255)))
            else:
                body[place] = data.draw(st.integers(0, 255))
        return good._replace(value=bytes(body))

    assert_like_the_reference(record, [good] * 10 + [damaged() for _ in range(6)] + [good] * 10)


@pytest.mark.parametrize("record", RAW)
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_decoders_agree_on_events_that_break_one_rule_or_none(record: str, data: st.DataObject) -> None:
    free = data.draw(events(record))
    found = []
    for i in range(14):
        event = RAW[record](f"t{i}")
        if data.draw(st.booleans()):
            field = data.draw(st.sampled_from(sorted(event)))
            event[field] = free[field]
        found.append(message(record, event))
    assert_like_the_reference(record, found)


def test_both_decoders_agree_on_the_longest_labels() -> None:
    found: list[Message] = []
    for length in (MAX_LABEL, MAX_LABEL + 1):
        label = "é" * length
        actor = prediction("t")["actor"]
        for change in ({"segment": label}, {"actor": actor | {"name": label}}, {"actor": actor | {"version": label}}):
            found.append(message("Prediction", prediction("t") | change, len(found)))
    assert_like_the_reference("Prediction", found * 3)
    assert len(decoder("Prediction").decode(Messages.of(found * 3)).rejected) == 9


@pytest.mark.parametrize("record", RECORDS)
def test_an_empty_batch_has_the_columns_too(record: str) -> None:
    assert decoder(record).decode(Messages.of([])).columns.schema == record_schema(record)


def test_valid_events_take_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decoder, "_reference", lambda self, one: pytest.fail("the slow path was taken"))
    for record, make in RAW.items():
        messages = [message(record, make(f"t{i}", attributes={"a": "b", "c": "é"}), i) for i in range(20)]
        assert decoder(record).decode(Messages.of(messages)).kept == list(range(20))


def test_one_bad_message_of_many_costs_its_neighbours_nothing() -> None:
    messages = [message("Prediction", prediction(f"t{i}"), i) for i in range(1000)]
    messages[500] = messages[500]._replace(value=(messages[500].value or b"")[:-3])
    decoded = decoder("Prediction").decode(Messages.of(messages))
    assert decoded.columns["task_id"].to_pylist() == [f"t{i}" for i in range(1000) if i != 500]
    assert [(item.index, item.reason) for item in decoded.rejected] == [(500, "truncated")]


def test_every_reason_is_one_that_the_engine_knows() -> None:
    good = message("Prediction", prediction("t1"))
    bad = [good._replace(value=None), good._replace(key=None), good._replace(value=b"\0" * 200_000)]
    assert {item.reason for item in decoder("Prediction").decode(Messages.of(bad)).rejected} <= set(REASONS)


def test_a_map_with_a_key_twice_keeps_the_last_value_as_the_reference_does() -> None:
    one = message("Prediction", prediction("t1", attributes={"a": "1", "b": "2"}))
    twice = one._replace(value=(one.value or b"").replace(b"\x02b\x022", b"\x02a\x022"))
    decoded = decoder("Prediction").decode(Messages.of([twice] * 10))
    assert decoded.columns["attributes"].to_pylist() == [[{"key": "a", "value": "2"}]] * 10


def test_an_int_beyond_its_column_is_rejected() -> None:
    far = message("Correction", correction("t1", authority=2**40))
    (rejected,) = decoder("Correction").decode(Messages.of([far])).rejected
    assert rejected.reason == "out_of_range"


def test_a_panic_of_the_fast_decoder_leaves_the_batch_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    def panic(bodies: list[bytes], schema: str) -> None:
        raise PanicException

    monkeypatch.setattr(pyruhvro, "deserialize_array", panic)
    messages = [message("Prediction", prediction(f"t{i}"), i) for i in range(20)]
    assert decoder("Prediction").decode(Messages.of(messages)).kept == list(range(20))


def test_an_interrupt_is_not_taken_for_a_panic(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(bodies: list[bytes], schema: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pyruhvro, "deserialize_array", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decoder("Prediction").decode(Messages.of([message("Prediction", prediction("t"))] * 20))


def evolved() -> Schema:
    """A later release of Prediction: one more field, with a default."""
    schema = json.loads(bundled("Prediction").text)
    schema["fields"].append({"name": "later", "type": "long", "default": 7, "doc": "New."})
    return Schema(json.dumps(schema))


def test_messages_of_several_writers_are_resolved_to_our_schema_in_their_order() -> None:
    newer = evolved()
    catalog = BundledCatalog([newer])
    newer_id = next(number for number, found in catalog._schemas.items() if found is newer)
    messages = []
    for i in range(30):
        one = message("Prediction", prediction(f"t{i}"), i)
        if i % 3 == 0:
            body = (one.value or b"")[wire.HEADER :] + b"\x0e"
            one = one._replace(value=wire.frame(newer_id, body))
        messages.append(one)
    decoded = decoder("Prediction", catalog).decode(Messages.of(messages))
    assert decoded.columns["task_id"].to_pylist() == [f"t{i}" for i in range(30)]
    assert decoded.rejected == []


def test_a_schema_that_differs_in_words_only_takes_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = json.loads(bundled("Prediction").text)
    schema["doc"] = "In other words."
    other = Schema(json.dumps(schema, indent=3))
    catalog = BundledCatalog([other])
    other_id = next(number for number, found in catalog._schemas.items() if found is other)
    body = value_of("Prediction", prediction("t1"))[wire.HEADER :]
    monkeypatch.setattr(codec, "decode", lambda *a: pytest.fail("the slow path was taken"))
    one = message("Prediction", prediction("t1"))._replace(value=wire.frame(other_id, body))
    assert decoder("Prediction", catalog).decode(Messages.of([one] * 20)).kept == list(range(20))


def test_an_unknown_schema_is_raised_unless_given_up() -> None:
    stranger = message("Prediction", prediction("t1"), value=wire.frame(99, b""))
    good = message("Prediction", prediction("t1"))
    with pytest.raises(UnknownSchema):
        decoder("Prediction").decode(Messages.of([good, stranger]))
    decoded = decoder("Prediction").decode(Messages.of([good, stranger]), frozenset({99}))
    assert decoded.kept == [0]
    assert [(item.index, item.reason) for item in decoded.rejected] == [(1, "unknown_schema")]


def test_a_registry_that_is_down_is_not_the_messages_fault() -> None:
    class Down(BundledCatalog):
        def schema(self, schema_id: int) -> Schema:
            raise RegistryUnavailable("down")

    with pytest.raises(RegistryUnavailable):
        replace(decoder("Prediction"), catalog=Down()).decode(Messages.of([message("Prediction", prediction("t1"))]))


def test_a_batch_that_is_decoded_in_pieces_is_the_same_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    good = [message("Prediction", prediction(f"t{i}"), i) for i in range(100)]
    messages = [m._replace(value=b"bad") if m.offset in (30, 77) else m for m in good]
    whole = decoder("Prediction").decode(Messages.of(messages))
    monkeypatch.setattr(certain, "_PIECE", 20 * Messages.of(good[:1]).size)
    pieces = decoder("Prediction").decode(Messages.of(messages))
    assert pieces == whole
    assert [rejected.index for rejected in pieces.rejected] == [30, 77]
    assert pieces.columns["task_id"].to_pylist() == [f"t{i}" for i in range(100) if i not in (30, 77)]
