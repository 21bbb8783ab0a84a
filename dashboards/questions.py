"""Questions about failure rates as SQL: the same text over the stream's counts and over the lake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from flyback.errors import ConfigurationError
from flyback.streams.rates import Counts, Estimate, plain_rate, weighted_rate

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Label = Literal["actor_kind", "actor", "version", "segment"]
LABELS: tuple[Label, ...] = get_args(Label)
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_MOST_STEPS = 20_000


@dataclass(frozen=True)
class Question:
    """Counts of predictions made in [since, until), whole minutes, for each combination of the labels in `by`.

    With `step` for each such part of the time as well, from midnight UTC of a Monday on. `where`: the values that a
    label may have. Raises ConfigurationError for what cannot be asked.
    """

    since: datetime
    until: datetime
    by: tuple[Label, ...] = ()
    step: timedelta | None = None
    where: Mapping[Label, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.by, *self.where):
            if name not in LABELS:
                raise ConfigurationError(f"{name!r} is no label of a failure rate: there are {', '.join(LABELS)}")
        if self.since.tzinfo is None or self.until.tzinfo is None:
            raise ConfigurationError("a range of time needs a time zone")
        if self.since >= self.until:
            raise ConfigurationError(f"no time lies between {self.since.isoformat()} and {self.until.isoformat()}")
        if self.step is not None and (self.step < _MINUTE or self.step % _MINUTE):
            raise ConfigurationError("a step is one or more whole minutes")
        if self.step is not None and (self.until - self.since) / self.step > _MOST_STEPS:
            raise ConfigurationError(f"more than {_MOST_STEPS:,} steps: ask for longer ones, or for less time")

    @property
    def long(self) -> bool:
        """Whether it is answered by whole hours: a day, with the running minute, is not, nor are shorter steps."""
        return self.until - self.since > _DAY + _MINUTE and not (self.step and self.step % _HOUR)

    def rounded(self) -> Question:
        """The same, or where it is long from whole hours to whole hours, none of them cut."""
        if not self.long:
            return self
        return replace(self, since=_hour(self.since), until=_hour(self.until + _HOUR - timedelta.resolution))

    def sql(self, source: str = "failure_rates") -> str:
        """The query over the lake's view, or whatever has its columns. Values are written out: people see it."""
        labels = [f'"{name}"' for name in self.by]
        start = []
        if self.step is not None:
            start = [f'time_bucket(INTERVAL {self.step // _MINUTE} MINUTE, "minute") AS start']
        conditions = [f'"minute" >= {_time(self.since)}', f'"minute" < {_time(self.until)}']
        conditions += [f'"{name}" IN ({", ".join(map(literal, values))})' for name, values in self.where.items()]
        sums = [f"coalesce(sum({name}), 0)::HUGEINT AS {name}" for name in Counts._fields]
        lines = [
            f"SELECT {', '.join([*start, *labels, *sums])}",
            f"FROM {source}",
            f"WHERE {' AND '.join(conditions)}",
        ]
        if keys := [*(["start"] if start else []), *labels]:
            lines += [f"GROUP BY {', '.join(keys)}", f"ORDER BY {', '.join(keys)}"]
        return "\n".join(lines)

    def ask(self, connection: DuckDBPyConnection, source: str = "failure_rates") -> list[Row]:
        """One row for each combination that there is; without `by` and `step` exactly one."""
        found = connection.execute(self.sql(source)).fetchall()
        timed, named = int(self.step is not None), len(self.by)
        return [
            Row(
                row[0].replace(tzinfo=row[0].tzinfo or UTC) if timed else None,
                dict(zip(self.by, row[timed : timed + named], strict=True)),
                Counts(*map(int, row[timed + named :])),
            )
            for row in found
        ]

    def ask_courses(self, connection: DuckDBPyConnection, source: str = "failure_rates") -> list[Course]:
        """One course for each combination of the labels; the question has a step, and labels."""
        keys = ", ".join(f'"{name}"' for name in self.by)
        sums = ", ".join(f"sum({name})::HUGEINT" for name in Counts._fields)
        steps = ", ".join(f"list({name}::BIGINT)" for name in ("epoch(start)", *Course._steps()))
        asked = f"SELECT {keys}, {sums}, {steps} FROM ({self.sql(source)}) GROUP BY {keys}"
        named, summed = len(self.by), len(self.by) + len(Counts._fields)
        return [
            Course(
                Row(None, dict(zip(self.by, row[:named], strict=True)), Counts(*map(int, row[named:summed]))),
                *row[summed:],
            )
            for row in connection.execute(asked).fetchall()
        ]


class Row(NamedTuple):
    """Counts of one part of the time (None: of all of it) and one value of each label asked for."""

    start: datetime | None
    labels: dict[str, str]
    counts: Counts

    def plain(self) -> dict[str, Any]:
        """For JSON: the counts, and both rates with their intervals."""
        return {
            **({} if self.start is None else {"start": self.start.isoformat()}),
            **self.labels,
            "predictions": self.counts.predictions,
            "reviewed": self.counts.reviewed,
            "failures": self.counts.failures,
            "rate": plain(plain_rate(self.counts)),
            "weighted_rate": plain(weighted_rate(self.counts)),
        }


class Course(NamedTuple):
    """What a row is over all steps, and some of the counts of each step that has any, in no order."""

    row: Row
    starts: list[int]
    """Unix seconds."""
    reviewed: list[int]
    failures: list[int]
    sum_w: list[int]
    sum_wy: list[int]

    @classmethod
    def _steps(cls) -> tuple[str, ...]:
        return cls._fields[2:]


def worst_first(rows: Sequence[Row], rate: Callable[[Counts], Estimate] = plain_rate) -> list[Row]:
    """By what the rate is at least: three failures of three reviews tell less than 300 of 900."""
    return sorted(rows, key=lambda row: badness(row.counts, rate), reverse=True)


def badness(counts: Counts, rate: Callable[[Counts], Estimate] = plain_rate) -> tuple[float, int, int]:
    """What is worse is larger."""
    return rate(counts).low, counts.failures, counts.predictions


def plain(estimate: Estimate) -> dict[str, float | int | None]:
    """For JSON."""
    return {"value": estimate.rate, "low": estimate.low, "high": estimate.high, "reviews": estimate.reviews}


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _time(moment: datetime) -> str:
    return f"TIMESTAMPTZ '{moment.astimezone(UTC).isoformat()}'"


def literal(value: datetime | str) -> str:
    """As SQL has it."""
    return _time(value) if isinstance(value, datetime) else "'" + value.replace("'", "''") + "'"
