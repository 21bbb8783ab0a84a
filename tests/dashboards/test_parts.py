"""What the page shows of failure rates, against sums by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flyback.dashboards import parts
from flyback.dashboards.parts import Mark, NotYet
from flyback.dashboards.questions import Course, Question, Row, plain
from flyback.dashboards.rate_store import RateStore
from flyback.dashboards.view import View, parse
from flyback.sinks.columns import from_records
from flyback.streams.rates import MILLIONTHS, Counts, plain_rate, weighted_rate

NOW = datetime(2026, 11, 23, 12, 34, 56, tzinfo=UTC)
RUNNING = NOW.replace(second=0)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def store() -> Iterator[RateStore]:
    found = RateStore()
    yield found
    found.close()


def put(store: RateStore, minutes_ago: int, reviewed: int, failures: int, **labels: Any) -> None:
    """Counts of one minute, every prediction reviewed and each failure four times as likely to be reviewed."""
    record = {
        "partition": 0,
        "minute": int((RUNNING - minutes_ago * MINUTE).timestamp()) * 1_000_000,
        "actor_kind": "MODEL",
        "actor": "m",
        "version": "1",
        "segment": "a",
        **labels,
        **Counts(
            reviewed,
            reviewed,
            failures,
            reviewed,
            sum_w=(4 * (reviewed - failures) + failures) * MILLIONTHS,
            sum_wy=failures * MILLIONTHS,
            sum_w2=(16 * (reviewed - failures) + failures) * MILLIONTHS,
            sum_w2y=failures * MILLIONTHS,
        )._asdict(),
        "derive_version": 1,
    }
    store.put(from_records("FailureRate", [record]))


def test_the_headline_has_the_range_and_the_one_before_it(store: RateStore) -> None:
    put(store, 0, 10, 2)
    put(store, 60, 10, 3)
    put(store, 61, 10, 9)
    put(store, 121, 10, 8)
    put(store, 122, 10, 1)
    found = parts.headline(View(), NOW, store)
    assert (found["predictions"], found["reviewed"], found["failures"]) == (20, 20, 5)
    assert found["rate"] == plain(plain_rate(Counts(20, 20, 5)))
    assert found["rate"]["value"] == 0.25
    assert found["weighted_rate"]["value"] == 5 / 65
    assert (found["since"], found["until"]) == ("2026-11-23T11:34:00+00:00", "2026-11-23T12:35:00+00:00")
    assert (found["before"]["failures"], found["before"]["reviewed"]) == (17, 20)
    assert found["before"]["until"] == found["since"]
    assert "'2026-11-23T11:34:00+00:00'" in found["sql"]


def test_what_was_before_may_not_be_known_yet(store: RateStore) -> None:
    class Slow:
        def ask(self, question: Question) -> list[Row]:
            if question.until < NOW:
                raise NotYet
            return store.ask(question)

        def courses(self, question: Question) -> list[Course]:
            return store.courses(question)

    found = parts.headline(View(), NOW, Slow())
    assert found["before"] is None
    assert (found["predictions"], found["rate"]["value"]) == (0, None)


def test_the_chart_has_the_worst_lines_with_gaps_where_nothing_was_reviewed(store: RateStore) -> None:
    put(store, 1, 100, 40, segment="many")
    put(store, 3, 100, 60, segment="many")
    put(store, 2, 2, 2, segment="few")
    put(store, 2, 100, 1, segment="good")
    found = parts.chart(parse([("top", "2")]), NOW, store)
    assert [line["name"] for line in found["series"]] == ["many", "few"]
    assert found["more"] == 1
    assert (found["step"], len(found["starts"])) == (60, 61)
    assert found["starts"][-1] == RUNNING.timestamp()
    many = found["series"][0]
    assert many["labels"] == {"segment": "many"}
    assert (many["predictions"], many["reviewed"], many["failures"]) == (200, 200, 100)
    assert many["value"][-5:] == [None, 0.6, None, 0.4, None]
    assert many["reviews"][-5:] == [0, 100, 0, 100, 0]
    low = plain_rate(Counts(100, 100, 40)).low
    assert many["low"][-2:] == [round(low, 5), None]
    assert found["sql"].count("'many'") == 1


def test_lines_are_of_the_combinations_that_there_are(store: RateStore) -> None:
    put(store, 1, 10, 5, segment="a", version="1")
    put(store, 1, 10, 4, segment="b", version="2")
    put(store, 1, 10, 0, segment="a", version="2")
    found = parts.chart(parse([("by", "segment,version"), ("top", "2")]), NOW, store)
    assert [line["name"] for line in found["series"]] == ["a 1", "b 2"]
    assert [sum(filter(None, line["value"])) for line in found["series"]] == [0.5, 0.4]


def test_everything_may_be_one_line(store: RateStore) -> None:
    put(store, 1, 30, 15)
    [line] = parts.chart(parse([("by", "")]), NOW, store)["series"]
    assert (line["name"], line["labels"], line["value"][-2]) == ("all", {}, 0.5)


def test_nothing_counted_is_no_line(store: RateStore) -> None:
    found = parts.chart(View(), NOW, store)
    assert (found["series"], found["more"], len(found["starts"])) == ([], 0, 61)
    assert parts.table(View(), NOW, store)["rows"] == []


def test_what_is_looked_for_is_in_a_label(store: RateStore) -> None:
    put(store, 1, 10, 5, segment="tweets")
    put(store, 1, 10, 5, segment="movies")
    view = parse([("find", "TWEET")])
    assert [line["name"] for line in parts.chart(view, NOW, store)["series"]] == ["tweets"]
    assert [row["segment"] for row in parts.table(view, NOW, store)["rows"]] == ["tweets"]
    assert [row["segment"] for row in parts.rates(view, NOW, store)["rates"]] == ["tweets"]


def test_the_table_has_every_combination_with_its_course(store: RateStore) -> None:
    put(store, 1, 10, 5, version="2")
    put(store, 7, 10, 1, version="2")
    put(store, 60, 10, 0)
    found = parts.table(View(), NOW, store)
    assert [(row["version"], row["failures"]) for row in found["rows"]] == [("2", 6), ("1", 0)]
    first = found["rows"][0]
    assert {name: first[name] for name in ("segment", "actor", "actor_kind", "predictions", "reviewed")} == {
        "segment": "a", "actor": "m", "actor_kind": "MODEL", "predictions": 20, "reviewed": 20
    }  # fmt: skip
    assert first["rate"] == plain(plain_rate(Counts(20, 20, 6)))
    assert found["spark_step"] == 180
    assert first["spark"][-1] == 0.5
    assert [value for value in first["spark"] if value is not None] == [0.1, 0.5]
    assert len(first["spark"]) == 21


def test_by_weights_it_may_be_another_order_and_course(store: RateStore) -> None:
    put(store, 1, 100, 50, segment="a")
    put(store, 1, 100, 45, segment="b")
    view = parse([("rate", "weighted")])
    found = parts.chart(view, NOW, store)["series"][0]
    counts = store.ask(view.question(NOW, ("segment",)))[0].counts
    assert found["rate"] == plain(weighted_rate(counts))
    assert found["value"][-2] == round(50 / 250, 5)
    assert parts.table(view, NOW, store)["rows"][0]["spark"][-1] == round(50 / 250, 4)


def test_a_long_range_is_drawn_by_hours(store: RateStore) -> None:
    for day in range(3):
        put(store, day * 24 * 60, 30, 15)
    found = parts.chart(parse([("range", "7d")]), NOW, store)
    assert (found["step"], len(found["starts"])) == (3600, 169)
    assert [value for value in found["series"][0]["value"] if value] == [0.5, 0.5, 0.5]
    assert len(parts.table(parse([("range", "7d")]), NOW, store)["rows"][0]["spark"]) == 24


def a_steady_hour(store: RateStore) -> None:
    """Six reviews a minute of each of two segments, for a little more than an hour."""
    for minute in range(65):
        put(store, minute, 6, minute % 4, segment="a")
        put(store, minute, 6, 1, segment="b")


def test_where_few_are_reviewed_points_are_further_apart_and_whole_but_for_the_running_one(store: RateStore) -> None:
    a_steady_hour(store)
    found = parts.chart(View(), NOW, store)
    assert (found["step"], found["running"]) == (300, True)
    assert datetime.fromtimestamp(found["starts"][0], UTC) == RUNNING.replace(hour=11, minute=30)
    assert [line["reviews"] for line in found["series"]] == [[30] * 13] * 2
    before = parts.chart(parse([("since", "2026-11-23T11:31"), ("until", "2026-11-23T12:29")]), NOW, store)
    assert (before["step"], before["running"]) == (60, False)


def test_the_points_of_the_chart_are_those_of_its_query(store: RateStore) -> None:
    a_steady_hour(store)
    found = parts.chart(View(), NOW, store)
    assert "INTERVAL 5 MINUTE" in found["sql"]
    rates: dict[str, list[float | None]] = {"a": [], "b": []}
    for _, segment, *counts in store._db.execute(found["sql"]).fetchall():
        rates[segment].append(round(plain_rate(Counts(*map(int, counts))).rate or 0.0, 5))
    assert {line["name"]: line["value"] for line in found["series"]} == rates


def test_a_chart_keeps_its_step_while_that_will_do(store: RateStore) -> None:
    for minute in range(61):
        put(store, minute, 25, 5)
    assert parts.chart(View(), NOW, store)["step"] == 60
    assert parts.chart(View(), NOW, store, before=5 * MINUTE)["step"] == 300


def test_a_label_may_be_filtered_by_what_the_other_filters_leave(store: RateStore) -> None:
    put(store, 1, 3, 0, segment="a", version="1")
    put(store, 1, 5, 0, segment="a", version="2")
    put(store, 1, 7, 0, segment="b", version="2")
    put(store, 1, 9, 0, segment="b", actor="zoe", actor_kind="HUMAN", version="")
    put(store, 90, 9, 0, segment="old")
    chosen = parse([("segment", "a"), ("version", "2"), ("version", "gone"), ("find", "nothing")])
    found = parts.table(chosen, NOW, store)
    assert found["rows"] == []
    assert found["values"] == {
        "segment": [("b", 7), ("a", 5)],
        "version": [("2", 5), ("1", 3)],
        "actor": [("m", 5)],
        "actor_kind": [("MODEL", 5)],
    }
    every = parts.table(View(), NOW, store)["values"]
    assert every["segment"] == [("b", 16), ("a", 8)]
    assert every["version"] == [("2", 12), ("", 9), ("1", 3)]


def test_versions_are_marked_where_they_first_appeared(store: RateStore) -> None:
    put(store, 500, 1, 0)
    put(store, 30, 1, 0, version="2")
    put(store, 20, 1, 0, version="2", segment="b")
    put(store, 40, 1, 0, version="2", segment="c")
    put(store, 5, 1, 0, actor="zoe", actor_kind="HUMAN", version="")
    every = parts.version_marks(View(), store.appearances())
    assert every == [Mark(RUNNING - 500 * MINUTE, "version", "m 1"), Mark(RUNNING - 40 * MINUTE, "version", "m 2")]
    of_segments = parts.version_marks(parse([("segment", "a"), ("segment", "b")]), store.appearances())
    assert of_segments[-1] == Mark(RUNNING - 30 * MINUTE, "version", "m 2")
    shown = parts.chart(View(), NOW, store, every)["marks"]
    assert shown == [{"at": int((RUNNING - 40 * MINUTE).timestamp()), "kind": "version", "text": "m 2"}]


def test_a_version_appeared_with_its_earliest_minute_even_if_that_is_told_late(store: RateStore) -> None:
    put(store, 5, 1, 0)
    put(store, 9, 1, 0)
    put(store, 2, 1, 0)
    assert [each.at for each in store.appearances()] == [RUNNING - 9 * MINUTE]


def test_the_rates_are_those_of_the_command_line(store: RateStore) -> None:
    put(store, 1, 10, 5, segment="a")
    put(store, 1, 10, 4, segment="b")
    found = parts.rates(View(), NOW, store)
    asked = Question(RUNNING - 60 * MINUTE, RUNNING + MINUTE, ("segment",))
    assert found["rates"] == [row.plain() for row in store.ask(asked)]
    assert (found["since"], found["until"]) == (asked.since.isoformat(), asked.until.isoformat())
