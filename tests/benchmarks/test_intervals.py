"""Simulated histories in which uncertain predictions are reviewed ten times as often."""

from __future__ import annotations

from benchmarks import intervals
from benchmarks.intervals import World


def test_the_weighted_interval_holds_the_true_rate_where_the_plain_one_fails() -> None:
    world = World(2_000, reviewed=(0.5, 0.05), failing=(0.4, 0.05))
    found = intervals.covered(world, runs=2_000)
    assert 0.93 <= found.weighted <= 0.97
    assert found.plain < 0.1
    assert found.weighted_width < 0.1


def test_both_hold_it_where_each_prediction_is_as_likely_to_be_reviewed() -> None:
    found = intervals.covered(World(1_000, (0.2, 0.2), (0.1, 0.1)), runs=2_000)
    assert 0.93 <= found.plain <= 0.97
    assert 0.93 <= found.weighted <= 0.97
    assert intervals.markdown([found]).count("\n") == 3
