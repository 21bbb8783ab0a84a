"""All benchmarks together: what is run, what the page says, and whether goals are told right."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import goals, report, suite
from benchmarks.__main__ import main
from benchmarks.contest import Run, Void
from benchmarks.goals import Goal
from benchmarks.suite import Benchmark


def result(*runs: Run) -> dict[str, Any]:
    return {
        "machine": "a machine",
        "command": "a command",
        "table": "|a table|\n",
        "runs": [asdict(run) for run in runs],
    }


def run(contender: str, size: int, cpu_seconds: float, **detail: float) -> Run:
    return Run("engine", contender, size, 0, 2 * cpu_seconds, cpu_seconds, 100.0, size, detail)


ENGINE = result(
    run("raw-consume", 100, 1.0), run("raw-consume", 400, 2.0), run("flyback", 100, 2.0), run("flyback", 400, 5.0)
)  # fmt: skip
LAKE = {
    **result(),
    "runs": [
        {"query": query, "repeat": repeat, "lake": {"seconds": lake}, "plain": {"seconds": 0.1}}
        for query, times in {"opening": (9.0, 9.0), "one episode": (5.0, 0.2), "newest failures": (5.0, 0.1)}.items()
        for repeat, lake in enumerate(times)
    ],
}


def growing(size: int, partitions: int, cpu_seconds: float) -> Run:
    return Run("growth", f"{size}, {partitions}", size, 0, 1.0, cpu_seconds, 90.0, 100, {"partitions": partitions})


def lines(results: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {goal.what: goal.line(results)[1:] for goal in goals.GOALS}


def test_a_goal_is_held_against_contenders_of_the_same_run_without_their_start() -> None:
    assert lines({"engine": ENGINE})["engine, bulk, per CPU-second: beside raw consume"] == ("≥ 0.25x", "0.333x", "yes")


def test_a_slower_lake_query_is_told_without_its_first_time() -> None:
    assert lines({"lake": LAKE})["slowest lake query, beside compact plain Parquet"] == ("≤ 1.5x", "2x", "no")


def test_growth_is_the_largest_state_beside_the_smallest() -> None:
    found = lines(
        {"growth": result(growing(10, 4, 1.0), growing(50, 4, 1.1), growing(200, 4, 1.25), growing(10, 64, 2.0))}
    )
    assert found["largest state: throughput beside the smallest"] == ("≥ 0.85x", "0.8x", "no")
    assert found["… 64 partitions beside 4"] == ("≥ 0.85x", "0.5x", "no")


def test_what_was_not_measured_is_not_reached() -> None:
    assert set(lines({}).values()) == {(line[0], "not measured", "") for line in lines({}).values()}
    assert Goal("p99", lambda _: 12.0, " ms", at_most=12).line({}) == ("p99", "≤ 12 ms", "12 ms", "yes")


def test_the_page_has_goals_tables_and_pictures(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    report.write({"engine": ENGINE, "lake": LAKE}, page)
    text = page.read_text()
    assert text.count("|a table|") == 2 and "`a command`, a machine" in text and "0.333x" in text
    assert sorted(path.name for path in (tmp_path / "performance").iterdir()) == ["engine.svg", "lake.svg"]
    assert "![The engine](performance/engine.svg)" in text


def test_a_page_keeps_what_people_wrote_around_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("Before\n<!-- measured: engine -->\nold\n<!-- end -->\nAfter\n")
    report.write({"engine": ENGINE, "lake": LAKE}, page)
    text = page.read_text()
    assert text.startswith("Before\n<!-- measured: engine -->\n`a command`") and text.endswith("<!-- end -->\nAfter\n")
    assert "old" not in text and text.count("|a table|") == 1


def test_each_benchmark_is_a_process_whose_json_is_kept(tmp_path: Path) -> None:
    suite.run([Benchmark("compaction", "Commits", "--events 60 --runs 1", "")], full=False, folder=tmp_path / "results")
    assert [state["commits"] for state in json.loads((tmp_path / "results/compaction.json").read_text())["runs"]] == [
        60
    ] * 2
    assert list(suite.results(tmp_path / "results")) == ["compaction"]


def test_a_benchmark_that_fails_leaves_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lake.json").write_text("{}")
    monkeypatch.setattr(suite, "SUITE", [Benchmark("lake", "Queries", "--events none", "")])
    with pytest.raises(Void, match="exit code 2"):
        suite.run(suite.SUITE, full=False, folder=tmp_path)
    assert suite.results(tmp_path) == {}


def test_a_page_can_be_written_without_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "engine.json").write_text(json.dumps(ENGINE))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--no-run", "--results", str(tmp_path)])
    assert main() == 0
    assert "0.333x" in capsys.readouterr().out and (tmp_path / "performance.md").exists()
