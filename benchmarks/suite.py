"""The benchmarks in their two sizes, and what each has found, one JSON file a benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contest import ROOT, Void
from flyback.cli import output

Results = Mapping[str, Any]
"""By benchmark, what it gave with `--json`: `machine`, `command`, `table` in Markdown, and `runs`."""


@dataclass(frozen=True)
class Benchmark:
    """`python -m benchmarks.NAME`, its options in `make bench` and in `make bench-full`, and what it is about."""

    name: str
    title: str
    short: str
    full: str


SUITE = (
    Benchmark("engine", "The engine", "--events 24000 --runs 1", "--events 320000"),
    Benchmark("latency", "Latency", "--events 8000 --runs 1 --rate 2000 --transaction 100", ""),
    Benchmark(
        "growth", "A growing state", "--events 200000 --probe 20000 --steady 5 --runs 1", "--events 20000000 --runs 3"
    ),
    Benchmark("restore", "Restoring lost state", "--events 50000 --runs 1", "--events 1000000"),
    Benchmark("sdk", "The SDK", "--events 40000 --runs 1", "--events 400000"),
    Benchmark("sink", "The sink", "--events 80000 --runs 1", "--events 1000000"),
    Benchmark("compaction", "A day of commits", "--events 600 --runs 3", "--events 43200"),
    Benchmark("lake", "Queries", "--events 20000 --runs 3", "--events 10000000"),
    Benchmark("dashboard", "The live page", "--days 0.2 --segments 20 --rate 1000 --seconds 15 --viewers 50", ""),
    Benchmark("memory", "Memory", "--pairs 20000 --large-pairs 5", ""),
    Benchmark("recovery", "Recovery", "--times 1", ""),
)


def run(chosen: Iterable[Benchmark], full: bool, folder: Path) -> None:
    """One after another, each result into `folder`/NAME.json. Raises Void where one fails."""
    folder.mkdir(parents=True, exist_ok=True)
    for benchmark in chosen:
        options = (benchmark.full if full else benchmark.short).split()
        output.note(f"\n{benchmark.title}: python -m benchmarks.{' '.join([benchmark.name, *options])}")
        began = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.{benchmark.name}", *options, "--json"]
        found = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        result = folder / f"{benchmark.name}.json"
        if not found.stdout:
            result.unlink(missing_ok=True)
            raise Void(f"benchmarks.{benchmark.name} ended with exit code {found.returncode}")
        result.write_text(found.stdout, encoding="utf-8")
        output.note(f"{benchmark.title}: {time.monotonic() - began:.0f} s")


def results(folder: Path) -> dict[str, Any]:
    """What is there, in the suite's order."""
    files = {benchmark.name: folder / f"{benchmark.name}.json" for benchmark in SUITE}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}
