"""`flyback dlq` on real Kafka: dead letters written as the engine writes them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from flyback.schemas import codec
from flyback.schemas.catalog import hashed_id
from flyback.settings import Settings
from flyback.streams import alert_webhook, dlq
from flyback.streams.alert_webhook import Webhook
from tests.cli.conftest import Flyback
from tests.streams.alert_stage import AlertStage
from tests.streams.alerts.counted import cell, reviewed, rule
from tests.waiting import eventually

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


def test_replay_puts_back_what_would_be_accepted_and_says_why_not_the_rest(flyback: Flyback, letters: Settings) -> None:
    said = flyback("dlq", "replay", "--dry-run")
    assert said.err.strip() == "1 would be replayed, 0 replayed before, 0 left by the repair, 2 not replayable"
    assert f"{letters.topic_prefix}corrections.v1/0/3" in said.out
    found = flyback("dlq", "replay", "--json").json
    assert {entry.pop("coordinates") for entry in found["named"]} == {
        f"{letters.topic_prefix}{where}" for where in ("corrections.v1/0/3", "predictions.v1/0/5")
    }
    assert found.pop("named")
    assert found == {
        "dry_run": False,
        "replayed": 1,
        "already_replayed": 0,
        "left_by_repair": 0,
        "not_replayable": 2,
        "not_replayable_by_reason": {"truncated": 1, "gone": 1},
    }
    assert "0 replayed, 1 replayed before" in flyback("dlq", "replay").err
    assert [(row["offset"], row["replayed"]) for row in flyback("dlq", "list", "--json").json] == [
        (3, False),
        (7, True),
        (5, False),
    ]
    listed = flyback("dlq", "list")
    assert listed.err.strip() == "3 dead letters: 1 truncated, 1 wrong_partition, 1 oversized; 1 replayed"
    assert [" yes " in line for line in listed.out.splitlines()[1:]] == [False, True, False]


def test_replay_keeps_to_what_is_selected(flyback: Flyback, letters: Settings) -> None:
    def counts(*options: str) -> tuple[int, int]:
        found = flyback("dlq", "replay", "--dry-run", "--json", *options).json
        return found["replayed"], found["not_replayable"]

    assert counts(f"{letters.topic_prefix}corrections.v1/0/7") == (1, 0)
    assert counts("--topic", "predictions.v1") == (0, 1)
    assert counts("--reason", "truncated") == (0, 1)
    assert counts("--since", "2026-01-01T00:00:02") == (0, 0)
    assert counts("--since", "2026-01-01", "--until", "2026-01-01T01:00:01.001+01:00") == (1, 2)
    assert counts("--until", "2026-01-01") == (0, 0)


def test_replay_takes_a_hook_from_the_folder_it_runs_in(
    flyback: Flyback, letters: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mend.py").write_text("def leave(letter):\n    return None\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    found = flyback("dlq", "replay", "--topic", "corrections.v1", "--repair", "mend:leave", "--json").json
    assert (found["replayed"], found["left_by_repair"]) == (0, 2)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--since", "yesterday"], "--since yesterday: write a time as"),
        (["--repair", "nothing"], "--repair nothing: give module:function, or key"),
        (["--reason", "bad"], "there is no reason bad"),
        (["flyback.corrections.v1/0/99"], "no dead letter stood at flyback.corrections.v1/0/99"),
    ],
)
def test_replay_refuses_what_it_cannot_understand(
    flyback: Flyback, own_topics: Settings, options: list[str], complaint: str
) -> None:
    said = flyback("dlq", "replay", *options)
    assert said.code == 2
    assert complaint in said.err


def test_an_arrival_beyond_all_calendars_is_shown_as_none(flyback: Flyback, own_topics: Settings) -> None:
    name = own_topics.topic_prefix + "examples.v1"
    value, headers = dlq.letter(name, 0, 1, 10**18, b"x", [], "truncated", "Why.", 1_000)
    producer = Producer(own_topics.kafka())
    producer.produce(name + ".dlq", value, b"t", 0, headers=list(headers))
    assert producer.flush(10) == 0
    assert flyback("dlq", "list", "--json").json[0]["arrived_at"] is None


@pytest.fixture
def untold(read_by_commands: Callable[[AlertStage], AlertStage], monkeypatch: pytest.MonkeyPatch) -> AlertStage:
    """An alert that fires, of which a watch could not tell its webhook: nobody is there. In memory."""
    monkeypatch.setattr(alert_webhook, "GIVE_UP_SECONDS", 0.0)
    stage = AlertStage([rule("rate", 'above = 0.2\nwindow = "5m"')], Webhook("http://127.0.0.1:1/hook", "secret", {}))
    watch = stage.watch()
    stage.step(watch)
    stage.count(cell(0), reviewed(100, 90))
    stage.pass_minutes(watch, 1)

    def buried() -> bool:
        stage.step(watch)
        return bool(stage.kafka.records(stage.topology.dead_letters_of(stage.alerts)))

    eventually(buried, "what could not be told is a dead letter")
    watch.close()
    return read_by_commands(stage)


def test_an_alert_that_could_not_be_sent_is_shown_with_the_reason(flyback: Flyback, untold: AlertStage) -> None:
    (row,) = flyback("dlq", "list", "--reason", "webhook_failed", "--json").json
    assert (row["topic"], row["reason"], row["message"]) == (
        untold.alerts, "webhook_failed", "no answer: ConnectionRefusedError"
    )  # fmt: skip
    (letter,) = flyback("dlq", "show", "--topic", "alerts.v1", "--json").json
    assert letter["event"] == untold.written()[1]


@pytest.mark.parametrize("repair", [[], ["--repair", "key"]])
def test_replay_says_of_an_alert_that_it_is_no_event_and_where_to_look_instead(
    flyback: Flyback, untold: AlertStage, repair: list[str]
) -> None:
    said = flyback("dlq", "replay", "--dry-run", *repair)
    assert said.code == 0
    assert said.err.strip() == "0 would be replayed, 0 replayed before, 0 left by the repair, 1 not replayable"
    _, line = said.out.splitlines()
    assert line.split()[:2] == [f"{untold.alerts}/0/1", "alert"]
    assert line.endswith(
        "no event, but an alert that the webhook did not take; it stands in its topic all the same, and is not sent "
        "again: `flyback alerts list` says what became of it"
    )
    assert [alert["state"] for alert in flyback("alerts", "list", "--json").json] == ["FIRING"]
