"""The latest counts of every minute as a table that SQL can ask: what `failure-rates.v1` says, in DuckDB's memory."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import NamedTuple

import duckdb
import pyarrow as pa

from flyback.dashboards.questions import LABELS, Course, Question, Row
from flyback.streams.rates import Counts

KEPT = timedelta(days=9)
"""How old minutes may be; older ones are in the lake."""

_COUNTS = ", ".join(Counts._fields)
_LABELS = ", ".join(f'"{name}"' for name in LABELS)
_SAME_LABELS = " AND ".join(f'series."{name}" = earlier."{name}"' for name in LABELS)
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in Counts._fields)


class Appearance(NamedTuple):
    """The first minute of one series."""

    at: datetime
    labels: dict[str, str]


class RateStore:
    """Counts by minute, partition and series. One thread puts, any thread asks."""

    def __init__(self) -> None:
        self.changes = 0
        """How often something was put."""
        self._db = duckdb.connect()
        self._lock = threading.Lock()
        self._stale_hours: set[datetime] = set()
        counts = ", ".join(f"{name} BIGINT" for name in Counts._fields)
        huge = ", ".join(f"{name} HUGEINT" for name in Counts._fields)
        labels = ", ".join(f'"{name}" VARCHAR' for name in LABELS)
        self._db.execute(
            f"""
            SET TimeZone = 'UTC';
            CREATE SEQUENCE series_ids;
            CREATE TABLE series (
                id INTEGER DEFAULT nextval('series_ids'), {labels}, first_minute TIMESTAMPTZ, UNIQUE ({_LABELS})
            );
            CREATE TABLE cells (
                "minute" TIMESTAMPTZ, "partition" INTEGER, series INTEGER, {counts},
                PRIMARY KEY ("minute", "partition", series)
            );
            CREATE TABLE hours ("minute" TIMESTAMPTZ, series INTEGER, {huge});
            CREATE VIEW failure_rates AS FROM cells JOIN series ON series = id;
            CREATE VIEW failure_rates_by_hour AS FROM hours JOIN series ON series = id;
            """
        )

    def put(self, records: pa.Table) -> None:
        """Take FailureRate records, in the order in which each partition has them: the last of a key counts."""
        with self._lock:
            self._db.register("arrived", records.append_column("place", pa.array(range(len(records)))))
            first = f'SELECT {_LABELS}, min("minute") AS first_minute FROM arrived GROUP BY ALL'
            self._db.execute(f"INSERT OR IGNORE INTO series BY NAME {first}")
            self._db.execute(
                f"""
                UPDATE series SET first_minute = earlier.first_minute FROM ({first}) AS earlier
                WHERE {_SAME_LABELS} AND earlier.first_minute < series.first_minute
                """
            )
            self._db.execute(
                f"""
                INSERT OR REPLACE INTO cells
                SELECT "minute", "partition", id, {_COUNTS} FROM arrived JOIN series USING ({_LABELS})
                QUALIFY row_number() OVER (PARTITION BY "minute", "partition", id ORDER BY place DESC) = 1
                """
            )
            hours = self._db.execute("SELECT DISTINCT date_trunc('hour', \"minute\") FROM arrived").fetchall()
            self._stale_hours.update(hour for (hour,) in hours)
            self._db.unregister("arrived")
            self.changes += 1

    def forget(self, now: datetime) -> None:
        """Drop the minutes that are older than `KEPT`."""
        with self._lock:
            for table in ("cells", "hours"):
                self._db.execute(f'DELETE FROM {table} WHERE "minute" < ?', [now - KEPT])

    def ask(self, question: Question) -> list[Row]:
        """The answer by what has been put: that of the question `rounded`."""
        return question.rounded().ask(self._db.cursor(), self._source(question))

    def courses(self, question: Question) -> list[Course]:
        """The same for a question with labels and a step: all steps of a combination in one."""
        return question.rounded().ask_courses(self._db.cursor(), self._source(question))

    def appearances(self) -> list[Appearance]:
        """When each series had its first prediction, as far back as was ever put, the earliest first."""
        found = self._db.cursor().execute(f"SELECT first_minute, {_LABELS} FROM series ORDER BY ALL").fetchall()
        return [Appearance(first, dict(zip(LABELS, labels, strict=True))) for first, *labels in found]

    def close(self) -> None:
        self._db.close()

    def _source(self, question: Question) -> str:
        if not question.long:
            return "failure_rates"
        with self._lock:
            self._count_hours()
        return "failure_rates_by_hour"

    def _count_hours(self) -> None:
        """Sum up again the hours that something was put into since."""
        if not self._stale_hours:
            return
        self._db.execute("BEGIN")
        for hour in self._stale_hours:
            self._db.execute('DELETE FROM hours WHERE "minute" = ?', [hour])
            self._db.execute(
                f"""
                INSERT INTO hours SELECT ?, series, {_SUMS} FROM cells
                WHERE "minute" >= ? AND "minute" < ? GROUP BY series
                """,
                [hour, hour, hour + timedelta(hours=1)],
            )
        self._db.execute("COMMIT")
        self._stale_hours.clear()
