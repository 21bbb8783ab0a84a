"""Failure rates: which review decides, integer sums, minutes that open and close, and the interval."""

from __future__ import annotations

import math
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyback.schemas.codec import Record
from flyback.schemas.rules import MIN_PROBABILITY
from flyback.streams import rates
from flyback.streams.rates import (
    Cell,
    Counts,
    Review,
    cell_of,
    closes_at,
    plain_rate,
    prediction_counts,
    slack_ms,
    weighted_rate,
    wilson,
)
from tests.strategies import EPOCH_MS, WINDOW_MS, arrived, correction, grade, prediction

WINDOW = timedelta(milliseconds=WINDOW_MS)
SLACK_MS = WINDOW_MS // 6
Feedback = tuple[str, Record]

FEEDBACK = st.lists(
    st.tuples(
        st.sampled_from(("Correction", "Grade")),
        st.sampled_from(("CONFIRMED", "CORRECTED", "REJECTED")),
        st.sampled_from((True, False, None)),
        st.integers(0, 2),
        st.integers(0, 2),
        st.none() | st.floats(MIN_PROBABILITY, 1),
    ),
    max_size=6,
).map(lambda drawn: [made(str(i), *each) for i, each in enumerate(drawn)])


def made(
    name: str, record: str, verdict: str, passed: bool | None, authority: int, at: int, p: float | None
) -> Feedback:
    if record == "Grade":
        return record, grade(grade_id=name, passed=passed, sampling_probability=p)
    return record, correction(
        correction_id=name, verdict=verdict, authority=authority, occurred_at=at, sampling_probability=p
    )


def review(*feedback: Feedback) -> Review:
    found = Review()
    for record, event in feedback:
        found = found.with_feedback(record, event)
    return found


def corrected(name: str = "c", verdict: str = "CORRECTED", **changed: Any) -> Feedback:
    return "Correction", correction(correction_id=name, verdict=verdict, **changed)


def graded(name: str, passed: bool | None, **changed: Any) -> Feedback:
    return "Grade", grade(grade_id=name, passed=passed, **changed)


@given(FEEDBACK, st.randoms(use_true_random=False))
def test_the_order_of_feedback_does_not_matter(feedback: list[Feedback], chance: Random) -> None:
    shuffled = list(feedback)
    chance.shuffle(shuffled)
    assert review(*shuffled) == review(*feedback)


@given(FEEDBACK)
def test_the_winner_is_the_largest_by_authority_then_time_then_id(feedback: list[Feedback]) -> None:
    corrections = [event for record, event in feedback if record == "Correction"]
    winner = max(corrections, key=lambda e: (e["authority"], e["occurred_at"], e["correction_id"]), default=None)
    deciding = max(
        (event for record, event in feedback if record == "Grade" and event["passed"] is not None),
        key=lambda event: str(event["grade_id"]),
        default=None,
    )
    counts = review(*feedback).counts()
    if winner is not None:
        assert (counts.reviewed, counts.failures) == (1, int(winner["verdict"] != "CONFIRMED"))
    elif deciding is not None:
        assert (counts.reviewed, counts.failures) == (1, int(not deciding["passed"]))
    else:
        assert counts == Counts()


@given(FEEDBACK)
def test_sums_grow_by_differences_to_the_same_as_at_once(feedback: list[Feedback]) -> None:
    total, before = Counts(), Review()
    for record, event in feedback:
        after = before.with_feedback(record, event)
        total, before = total.plus(after.counts().minus(before.counts())), after
    assert total == before.counts()


@pytest.mark.parametrize(("verdict", "failures"), [("CONFIRMED", 0), ("CORRECTED", 1), ("REJECTED", 1)])
def test_a_confirmed_prediction_did_not_fail(verdict: str, failures: int) -> None:
    assert review(corrected(verdict=verdict)).counts() == Counts(reviewed=1, failures=failures)


def test_a_higher_authority_wins_over_a_later_one() -> None:
    assert review(corrected("b", "CONFIRMED", authority=1, occurred_at=0), corrected("c", occurred_at=9)).counts() == (
        Counts(reviewed=1, failures=0)
    )


def test_a_grade_decides_only_where_there_is_no_correction() -> None:
    grades = [graded("1", False), graded("2", True), graded("3", None)]
    assert review(*grades).counts() == Counts(reviewed=1, failures=0)
    assert review(*grades, corrected()).counts() == Counts(reviewed=1, failures=1)


def test_a_grade_without_a_verdict_is_no_review() -> None:
    assert review(graded("1", None)).counts() == Counts()


def test_weights_are_rounded_once_for_each_review() -> None:
    counts = review(corrected(sampling_probability=0.3)).counts()
    assert counts == Counts(0, 1, 1, 1, 3_333_333, 3_333_333, 11_111_111, 11_111_111)
    confirmed = review(corrected(verdict="CONFIRMED", sampling_probability=0.3)).counts()
    assert confirmed == Counts(0, 1, 0, 1, 3_333_333, 0, 11_111_111, 0)


def test_the_smallest_probability_weighs_ten_thousand() -> None:
    counts = review(corrected(sampling_probability=MIN_PROBABILITY)).counts()
    assert (counts.sum_w, counts.sum_w2) == (10**10, 10**14)


def test_the_probability_is_that_of_the_review_that_decides() -> None:
    assert review(graded("1", True, sampling_probability=0.5), corrected()).counts().weighted_reviews == 0
    assert review(corrected(sampling_probability=0.5), graded("1", True)).counts().sum_w == 2_000_000


@pytest.mark.parametrize(
    ("occurred_at", "minute"),
    [(0, 0), (59_999_999, 0), (60_000_000, 60_000_000), (-1, -60_000_000), (-60_000_000, -60_000_000)],
)
def test_a_cell_is_the_minute_in_which_the_answer_was_given(occurred_at: int, minute: int) -> None:
    assert cell_of(prediction(occurred_at=occurred_at)) == Cell(minute, "MODEL", "vader", "3.3.2", "amazon")


def test_clocks_may_disagree_by_five_minutes() -> None:
    thirty_days = timedelta(days=30) // timedelta(milliseconds=1)
    cell = cell_of(prediction())
    assert slack_ms(thirty_days) == 300_000
    assert closes_at(cell, thirty_days) == EPOCH_MS + thirty_days - 300_000


@pytest.mark.parametrize(
    ("arrival", "counted"),
    [
        (EPOCH_MS - SLACK_MS - 1, False),
        (EPOCH_MS - SLACK_MS, True),
        (EPOCH_MS + WINDOW_MS - SLACK_MS - 1, True),
        (EPOCH_MS + WINDOW_MS - SLACK_MS, False),
    ],
)
def test_a_minute_takes_predictions_from_a_little_before_it_until_it_closes(arrival: int, counted: bool) -> None:
    found = arrived("Prediction", prediction(), arrived_at=arrival)
    assert prediction_counts(cell_of(found.event), arrival, WINDOW_MS) == counted
    assert bool(rates.batch([found], WINDOW)) == counted


@pytest.mark.parametrize(
    ("answered", "reviewed", "counted"),
    [
        (0, WINDOW_MS - SLACK_MS - 1, 1),
        (0, WINDOW_MS - SLACK_MS, 0),  # the minute is closed
        (-SLACK_MS, WINDOW_MS - SLACK_MS - 1, 1),
        (WINDOW_MS // 2, -WINDOW_MS // 2, 1),
        (WINDOW_MS // 2, -WINDOW_MS // 2 - 1, 0),  # more than a window apart
    ],
)
def test_feedback_counts_until_the_minute_closes_and_within_the_window(
    answered: int, reviewed: int, counted: int
) -> None:
    history = [
        arrived("Prediction", prediction(), 0, EPOCH_MS + answered),
        arrived("Correction", correction(), 0, EPOCH_MS + reviewed),
    ]
    ((_, counts),) = rates.batch(history, WINDOW).items()
    assert counts == Counts(predictions=1, reviewed=counted, failures=counted)


def test_a_history_counted_by_hand() -> None:
    person = {"kind": "HUMAN", "name": "bob", "version": ""}
    history = [
        arrived("Prediction", prediction("a"), 0),
        arrived("Prediction", prediction("b"), 1),
        arrived("Prediction", prediction("c", occurred_at=EPOCH_MS * 1000 + 59_999_999), 2),
        arrived("Prediction", prediction("d", actor=person), 3),
        arrived("Prediction", prediction("e"), 4, partition=1),
        arrived("Correction", correction("a", verdict="REJECTED", sampling_probability=0.5), 0),
        arrived("Correction", correction("b", verdict="CONFIRMED"), 1),
        arrived("Grade", grade("b", passed=False), 0),
        arrived("Grade", grade("d", passed=False), 1),
        arrived("Correction", correction("nobody"), 2),
    ]
    cell = cell_of(prediction())
    human = cell._replace(actor_kind="HUMAN", actor="bob", version="")
    assert rates.batch(history, WINDOW) == {
        (0, cell): Counts(3, 2, 1, 1, 2_000_000, 2_000_000, 4_000_000, 4_000_000),
        (0, human): Counts(1, 1, 1),
        (1, cell): Counts(1),
    }


@pytest.mark.parametrize(
    ("failures", "reviewed", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_the_published_one(failures: int, reviewed: int, low: float, high: float) -> None:
    """R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert [round(bound, 4) for bound in wilson(failures, reviewed)] == [low, high]


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None)
def test_the_interval_s_bounds_are_the_rates_that_a_score_test_just_does_not_reject(counted: tuple[int, int]) -> None:
    failures, reviewed = counted
    low, high = wilson(failures, reviewed)
    assert 0 <= low <= failures / reviewed + 1e-12
    assert failures / reviewed - 1e-12 <= high <= 1
    for bound in (low, high):
        if 1e-9 < bound < 1 - 1e-9:
            score = abs(failures / reviewed - bound) / math.sqrt(bound * (1 - bound) / reviewed)
            assert score == pytest.approx(rates.Z95, rel=1e-6)


def test_nothing_is_known_of_what_nobody_reviewed() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def sampled(*reviews: tuple[float, bool]) -> Counts:
    """Counts of reviews by their probability, and whether they found a failure."""
    given = [
        Review().with_feedback("Grade", {"grade_id": "g", "passed": not failed, "sampling_probability": probability})
        for probability, failed in reviews
    ]
    return Counts.total([Counts(predictions=len(reviews)), *(review.counts() for review in given)])


def test_a_sampled_review_stands_for_as_many_predictions_as_it_was_unlikely() -> None:
    counts = sampled((0.5, True), (0.5, True), (0.1, False), (0.1, False))
    assert plain_rate(counts).rate == 0.5
    assert weighted_rate(counts).rate == pytest.approx(4 / 24)
    assert (plain_rate(counts).reviews, weighted_rate(counts).reviews) == (4, 4)


def test_the_weighted_interval_is_the_one_worked_out_by_hand() -> None:
    counts = sampled((0.5, True), *((0.25, False),) * 4)
    # weights 2 and 4 * 4: sum 18, of squares 68; 34/9 is added, half of it failed
    near = (2 + 17 / 9) / (18 + 34 / 9)
    added = 2 * (17 / 9) ** 2
    variance = ((1 - near) ** 2 * (4 + added) + near**2 * (64 + added)) / (18 + 34 / 9) ** 2
    reviews = near * (1 - near) / variance
    found = weighted_rate(counts)
    assert (found.low, found.high) == pytest.approx(wilson_of(near, reviews))
    assert found.low < found.rate < found.high


def wilson_of(rate: float, n: float) -> tuple[float, float]:
    """The two rates from which this one is just as far as 1.96 standard deviations: a quadratic equation."""
    z2 = rates.Z95**2
    a, b, c = 1 + z2 / n, -(2 * rate + z2 / n), rate**2
    root = math.sqrt(b * b - 4 * a * c)
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


@given(st.lists(st.tuples(st.sampled_from((1.0, 0.5, 0.1, 0.001, 1e-4)), st.booleans()), min_size=1, max_size=30))
def test_a_weighted_rate_lies_in_its_interval(reviews: list[tuple[float, bool]]) -> None:
    found = weighted_rate(sampled(*reviews))
    assert 0 <= found.low <= found.rate <= found.high <= 1
    assert found.low < found.high


def test_without_sampled_reviews_nothing_is_known_of_all_predictions() -> None:
    counts = Counts(predictions=10, reviewed=3, failures=1)
    assert weighted_rate(counts) == (None, 0.0, 1.0, 0)
    assert plain_rate(Counts(predictions=10)) == (None, 0.0, 1.0, 0)
