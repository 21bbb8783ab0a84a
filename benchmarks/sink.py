"""From full raw topics to a lake, beside plain pyarrow writing the same rows to Parquet files.

Real Kafka, four partitions, about 1 KB an event. `flyback sink` runs with its default settings until everything is
committed. Plain pyarrow reads the same topics and decodes them with the same library, but checks nothing, keeps no
offsets and could not be stopped in between; "write only" is given the decoded columns. All use ZSTD. What stands in the
files is compared with what the topics hold.

    python -m benchmarks.sink --events 200000
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pyarrow as pa

from benchmarks import contest
from benchmarks.contest import Contender, Ground, Run, Void
from benchmarks.job import Job
from benchmarks.sink_process import RAW, decode_all
from benchmarks.workload import Expected, fill
from flyback import topics
from flyback.sinks.lake import lake
from flyback.sinks.tables import TABLES

_SMALL = 4  # times smaller than the large size
_TABLES = {table.record: table.name for table in TABLES if table.record in RAW}
_CONTENT = {
    "Prediction": "prediction_id, task_id, actor.name, input.body, output.body, confidence, segment",
    "Correction": "correction_id, task_id, prediction_id, verdict, output.body, reason, author.name",
    "Grade": "grade_id, task_id, prediction_id, rubric, passed, author.name",
}

Digests = dict[str, tuple[int, int]]
"""By record, how many rows there are, and a hash of all of them in any order."""


@dataclass(frozen=True)
class Field:
    """Full topics of one size, what they hold as Arrow files in `decoded`, and the digests of that."""

    job: Job
    decoded: Path
    digests: Digests


def measure(ground: Ground, given: argparse.Namespace) -> list[Run]:
    """The sink and both plain writers, with a small and a large size each."""
    fields = [filled(ground, size) for size in (given.events // _SMALL, given.events)]
    contenders = [contender(name, field) for name in CONTENDERS for field in fields]
    return contest.hold("sink", contenders, given.runs, ground)


def filled(ground: Ground, events: int) -> Field:
    """New topics with so many raw events, decoded once for comparison."""
    prefix = f"bench-{uuid4().hex[:8]}."
    folder = ground.folder / prefix
    folder.mkdir()
    job = Job(ground.bootstrap, prefix, prefix, events)
    settings = job.settings(folder)
    topics.create(settings)
    sent = sum(fill(settings, events, Expected()).values())
    job = replace(job, events=sent)
    job.write(folder)
    job = Job.read(folder)
    files: dict[str, pa.ipc.RecordBatchFileWriter] = {}
    for record, rows in decode_all(job, folder):
        if record not in files:
            files[record] = pa.ipc.new_file(folder / f"{record}.arrow", rows.schema)
        files[record].write_table(rows)
    for file in files.values():
        file.close()
    digests = digests_of(lambda record: f"decoded_{record}", folder)
    if sum(rows for rows, _ in digests.values()) != sent:
        raise Void(f"{sent} events were sent, the topics hold {digests}")
    return Field(job, folder, digests)


def contender(name: str, field: Field) -> Contender:
    """One of them on topics of one size."""
    how, check = CONTENDERS[name]

    def prepare(folder: Path) -> Sequence[str]:
        field.job.write(folder)
        (folder / "decoded").symlink_to(field.decoded)
        return [sys.executable, "-m", "benchmarks.sink_process", how, str(folder)]

    def look(folder: Path) -> Mapping[str, Any]:
        found: dict[str, Any] = json.loads((folder / "found.json").read_text(encoding="utf-8"))
        return {**found, **check(folder, field.digests)}

    return Contender(name, field.job.events, field.job.events, prepare, look)


def digests_of(source: Callable[[str], str], folder: Path) -> Digests:
    """Of what DuckDB reads from `source(record)`; there Arrow files of the folder are `decoded_RECORD`."""
    with duckdb.connect() as connection:
        for record in RAW:
            if (file := folder / f"{record}.arrow").exists():
                connection.register(f"decoded_{record}", pa.ipc.open_file(pa.memory_map(str(file))).read_all())
        return {record: digest(connection, record, source(record)) for record in RAW}


def digest(connection: Any, record: str, source: str) -> tuple[int, int]:
    """Rows, and a hash of their content and coordinates that does not depend on their order."""
    columns = f"{_CONTENT[record]}, _partition::INTEGER, _offset::BIGINT"
    [row] = connection.execute(f"SELECT count(*), bit_xor(hash({columns})) FROM {source}").fetchall()
    return row[0], row[1]


def check_lake(folder: Path, wanted: Digests) -> Mapping[str, Any]:
    """Every row once in the tables; how many commits they were, and how large a row is."""
    with lake(folder / "lake") as found:
        same({record: digest(found, record, f"raw.{table}") for record, table in _TABLES.items() if record}, wanted)
        commits = sum(version or 0 for version in found.versions.values())
    size = sum(file.stat().st_size for file in (folder / "lake").rglob("*.parquet"))
    return {"commits": commits, "bytes_per_row": size / sum(rows for rows, _ in wanted.values())}


def check_plain(folder: Path, wanted: Digests) -> Mapping[str, Any]:
    """Every row once in the files."""
    same(digests_of(lambda record: f"'{folder}/plain/{record}.parquet'", folder), wanted)
    return {}


def same(found: Digests, wanted: Digests) -> None:
    """Raises Void where rows are missing, twice there, or changed."""
    if found != wanted:
        raise Void(f"the files hold {found} (rows, hash), the topics {wanted}")


CONTENDERS = {
    "flyback sink": ("sink", check_lake),
    "plain pyarrow": ("plain", check_plain),
    "plain pyarrow, write only": ("write", check_plain),
}


if __name__ == "__main__":
    sys.exit(contest.command_line("sink", __doc__, 200_000, measure, ("rows_per_second", "commits")))
