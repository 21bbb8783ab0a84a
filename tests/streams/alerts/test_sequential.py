"""The sequential test: what it is by definition, what does not matter to it, and its false alarms in small."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyback.streams.alerts.sequential import BETS, bound, evidence, threshold

Minutes = list[tuple[int, int, int]]
FIRST, LAST = 100, 130

minutes = st.dictionaries(
    st.integers(FIRST, LAST), st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=LAST - FIRST + 1
).map(lambda found: [(minute, sum(found[minute]), found[minute][0]) for minute in sorted(found)])


def by_definition(found: Minutes, limit: float, first: int = FIRST) -> float:
    """One bet a minute and λ, each with what came from its minute on."""
    wealth = 0.0
    for bet in BETS:
        for begin in range(first, LAST + 1):
            own = 1.0 if bet * limit < 1 else 0.0
            for minute, reviewed, failures in found:
                if minute >= begin:
                    own *= (1 + bet * (1 - limit)) ** failures * (1 - bet * limit) ** (reviewed - failures)
            wealth += own / len(BETS)
    return wealth


@settings(deadline=None)
@given(minutes, st.sampled_from([0.01, 0.05, 0.3, 0.6, 1.0]))
def test_wealth_is_the_sum_of_all_bets(found: Minutes, limit: float) -> None:
    given = evidence(found, FIRST, LAST, limit)
    assert given.wealth == pytest.approx(by_definition(found, limit, given.begun), rel=1e-9)


@settings(deadline=None)
@given(minutes, st.floats(0.01, 0.9), st.floats(0.01, 0.9))
def test_a_higher_bound_never_gives_more_than_all_bets_of_a_lower_one(found: Minutes, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert evidence(found, FIRST, LAST, high).wealth <= by_definition(found, low) * (1 + 1e-9)


@settings(deadline=None)
@given(minutes)
def test_empty_minutes_may_be_left_out(found: Minutes) -> None:
    filled = {minute: (minute, 0, 0) for minute in range(FIRST, LAST + 1)} | {each[0]: each for each in found}
    assert evidence(filled.values(), FIRST, LAST, 0.1) == evidence(found, FIRST, LAST, 0.1)


def test_the_bound_is_above_the_rate_and_comes_nearer_with_more_reviews() -> None:
    assert 0.05 < bound(5_000, 100_000) < bound(50, 1_000) < bound(5, 100) < 0.16
    assert bound(0, 0) == 1


def test_without_reviews_every_bet_has_what_it_began_with() -> None:
    found = evidence([], FIRST, LAST, 0.1)
    assert found.wealth == pytest.approx(LAST - FIRST + 1)
    assert found[1:] == (FIRST, LAST, 0, 0)


def test_a_rise_is_counted_from_where_it_began() -> None:
    healthy = [(minute, 10, int(minute % 2 == 0)) for minute in range(FIRST, 120)]
    found = evidence([*healthy, *((minute, 10, 4) for minute in range(120, LAST + 1))], FIRST, LAST, 0.06)
    assert (found.since, found.reviewed, found.failures) == (120, 110, 44)


def test_after_a_rise_is_over_all_bets_begin_anew() -> None:
    rise = [(minute, 10, 5) for minute in range(FIRST, 110)]
    assert evidence(rise, FIRST, 109, 0.1).wealth > 1e9
    after = [*rise, *((minute, 10, 1) for minute in range(110, LAST + 1))]
    found = evidence(after, FIRST, LAST, 0.1)
    assert 110 < found.begun < 120
    assert found.wealth < 100
    again = evidence([*after[:-4], *((minute, 10, 5) for minute in range(LAST - 3, LAST + 1))], FIRST, LAST, 0.1)
    assert again.wealth > 1e4
    assert again.since == LAST - 3


def test_any_number_of_failures_is_a_number() -> None:
    found = evidence([(minute, 100_000, 100_000) for minute in range(FIRST, LAST)], FIRST, LAST, 0.01)
    assert math.isfinite(found.wealth)
    assert found.wealth > 1e200
    assert evidence([(FIRST, 100_000, 0)], FIRST, FIRST, 0.2).wealth == 0


def test_the_threshold_grows_with_what_is_looked_at_side_by_side() -> None:
    assert threshold(43_200, 1_440, 1) == threshold(43_200, 1_440, 0) == 44_640
    assert threshold(43_200, 1_440, 7) == 7 * 44_640


def test_looking_every_minute_at_feedback_that_comes_late_gives_few_false_alarms() -> None:
    chance, every, window, alarms = Random(7), 1_000, 100, 0
    enough, segments, looks = threshold(every, window, 1), 20, 400
    for _ in range(segments):
        known: dict[int, list[int]] = {}
        waiting: list[tuple[int, int, bool]] = []
        for now in range(looks):
            waiting += [
                (now + chance.randrange(30), now, chance.random() < 0.2) for _ in range(chance.choice((0, 1, 2)))
            ]
            for _, minute, failed in [each for each in waiting if each[0] <= now]:
                counts = known.setdefault(minute, [0, 0])
                counts[0], counts[1] = counts[0] + 1, counts[1] + failed
            waiting = [each for each in waiting if each[0] > now]
            seen = [(minute, *known[minute]) for minute in sorted(known) if minute > now - window]
            if evidence(seen, now - window + 1, now, 0.2).wealth >= enough:
                alarms += 1
                break
    assert alarms <= segments * looks / every
