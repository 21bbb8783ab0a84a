"""What rules would have said of a time that is over."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from flyback.schemas.codec import Record
from flyback.streams.alerts import states
from flyback.streams.alerts.evaluate import Observed, evaluate
from flyback.streams.alerts.replay import Change, replay
from flyback.streams.alerts.table import Table
from flyback.streams.rates import MINUTE
from tests.streams.alerts.counted import RUNNING, cell, reviewed, rule

HIGH = rule("rate", 'above = 0.2\nwindow = "5m"\nfor = "2m"\nby = "segment"')
SINCE, UNTIL = RUNNING * MINUTE, (RUNNING + 30) * MINUTE


def known(minute: int, of: int, many: int, failures: int, predictions: int | None = None) -> Change:
    """So many reviews known in one minute after RUNNING, of predictions of another one."""
    return Change((RUNNING + minute) * MINUTE + 1, cell(-of), reviewed(many, failures, predictions))


def when(records: list[Record]) -> list[tuple[int, str]]:
    return [(record["occurred_at"] // MINUTE - RUNNING, record["state"]) for record in records]


def test_it_says_when_a_rule_would_have_fired_and_resolved() -> None:
    history = [known(3, 3, 100, 90), *(known(minute, minute, 100, 0) for minute in range(9, 31))]
    assert when(list(replay([HIGH], history, SINCE, UNTIL))) == [(4, "PENDING"), (6, "FIRING"), (9, "RESOLVED")]


def test_what_was_known_later_does_not_count_before() -> None:
    at_once = [known(3, 3, 100, 90)]
    late = [known(3, 3, 0, 0, predictions=100), known(6, 3, 100, 90, predictions=0)]
    assert when(list(replay([HIGH], at_once, SINCE, UNTIL)))[0] == (4, "PENDING")
    assert when(list(replay([HIGH], late, SINCE, UNTIL)))[0] == (7, "PENDING")


def test_the_history_before_counts_too() -> None:
    before = [Change(SINCE - MINUTE, cell(1), reviewed(100, 90))]
    assert when(list(replay([HIGH], before, SINCE, UNTIL)))[0] == (0, "PENDING")


def test_one_may_look_more_seldom() -> None:
    assert when(list(replay([HIGH], [known(3, 3, 100, 90)], SINCE, UNTIL, every=5))) == [
        (5, "PENDING"),
        (10, "RESOLVED"),
    ]


def test_a_time_in_which_nothing_was_known_is_not_gone_through_and_shifts_no_look() -> None:
    found = when(list(replay([HIGH], [known(3, 3, 100, 90)], 0, UNTIL, every=7)))
    first = -(RUNNING + 4) % 7 + 4
    assert found == [(first, "PENDING"), (first + 7, "RESOLVED")]


def test_without_a_history_there_is_no_alert() -> None:
    silent = rule("no-predictions", 'window = "3m"\nwithin = "20m"')
    assert list(replay([HIGH, silent], [], SINCE, UNTIL)) == []


def test_dead_letters_and_lag_are_passed_over() -> None:
    rules = [rule("lag", 'above = "1s"', "lag"), rule("dead-letters", 'above = 0\nwindow = "5m"', "dead")]
    assert list(replay(rules, [known(3, 3, 100, 90)], SINCE, UNTIL)) == []


changes = st.builds(known, st.integers(-5, 30), st.integers(-5, 30), st.integers(20, 90), st.integers(0, 20))


@settings(deadline=None)
@given(st.lists(changes))
def test_a_replay_is_what_the_evaluator_would_have_written(history: list[Change]) -> None:
    live: list[Record] = []
    standing: states.Known = {}
    for now in range(SINCE, UNTIL + 1, MINUTE):
        table = Table.of([HIGH], [(change.cell, change.counts) for change in history if change.known_at <= now])
        standing, written = states.step(standing, [HIGH], evaluate([HIGH], Observed(table), now), now)
        live += written
    assert list(replay([HIGH], history, SINCE, UNTIL)) == live
