"""The latency's benchmark, in tiny form."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import latency
from benchmarks.contest import Ground, Void, markdown
from benchmarks.latency_process import Load


def test_every_correction_is_seen_in_kafka_and_in_duckdb(kafka_bootstrap: str, tmp_path: Path) -> None:
    given = argparse.Namespace(events=5_000, runs=1, rate=[40], transaction=[50])
    runs = latency.measure(Ground(kafka_bootstrap, tmp_path), given)
    assert [run.contender for run in runs] == [
        "in Kafka, 40 events/s, transactions of 50 ms", "in DuckDB, 40 events/s, transactions of 100 ms"
    ]  # fmt: skip
    assert all(run.detail["p50_written_ms"] <= run.detail["p50_after_arrival_ms"] for run in runs)
    assert all(0 < run.detail["p50_ms"] <= run.detail["p99_ms"] <= run.detail["max_ms"] for run in runs)
    assert markdown(runs, ("p50_ms", "idle_percent")).count("\n") == 4


def test_a_correction_is_of_a_prediction_that_was_sent_a_second_before() -> None:
    load = Load(rate=100, seconds=3.0)
    corrected = {number: about for number in range(load.events) if (about := load.corrected_by(number)) is not None}
    assert len(corrected) == load.corrections == 20
    assert all(load.corrected_by(about) is None and number - about >= load.rate for number, about in corrected.items())
    assert len(set(corrected.values())) == len(corrected)


def test_a_correction_without_an_example_voids_the_run() -> None:
    load = Load(rate=100, seconds=3.0)
    with pytest.raises(Void, match="1 of 20 corrections became an example"):
        latency.latencies(load, {"of-task-00000000": (0, 0, 0, 1)})
