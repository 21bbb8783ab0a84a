"""Queries over a large lake, beside the same questions to compact plain Parquet in the same DuckDB.

    python -m benchmarks.lake --events 200000

The lake is a generated day: `--events` examples, three times as many predictions, the last half hour in the small
commits that no maintenance has merged yet (see `benchmarks.lake_data`). The plain files are the best that somebody
could have made of the same day afterwards: every event once, of the counts only the last, one file a table in time
order. Both are asked in turn, by a new connection for each query; answers that differ void the run. Needs no Kafka.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from benchmarks import contest
from benchmarks.contest import Void
from benchmarks.lake_data import FRESH_MINUTES, TABLES_MADE, Day, write_lake, write_plain
from flyback.cli import output
from flyback.errors import FlybackError
from flyback.sinks.lake import lake

ENOUGH = 60.0  # seconds for one query; a slow one is repeated less often
_WINNERS = """(
    SELECT * FROM examples
    QUALIFY row_number() OVER (
        PARTITION BY task_id, prediction_id ORDER BY authority DESC, feedback_occurred_at DESC, correction_id DESC
    ) = 1
)"""


@dataclass(frozen=True)
class Query:
    """One question, as it is put to the lake and to plain tables; {task}, {prediction}, {example} are filled in."""

    name: str
    lake: str
    plain: str


@dataclass(frozen=True)
class Took:
    """Until all rows were there. CPU seconds are those of all of DuckDB's threads."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Answered:
    """One repeat. The first, number 0, also reads what later ones find in memory: footers of files."""

    query: str
    repeat: int
    lake: Took
    plain: Took
    rows: int


_RATE = """
    SELECT date_trunc('hour', minute) AS hour, segment, sum(predictions), sum(reviewed), sum(failures)
    FROM {} GROUP BY ALL ORDER BY ALL
"""
_RESOLVED = "SELECT segment, verdict, count(*), sum(length(truth.body)) FROM {} GROUP BY ALL ORDER BY ALL"
_FAILURES = """
    SELECT feedback_occurred_at, segment, input.body, output.body, truth.body
    FROM {} WHERE verdict <> 'CONFIRMED' ORDER BY feedback_occurred_at DESC, example_id LIMIT 20
"""
_PREDICTION = "SELECT task_id, actor, input, output, occurred_at FROM predictions WHERE prediction_id = '{prediction}'"
_EXAMPLE = "SELECT task_id, input, output, truth, verdict FROM examples WHERE example_id = '{example}'"

QUERIES = (
    Query("rate by hour and segment", _RATE.format("failure_rates"), _RATE.format("failure_rates")),
    Query(
        "the same, counted from the events",
        _RATE.format("failure_rates_exact"),
        f"""
        SELECT
            date_trunc('hour', p.occurred_at), p.segment, count(*),
            count(e.verdict), count(*) FILTER (e.verdict <> 'CONFIRMED')
        FROM predictions AS p
        LEFT JOIN {_WINNERS.replace("examples", "corrections").replace("feedback_occurred_at", "occurred_at")} AS e
            USING (task_id, prediction_id)
        GROUP BY ALL ORDER BY ALL
        """,
    ),
    Query("one prediction by its id", _PREDICTION, _PREDICTION),
    Query("one example by its id", _EXAMPLE, _EXAMPLE),
    Query(
        "one episode",
        "SELECT predictions, corrections FROM episodes WHERE task_id = '{task}'",
        """
        SELECT
            (SELECT list(p ORDER BY occurred_at) FROM (
                SELECT prediction_id, actor, input, output, context, confidence, segment, attributes, occurred_at
                FROM predictions WHERE task_id = '{task}'
            ) AS p),
            (SELECT list(c ORDER BY occurred_at) FROM (
                SELECT
                    correction_id, prediction_id, verdict, output, author, authority, reason, error_category,
                    sampling_probability, attributes, occurred_at
                FROM corrections WHERE task_id = '{task}'
            ) AS c)
        """,
    ),
    Query("examples_resolved, summed up", _RESOLVED.format("examples_resolved"), _RESOLVED.format(_WINNERS)),
    Query("newest failures", _FAILURES.format("examples_resolved"), _FAILURES.format(_WINNERS)),
)


def main() -> int:
    """Prints one table, or every repeat as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lake", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=200_000, help="examples in the lake (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="repeats of each query (default: %(default)s)")
    parser.add_argument(
        "--fresh-minutes", type=int, default=FRESH_MINUTES, help="not merged yet (default: %(default)s)"
    )
    parser.add_argument("--folder", type=Path, help="where to make the lake, or where it was made before; kept")
    parser.add_argument("--json", action="store_true", help="every repeat as JSON")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="flyback-lake-") as temporary:
            answered = measure(given.folder or Path(temporary), given.events, given.runs, given.fresh_minutes)
    except FlybackError as error:
        output.complain(str(error))
        return error.exit_code
    contest.report("lake", answered, markdown(answered), given.json)
    return 0


def measure(folder: Path, examples: int, runs: int, fresh_minutes: int = FRESH_MINUTES) -> list[Answered]:
    """Make lake and plain files in `folder`, unless they are there, and ask both. Raises Void."""
    day = Day(3 * examples)
    make(folder, day, fresh_minutes)
    about = 3 * examples // 2 // 300 * 300  # in the middle of the day, and corrected twice
    named = {
        "task": day.one(f"task_id({about})"),
        "prediction": day.one(f"prediction_id({about})"),
        "example": day.one(f"example_id({about}, 0)"),
    }
    day.connection.close()
    found = [_open(folder, repeat) for repeat in range(runs)]
    for query in QUERIES:
        found += ask(query, named, folder, runs)
        output.note(f"{query.name}: {found[-1].lake.seconds:.3f} s, plain {found[-1].plain.seconds:.3f} s")
    return found


def make(folder: Path, day: Day, fresh_minutes: int) -> None:
    """Lake and plain files of this day in `folder`, unless they are there. Raises Void where something else is."""
    done = folder / "predictions"
    if done.exists() and done.read_text(encoding="ascii") == str(day.predictions):
        return
    if done.exists() or (folder / "lake").exists():
        raise Void(f"{folder} holds another lake, or half of one: empty it, or give another folder")
    write_lake(str(folder / "lake"), day, fresh_minutes)
    write_plain(folder / "plain", day)
    done.write_text(str(day.predictions), encoding="ascii")


def ask(query: Query, named: dict[str, str], folder: Path, runs: int) -> list[Answered]:
    """Put one question to both in turn, so many times, or until `ENOUGH`. Raises Void."""
    answered: list[Answered] = []
    enough = time.monotonic() + ENOUGH
    with lake(folder / "lake") as ours, closing(_plain(folder / "plain")) as plain:
        for connection in (ours, plain):
            connection.execute(f"SET temp_directory = '{folder / 'temporary'}'")
        while len(answered) < min(2, runs) or (len(answered) < runs and time.monotonic() < enough):
            took, rows = _timed(lambda: ours.execute(query.lake.format(**named)).fetchall())
            plain_took, expected = _timed(lambda: plain.execute(query.plain.format(**named)).fetchall())
            if rows != expected or not rows:
                raise Void(f"{query.name}: the lake gives {len(rows)} rows, plain {len(expected)}, and they differ")
            answered.append(Answered(query.name, len(answered), took, plain_took, len(rows)))
    return answered


def markdown(answered: list[Answered]) -> str:
    """Medians by query, and how many times as long the lake takes."""
    columns = ("query", "first (ms)", "lake (ms)", "plain Parquet (ms)", "times as long", "times the CPU", "repeats")
    rows = []
    for name in dict.fromkeys(one.query for one in answered):
        repeats = [one for one in answered if one.query == name]
        warm = repeats[1:] or repeats
        ours, cpu = _median(one.lake for one in warm)
        plain, plain_cpu = _median(one.plain for one in warm)
        times = (f"{each * 1000:,.1f}" for each in (repeats[0].lake.seconds, ours, plain))
        rows.append((name, *times, f"{ours / plain:.2f}", f"{cpu / plain_cpu:.2f}", str(len(warm))))
    return contest.table(columns, rows)


def _median(times: Iterable[Took]) -> tuple[float, float]:
    seconds, cpu_seconds = zip(*((took.seconds, took.cpu_seconds) for took in times), strict=True)
    return statistics.median(seconds), statistics.median(cpu_seconds)


def _open(folder: Path, repeat: int) -> Answered:
    """Both until they can be asked: the lake reads the log of every table."""
    took, _ = _timed(lambda: lake(folder / "lake").close())
    plain_took, _ = _timed(lambda: _plain(folder / "plain").close())
    return Answered("opening", repeat, took, plain_took, 0)


def _plain(folder: Path) -> duckdb.DuckDBPyConnection:
    """The plain files as views, with the lake's own settings."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'; SET parquet_metadata_cache = true; SET enable_progress_bar = false")
    for table in TABLES_MADE:
        connection.execute(f"CREATE VIEW {table} AS FROM '{folder}/{table}.parquet'")
    return connection


def _timed(work: Callable[[], Any]) -> tuple[Took, Any]:
    began, cpu = time.perf_counter(), time.process_time()
    found = work()
    return Took(time.perf_counter() - began, time.process_time() - cpu), found


if __name__ == "__main__":
    sys.exit(main())
