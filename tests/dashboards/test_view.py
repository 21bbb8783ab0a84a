"""A view from its address: what it asks, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyback.dashboards.questions import Question
from flyback.dashboards.rate_store import RateStore
from flyback.dashboards.view import View, chart_step, chart_steps, parse, spark_step, starts, step_of, stepped
from flyback.errors import ConfigurationError

NOW = datetime(2026, 11, 23, 12, 34, 56, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def test_without_parameters_it_is_the_last_hour_by_segment() -> None:
    view = parse([])
    assert view == View()
    asked = view.question(NOW, view.by)
    assert asked == Question(NOW.replace(hour=11, second=0), NOW.replace(minute=35, second=0), ("segment",))


def test_the_order_of_values_makes_no_other_view() -> None:
    one = parse([("segment", "b"), ("segment", "a"), ("actor", "m"), ("by", "version, segment")])
    assert one == parse([("by", "version,segment"), ("actor", "m"), ("segment", "a"), ("segment", "b")])
    assert hash(one)
    assert one.by == ("version", "segment")
    assert one.question(NOW).where == {"actor": ("m",), "segment": ("a", "b")}


def test_it_may_be_about_everything_at_once() -> None:
    assert parse([("by", "")]).by == ()


def test_a_week_is_asked_by_whole_hours() -> None:
    asked = parse([("range", "7d")]).question(NOW)
    assert (asked.since, asked.until) == (
        datetime(2026, 11, 16, 12, tzinfo=UTC),
        datetime(2026, 11, 23, 13, tzinfo=UTC),
    )


def test_a_chosen_range_stays_where_it_is() -> None:
    view = parse([("since", "2026-11-20T10:00:30 01:00"), ("until", "2026-11-20T12:00:01")])
    asked = view.question(NOW)
    assert (asked.since, asked.until) == (
        datetime(2026, 11, 20, 9, tzinfo=UTC), datetime(2026, 11, 20, 12, 1, tzinfo=UTC)
    )  # fmt: skip
    assert parse([("since", "2026-11-23T12:00Z")]).question(NOW).until == NOW.replace(minute=35, second=0)


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ([("segmnt", "a")], "no parameter 'segmnt': there are range, since"),
        ([("range", "2h")], "range: one of now, 1h, 24h, 7d, not '2h'"),
        ([("range", "1h"), ("range", "7d")], "range: give it once"),
        ([("range", "1h"), ("since", "2026-11-23")], "range: give it, or since and until"),
        ([("until", "2026-11-23")], "until: give since as well"),
        ([("since", "yesterday")], "since: write a time as 2026-01-31T12:00Z, not 'yesterday'"),
        ([("since", "0001-01-01T00:00+14:00")], "since: write a time"),
        ([("since", "2026-11-23"), ("until", "2026-11-23")], "no time lies between"),
        ([("by", "colour")], "by: one of actor_kind, actor, version, segment, not 'colour'"),
        ([("top", "21")], "top: a number from 1 to 20, not '21'"),
        ([("top", "٣")], "top: a number"),
        ([("rate", "odd")], "rate: one of plain, weighted"),
        ([("segment", "x" * 201)], "longer than 200 characters"),
    ],
)
def test_what_is_wrong_is_told_with_what_is_allowed(parameters: list[tuple[str, str]], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        parse(parameters)


def test_labels_are_looked_through_in_any_case() -> None:
    view = parse([("find", " TWE ")])
    assert view.shows({"segment": "tweets", "version": "1"})
    assert not view.shows({"segment": "movies"})
    assert View().shows({})


@settings(deadline=None)
@given(minutes=st.integers(1, 60 * 24 * 400), at=st.integers(0, 60 * 24 * 30))
def test_every_range_has_readable_steps(minutes: int, at: int) -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC) + at * MINUTE
    asked = Question(since, since + minutes * MINUTE).rounded()
    steps = chart_steps(asked)
    for step, most in [(each, 202) for each in steps] + [(spark_step(asked), 27)]:
        Question(asked.since, asked.until, step=step)
        grid = starts(asked, step)
        assert 1 <= len(grid) <= most
        assert grid[0] <= asked.since.timestamp() < grid[0] + step.total_seconds()
        assert grid[-1] < asked.until.timestamp() <= grid[-1] + step.total_seconds()
    for step in steps:
        whole = stepped(asked, step)
        assert whole.rounded() == whole, "what the store would cut is not asked"
        assert starts(whole, step) == starts(asked, step)
        assert (whole.until - whole.since) % step == timedelta(0)
    assert all(len(starts(asked, step)) >= 12 for step in steps[1:])


@pytest.mark.parametrize(
    ("name", "chart", "spark"),
    [
        ("now", [MINUTE], MINUTE),
        ("1h", [MINUTE, 5 * MINUTE], 3 * MINUTE),
        ("24h", [15 * MINUTE, HOUR], HOUR),
        ("7d", [HOUR, 6 * HOUR], 7 * HOUR),
    ],
)
def test_the_usual_ranges_have_these_steps(name: str, chart: list[timedelta], spark: timedelta) -> None:
    asked = parse([("range", name)]).question(NOW)
    assert (chart_steps(asked), spark_step(asked)) == (chart, spark)


MINUTES = [1 * MINUTE, 5 * MINUTE, 15 * MINUTE]


@pytest.mark.parametrize(
    ("a_minute", "before", "chosen"),
    [
        ([], None, 1),
        ([], 5, 1),
        ([1], None, 15),
        ([2], None, 15),
        ([4], None, 5),
        ([20], None, 1),
        ([1, 1, 1, 90], None, 15),
        ([2], 5, 5),
        ([1], 5, 15),
        ([7], 15, 15),
        ([8], 15, 5),
        ([39], 5, 5),
        ([40], 5, 1),
        ([20], 60, 1),
    ],
)
def test_points_stand_on_enough_reviews_and_stay_for_a_while(
    a_minute: list[int], before: int | None, chosen: int
) -> None:
    """`a_minute`: the reviews a minute of some lines."""

    def reviews(step: timedelta) -> list[int]:
        return [number * (step // MINUTE) for number in a_minute]

    assert chart_step(MINUTES, reviews, None if before is None else before * MINUTE) == chosen * MINUTE


@settings(deadline=None)
@given(at=st.integers(0, 60 * 24 * 30), step=st.sampled_from([1, 2, 3, 7, 10, 30, 60, 180, 420, 1440, 2880]))
def test_steps_begin_where_the_database_begins_them(at: int, step: int) -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC) + at * MINUTE
    expected = _buckets(since, timedelta(minutes=step))
    assert starts(Question(since, since + MINUTE), timedelta(minutes=step))[0] == expected
    assert step_of(since, timedelta(minutes=step)).timestamp() == expected


_STORE = RateStore()


def _buckets(moment: datetime, step: timedelta) -> int:
    [[found]] = _STORE._db.execute("SELECT epoch(time_bucket(?::INTERVAL, ?::TIMESTAMPTZ))", [step, moment]).fetchall()
    return int(found)
