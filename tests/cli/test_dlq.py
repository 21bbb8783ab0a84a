"""`flyback dlq` on real Kafka: dead letters written as the engine writes them."""

from __future__ import annotations

import base64
import hashlib

import pytest
from confluent_kafka import Producer

from flyback.schemas import codec
from flyback.schemas.catalog import hashed_id
from flyback.settings import Settings
from flyback.streams import dlq
from tests.cli.conftest import Flyback

CORRECTION = {
    "correction_id": "c-1",
    "task_id": "t-1",
    "prediction_id": "p-1",
    "verdict": "REJECTED",
    "output": None,
    "author": {"kind": "HUMAN", "name": "ann", "version": ""},
    "authority": 0,
    "reason": None,
    "error_category": None,
    "sampling_probability": None,
    "attributes": {},
    "occurred_at": 1_767_225_600_000_000,
}
ARRIVED = 1_767_225_601_000


def bury(settings: Settings, topic: str, offset: int, value: bytes | None, reason: str, max_bytes: int = 1_000) -> None:
    """Put one message into the dead letters of a raw topic."""
    name = settings.topic_prefix + topic
    kept, headers = dlq.letter(name, 0, offset, ARRIVED, value, [("traceparent", b"00-1")], reason, "Why.", max_bytes)
    producer = Producer(settings.kafka())
    producer.produce(name + ".dlq", kept, b"t-1", 0, headers=list(headers))
    assert producer.flush(10) == 0


@pytest.fixture
def letters(own_topics: Settings) -> Settings:
    whole = codec.encode("Correction", CORRECTION, hashed_id(codec.bundled("Correction")))
    bury(own_topics, "corrections.v1", 7, whole, "wrong_partition")
    bury(own_topics, "corrections.v1", 3, whole[:9], "truncated")
    bury(own_topics, "predictions.v1", 5, b"x" * 2_000, "oversized")
    return own_topics


def test_list_shows_where_each_stood_and_why(flyback: Flyback, letters: Settings) -> None:
    said = flyback("dlq", "list", "--json")
    assert [(row["topic"], row["partition"], row["offset"], row["reason"], row["bytes"]) for row in said.json] == [
        (letters.topic_prefix + "corrections.v1", 0, 3, "truncated", 9),
        (letters.topic_prefix + "corrections.v1", 0, 7, "wrong_partition", said.json[1]["bytes"]),
        (letters.topic_prefix + "predictions.v1", 0, 5, "oversized", 2_000),
    ]
    assert said.json[0]["arrived_at"] == "2026-01-01T00:00:01+00:00"
    text = flyback("dlq", "list")
    assert f"{letters.topic_prefix}corrections.v1/0/3" in text.out
    assert "2026-01-01 00:00:01" in text.out
    assert text.err.strip() == "3 dead letters: 1 truncated, 1 wrong_partition, 1 oversized"


@pytest.mark.parametrize("topic", ["corrections.v1", "{prefix}corrections.v1", "{prefix}corrections.v1.dlq"])
def test_list_keeps_to_one_topic_and_reason(flyback: Flyback, letters: Settings, topic: str) -> None:
    topic = topic.format(prefix=letters.topic_prefix)
    assert len(flyback("dlq", "list", "--topic", topic, "--json").json) == 2
    (row,) = flyback("dlq", "list", "--topic", topic, "--reason", "truncated", "--json").json
    assert row["offset"] == 3


def test_show_decodes_the_event_where_the_bytes_allow_it(flyback: Flyback, letters: Settings) -> None:
    whole, cut = (
        flyback("dlq", "show", f"{letters.topic_prefix}corrections.v1/0/{offset}", "--json").json[0]
        for offset in (7, 3)
    )
    assert whole["event"] == CORRECTION
    assert whole["key"] == "t-1"
    assert whole["headers"] == {"traceparent": "00-1"}
    assert cut["event"] is None
    assert len(base64.b64decode(cut["value_base64"])) == 9


def test_show_tells_hash_and_size_of_what_was_too_large_to_keep(flyback: Flyback, letters: Settings) -> None:
    (letter,) = flyback("dlq", "show", "--reason", "oversized", "--json").json
    assert letter["bytes"] == 2_000
    assert letter["sha256"] == hashlib.sha256(b"x" * 2_000).hexdigest()
    assert letter["value_base64"] is None


def test_show_without_json_is_for_people(flyback: Flyback, letters: Settings) -> None:
    said = flyback("dlq", "show", f"{letters.topic_prefix}corrections.v1/0/3")
    assert "reason: truncated" in said.out
    assert "message: Why." in said.out


def test_no_dead_letters_is_an_empty_list(flyback: Flyback, own_topics: Settings) -> None:
    assert flyback("dlq", "list", "--json").json == []
    assert flyback("dlq", "list").err.strip() == "0 dead letters"


def test_coordinates_that_no_letter_has_are_an_error(flyback: Flyback, letters: Settings) -> None:
    said = flyback("dlq", "show", "flyback.corrections.v1/0/99")
    assert said.code == 2
    assert "see `flyback dlq list`" in said.err


def test_an_unknown_reason_or_topic_is_an_error_that_names_the_known_ones(flyback: Flyback) -> None:
    said = flyback("dlq", "list", "--reason", "bad")
    assert said.code == 2
    assert "truncated" in said.err
    said = flyback("dlq", "list", "--topic", "progress.v1")
    assert said.code == 2
    assert "flyback.corrections.v1" in said.err


def test_missing_topics_say_what_to_type(
    flyback: Flyback, kafka_bootstrap: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYBACK_TOPIC_PREFIX", topic_prefix)
    said = flyback("dlq", "list", "--bootstrap", kafka_bootstrap)
    assert said.code == 1
    assert "flyback topics create" in said.err
