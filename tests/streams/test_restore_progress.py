"""How far a restore is: in the log now and then, and in what `/healthz` shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from flyback.streams import assignment, restore
from flyback.streams.restore import Progress
from tests.streams.records import a_correction, a_prediction
from tests.streams.stage import Stage


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    logger = CapturingLogger()
    monkeypatch.setattr(restore, "log", logger)
    return logger.calls


def test_a_long_restore_says_how_far_and_how_fast_it_is_every_few_seconds(said: list[Any]) -> None:
    now = 0.0
    progress = Progress(3, 1_000_000, clock=lambda: now)
    for step in range(1, 101):
        now = step * 0.1
        progress.left(1_000_000 - step * 10_000)
    assert [(call.args[0], call.kwargs) for call in said] == [
        ("restoring", {"partition": 3, "events": 1_000_000}),
        (
            "restoring",
            {"partition": 3, "done": 500_000, "events": 1_000_000, "percent": 50, "events_per_second": 100_000},
        ),
        (
            "restored",
            {"partition": 3, "done": 1_000_000, "events": 1_000_000, "percent": 100, "events_per_second": 100_000},
        ),
    ]


def test_where_nothing_is_to_be_restored_nothing_is_said(said: list[Any]) -> None:
    Progress(0, 0).left(0)
    assert said == []


def test_the_status_shows_how_far_each_partition_is(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment, "_SLICE", 1)
    worker = stage.worker()
    stage.send(a_prediction(), a_prediction(prediction_id="q"), a_correction())
    _, partition = stage.place(a_prediction())
    stage.settle(worker)
    worker.kill()
    worker.wipe()
    seen = []
    worker.start()
    for _ in range(20):
        worker.step()
        assert worker.engine is not None
        found = worker.engine.status()["partitions"].get(str(partition))
        if found and found not in seen:
            seen.append(found)
    assert all(found["state_bytes"] > 0 for found in seen)
    steps = [(found["live"], found["restored"], found["to_restore"]) for found in seen]
    assert [step for step in steps if step[1]] == [(False, 1, 3), (False, 2, 3), (True, 3, 3)]
    assert set(steps) - {(False, None, None), (False, 0, 3)} == set(steps[-3:])
