"""A long run that was cut short goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.kept import Kept
from tests.chaos.report import Row


def test_rounds_that_found_nothing_are_there_again_and_the_others_are_not(tmp_path: Path) -> None:
    file = tmp_path / "soak.json"
    kept = Kept(file, 7)
    clean = Row("worker killed", times=3, events=12_345, join_stall=2.345, kills=3)
    for row in (clean, Row("sink killed", times=20, lost=2, folder=tmp_path), Row("disk full", skipped="not root")):
        kept.add(row)
    again = Kept(file, None)
    assert (again.seed, again.rows) == (7, {"worker killed": clean})


def test_rounds_of_another_seed_are_not_taken(tmp_path: Path) -> None:
    Kept(tmp_path / "soak.json", 7).add(Row("worker killed"))
    with pytest.raises(ValueError, match="of seed 7"):
        Kept(tmp_path / "soak.json", 8)


def test_rounds_of_another_plan_are_not_taken(tmp_path: Path) -> None:
    Kept(tmp_path / "soak.json", 7, "chaos").add(Row("worker killed"))
    with pytest.raises(ValueError, match="of chaos, not of a soak"):
        Kept(tmp_path / "soak.json", 7, "a soak")


def test_without_a_file_nothing_is_kept() -> None:
    kept = Kept(None, 7)
    kept.add(Row("worker killed"))
    assert not kept.rows
