"""Makes a generated lake as a day of one busy site leaves it, and the same rows as compact plain Parquet.

The rows are those of `lake_rows.sql`; memory does not grow with their number. The lake's tables are written by the
sink's own writer and merged by its own maintenance, but for the last minutes: these are still in the small commits that
a sink makes every two seconds. Copies are in the lake only, as are all but the last counts of a key.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
from deltalake import DeltaTable

from benchmarks.workload import texts
from flyback.cli import output
from flyback.sinks import maintenance
from flyback.sinks.columns import record_schema
from flyback.sinks.tables import TABLES, Source, Table, TableWriter

TABLES_MADE = ("predictions", "corrections", "examples", "failure_rates")
PARTITIONS = 4
FRESH_MINUTES = 30
"""Half of the default interval of maintenance: what a lake has on average of unmerged commits."""
COMMITS_A_MINUTE = 30
_DAY = 24 * 60
_ROWS_AT_ONCE = 200_000
_TEXTS = 20_000
_CHARACTERS = 430


class Day:
    """The rows of one day with so many predictions."""

    def __init__(self, predictions: int) -> None:
        self.predictions = predictions
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        rows = pa.table({"i": range(_TEXTS), "body": texts(random.Random(1), _CHARACTERS, _TEXTS)})
        self.connection.execute("CREATE TABLE texts AS FROM rows")
        self.connection.execute(f"SET VARIABLE total = {predictions}; SET VARIABLE texts = {rows.num_rows}")
        self.connection.execute(Path(__file__).with_name("lake_rows.sql").read_text(encoding="utf-8"))

    def numbers(self, from_minute: int, to_minute: int) -> Iterator[range]:
        """The predictions of these minutes, in parts that fit into memory; each of whole minutes."""
        step = max(1, min(60, _ROWS_AT_ONCE * _DAY // self.predictions))
        for minute in range(from_minute, to_minute, step):
            ends = (minute, min(minute + step, to_minute))
            yield range(*(-(-end * self.predictions // _DAY) for end in ends))

    def compact(self, table: Table, numbers: range) -> pa.Table:
        """The record's columns, each event once, in time order."""
        schema = record_schema(table.record or "")
        return self._rows(f"SELECT * {_of(table, numbers)} WHERE lasting ORDER BY arrived, k", schema)

    def landed(self, table: Table, numbers: range, topic: str, starts: list[int]) -> pa.Table:
        """All columns of the lake's table, copies included; each partition's offsets go on from `starts`."""
        return self._rows(
            f"""
            SELECT
                *, '{topic}' AS _topic, part AS _partition, arrived AS _arrived_at,
                arrived + INTERVAL 1 SECOND AS _ingested_at,
                {starts}[part + 1] + row_number() OVER (PARTITION BY part ORDER BY arrived, k) - 1 AS _offset
            FROM (SELECT *, unnest(range(copies)) {_of(table, numbers)})
            ORDER BY arrived, k, _offset
            """,
            table.schema,
        )

    def one(self, expression: str) -> str:
        """What an expression of the macros gives."""
        [value] = self.connection.execute(f"SELECT {expression}").fetchone() or [None]
        return str(value)

    def _rows(self, query: str, schema: pa.Schema) -> pa.Table:
        columns = ", ".join(f'"{name}"' for name in schema.names)
        return self.connection.sql(f"SELECT {columns} FROM ({query})").to_arrow_table().cast(schema)


class Filling:
    """One table, filled as the sink fills it: rows and the offsets after them at once."""

    def __init__(self, lake: str, table: Table) -> None:
        self.topic = f"{table.name}.v1"
        self.rows = self.commits = 0
        self._writer = TableWriter(lake, table, {self.topic: Source("benchmark", self.topic, PARTITIONS)})
        self._committed = self._writer.open()

    @property
    def offsets(self) -> list[int]:
        """The next one of each partition."""
        return [self._committed.get((self.topic, partition), 0) for partition in range(PARTITIONS)]

    def commit(self, rows: pa.Table) -> None:
        last = rows.group_by("_partition").aggregate([("_offset", "max")]).to_pylist()
        reached = {(self.topic, each["_partition"]): each["_offset_max"] + 1 for each in last}
        self._writer.commit(rows, self._committed, reached)
        self._committed |= reached
        self.rows += rows.num_rows
        self.commits += 1


def write_lake(lake: str, day: Day, fresh_minutes: int = FRESH_MINUTES) -> None:
    """The four tables that the queries read: merged, but for the last minutes."""
    for table in _tables():
        began = time.monotonic()
        filling = Filling(lake, table)
        for numbers in day.numbers(0, _DAY - fresh_minutes):
            filling.commit(day.landed(table, numbers, filling.topic, filling.offsets))
        maintenance.compact(lake, table)
        # nobody else writes or reads: what was merged can go at once, and is half of a large lake
        DeltaTable(f"{lake}/{table.name}").vacuum(0, dry_run=False, enforce_retention_duration=False)
        for minute in range(_DAY - fresh_minutes, _DAY):
            commit_small(filling, day, table, minute)
        output.note(f"lake/{table.name}: {filling.rows:,} rows in {time.monotonic() - began:.0f} s")


def commit_small(filling: Filling, day: Day, table: Table, minute: int) -> None:
    """One minute, by a commit every two seconds as far as there are rows for it."""
    for numbers in day.numbers(minute, minute + 1):
        arrived = day.landed(table, numbers, filling.topic, filling.offsets)
        cuts = [arrived.num_rows * number // COMMITS_A_MINUTE for number in range(COMMITS_A_MINUTE + 1)]
        for start, end in itertools.pairwise(cuts):
            if start < end:
                filling.commit(arrived.slice(start, end - start))


def write_plain(folder: Path, day: Day) -> None:
    """One Parquet file a table, in time order, by DuckDB."""
    folder.mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        for table in _tables():
            began = time.monotonic()
            parts = (batch for numbers in day.numbers(0, _DAY) for batch in day.compact(table, numbers).to_batches())
            rows = pa.RecordBatchReader.from_batches(record_schema(table.record or ""), parts)  # noqa: F841 (DuckDB)
            file = folder / f"{table.name}.parquet"
            connection.execute(f"COPY (FROM rows) TO '{file}' (FORMAT parquet, COMPRESSION zstd)")
            output.note(f"plain/{table.name}: {file.stat().st_size / 1e6:,.0f} MB in {time.monotonic() - began:.0f} s")


def _tables() -> list[Table]:
    return [table for table in TABLES if table.name in TABLES_MADE]


def _of(table: Table, numbers: range) -> str:
    return f"FROM {table.name}_of({numbers.start}, {numbers.stop})"
