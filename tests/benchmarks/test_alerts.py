"""The simulation of alerts, in tiny form."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import alerts
from benchmarks.alerts import HOUR, Delay, Quiet, Segments
from flyback.streams.alerts import sequential
from flyback.streams.alerts.evaluate import Observed, evaluate
from flyback.streams.alerts.rules import Rise, parse
from flyback.streams.alerts.table import Table
from flyback.streams.rates import MINUTE, Cell, Counts

(RULE,) = parse('[[rule]]\nname = "r"\nkind = "rise"\nwindow = "3h"\nbaseline = "12h"', "small")
assert isinstance(RULE, Rise)


def test_what_is_simulated_is_the_rule_itself() -> None:
    side_by_side = Segments(RULE, 2, 0.1, 120, seed=5)
    wealth, _ = side_by_side.hour(0.2)
    history, minutes = zip(side_by_side._reviewed.T, side_by_side._failures.T, strict=True), 0
    for segment, (reviewed, failures) in enumerate(history):
        minutes = len(reviewed)
        cells = [
            (Cell(minute * MINUTE, "MODEL", "m", "1", "s"), Counts(0, int(reviewed[minute]), int(failures[minute])))
            for minute in range(minutes)
        ]
        for ago in (0, 17, 59):
            table = Table.of([RULE], cells[: minutes - ago])
            (found,) = evaluate([RULE], Observed(table), (minutes - 1 - ago) * MINUTE)["r"]
            assert found.value == pytest.approx(wealth[HOUR - 1 - ago, segment], rel=1e-9)


def test_a_bet_that_could_lose_more_than_it_has_is_not_made() -> None:
    reviewed = np.ones((2 * HOUR, 1))
    found = alerts.wealth(reviewed, reviewed, np.array([0.6]))[-1, 0]
    seen = [(minute, 1, 1) for minute in range(2 * HOUR)]
    assert found == pytest.approx(sequential.evidence(seen, 0, 2 * HOUR - 1, 0.6).wealth)


def test_small_simulations_find_what_is_there_and_little_else() -> None:
    quiet = alerts.quiet(RULE, 0.1, 120, 5, 0.2)
    found = alerts.delay(RULE, 0.1, 120, 3, 5)
    assert quiet.alarms == 0
    assert found.found == 1
    assert found.minutes is not None
    assert found.minutes < 3 * HOUR


def test_the_tables_say_what_was_not_found() -> None:
    shown = alerts.markdown(
        [Quiet(0.01, 6, 40, 0), Quiet(0.05, 60, 40, 4)],
        [Delay(0.05, 60, 1.5, 0.3, None, None, None), Delay(0.2, 600, 3, 1.0, 90, 240, 1_033)],
    )
    assert "|1%|6|40|0|over 280|\n|5%|60|40|4|70|\n" in shown
    assert "|5% to 7.5%|60|30%||||\n|20% to 60.0%|600|100%|90 min|4.0 h|1,033|\n" in shown
