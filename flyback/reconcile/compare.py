"""What the lake says against itself: pairs of raw rows without a derived row, and derived rows without raw rows.

Ids and offsets are compared first, whole rows are read only of what is missing. DuckDB spills to a folder what does
not fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from flyback.errors import LakeError
from flyback.sinks.columns import to_records
from flyback.sinks.lake import Lake
from flyback.sinks.tables import TABLES
from flyback.streams.join import FEEDBACK_ID, Arrived
from flyback.streams.topology import Topology

_TABLE = {str(table.record): table.name for table in TABLES}
_DERIVED = {"Correction": "Example", "Grade": "GradedExample"}
"""What a feedback on a model's prediction becomes; on a person's it is always Coaching."""
_ROWS, _BYTES = 1_000, 128_000_000  # of pairs that are Python objects at once


class Comparison:
    """One lake at one moment. Only rows below `ends`, the next offset by raw topic and partition, are looked at."""

    def __init__(self, tables: Lake, topology: Topology, ends: Mapping[tuple[str, int], int], folder: str) -> None:
        """`folder`: for what DuckDB spills. Raises LakeError, as all of this class."""
        self.topology = topology
        self.total = 0
        """Missing pairs, once `missing` has begun."""
        self._tables = tables
        self._execute("SET preserve_insertion_order = false")
        self._execute("SET temp_directory = ?", [folder])
        self._execute('CREATE TEMP TABLE ends ("table" VARCHAR, "partition" INTEGER, "end" BIGINT)')
        for (topic, partition), end in ends.items():
            self._execute("INSERT INTO ends VALUES (?, ?, ?)", [_TABLE[str(topology[topic].record)], partition, end])

    def missing(self) -> Iterator[tuple[Arrived, Arrived]]:
        """Every prediction and its feedback, first copies both, that no derived row was made of."""
        for record in FEEDBACK_ID:
            self._execute(f"CREATE TEMP TABLE missing_{record} AS {_missing(record)}")
            [(count,)] = self._execute(f"SELECT count(*) FROM missing_{record}").fetchall()
            self.total += count
        for record in FEEDBACK_ID:
            yield from self._pairs(record)

    def without_raw(self, topic: str, limit: int) -> tuple[int, list[str]]:
        """How many derived rows of this topic have a raw event that is not in the lake, and the first few ids."""
        record = str(self.topology[topic].record)
        found = self._execute(_without_raw(record, limit)).fetchall()
        return (found[0][1] if found else 0), [row[0] for row in found]

    def _pairs(self, record: str) -> Iterator[tuple[Arrived, Arrived]]:
        rows = max(1, min(_ROWS, _BYTES // self.topology.derived_max_bytes))
        with _lake_errors():
            batches = self._tables.connection.sql(
                f"""
                SELECT p AS prediction, f AS feedback
                FROM missing_{record} m
                JOIN raw.predictions p ON p._partition = m."partition" AND p._offset = m.prediction
                JOIN raw.{_TABLE[record]} f ON f._partition = m."partition" AND f._offset = m.feedback
                """
            ).to_arrow_reader(rows)
        while (batch := _next(batches)) is not None:
            predictions = _arrived("Prediction", batch.column("prediction"))
            yield from zip(predictions, _arrived(record, batch.column("feedback")), strict=True)

    def _execute(self, statement: str, parameters: object = None) -> duckdb.DuckDBPyConnection:
        with _lake_errors():
            return self._tables.connection.execute(statement, parameters)


def _missing(feedback: str) -> str:
    """Where both first copies stand, of every pair without a row in the table that it belongs into."""
    number, derived = FEEDBACK_ID[feedback], _TABLE[_DERIVED[feedback]]
    return f"""
        WITH answers AS (
            SELECT task_id, prediction_id, min(_offset) AS prediction, arg_min(actor.kind, _offset) AS actor
            FROM {_past("Prediction")}
            GROUP BY task_id, prediction_id
        ),
        judgements AS (
            SELECT task_id, prediction_id, {number} AS number, any_value(_partition) AS "partition",
                min(_offset) AS feedback
            FROM {_past(feedback)}
            GROUP BY task_id, prediction_id, number
        ),
        known AS (
            SELECT task_id, prediction_id, {number} AS number, 'MODEL' AS actor
            FROM raw.{derived}
            UNION ALL
            SELECT task_id, prediction_id, feedback_id, 'HUMAN'
            FROM raw.coaching
            WHERE feedback_kind = '{feedback.upper()}'
        )
        SELECT "partition", prediction, feedback
        FROM judgements
        JOIN answers USING (task_id, prediction_id)
        ANTI JOIN known USING (task_id, prediction_id, number, actor)
    """


def _past(record: str) -> str:
    """The rows of a raw table below the ends."""
    return f"""(
        SELECT r.*
        FROM raw.{_TABLE[record]} r
        JOIN ends e ON e."table" = '{_TABLE[record]}' AND e."partition" = r._partition AND r._offset < e."end"
    )"""


def _without_raw(derived: str, limit: int) -> str:
    """Ids of derived rows whose raw rows, by their coordinates, should be there and are not; and how many."""
    table = next(table for table in TABLES if table.record == derived)
    kinds = {"Example": "'CORRECTION'", "GradedExample": "'GRADE'", "Coaching": "feedback_kind"}
    feedback = " UNION ALL ".join(
        f"SELECT '{_TABLE[record]}' AS \"table\", _partition, _offset FROM raw.{_TABLE[record]}"
        for record in FEEDBACK_ID
    )
    return f"""
        WITH rows AS (
            SELECT DISTINCT
                {table.id_column} AS id,
                lower({kinds[derived]}) || 's' AS "table",
                prediction_source."partition" AS "partition",
                prediction_source."offset" AS prediction,
                feedback_source."offset" AS feedback
            FROM raw.{table.name}
        ),
        judgements AS ({feedback})
        SELECT id, count(*) OVER () AS total
        FROM rows r
        JOIN ends p ON p."table" = '{_TABLE["Prediction"]}' AND p."partition" = r."partition" AND r.prediction < p."end"
        JOIN ends f ON f."table" = r."table" AND f."partition" = r."partition" AND r.feedback < f."end"
        WHERE NOT EXISTS (
            FROM raw.predictions x WHERE x._partition = r."partition" AND x._offset = r.prediction
        ) OR NOT EXISTS (
            FROM judgements x WHERE x."table" = r."table" AND x._partition = r."partition" AND x._offset = r.feedback
        )
        ORDER BY id
        LIMIT {limit}
    """


def _arrived(record: str, rows: pa.StructArray) -> list[Arrived]:
    """Raw rows as the events that they were."""
    batch = pa.RecordBatch.from_struct_array(rows)
    # no time: Kafka knew none that a column can hold
    times = [-1 if time is None else time // 1000 for time in batch.column("_arrived_at").cast(pa.int64()).to_pylist()]
    places = zip(*(batch.column(name).to_pylist() for name in ("_topic", "_partition", "_offset")), times, strict=True)
    return [Arrived(record, event, *place) for event, place in zip(to_records(record, batch), places, strict=True)]


def _next(batches: pa.RecordBatchReader) -> pa.RecordBatch | None:
    try:
        with _lake_errors():
            return batches.read_next_batch()
    except StopIteration:
        return None


@contextmanager
def _lake_errors() -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, pa.ArrowException) as error:
        raise LakeError(f"the lake's rows cannot be compared: {error}") from error
