from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import contest
from benchmarks.contest import Contender, Ground, Run, Void
from tests.waiting import eventually

ALLOCATE = "import sys; held = bytearray(int(sys.argv[1]))"


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code, *map(str, arguments)]


def contender(name: str, order: list[str], size: int = 1, code: str = "pass") -> Contender:
    def prepare(folder: Path) -> Sequence[str]:
        assert not any(folder.iterdir())
        order.append(name)
        return python(code)

    def check(folder: Path) -> Mapping[str, Any]:
        return {"ran_in": folder.name}

    return Contender(name, size, size * 10, prepare, check)


def run(name: str, size: int, cpu_seconds: float, number: int = 0, **detail: float) -> Run:
    return Run("test", name, size, number, 2.0, cpu_seconds, 50.0, size, detail)


def test_contenders_run_in_turn_each_in_an_empty_folder(tmp_path: Path) -> None:
    order: list[str] = []
    runs = contest.hold("test", [contender("a", order), contender("b", order)], 2, Ground("", tmp_path))
    assert order == ["a", "b", "a", "b"]
    assert [(each.contender, each.run, each.events) for each in runs] == [
        ("a", 0, 10), ("b", 0, 10), ("a", 1, 10), ("b", 1, 10)
    ]  # fmt: skip
    assert len({each.detail["ran_in"] for each in runs}) == 4


def test_cpu_seconds_are_those_of_the_whole_process_tree(tmp_path: Path) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-I', '-S', '-c', {busy!r}], check=True)"
    found = contest.measured("parent", python(parent), tmp_path)
    assert found.cpu_seconds >= 0.3
    assert found.seconds > 0


def test_peak_memory_is_the_contenders_own(tmp_path: Path) -> None:
    held = bytearray(200_000_000)
    small = contest.measured("small", python(ALLOCATE, 1), tmp_path)
    large = contest.measured("large", python(ALLOCATE, 100_000_000), tmp_path)
    assert small.rss_mb < 50 < 100 < large.rss_mb < len(held) / 1e6


def test_a_contender_that_fails_voids_the_contest_with_the_end_of_its_output(tmp_path: Path) -> None:
    with pytest.raises(Void, match=r"loser ended with exit code 3.*\n.*what went wrong"):
        contest.measured("loser", python("import sys; print('what went wrong'); sys.exit(3)"), tmp_path)


def test_a_contender_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    waits = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-I', '-S', '-c', {waits!r}])"
    with pytest.raises(Void, match="ran longer than 2 s"):
        contest.measured("slow", python(parent), tmp_path, patience=2)
    pid = int((tmp_path / "pid").read_text(encoding="ascii"))
    eventually(lambda: not Path(f"/proc/{pid}/cmdline").exists(), "the child is gone", 10)


def test_a_wrong_result_voids_the_contest(tmp_path: Path) -> None:
    def check(folder: Path) -> Mapping[str, Any]:
        raise Void("two and two are not five")

    wrong = Contender("wrong", 1, 1, lambda folder: python("pass"), check)
    with pytest.raises(Void, match="five"):
        contest.hold("test", [wrong], 1, Ground("", tmp_path))


def test_the_brokers_cpu_is_told_apart(tmp_path: Path) -> None:
    busy = contender("busy", [], code="import time\nwhile time.process_time() < 0.3: pass")
    [found] = contest.hold("test", [busy], 1, Ground("", tmp_path, broker=os.getpid()))
    assert found.cpu_seconds >= 0.3 > found.detail["broker_cpu_seconds"] >= 0


def test_two_sizes_tell_the_start_from_what_an_event_costs() -> None:
    runs = [run("a", size, cpu) for size, cpu in ((1_000, 1.1), (1_000, 1.3), (1_000, 1.2), (5_000, 3.2))]
    assert contest.marginal(runs) == pytest.approx(4_000 / 2.0)
    assert contest.marginal(runs[:3]) is None


def test_the_table_has_medians_by_contender_and_size() -> None:
    runs = [run("a", 1_000, 1.0, p50_ms=7), run("a", 1_000, 3.0, p50_ms=9), run("a", 1_000, 2.0, p50_ms=8)]
    runs += [run("a", 5_000, 4.0, p50_ms=20), run("b", 1_000, 4.0)]
    assert contest.markdown(runs, ["p50_ms"]).splitlines() == [
        "|contender|events|seconds|events/s|per CPU-second|without start|peak MB|p50_ms|",
        "|-|-:|-:|-:|-:|-:|-:|-:|",
        "|a|1,000|2|500|500||50|8|",
        "|a|5,000|2|2,500|1,250|2,000|50|20|",
        "|b|1,000|2|500|250||50||",
    ]


def test_a_benchmark_prints_medians_with_its_machine_and_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["engine.py", "--bootstrap", "kafka:9092", "--events", "500"])
    assert contest.command_line("engine", "", 9, lambda ground, given: [run(ground.bootstrap, given.events, 1.0)]) == 0
    about, command, _, header, _, row = capsys.readouterr().out.strip().splitlines()
    assert "cores" in about
    assert command == "python -m benchmarks.engine --bootstrap kafka:9092 --events 500"
    assert header.startswith("|contender|events|")
    assert row.startswith("|kafka:9092|500|")


def test_a_benchmark_gives_every_run_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["engine.py", "--bootstrap", "kafka:9092", "--json"])
    assert contest.command_line("engine", "", 9, lambda *_: [run("a", 9, 1.0), run("a", 9, 2.0, number=1)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"machine", "command", "table", "runs"}
    assert [(each["contender"], each["run"], each["cpu_seconds"]) for each in found["runs"]] == [
        ("a", 0, 1.0),
        ("a", 1, 2.0),
    ]


def test_a_void_benchmark_prints_no_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(ground: Ground, given: object) -> list[Run]:
        raise Void("two and two are not five")

    monkeypatch.setattr(sys, "argv", ["engine.py", "--bootstrap", "kafka:9092"])
    assert contest.command_line("engine", "", 9, measure) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "two and two are not five" in printed.err
