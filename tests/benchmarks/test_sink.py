"""The sink's benchmark, in tiny form."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import sink
from benchmarks.contest import Ground, Void, markdown


def test_sink_and_plain_writers_bring_the_same_rows_into_files(kafka_bootstrap: str, tmp_path: Path) -> None:
    runs = sink.measure(Ground(kafka_bootstrap, tmp_path), argparse.Namespace(events=400, runs=1))
    assert [run.contender for run in runs] == [name for name in sink.CONTENDERS for _ in range(2)]
    assert len({run.events for run in runs}) == 2
    assert all(run.events >= 100 for run in runs)
    assert [run.detail["commits"] > 0 for run in runs if run.contender == "flyback sink"] == [True, True]
    assert markdown(runs, ("rows_per_second", "commits")).count("\n") == 2 + len(runs)


def test_rows_that_are_missing_or_changed_void_the_run() -> None:
    with pytest.raises(Void, match="the files hold"):
        sink.same({"Grade": (3, 7)}, {"Grade": (4, 7)})
