"""`flyback rates`: what it asks; what it finds is in tests/end_to_end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flyback.cli import times
from flyback.cli.rates import _line, _question
from flyback.dashboards.questions import Question, Row
from flyback.errors import ConfigurationError
from flyback.streams.rates import Counts
from tests.cli.conftest import Flyback

NOW = datetime(2026, 11, 23, 12, 34, 56, tzinfo=UTC)


def test_the_running_minute_is_a_part_of_the_last_hour() -> None:
    found = _question(NOW, "segment, version", "1h", None, "5m", ["segment=a", "segment=b"])
    since = datetime(2026, 11, 23, 11, 34, tzinfo=UTC)
    until = datetime(2026, 11, 23, 12, 35, tzinfo=UTC)
    chosen = {"segment": ["a", "b"]}
    assert found == Question(since, until, ("segment", "version"), timedelta(minutes=5), chosen)


def test_more_than_a_day_is_asked_by_whole_hours() -> None:
    found = _question(NOW, "", "2026-11-20T10:30", "2026-11-22T09:15", None, [])
    assert (found.since.isoformat(), found.until.isoformat()) == (
        "2026-11-20T10:00:00+00:00", "2026-11-22T10:00:00+00:00"
    )  # fmt: skip


def test_a_rate_never_stands_without_what_it_was_counted_from() -> None:
    assert _line(Row(None, {"segment": "a"}, Counts(10, 4, 1))) == ["a", 10, 4, 1, "25.0%", "4.6% to 69.9%", None, None]
    assert _line(Row(NOW, {}, Counts(10))) == ["2026-11-23 12:34", 10, 0, 0, None, None, None, None]


def test_the_query_can_be_asked_for_without_a_broker(flyback: Flyback) -> None:
    said = flyback("rates", "--by", "segment", "--since", "2026-11-23", "--until", "2026-11-24", "--sql")
    assert said.code == 0
    assert "FROM failure_rates\nWHERE \"minute\" >= TIMESTAMPTZ '2026-11-23T00:00:00+00:00'" in said.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--since", "yesterday"], "--since yesterday: write how long ago (1h, 7d), or a time as"),
        (["--step", "often"], "--step often: write a number and its unit"),
        (["--where", "segment"], "--where segment: write LABEL=VALUE"),
        (["--by", "colour"], "'colour' is no label of a failure rate"),
        (["--since", "1h", "--until", "2h"], "no time lies between"),
    ],
)
def test_what_cannot_be_asked_is_told(flyback: Flyback, arguments: list[str], complaint: str) -> None:
    said = flyback("rates", *arguments)
    assert said.code == 2
    assert complaint in said.err


def test_a_time_is_in_utc_also_where_it_names_another_zone_or_none() -> None:
    assert times.moment("--since", "2026-01-31T12:00") == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert times.moment("--since", "2026-01-31T12:00+02:00").isoformat() == "2026-01-31T10:00:00+00:00"
    with pytest.raises(ConfigurationError, match="--as-of soon: write a time as"):
        times.moment("--as-of", "soon")
