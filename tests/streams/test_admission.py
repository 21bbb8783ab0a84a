"""Whole batches of messages come to what each message comes to by itself, whatever is in them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyback import settings as configuration
from flyback.errors import InvalidEvent, UnknownSchema
from flyback.schemas import wire
from flyback.schemas.catalog import BundledCatalog, hashed_id
from flyback.schemas.codec import Record
from flyback.streams.admission import Admission
from flyback.streams.messages import Message
from flyback.streams.topology import partition_for
from tests.strategies import TOPIC, any_event, correction, grade, prediction, valid_event
from tests.streams.records import POISON, Raw, a_correction, a_grade, framed, raw, reordered

pytestmark = pytest.mark.usefixtures("columns_for_few")

PARTITIONS = 2
RECORDS = tuple(TOPIC)


class Sent:
    """A message as confluent-kafka gives it."""

    def __init__(self, topic: str, offset: int, sent: Raw) -> None:
        home = partition_for(sent.task.encode(), PARTITIONS)
        self._place = topic, (home + sent.shift) % PARTITIONS, offset
        self._raw = sent

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return self._place[0]

    def partition(self) -> int:
        return self._place[1]

    def offset(self) -> int:
        return self._place[2]

    def key(self) -> bytes | None:
        return self._raw.key

    def value(self) -> bytes | None:
        return self._raw.value

    def timestamp(self) -> tuple[int, int]:
        return 2, 1_700_000_000_000 + self._place[2]

    def headers(self) -> Any:
        return self._raw.headers


def admission(catalog: BundledCatalog | None = None, **changed: Any) -> Admission:
    found = configuration.load(max_event_bytes=5_000, **changed)
    counts = dict.fromkeys(TOPIC.values(), PARTITIONS)
    return Admission(found, {topic: r for r, topic in TOPIC.items()}, counts, catalog or BundledCatalog(), lambda: 0.0)


def said(message: Message) -> tuple[Any, ...]:
    """All that a message says, with the fingerprint that may not have been taken yet."""
    return (*message._replace(content=message.fingerprint()), message.arrived)


def assert_like_one_by_one(record: str, sent: Sequence[Raw], found: Admission | None = None) -> list[Message]:
    found = found or admission()
    messages = [Sent(TOPIC[record], i, each) for i, each in enumerate(sent)]
    admitted, refused = [], []
    for message in messages:
        try:
            admitted.append(found._accept(message))
        except InvalidEvent as error:
            refused.append((message.offset(), error.reason))
    valid: list[Message] = []
    invalid = []
    for partition in {message.partition() for message in messages}:
        together = found.admit(TOPIC[record], [each for each in messages if each.partition() == partition])
        columns = [each.message(i) for each in together.predictions for i in range(len(each))]
        valid += [*together.messages, *columns]
        invalid += [(message.offset(), error.reason) for message, error in together.refused]
    valid.sort(key=lambda message: message.offset)
    assert [said(each) for each in valid] == [said(each) for each in admitted]
    assert sorted(invalid) == refused
    return valid


@pytest.mark.parametrize("record", RECORDS)
@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_valid_events_and_any_others_come_to_what_each_comes_to_by_itself(record: str, data: st.DataObject) -> None:
    events = data.draw(st.lists(valid_event(record) | any_event(record), min_size=20, max_size=40))
    assert_like_one_by_one(record, [raw(record, event) for event in events])


@pytest.mark.parametrize("record", RECORDS)
@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_damaged_bytes_come_to_what_each_comes_to_by_itself(record: str, data: st.DataObject) -> None:
    good = raw(record, data.draw(valid_event(record)))
    assert good.value is not None
    damaged = []
    for _ in range(6):
        value = bytearray(good.value)
        place = data.draw(st.integers(0, len(value) - 1))
        value[place : place + data.draw(st.integers(0, 1))] = data.draw(st.binary(max_size=2))
        damaged.append(Raw(record, good.task, good.key, bytes(value)))
    try:
        assert_like_one_by_one(record, [*[good] * 8, *damaged, *[good] * 8])
    except UnknownSchema:  # the damage was in the id
        return


def test_poison_among_valid_events_is_refused_for_its_own_reason() -> None:
    sent = [replace(a_correction(f"t{i}"), headers=[("traceparent", b"00-%d" % i)]) for i in range(30)]
    for i, (_, make) in enumerate(POISON.values()):
        poison = make(f"u{i}")
        if poison.record == "Correction":
            sent.insert(2 * i, poison)
    valid = assert_like_one_by_one("Correction", sent)
    assert len(valid) == 30


@pytest.mark.parametrize("record", RECORDS)
def test_other_writers_among_ours_come_to_the_same_events_in_their_order(record: str) -> None:
    make = {"Prediction": prediction, "Correction": correction, "Grade": grade}[record]
    theirs = reordered(record)
    sent = []
    for i in range(40):
        event: Record = make(f"t{i}")
        value = framed(record, event)
        if i % 3 == 0:
            body = io.BytesIO()
            fastavro.schemaless_writer(body, theirs.parsed, event)
            value = wire.frame(hashed_id(theirs), body.getvalue())
        sent.append(Raw(record, event["task_id"], event["task_id"].encode(), value))
    valid = assert_like_one_by_one(record, sent, admission(BundledCatalog([theirs])))
    assert [message.task_id for message in valid] == [f"t{i}" for i in range(40)]


def test_maps_in_any_order_have_one_fingerprint() -> None:
    orders = [{"b": "1", "a": "2", "c": "3"}, {"a": "2", "b": "1", "c": "3"}, {"c": "3", "b": "1", "a": "2"}]
    sent = [a_correction("t", attributes=orders[i % 3]) for i in range(30)]
    valid = assert_like_one_by_one("Correction", sent)
    assert len({message.fingerprint() for message in valid}) == 1


def test_an_unknown_schema_is_named_with_the_place() -> None:
    stranger = Raw("Grade", "t", b"t", wire.frame(99, b""))
    messages = [Sent(TOPIC["Grade"], i, each) for i, each in enumerate([*[a_grade("t")] * 20, stranger])]
    with pytest.raises(UnknownSchema, match=r"99.*@20"):
        admission().admit(TOPIC["Grade"], messages)
