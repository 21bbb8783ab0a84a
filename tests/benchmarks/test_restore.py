from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import restore
from benchmarks.contest import Ground, Void
from benchmarks.workload import Expected
from flyback.streams.state import StateFolder


def test_a_lost_state_is_restored_completely(kafka_bootstrap: str, tmp_path: Path) -> None:
    runs = restore.measure(Ground(kafka_bootstrap, tmp_path), argparse.Namespace(events=400, runs=1))
    assert [run.contender for run in runs] == ["raw-consume", "restore", "restore, two workers"] * 2
    assert all(run.detail["restored/s"] > 0 for run in runs if run.contender != "raw-consume")


def test_a_state_that_lacks_something_is_wrong(tmp_path: Path) -> None:
    StateFolder(tmp_path / "state").close()
    with pytest.raises(Void, match=r"\(0, 0, 0, 0\), expected \(2, 1, 2, 1\)"):
        restore.check({tmp_path / "state": [0]}, Expected(predictions=2, feedback=1, reviewed={"t"}))
