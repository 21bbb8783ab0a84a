"""Whether rules hold, from counts by minute: by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyback.streams.alerts.evaluate import Evaluation, Observed, evaluate
from flyback.streams.alerts.rules import Rule
from flyback.streams.alerts.table import Labels, Table
from flyback.streams.rates import MILLIONTHS, MINUTE, Cell, Counts, plain_rate
from tests.streams.alerts.counted import NOW, RUNNING, cell, reviewed, rule

Cells = list[tuple[Cell, Counts]]


def answers(asked: Rule, cells: Cells, now: int = NOW) -> dict[Labels, Evaluation]:
    found = evaluate([asked], Observed(Table.of([asked], cells)), now)
    return {each.labels: each for each in found[asked.name]}


def answer(asked: Rule, cells: Cells, now: int = NOW) -> Evaluation:
    (found,) = answers(asked, cells, now).values()
    return found


def rate(more: str = "", above: str = "0.2") -> Rule:
    return rule("rate", f'above = {above}\nwindow = "5m"\n{more}')


def test_the_lower_end_of_the_interval_is_compared() -> None:
    found = answer(rate(), [(cell(1), reviewed(40, 12))])
    assert found.estimate == plain_rate(reviewed(40, 12))
    assert (found.value, found.threshold, found.counts) == (found.estimate.low, 0.2, reviewed(40, 12))
    assert not found.holds
    assert answer(rate(), [(cell(1), reviewed(400, 120))]).holds


def test_three_events_do_not_fire() -> None:
    assert not answer(rate(), [(cell(1), reviewed(3, 3))]).holds
    assert not answer(rate("at_least = 1"), [(cell(1), reviewed(3, 1))]).holds
    assert answer(rate('at_least = 1\nbound = "rate"'), [(cell(1), reviewed(3, 1))]).holds


def test_too_few_reviews_say_nothing() -> None:
    found = answer(rate("at_least = 100"), [(cell(1), reviewed(99, 99))])
    assert (found.holds, found.clears) == (False, True)
    assert "fewer than 100 are reviewed" in found.said


def test_between_the_interval_and_the_rate_everything_stays_as_it_is() -> None:
    found = answer(rate(), [(cell(1), reviewed(40, 12))])
    assert (found.holds, found.clears) == (False, False)
    assert answer(rate(), [(cell(1), reviewed(40, 8))]).clears


def test_a_window_is_the_running_minute_and_whole_ones_before_it() -> None:
    inside = [(cell(0), reviewed(1)), (cell(5), reviewed(2)), (cell(6), reviewed(4)), (cell(-1), reviewed(8))]
    assert answer(rate(), inside).counts == reviewed(3)


def test_the_weighted_rate_counts_rare_reviews_for_many() -> None:
    often, seldom = Counts(100, 100, 100, 100, 0, 0, 0, 0), Counts(100, 100, 0, 100, 0, 0, 0, 0)
    w, many = 2 * MILLIONTHS, 100
    often = often._replace(sum_w=w * many, sum_wy=w * many, sum_w2=2 * w * many, sum_w2y=2 * w * many)
    w = 50 * MILLIONTHS
    seldom = seldom._replace(sum_w=w * many, sum_w2=50 * w * many)
    cells = [(cell(1), often), (cell(2), seldom)]
    assert answer(rate(), cells).holds
    found = answer(rate('rate = "weighted"'), cells)
    assert found.estimate is not None
    assert found.estimate.rate == pytest.approx(200 / 5_200)
    assert not found.holds


def test_each_combination_of_labels_has_an_answer() -> None:
    cells = [
        (cell(1, "a", version="1"), reviewed(100, 90)),
        (cell(1, "a", version="2"), reviewed(100, 1)),
        (cell(1, "b", version="1"), reviewed(100, 2)),
        (cell(1, "b", kind="HUMAN"), reviewed(100, 100)),
    ]
    found = answers(rate('by = ["segment", "version"]\nwhere = { actor_kind = "MODEL" }'), cells)
    assert {labels: each.holds for labels, each in found.items()} == {
        Labels(version="1", segment="a"): True,
        Labels(version="2", segment="a"): False,
        Labels(version="1", segment="b"): False,
    }


def test_late_feedback_changes_the_answer_for_a_time_that_is_over() -> None:
    asked, earlier = rate(), NOW - 60 * MINUTE
    table = Table.of([asked], [(cell(61), reviewed(100, 10))])
    assert not evaluate([asked], Observed(table), earlier)["r"][0].holds
    table.add(cell(61), reviewed(50, 50, predictions=0))
    assert evaluate([asked], Observed(table), earlier)["r"][0].holds


@settings(deadline=None)
@given(st.permutations([(cell(i % 7), reviewed(10 + i, i)) for i in range(8)]))
def test_the_order_of_counts_does_not_matter(cells: Cells) -> None:
    assert answer(rate(), cells) == answer(rate(), sorted(cells))


WEEK = [(cell(ago), reviewed(1, int(ago % 20 == 0))) for ago in range(1_600, 8 * 1_440)]


def test_a_rate_that_stays_has_not_risen() -> None:
    found = answer(rule("rise"), WEEK + [(cell(ago), reviewed(1, int(ago % 20 == 0))) for ago in range(1_600)])
    assert not found.holds
    assert found.value < found.threshold == 43_200 + 1_440 + 60


def test_a_rate_that_rises_is_seen_with_its_begin() -> None:
    healthy = [(cell(ago), reviewed(1, int(ago % 20 == 0))) for ago in range(120, 1_600)]
    found = answer(rule("rise"), WEEK + healthy + [(cell(ago), reviewed(1, int(ago % 4 == 0))) for ago in range(120)])
    assert found.holds
    assert found.estimate is not None
    assert found.estimate.rate == pytest.approx(0.25, abs=0.02)
    assert "before it was 5.0%, at most " in found.said


def test_a_rise_that_has_become_the_baseline_is_none() -> None:
    high = [(cell(ago), reviewed(1, int(ago % 4 == 0))) for ago in range(8 * 1_440 + 60)]
    found = answer(rule("rise"), high)
    assert (found.holds, found.clears) == (False, True)


def test_without_enough_of_a_baseline_nothing_is_said_of_a_rise() -> None:
    assert answers(rule("rise"), [(cell(ago), reviewed(1, 1)) for ago in range(1_000)]) == {}


def test_minutes_that_have_not_settled_are_left_out() -> None:
    first_are_failures = [(cell(ago), reviewed(1, 1)) for ago in range(30)]
    healthy = [(cell(ago), reviewed(1, int(ago % 20 == 0))) for ago in range(30, 1_600)]
    assert answer(rule("rise"), WEEK + healthy + first_are_failures).holds
    assert not answer(rule("rise", 'settle = "30m"'), WEEK + healthy + first_are_failures).holds


def test_many_labels_share_the_false_alarms() -> None:
    cells = [(each._replace(segment=name), counts) for name in "abcd" for each, counts in WEEK]
    found = answers(rule("rise", 'by = ["segment"]'), cells)
    assert {each.threshold for each in found.values()} == {4 * (43_200 + 1_440 + 60)}


def test_who_predicts_no_longer_is_missed() -> None:
    asked = rule("no-predictions", 'window = "15m"\nby = ["actor"]')
    found = answers(asked, [(cell(15, actor="late"), reviewed(0, 0, 1)), (cell(16, actor="gone"), reviewed(0, 0, 1))])
    assert {labels.actor: each.holds for labels, each in found.items()} == {"late": False, "gone": True}
    gone = found[Labels(actor="gone")]
    assert (gone.value, gone.threshold) == (16 * 60, 15 * 60)
    assert gone.said == "the newest prediction is 16 min old; the rule is 15 min"


def test_who_never_predicted_lately_is_not_missed() -> None:
    asked = rule("no-predictions", 'window = "15m"\nwithin = "1d"')
    assert answers(asked, []) == {}
    assert answer(asked, [(cell(1_440), reviewed(0, 0, 1))]).holds
    assert answers(asked, [(cell(1_441), reviewed(0, 0, 1))]) == {}


def test_predictions_that_nobody_reviews_are_noticed() -> None:
    asked = rule("no-reviews", 'window = "1h"\nat_least = 10')
    unseen = [(cell(5), reviewed(0, 0, 10))]
    assert answer(asked, unseen).holds
    assert answer(asked, [*unseen, (cell(61), reviewed(1))]).holds
    assert answer(asked, [*unseen, (cell(60), reviewed(1))]).clears
    assert not answer(asked, [(cell(5), reviewed(0, 0, 9))]).holds


@pytest.mark.parametrize(("more", "holds"), [("", True), ('topics = ["predictions.v1"]', False)])
def test_dead_letters_are_counted_by_topic_within_the_window(more: str, holds: bool) -> None:
    asked = rule("dead-letters", f'above = 10\nwindow = "10m"\n{more}')
    letters = {
        ((RUNNING - 11) * MINUTE, "predictions.v1"): 100,
        ((RUNNING - 10) * MINUTE, "predictions.v1"): 10,
        (RUNNING * MINUTE, "grades.v1"): 1,
    }
    (found,) = evaluate([asked], Observed(Table([]), dead_letters=letters), NOW)["r"]
    assert found.holds is holds


def test_the_slowest_reader_counts_where_none_is_named() -> None:
    lag = {"worker": 30.0, "sink": 90.0}
    asked = [rule("lag", 'above = "60s"', "any"), rule("lag", 'above = "60s"\nreader = "worker"', "one")]
    found = evaluate(asked, Observed(Table([]), lag=lag), NOW)
    assert {name: (each.value, each.holds) for name, (each,) in found.items()} == {
        "any": (90, True),
        "one": (30, False),
    }


def test_what_is_not_known_is_not_answered() -> None:
    asked = [rule("lag", 'above = "60s"'), rule("dead-letters", 'above = 10\nwindow = "10m"', "d")]
    assert evaluate(asked, Observed(Table(asked)), NOW) == {}
    assert evaluate([rule("lag", 'above = "1s"\nreader = "sink"')], Observed(Table([]), lag={"worker": 9}), NOW) == {}
