"""Bad input: each kind becomes exactly one dead letter with its reason, and its neighbours are processed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flyback import settings as settings_module
from flyback import topics
from flyback.schemas import wire
from flyback.schemas.intake import REASONS
from flyback.streams import dlq
from tests.strategies import correction, prediction
from tests.streams.on_kafka import OnKafka, running
from tests.streams.records import POISON, Raw, raw
from tests.streams.stage import Stage
from tests.streams.verdict import Letter, Stored, letter_of
from tests.waiting import eventually

MAX_BYTES = 20_000
HEADERS = [("origin", b"a test"), ("traceparent", b"00-1-2-01")]


def oversized(task: str) -> Raw:
    return raw("Correction", correction(task, correction_id="poison", reason="x" * MAX_BYTES))


def of_an_unknown_schema(task: str) -> Raw:
    whole = raw("Correction", correction(task, correction_id="poison"))
    return replace(whole, value=wire.frame(7, (whole.value or b"")[wire.HEADER :]))


def a_conflict(task: str) -> Raw:
    return raw("Correction", correction(task, reason="another one than its neighbour's, of the same id"))


KINDS: Mapping[str, tuple[str, Callable[[str], Raw]]] = {
    **POISON,
    "too large": ("oversized", oversized),
    "unknown schema": ("unknown_schema", of_an_unknown_schema),
    "same id, other content": ("conflict", a_conflict),
}
TESTED_ELSEWHERE = {"invalid_avro", "incompatible_schema", "pair_too_large"}
SETTINGS: Mapping[str, Any] = {
    "max_event_bytes": MAX_BYTES,
    "unknown_schema": "dead-letter",
    "unknown_schema_timeout": "0ms",
}


def test_every_reason_has_a_kind_here() -> None:
    assert {reason for reason, _ in KINDS.values()} == set(REASONS) - TESTED_ELSEWHERE


def among_neighbours(kind: str, task: str) -> list[Raw]:
    poison = replace(KINDS[kind][1](task), headers=HEADERS)
    before = [raw("Prediction", prediction(task)), raw("Correction", correction(task))]
    return [*before, poison, raw("Correction", correction(task, correction_id="after"))]


def check_letter(kind: str, sent: Raw, place: Letter, found: Stored) -> None:
    reason = KINDS[kind][0]
    headers = dict(found.headers or ())
    assert letter_of(found) == place._replace(reason=reason)
    assert found.partition == place.partition
    assert found.key == sent.key
    assert headers[dlq.MESSAGE]
    assert int(headers[dlq.TIMESTAMP] or 0) > 0
    assert headers["traceparent"] == dict(HEADERS)["traceparent"]
    if reason != "conflict":
        assert headers["origin"] == b"a test"
    if reason == "oversized":
        assert sent.value is not None
        assert found.value is None
        assert headers[dlq.SIZE] == str(len(sent.value)).encode()
        assert headers[dlq.SHA256] == hashlib.sha256(sent.value).hexdigest().encode()
    else:
        assert found.value == sent.value


@pytest.mark.parametrize("kind", KINDS)
def test_poison_is_one_dead_letter_and_its_neighbours_are_processed(tmp_path: Path, kind: str) -> None:
    stage = Stage(tmp_path, **SETTINGS)
    try:
        messages = among_neighbours(kind, "t")
        offsets = [stage.send(message) for message in messages]

        stage.settle(stage.worker())

        poison = messages[2]
        [found] = stage.verdict().letters()
        check_letter(kind, poison, Letter(*stage.place(poison), offsets[2], ""), found)
        assert stage.derived().total() == 2
    finally:
        stage.close()


def test_all_poison_at_once_on_a_real_kafka(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"bootstrap_servers": kafka_bootstrap, "topic_prefix": topic_prefix, "partitions": 2}
    found = settings_module.load(**given, group=topic_prefix, state_dir=tmp_path, **SETTINGS)
    topics.create(found)
    kafka = OnKafka(found)
    sent = {kind: among_neighbours(kind, f"task {i}") for i, kind in enumerate(KINDS)}
    places = {kind: [kafka.send(message) for message in messages] for kind, messages in sent.items()}

    with running(found):
        eventually(kafka.is_processed, "all is processed", 120)

    letters = {letter_of(letter)[:3]: letter for letter in kafka.verdict().letters()}
    assert len(letters) == len(kafka.verdict().letters()) == len(KINDS)
    for kind, messages in sent.items():
        place = Letter(*places[kind][2], "")
        check_letter(kind, messages[2], place, letters[place[:3]])
    assert kafka.verdict().derived().total() == 2 * len(KINDS)
