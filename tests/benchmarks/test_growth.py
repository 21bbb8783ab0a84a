"""The benchmark of a growing state, in tiny form."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import growth
from benchmarks.contest import Ground, Void
from benchmarks.workload import Expected, messages
from flyback.schemas import codec


@pytest.fixture
def few(kafka_bootstrap: str, tmp_path: Path) -> growth.Installation:
    return growth.Installation(Ground(kafka_bootstrap, tmp_path), tmp_path / "few", 4)


def test_each_size_is_probed_with_feedback_on_what_is_there(few: growth.Installation) -> None:
    runs = growth.grown(few, [500], argparse.Namespace(probe=200, runs=1, steady=2.0))
    assert [(run.contender, run.run) for run in runs] == [("500 predictions, 4 partitions", 0)]
    assert all(run.events >= 200 and run.detail["state_mb"] > 0 and run.detail["p99_ms"] > 0 for run in runs)


def test_pairs_that_are_missing_void_the_runs(few: growth.Installation) -> None:
    few.join(200)
    few.expected.feedback += 1
    with pytest.raises(Void):
        few.check()


def test_late_feedback_is_about_older_predictions_each_once() -> None:
    expected = Expected()
    for _ in messages(2_000, 4, expected):
        pass
    older = set(expected.older)
    found = [
        (key.decode(), codec.decode(record, value, codec.bundled(record))["prediction_id"])
        for record, _, key, value in messages(300, 4, expected, seed=2, late=True)
        if record != "Prediction"
    ]
    late = [each for each in found if each in older]
    assert len(late) >= len(found) // 2
    assert not older & set(expected.older) & set(late)
