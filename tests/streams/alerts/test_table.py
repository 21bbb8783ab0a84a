"""The counts by minute, against sums over all cells."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from flyback.streams.alerts.evaluate import Observed, evaluate
from flyback.streams.alerts.rules import Counted, Rule, defaults
from flyback.streams.alerts.table import Labels, Series, Table
from flyback.streams.rates import MINUTE, Cell, Counts
from tests.streams.alerts.counted import NOW, RUNNING, cell, reviewed, rule

BY_SEGMENT = rule("rate", 'above = 0.1\nwindow = "5m"\nby = ["segment"]\nwhere = { actor_kind = "MODEL" }')
OF_TWO = rule("rate", 'above = 0.1\nwindow = "5m"\nby = ["actor", "version"]\nwhere = { segment = ["a", "b"] }')
RULES: list[Rule] = [BY_SEGMENT, OF_TWO]

minutes = st.integers(RUNNING - 300, RUNNING + 5)
counts = st.builds(reviewed, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
cells = st.builds(
    lambda minute, *labels: Cell(minute * MINUTE, *labels),
    minutes,
    st.sampled_from(["MODEL", "HUMAN"]),
    st.sampled_from(["m", "n"]),
    st.sampled_from(["1", "2"]),
    st.sampled_from(["a", "b", "c"]),
)


def series_of(found: list[tuple[int, Counts]]) -> Series:
    series = Series()
    for minute, change in found:
        series.add(minute, change)
    return series


@settings(deadline=None)
@given(st.lists(st.tuples(minutes, counts)), minutes, minutes)
def test_a_total_is_the_sum_of_its_minutes(found: list[tuple[int, Counts]], first: int, last: int) -> None:
    series = series_of(found)
    inside = [change for minute, change in found if first <= minute <= last]
    assert series.total(first, last) == Counts.total([Counts(), *inside])
    assert Counts.total([Counts(), *(each for _, each in series.between(first, last))]) == series.total(first, last)


@settings(deadline=None)
@given(st.lists(st.tuples(minutes, counts)), minutes, minutes)
def test_the_newest_minute_is_the_last_with_such_a_count(
    found: list[tuple[int, Counts]], first: int, last: int
) -> None:
    inside = [minute for minute, change in found if first <= minute <= last and change.reviewed]
    assert series_of(found).newest("reviewed", first, last) == max(inside, default=None)


@settings(deadline=None)
@given(st.lists(st.tuples(minutes, counts)), st.lists(st.tuples(minutes, counts)), minutes, minutes)
def test_what_is_forgotten_is_older(
    found: list[tuple[int, Counts]], late: list[tuple[int, Counts]], before: int, minutes_before: int
) -> None:
    series, whole = series_of(found), series_of([*found, *late])
    series.forget(before // 60, minutes_before // 60)
    for change in late:
        series.add(*change)
    coarse = max(before, minutes_before)
    assert series.total(coarse, RUNNING + 5) == whole.total(coarse, RUNNING + 5)
    hour = before // 60 * 60 + 60
    assert series.total(hour, hour + 119) == whole.total(hour, hour + 119)
    if (exact := whole.newest("reviewed", hour, RUNNING + 5)) is not None:
        rounded = series.newest("reviewed", hour, RUNNING + 5)
        assert rounded is not None
        assert (rounded // 60, rounded >= exact) == (exact // 60, True)


@settings(deadline=None)
@given(st.lists(st.tuples(cells, counts)))
def test_a_series_holds_the_cells_that_its_rule_looks_at(found: list[tuple[Cell, Counts]]) -> None:
    table = Table.of(RULES, found)
    by_segment = {
        Labels(segment=name): Counts.total(each for cell, each in found if (cell[1], cell[4]) == ("MODEL", name))
        for name in {cell.segment for cell, _ in found if cell.actor_kind == "MODEL"}
    }
    of_two = {
        Labels(*who): Counts.total(each for cell, each in found if cell[2:4] == who and cell.segment != "c")
        for who in {cell[2:4] for cell, _ in found if cell.segment != "c"}
    }
    for each, expected in zip(RULES, (by_segment, of_two), strict=True):
        assert isinstance(each, Counted)
        assert {labels: series.total(0, RUNNING + 5) for labels, series in table.series(each).items()} == expected


def test_a_change_is_the_difference_of_counts() -> None:
    assert isinstance(BY_SEGMENT, Counted)
    table = Table.of(RULES, [(cell(3), reviewed(4, 1))])
    table.add(cell(3), reviewed(5, 2).minus(reviewed(4, 1)))
    (series,) = table.series(BY_SEGMENT).values()
    assert series.total(0, RUNNING) == reviewed(5, 2)


def test_labels_that_have_nothing_left_are_forgotten() -> None:
    assert isinstance(BY_SEGMENT, Counted)
    table = Table.of(RULES, [(cell(120, "old"), reviewed(1)), (cell(5, "new"), reviewed(1))])
    table.forget(NOW)
    assert list(table.series(BY_SEGMENT)) == [Labels(segment="new")]


def test_no_rule_misses_what_is_forgotten() -> None:
    asked = defaults()
    cells = [(cell(ago), reviewed(1, int(ago % 9 == 0))) for ago in range(0, 9 * 1_440, 7)]
    table = Table.of(asked, cells)
    table.forget(NOW)
    assert evaluate(asked, Observed(table), NOW) == evaluate(asked, Observed(Table.of(asked, cells)), NOW)


def test_labels_are_shown_as_far_as_they_are_told_apart() -> None:
    assert str(Labels(actor="m", segment="s")) == "actor m, segment s"
    assert str(Labels()) == ""


@settings(deadline=None)
@given(st.lists(st.tuples(cells, counts)))
def test_a_minute_that_stands_for_another_counts_the_same(found: list[tuple[Cell, Counts]]) -> None:
    whole, rounded = Table.of(RULES, found), Table(RULES)
    rounded.forget(NOW)
    for each, change in found:
        rounded.add(each._replace(minute=rounded.as_minute(each.minute)), change)
    whole.forget(NOW)
    rounded.forget(NOW)
    for each in RULES:
        assert isinstance(each, Counted)
        totals = [
            {labels: series.total(RUNNING - 65, RUNNING + 5) for labels, series in table.series(each).items()}
            for table in (whole, rounded)
        ]
        assert totals[0] == totals[1]
