"""A table after a day of small commits, with the sink's maintenance beside them: files, and what a query takes.

One table gets a commit every two seconds of a simulated day, by the sink's own writer, and after each simulated hour
its maintenance. `--events 43200` is the whole day. "Before" and "after" are what stood at the end of each hour before
and after the maintenance; the same rows in one compact Parquet file stand beside. Needs no Kafka.

    python -m benchmarks.compaction --events 3600
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
from deltalake import DeltaTable

from benchmarks import contest
from benchmarks.contest import Void
from benchmarks.lake_data import COMMITS_A_MINUTE, Day, Filling, commit_small
from flyback.cli import output
from flyback.errors import FlybackError
from flyback.settings import Settings
from flyback.sinks import maintenance
from flyback.sinks.lake import lake
from flyback.sinks.tables import TABLES

DAY_COMMITS = 24 * 60 * COMMITS_A_MINUTE
ROWS = 20
"""Of each commit."""
_QUERY = "SELECT segment, count(*), sum(length(input.body)) FROM predictions GROUP BY ALL ORDER BY ALL"
_COLUMNS = (
    "after", "commits", "commits/s", "files", "log (MB)", "maintenance (s)", "opening (ms)", "query (ms)",
    "compact Parquet (ms)", "times as long",
)  # fmt: skip


@dataclass(frozen=True)
class State:
    """The table at one moment: `files` a query reads; medians of opening the lake and of the query, ms."""

    moment: str
    commits: int
    commits_per_second: float
    files: int
    log_mb: float
    maintenance_seconds: float | None
    opening_ms: float
    query_ms: float
    plain_ms: float


def main() -> int:
    """Prints one table, or the states as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compaction",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--events", type=int, default=3_600, help="commits (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="repeats of the query (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="the states as JSON")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="flyback-compaction-") as folder:
            states = measure(Path(folder), given.events, given.runs)
    except FlybackError as error:
        output.complain(str(error))
        return error.exit_code
    contest.report("compaction", states, markdown(states), given.json)
    return 0


def measure(folder: Path, commits: int, repeats: int, minutes: int = 60) -> list[State]:
    """Two states for each hour, or so many minutes, of commits: before and after maintenance. Raises Void."""
    table = next(table for table in TABLES if table.name == "predictions")
    retention = Settings().vacuum_retention
    day = Day(ROWS * DAY_COMMITS)
    path = str(folder / "lake")
    filling = Filling(path, table)
    states = []
    spent = 0.0
    last = commits // COMMITS_A_MINUTE
    for start in range(0, last, minutes):
        end = min(start + minutes, last)
        for minute in range(start, end):
            began = time.perf_counter()
            commit_small(filling, day, table, minute)
            spent += time.perf_counter() - began
        per_second = filling.commits / spent
        states.append(_state("before", folder, day, filling, per_second, None, repeats))
        began = time.perf_counter()
        maintenance.compact(path, table)
        maintenance.vacuum(path, table, retention)
        seconds = time.perf_counter() - began
        states.append(_state("after", folder, day, filling, per_second, seconds, repeats))
        output.note(f"{filling.commits} commits: {states[-2].files} files, {states[-1].files} after maintenance")
    return states


def markdown(states: list[State]) -> str:
    """One line a state."""
    rows = []
    for state in states:
        took = "" if state.maintenance_seconds is None else f"{state.maintenance_seconds:.1f}"
        times = (state.opening_ms, state.query_ms, state.plain_ms, state.query_ms / state.plain_ms)
        counts = (f"{state.commits:,}", f"{state.commits_per_second:.0f}", f"{state.files:,}", f"{state.log_mb:.1f}")
        rows.append((state.moment, *counts, took, *(f"{each:,.3g}" for each in times)))
    return contest.table(_COLUMNS, rows)


def _state(
    moment: str, folder: Path, day: Day, filling: Filling, per_second: float, seconds: float | None, repeats: int
) -> State:
    path = folder / "lake" / "predictions"
    plain = folder / "plain.parquet"
    with lake(folder / "lake") as ours:
        ours.execute(f"COPY (SELECT * FROM predictions ORDER BY occurred_at) TO '{plain}' (COMPRESSION zstd)")
        if ours.execute("SELECT count(*) FROM raw.predictions").fetchall() != [(filling.rows,)]:
            raise Void(f"the table has not the {filling.rows} rows that were committed")
    opening, query, compact = [], [], []
    for _ in range(repeats):
        began = time.perf_counter()
        with lake(folder / "lake") as ours:
            opened = time.perf_counter()
            found = ours.execute(_QUERY).fetchall()
            asked = time.perf_counter()
        with duckdb.connect() as connection:
            connection.execute(f"CREATE VIEW predictions AS FROM '{plain}'")
            before = time.perf_counter()
            if connection.execute(_QUERY).fetchall() != found:
                raise Void("the lake and the compact file give different answers")
            compact.append(time.perf_counter() - before)
        opening.append(opened - began)
        query.append(asked - opened)
    plain.unlink()
    return State(
        moment,
        filling.commits,
        per_second,
        len(DeltaTable(path).file_uris()),
        sum(file.stat().st_size for file in (path / "_delta_log").iterdir()) / 1e6,
        seconds,
        *(statistics.median(times) * 1000 for times in (opening, query, compact)),
    )


if __name__ == "__main__":
    sys.exit(main())
