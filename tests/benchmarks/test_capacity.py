"""What an installation needs, by the model: lines through some measured points, held against others."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import capacity
from benchmarks.contest import Run, Void


def runs(*found: Run) -> dict[str, Any]:
    return {"runs": [asdict(run) for run in found]}


def at(rate: int, worker_percent: float) -> Run:
    detail = {"worker_percent": worker_percent, "idle_percent": 1.0, "broker_percent": 50.0}
    name = f"in Kafka, {rate:,} events/s, transactions of 100 ms"
    return Run("latency", name, rate, 0, 20.0, 1.0, 300.0, 20 * rate, detail)


def grown(size: int, partitions: int, state_mb: float) -> Run:
    detail = {"partitions": partitions, "state_mb": state_mb, "of_raw": 0.25}
    return Run("growth", f"{size}, {partitions}", size, 0, 1.0, 1.0, 400.0, 100, detail)


def bulk(contender: str, size: int, cpu_seconds: float, **detail: float) -> Run:
    return Run("bulk", contender, size, 0, 2 * cpu_seconds, cpu_seconds, 500.0, size, detail)


RESULTS = {
    # 20 µs an event, whatever the start takes
    "engine": runs(bulk("flyback", 100_000, 5.0), bulk("flyback", 400_000, 11.0)),
    # 1 % idle + 1 % events + 10 transactions of 3 ms
    "latency": runs(at(500, 5.0), at(2_000, 8.5), at(10_000, 20.0)),
    "growth": runs(grown(1_000_000, 4, 250.0), grown(20_000_000, 4, 4_500.0), grown(1_000_000, 64, 300.0)),
    "sink": runs(
        bulk("flyback sink", 100_000, 2.0, bytes_per_row=150.0), bulk("flyback sink", 400_000, 5.0, bytes_per_row=200.0)
    ),
    "restore": runs(bulk("restore", 1_000_000, 20.0, **{"restored/s": 50_000.0})),
}


def test_costs_are_what_one_more_event_transaction_or_row_takes() -> None:
    found = capacity.costs(RESULTS)
    assert (found.event, found.row) == (pytest.approx(20e-6), pytest.approx(10e-6))
    assert (found.idle, found.transaction) == (pytest.approx(0.01), pytest.approx(0.003))
    assert (found.state, found.raw, found.lake) == (250, pytest.approx(900), 200)


def test_the_model_is_held_against_points_that_it_was_not_drawn_through() -> None:
    two, ten, state = capacity.checks(RESULTS)
    assert two == ("a worker's cores at 2,000 events/s", pytest.approx(0.08), pytest.approx(0.085))
    assert ten[1:] == (pytest.approx(0.24), pytest.approx(0.2))
    assert state == ("GB of state at 20,000,000 predictions", pytest.approx(5.0), pytest.approx(4.5))


def test_processes_are_planned_half_full_and_disks_for_the_whole_window() -> None:
    found = capacity.plan(capacity.costs(RESULTS), 100_000)
    assert (found.workers, found.partitions, found.installations) == (4, 8, 2)
    events = 100_000 * 86_400 * 30
    assert found.state_disk == pytest.approx(events * 0.9 * 250)
    assert found.broker_disk == pytest.approx(events * 3 * 3 * 900)
    assert found.restore == pytest.approx(events / 4 / 50_000)


def test_a_small_load_still_needs_one_of_each() -> None:
    found = capacity.plan(capacity.costs(RESULTS), 1)
    assert (found.workers, found.partitions, found.installations) == (1, 4, 1)


def test_a_page_gets_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, result in RESULTS.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    page = tmp_path / "capacity.md"
    page.write_text(
        "# Capacity\n<!-- measured: costs -->\n<!-- end -->\n<!-- measured: checks -->\n<!-- end -->\nend\n"
    )
    monkeypatch.setattr(sys, "argv", ["capacity", "--results", str(tmp_path), "--page", str(page)])
    assert capacity.main() == 0
    text = page.read_text()
    assert "20.0 µs" in text and "+20%" in text and text.endswith("<!-- end -->\nend\n")
    assert "1,000,000" in capsys.readouterr().out


@pytest.mark.parametrize("missing", list(RESULTS))
def test_a_benchmark_that_was_not_run_is_named(missing: str) -> None:
    with pytest.raises(Void, match=f"missing.*{missing}"):
        capacity.costs({name: result for name, result in RESULTS.items() if name != missing})


def test_without_results_it_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["capacity", "--results", str(tmp_path)])
    assert capacity.main() != 0
    assert "make bench-full" in capsys.readouterr().err
