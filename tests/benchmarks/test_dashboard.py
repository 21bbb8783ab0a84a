"""The dashboard's benchmark, in tiny form."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import pytest

from benchmarks import dashboard
from benchmarks.contest import Ground, Void, markdown
from tests import brokers


def test_what_is_predicted_comes_to_the_page_while_others_look(kafka_bootstrap: str, tmp_path: Path) -> None:
    if shutil.which("chromium") is None:
        brokers.not_available(os.environ, "there is no chromium on the PATH: apt-get install chromium")
    given = argparse.Namespace(days=0.01, segments=2, rate=40, seconds=6.0, viewers=[5])
    [run] = dashboard.measure(Ground(kafka_bootstrap, tmp_path), given)
    assert run.contender == "5 viewers"
    assert run.events >= 5
    assert {name for name in dashboard._DETAILS if run.detail[name] <= 0} <= {"worker_percent"}
    assert markdown([run], dashboard._DETAILS).count("\n") == 3


def test_a_prediction_is_seen_when_the_number_on_the_page_counts_it() -> None:
    seen = [("1,001", 5_000.0), ("1,003", 9_000.0)]
    assert dashboard.latencies(1_000, [4.0, 6.0, 8.0], seen) == [1_000.0, 3_000.0, 1_000.0]


def test_a_prediction_that_is_not_seen_voids_the_run() -> None:
    with pytest.raises(Void, match="prediction 2 of 2 did not come to the page"):
        dashboard.latencies(0, [1.0, 2.0], [("1", 2_000.0)])
