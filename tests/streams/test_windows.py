"""Rate windows: by hand, and against a sum that asks each cell anew for each window."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flyback.streams import windows
from flyback.streams.windows import Counts, MinuteCounts, Row

MINUTE = 60_000_000
NOW = 29_000_000 * MINUTE + 17_000_000  # 17 s into a minute
RUNNING = NOW // MINUTE * MINUTE


def cell(minutes_ago: int, counts: tuple[int, int, int] = (1, 1, 1), segment: str = "s") -> MinuteCounts:
    return MinuteCounts(0, RUNNING - minutes_ago * MINUTE, "MODEL", segment, *counts)


def in_windows(*cells: MinuteCounts) -> dict[str, Counts]:
    return {row.window: counts for row, counts in windows.totals(cells, NOW).items()}


def test_a_window_holds_the_running_minute_and_as_many_whole_ones_as_it_is_long() -> None:
    assert in_windows(cell(0), cell(1)) == dict.fromkeys(windows.WINDOWS, Counts(2, 2, 2))
    assert in_windows(cell(2))["1m"] == Counts(0, 0, 0)
    assert in_windows(cell(5))["5m"] == Counts(1, 1, 1)
    assert in_windows(cell(6))["5m"] == Counts(0, 0, 0)
    assert in_windows(cell(60))["1h"] == Counts(1, 1, 1)
    assert in_windows(cell(61))["1h"] == Counts(0, 0, 0)
    assert in_windows(cell(1440))["24h"] == Counts(1, 1, 1)


def test_what_left_the_longest_window_or_is_still_to_come_is_in_none() -> None:
    assert in_windows(cell(1441), cell(-1)) == {}


def test_a_minute_expires_when_it_has_left_the_longest_window() -> None:
    assert not windows.expired(cell(1440).minute, NOW)
    assert windows.expired(cell(1441).minute, NOW)


def test_counts_add_up_over_partitions_and_actors_but_not_over_kinds_and_segments() -> None:
    found = windows.totals(
        [
            cell(0, (10, 4, 1)),
            cell(0, (5, 3, 2))._replace(partition=1),
            cell(0, (7, 1, 0))._replace(actor_kind="HUMAN"),
            cell(0, (2, 2, 2), segment="other one"),
        ],
        NOW,
    )
    assert found[Row("1m", "MODEL", "s")] == Counts(15, 7, 3)
    assert found[Row("1m", "HUMAN", "s")] == Counts(7, 1, 0)
    assert found[Row("24h", "MODEL", "other one")] == Counts(2, 2, 2)


cells = st.builds(
    MinuteCounts,
    st.integers(0, 3),
    st.integers(-3, 1500).map(lambda ago: RUNNING - ago * MINUTE),
    st.sampled_from(["MODEL", "HUMAN"]),
    st.sampled_from(["a", "b", "other"]),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 9),
)


def brute_force(given_cells: list[MinuteCounts], now: int) -> dict[Row, Counts]:
    rows = {}
    for window, length in windows.WINDOWS.items():
        for kind in ("MODEL", "HUMAN"):
            for segment in ("a", "b", "other"):
                mine = [c for c in given_cells if (c.actor_kind, c.segment) == (kind, segment)]
                if any(0 <= now // MINUTE - c.minute // MINUTE <= windows.LONGEST for c in mine):
                    inside = [c for c in mine if 0 <= now // MINUTE - c.minute // MINUTE <= length]
                    rows[Row(window, kind, segment)] = Counts(
                        sum(c.predictions for c in inside),
                        sum(c.reviewed for c in inside),
                        sum(c.failures for c in inside),
                    )
    return rows


@given(st.lists(cells), st.integers(0, MINUTE - 1))
def test_totals_equal_the_sum_over_all_cells_of_each_window(found: list[MinuteCounts], second: int) -> None:
    assert windows.totals(found, RUNNING + second) == brute_force(found, RUNNING + second)


@given(st.lists(cells), st.integers(1, 4))
def test_bounding_segments_loses_no_count(found: list[MinuteCounts], limit: int) -> None:
    rows = windows.totals(found, NOW)
    bounded = windows.with_bounded_segments(rows, limit)
    assert len({row.segment for row in bounded} - {windows.OTHER}) <= limit
    for window in windows.WINDOWS:
        for kind in ("MODEL", "HUMAN"):
            before = [counts for row, counts in rows.items() if row[:2] == (window, kind)]
            after = [counts for row, counts in bounded.items() if row[:2] == (window, kind)]
            assert [sum(column) for column in zip(*before, strict=True)] == [
                sum(column) for column in zip(*after, strict=True)
            ]


def test_the_segments_with_most_predictions_in_the_longest_window_stay() -> None:
    rows = windows.totals(
        [cell(100, (9, 0, 0), "large"), cell(0, (1, 1, 1), "x"), cell(0, (2, 1, 0), "y"), cell(0, (1, 0, 0), "z")],
        NOW,
    )
    bounded = windows.with_bounded_segments(rows, 2)
    assert {row.segment for row in bounded} == {"large", "y", "other"}
    assert bounded[Row("1m", "MODEL", "other")] == Counts(2, 1, 1)
    assert bounded[Row("1m", "MODEL", "large")] == Counts(0, 0, 0)


def test_few_segments_are_left_as_they_are() -> None:
    rows = windows.totals([cell(0, segment=str(i)) for i in range(windows.MAX_SEGMENTS)], NOW)
    assert windows.with_bounded_segments(rows) == rows
