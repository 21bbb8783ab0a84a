"""What counts as a stall: time in which something waited, and nothing was done."""

from __future__ import annotations

import pytest

from tests.chaos import stalls


def test_only_time_without_progress_while_something_waits_is_a_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(stalls.time, "monotonic", lambda: now)
    stall = stalls._Stall()
    looks = []
    for seconds, at, waiting in [(1, 5, True), (3, 5, True), (4, 6, True), (9, 6, False), (10, 6, True), (12, 7, True)]:
        now = seconds
        looks.append(stall.look(at, waiting))
    # from 1 to 4 nothing moved; from 4 to 9 nothing had to; from 9 to 12 again nothing did
    assert looks == [1, 2, 3, 0, 1, 3]
