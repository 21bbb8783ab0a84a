"""What the page shows of the lake, on lakes written by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest

from flyback.dashboards import lake_reader
from flyback.dashboards.lake_queries import (
    MOST_CHARACTERS,
    Alerts,
    Counted,
    Cursor,
    DeadLetters,
    Episode,
    Failures,
    Latency,
    Query,
)
from flyback.dashboards.lake_reader import LakeReader
from flyback.dashboards.parts import NotYet
from flyback.dashboards.questions import Question, Row
from flyback.errors import ConfigurationError, LakeError
from flyback.sinks.dead_letters import rows as dead_letter_rows
from flyback.sinks.lake import lake as open_lake
from flyback.sinks.message import Message, Messages
from flyback.sinks.sink import with_provenance
from flyback.streams import dlq
from flyback.streams.rates import Counts
from tests.dashboards.sample_server import HOSTILE, lake_of
from tests.sinks.events import HUMAN, MINUTE, correction, derived, grade, prediction, text
from tests.sinks.lakes import TOPOLOGY, HandMade
from tests.waiting import eventually

MOMENT = datetime.fromtimestamp(MINUTE / 1_000_000, UTC)
ALL = Failures(MOMENT, MOMENT + timedelta(minutes=1))
NOW = datetime(2026, 11, 23, 12, 34, 56, tzinfo=UTC)
SECONDS = 60.0


@pytest.fixture
def made(tmp_path: Path) -> HandMade:
    return HandMade(tmp_path / "lake")


def asked(made: HandMade, query: Query) -> Any:
    return LakeReader(made.path).ask(query, SECONDS)


def tasks(found: Any) -> list[str]:
    return [row["task_id"] for row in found["rows"]]


def test_a_failure_is_told_with_who_said_so_and_why(made: HandMade) -> None:
    made.add("predictions", prediction("t1"), prediction("t1"), prediction("t2"), prediction("t3"))
    made.add(
        "corrections",
        correction("t1", "c1", "REJECTED"),
        correction("t1", "c2", authority=1, reason="sarcasm", error_category="polarity_flipped"),
        correction("t1", "c3", "CONFIRMED"),
        correction("t2", verdict="CONFIRMED"),
    )
    found = asked(made, ALL)
    assert found["next"] is None
    [row] = found["rows"]
    assert row == {
        "task_id": "t1",
        "prediction_id": "p1",
        "at": (MOMENT + timedelta(minutes=1)).isoformat(),
        "made_at": (MOMENT + timedelta(microseconds=1)).isoformat(),
        "segment": "amazon",
        "actor": "vader",
        "version": "3",
        "actor_kind": "MODEL",
        "input": {"content_type": "text/plain", "body": "question of t1", "cut": False},
        "output": {"content_type": "text/plain", "body": "positive", "cut": False},
        "truth": {"content_type": "text/plain", "body": "negative", "cut": False},
        "verdict": "CORRECTED",
        "author": HUMAN,
        "reason": "sarcasm",
        "category": "polarity_flipped",
    }


def test_a_grade_tells_of_a_failure_where_nobody_corrected(made: HandMade) -> None:
    made.add("predictions", prediction("t1"), prediction("t2"))
    made.add("grades", grade("t1", passed=False, rationale="rude"), grade("t2", passed=False))
    made.add("corrections", correction("t2", verdict="CONFIRMED"))
    [row] = asked(made, ALL)["rows"]
    assert (row["task_id"], row["reason"], row["author"], row["verdict"], row["truth"]) == (
        "t1", "rude", HUMAN, None, None
    )  # fmt: skip


def test_failures_come_page_by_page_those_first_that_were_found_last(made: HandMade) -> None:
    for i in range(5):
        made.add("predictions", prediction(f"t{i}"))
        made.add("corrections", correction(f"t{i}", occurred_at=MINUTE + i // 2))
    first = asked(made, Failures(ALL.since, ALL.until, limit=2))
    assert tasks(first) == ["t4", "t3"]
    second = asked(made, Failures(ALL.since, ALL.until, limit=2, before=Cursor.parse(first["next"])))
    assert tasks(second) == ["t2", "t1"]
    last = asked(made, Failures(ALL.since, ALL.until, limit=2, before=Cursor.parse(second["next"])))
    assert (tasks(last), last["next"]) == (["t0"], None)


def test_failures_are_chosen_by_range_label_and_text(made: HandMade) -> None:
    hostile = "a') OR ('1'='1 {} %s"
    for task, changes in {
        "mine": {"segment": hostile},
        "other": {},
        "early": {"segment": hostile, "occurred_at": MINUTE - 1},
        "late": {"segment": hostile, "occurred_at": MINUTE + 60_000_000},
    }.items():
        made.add("predictions", prediction(task, **changes))
        made.add("corrections", correction(task))
    chosen = asked(made, Failures(ALL.since, ALL.until, (("segment", (hostile,)), ("actor", ("vader", "x")))))
    assert tasks(chosen) == ["mine"]
    assert tasks(asked(made, Failures(ALL.since, ALL.until, find="') or ('1"))) == ["mine"]
    assert tasks(asked(made, Failures(ALL.since, ALL.until, find="nobody"))) == []
    with open_lake(made.path) as tables:
        assert [row[0] for row in tables.sql(chosen["sql"]).fetchall()] == ["mine"]


def tangle(made: HandMade, chance: Random) -> None:
    """Predictions of two minutes, reviewed up to four times in another order, copies and contradictions among them."""
    events: dict[str, list[Any]] = {"predictions": [], "corrections": [], "grades": []}
    for i in range(40):
        task = f"t{i % 30}"
        of: dict[str, Any] = {"prediction_id": f"p{i % 2}"}
        at = MINUTE + chance.randrange(120_000_000)
        events["predictions"].append(prediction(task, segment=chance.choice("ab"), **of | {"occurred_at": at}))
        for number in range(chance.randrange(4)):
            said = {"occurred_at": at + 1_000_000 * chance.randrange(-5, 60), "authority": chance.randrange(2)}
            verdict = chance.choice(["CONFIRMED", "CORRECTED", "REJECTED"])
            events["corrections"].append(correction(task, f"c{number}", verdict, **of, **said))
        for number in range(chance.randrange(3)):
            at += 1_000_000 * chance.randrange(30)
            passed = chance.choice([True, False, None])
            events["grades"].append(grade(task, f"g{number}", passed, **of, occurred_at=at))
    for name, found in events.items():
        found += chance.sample(found, len(found) // 4)
        chance.shuffle(found)
        for start in range(0, len(found), 30):
            made.add(name, *found[start : start + 30])


@pytest.mark.parametrize("seed", range(2))
def test_the_newest_failures_are_those_of_the_query_that_is_shown(made: HandMade, seed: int) -> None:
    tangle(made, Random(seed))
    lengths = 0
    with open_lake(made.path) as tables:
        for minutes, where, limit in product((1, 2), ((), (("segment", ("a",)),)), (1, 4, 50)):
            asked = Failures(MOMENT, MOMENT + timedelta(minutes=minutes), where, limit=limit)
            every = [row[:2] for row in tables.sql(asked.sql.rpartition("\n")[0]).fetchall()]
            seen: list[tuple[str, str]] = []
            for _ in range(4):  # pages
                found = asked.run(tables.cursor())
                seen += [(row["task_id"], row["prediction_id"]) for row in found["rows"]]
                if found["next"] is None:
                    break
                asked = replace(asked, before=Cursor.parse(found["next"]))
            assert seen == every[: len(seen)]
            assert len(seen) == min(4 * limit, len(every))
            lengths += len(every)
    assert lengths


def test_the_newest_failures_are_found_without_reading_all_reviews(made: HandMade) -> None:
    segments = ["rare" if i == 5 else "often" for i in range(60)]
    answers = [prediction(f"t{i}", occurred_at=MINUTE + i, segment=segment) for i, segment in enumerate(segments)]
    made.add("predictions", *answers)
    made.add("corrections", *(correction(f"t{i}", occurred_at=MINUTE + 60_000_000 + i) for i in range(60)))
    with open_lake(made.path) as tables:
        tables.execute("DROP VIEW reviews")
        newest = Failures(ALL.since, ALL.until, limit=3).run(tables.cursor())
        assert tasks(newest) == ["t59", "t58", "t57"]
        assert tasks(Failures(ALL.since, ALL.until, (("segment", ("rare",)),), limit=3).run(tables.cursor())) == ["t5"]
        early = Failures(MOMENT, MOMENT + timedelta(microseconds=2), limit=3)
        assert tasks(early.run(tables.cursor())) == ["t1", "t0"]


def test_long_texts_are_cut_in_a_list_and_whole_in_their_episode(made: HandMade) -> None:
    long = "ä" * (MOST_CHARACTERS + 1)
    made.add("predictions", prediction("t1", input=text(long)))
    made.add("corrections", correction("t1"))
    [row] = asked(made, ALL)["rows"]
    assert row["input"] == {"content_type": "text/plain", "body": long[:-1], "cut": True}
    assert asked(made, Episode("t1"))["events"][0]["input"] == {**text(long), "cut": False}


def test_an_episode_is_a_task_in_the_order_of_time(made: HandMade) -> None:
    made.add("predictions", prediction("t1"), prediction("t1", "p2", occurred_at=MINUTE + 90_000_000), prediction("t2"))
    made.add("corrections", correction("t1", error_category="flipped", attributes={"shift": "night"}))
    made.add("grades", grade("t1"))
    found = asked(made, Episode("t1"))
    assert [(event["kind"], event["id"]) for event in found["events"]] == [
        ("prediction", "p1"), ("correction", "c1"), ("prediction", "p2"), ("grade", "g1")
    ]  # fmt: skip
    corrected, graded = found["events"][1], found["events"][3]
    assert (corrected["truth"]["body"], corrected["category"], corrected["attributes"]) == (
        "negative", "flipped", {"shift": "night"}
    )  # fmt: skip
    assert graded["scores"] == [{"criterion": "polite", "score": 4.0, "max_score": 5.0}]
    assert (found["reviewed"], found["failed"]) == (1, 1)
    assert [winner["correction_id"] for winner in found["winners"]] == ["c1"]
    assert asked(made, Episode("nobody's")) == {}
    with open_lake(made.path) as tables:
        assert len(tables.sql(found["sql"]).fetchall()) == 1


def test_alerts_are_open_until_they_are_over(made: HandMade, tmp_path: Path) -> None:
    found = LakeReader(lake_of(tmp_path / "sample", NOW).path).ask(Alerts(), SECONDS)
    assert [(alert["alert_id"], alert["state"]) for alert in found["open"]] == [("a-1", "FIRING"), ("a-3", "PENDING")]
    [over] = found["recent"]
    assert (over["alert_id"], over["state"], over["segment"]) == ("a-2", "RESOLVED", "movies")
    assert over["fired_at"] < over["resolved_at"]
    assert len(found["fired"]) == 2


def test_an_alert_that_never_fired_is_no_news_when_it_is_over(made: HandMade) -> None:
    alert = {
        "alert_id": "a", "rule": "r", "actor": None, "version": None, "segment": None, "value": 1.0, "threshold": 0.5,
        "window_seconds": 60, "message": "m", "occurred_at": MINUTE,
    }  # fmt: skip
    made.add("alerts", alert | {"state": "PENDING"}, alert | {"state": "RESOLVED"})
    assert asked(made, Alerts()) == Alerts.nothing


def test_the_latency_is_from_the_later_of_the_two_to_the_example(made: HandMade) -> None:
    made.add("examples", derived(prediction("t1"), correction("t1")))
    with open_lake(made.path) as tables:
        [[arrived, of]] = tables.sql(
            "SELECT epoch(_arrived_at), epoch(feedback_source.arrived_at) FROM examples"
        ).fetchall()
    found = asked(made, Latency())["latency"]
    assert found == {"p50": round(arrived - of, 4), "p99": round(arrived - of, 4), "examples": 1, "sql": Latency.sql}
    with open_lake(made.path) as tables:
        assert tables.sql(found["sql"]).fetchall() == [(arrived - of, arrived - of, 1)]
    assert asked(HandMade(Path(made.path).with_name("empty")), Latency()) == {"latency": None}


def test_dead_letters_of_the_last_week_are_counted_by_reason(made: HandMade) -> None:
    place = (TOPOLOGY.dead_letters_of(TOPOLOGY.topic_of("Grade")), 0)

    def letter(offset: int, reason: str, days_ago: int = 0) -> Message:
        arrived = int((datetime.now(UTC) - timedelta(days=days_ago)).timestamp() * 1000)
        value, headers = dlq.letter("flyback.grades.v1", 0, offset, arrived, b"bad", None, reason, "why", 99)
        return Message(*place, offset, arrived, b"key", value, headers)

    letters = [letter(0, "truncated"), letter(1, "no_avro"), letter(2, "truncated"), letter(3, "truncated", 8)]
    made.add_rows("dead_letters", with_provenance(dead_letter_rows(letters), Messages.of(letters)), place)
    assert asked(made, DeadLetters())["dead_letters"] == [
        {"topic": "flyback.grades.v1", "reason": "truncated", "count": 2},
        {"topic": "flyback.grades.v1", "reason": "no_avro", "count": 1},
    ]


def test_old_counts_are_those_of_the_lake(made: HandMade) -> None:
    counts = Counts(predictions=5, reviewed=4, failures=1)
    labels = {"actor_kind": "MODEL", "actor": "m", "version": "1", "segment": "a"}
    made.add("failure_rates", {"partition": 0, "minute": MINUTE, **labels, **counts._asdict(), "derive_version": 1})
    question = Question(MOMENT, MOMENT + timedelta(minutes=3), by=("segment",), step=timedelta(minutes=1))
    assert asked(made, Counted(question)) == [Row(MOMENT, {"segment": "a"}, counts)]
    [course] = asked(made, Counted(question, courses=True))
    assert course.row == Row(None, {"segment": "a"}, counts)
    assert (course.starts, course.reviewed, course.failures) == ([int(MOMENT.timestamp())], [4], [1])


EVERY: list[Query] = [ALL, Episode("t1"), Alerts(), Latency(), DeadLetters(), Counted(Question(MOMENT, NOW))]


@pytest.mark.parametrize("query", EVERY, ids=lambda query: type(query).__name__)
def test_a_lake_that_is_not_there_yet_is_an_empty_one(query: Query, tmp_path: Path) -> None:
    nowhere = LakeReader(str(tmp_path / "nowhere")).ask(query, SECONDS)
    assert nowhere == query.nothing == asked(HandMade(tmp_path / "lake"), query)


def test_what_is_committed_later_is_seen(made: HandMade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_reader, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(Failures, "every", 0.0)
    reader = LakeReader(made.path)
    with pytest.raises(NotYet):
        reader.ask(ALL)
    assert reader.ask(ALL, SECONDS)["rows"] == []
    made.add("predictions", prediction("t1"))
    made.add("corrections", correction("t1"))
    eventually(lambda: tasks(reader.ask(ALL)) == ["t1"], "the failure")


def test_a_lake_that_cannot_be_read_is_told_and_read_again_later(
    made: HandMade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Failures, "every", 0.0)
    made.add("predictions", prediction("t1", segment=HOSTILE))
    made.add("corrections", correction("t1"))
    [file] = (Path(made.path) / "corrections").glob("*.parquet")
    file.rename(f"{file}.away")
    reader = LakeReader(made.path)
    with pytest.raises(LakeError, match=r"the lake at .* cannot be read: IOException"):
        reader.ask(ALL, SECONDS)
    Path(f"{file}.away").rename(file)

    def well() -> bool:
        try:
            return tasks(reader.ask(ALL, SECONDS)) == ["t1"]
        except LakeError:
            return False

    eventually(well, "it is read again")


@pytest.mark.parametrize("word", ["x", "", "W10=", "bnVsbA==", "WyJhIiwiYiIsImMiXQ==", "ä"])
def test_a_cursor_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(ConfigurationError, match="give the `next` of an earlier answer"):
        Cursor.parse(word)
