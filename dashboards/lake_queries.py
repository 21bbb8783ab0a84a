"""What is asked of the lake. Values are bound, never part of the text; in the text that people see they are written."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple, Protocol

from duckdb import DuckDBPyConnection

from flyback.dashboards.questions import Course, Label, Question, Row, literal
from flyback.errors import ConfigurationError
from flyback.streams.rates import Counts

MOST_CHARACTERS = 2_000
"""Of a content's body in a list; an episode has MOST_WHOLE."""
MOST_WHOLE = 100_000
_SAID_FOR_ONE = 10  # corrections and grades that are looked at for one failure
_NEWEST_EXAMPLES = 1_000
_NEWEST_OVER = 20
_LABEL_COLUMNS: Mapping[Label, str] = {
    "actor_kind": "actor.kind",
    "actor": "actor.name",
    "version": "actor.version",
    "segment": "segment",
}


_REVIEWS_OF = """(
    WITH wanted AS (SELECT unnest({}) AS task_id, unnest({}) AS prediction_id),
    answers AS (
        SELECT
            task_id, prediction_id,
            arg_min(struct_pack(actor := actor, segment := segment, occurred_at := occurred_at), _offset) AS answer
        FROM raw.predictions
        JOIN wanted USING (task_id, prediction_id)
        GROUP BY task_id, prediction_id
    ),
    corrected AS (
        SELECT
            task_id, prediction_id,
            arg_min(
                struct_pack(
                    authority := authority,
                    occurred_at := occurred_at,
                    correction_id := correction_id,
                    failed := verdict <> 'CONFIRMED'
                ),
                _offset
            ) AS correction
        FROM raw.corrections
        JOIN wanted USING (task_id, prediction_id)
        GROUP BY task_id, prediction_id, correction_id
    ),
    graded AS (
        SELECT
            task_id, prediction_id,
            arg_min(
                struct_pack(grade_id := grade_id, failed := NOT passed, occurred_at := occurred_at), _offset
            ) AS grade
        FROM raw.grades
        JOIN wanted USING (task_id, prediction_id)
        GROUP BY task_id, prediction_id, grade_id
    ),
    winning AS (SELECT task_id, prediction_id, max(correction) AS won FROM corrected GROUP BY task_id, prediction_id),
    deciding AS (
        SELECT task_id, prediction_id, max(grade) AS decided
        FROM graded
        WHERE grade.failed IS NOT NULL
        GROUP BY task_id, prediction_id
    )
    SELECT
        task_id, prediction_id, answer.actor AS actor, answer.segment AS segment, answer.occurred_at AS occurred_at,
        won.correction_id AS winning_correction_id,
        decided.grade_id AS deciding_grade_id,
        CASE WHEN won.correction_id IS NOT NULL THEN won.failed ELSE decided.failed END AS failed,
        coalesce(won.occurred_at, decided.occurred_at) AS decided_at
    FROM answers
    LEFT JOIN winning USING (task_id, prediction_id)
    LEFT JOIN deciding USING (task_id, prediction_id)
)"""
"""The rows of the view `reviews` for some predictions (their task_ids, their prediction_ids), and those columns of it
that are asked for here. The view itself cannot do with less than every id of the lake."""


class Query(Protocol):
    """One question to the lake."""

    every: ClassVar[float]
    """Seconds after which its answer is old."""

    @property
    def key(self) -> str:
        """The same for the same question."""
        ...

    @property
    def nothing(self) -> Any:
        """The answer of a lake that is not there yet."""
        ...

    def run(self, connection: DuckDBPyConnection) -> Any: ...


class Cursor(NamedTuple):
    """Where a list of failures goes on; as text it is one word."""

    at: datetime
    task_id: str
    prediction_id: str

    def __str__(self) -> str:
        plain = json.dumps([self.at.isoformat(), self.task_id, self.prediction_id])
        return base64.urlsafe_b64encode(plain.encode()).decode()

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Raises ConfigurationError for what is none."""
        try:
            at, task_id, prediction_id = json.loads(base64.b64decode(text.encode(), b"-_", validate=True))
            return cls(datetime.fromisoformat(at).astimezone(UTC), str(task_id), str(prediction_id))
        except (ValueError, TypeError, OverflowError):
            raise ConfigurationError("before: give the `next` of an earlier answer") from None


@dataclass(frozen=True)
class Failures:
    """Predictions of a range that failed, those first that were found to last.

    A lake may have millions of reviews and a page shows twenty: so these are looked for among the newest corrections
    and grades that say so. First among all; where too few of those are of the range and its filters, among these.
    """

    since: datetime
    until: datetime
    where: tuple[tuple[Label, tuple[str, ...]], ...] = ()
    find: str = ""
    limit: int = 20
    before: Cursor | None = None
    every: ClassVar[float] = 1.0

    @property
    def key(self) -> str:
        return repr(self)

    @property
    def nothing(self) -> Any:
        return {"rows": [], "next": None, "sql": self.sql}

    @property
    def sql(self) -> str:
        text, values = self._asked()
        return text.format(*map(literal, values))

    def run(self, connection: DuckDBPyConnection) -> Any:
        found = self._newest(connection)
        shown = found[: self.limit]
        episodes = _episodes(connection, {row[0] for row in shown})
        rows = [
            row
            for task, prediction, at, correction, grade in shown
            if (row := _failure(task, prediction, at, correction, grade, episodes.get(task)))
        ]
        more = len(found) > self.limit
        return {
            "rows": rows,
            "next": str(Cursor(shown[-1][2].astimezone(UTC), *shown[-1][:2])) if more else None,
            "sql": self.sql,
        }

    def _newest(self, connection: DuckDBPyConnection) -> list[Any]:
        """The rows that `sql` gives.

        What was decided at some moment was said at it: among the newest feedback back to a moment are all failures
        that were decided after it.
        """
        number = _SAID_FOR_ONE * (self.limit + 1)
        for of_view in (False, True):
            said = _run(connection, *self._said(number, of_view))
            moment = said[-1][2] if len(said) == number else None
            ids = list(dict.fromkeys((task_id, prediction_id) for task_id, prediction_id, _ in said))
            text, values = self._asked(_REVIEWS_OF)
            found = _run(connection, text, [*map(list, zip(*ids, strict=True)), *values]) if ids else []
            decided = [row for row in found if moment is None or row[2] > moment]
            if moment is None or len(decided) > self.limit:
                return decided
        return _run(connection, *self._asked())

    def _said(self, number: int, of_view: bool) -> tuple[str, list[Any]]:
        """So many of the newest corrections and grades that say of a prediction that it failed: its ids, and when."""
        tables = ("raw.corrections WHERE verdict <> 'CONFIRMED'", "raw.grades WHERE NOT passed")
        before = "" if self.before is None else " AND occurred_at <= {}"
        said = [f"SELECT task_id, prediction_id, occurred_at FROM {table}{before}" for table in tables]
        values: list[Any] = [] if self.before is None else [self.before.at] * len(tables)
        text = f"SELECT task_id, prediction_id, occurred_at\nFROM ({' UNION ALL '.join(said)})"
        if of_view:
            conditions, wanted = self._of_view()
            answers = f"SELECT task_id, prediction_id FROM raw.predictions WHERE {' AND '.join(conditions)}"
            text += f"\nSEMI JOIN ({answers}) USING (task_id, prediction_id)"
            values += wanted
        return f"{text}\nORDER BY occurred_at DESC\nLIMIT {number}", values

    def _of_view(self) -> tuple[list[str], list[Any]]:
        """Conditions on a prediction, with their values."""
        conditions = ["occurred_at >= {}", "occurred_at < {}"]
        values: list[Any] = [self.since, self.until]
        for label, wanted in self.where:
            conditions.append(f"{_LABEL_COLUMNS[label]} IN ({', '.join(['{}'] * len(wanted))})")
            values += wanted
        if self.find:
            columns = " OR ".join(f"contains(lower({column}), lower({{}}))" for column in _LABEL_COLUMNS.values())
            conditions.append(f"({columns})")
            values += [self.find] * len(_LABEL_COLUMNS)
        return conditions, values

    def _asked(self, reviews: str = "reviews") -> tuple[str, list[Any]]:
        conditions, values = self._of_view()
        if self.before is not None:
            conditions.append("(decided_at, task_id, prediction_id) < ({}, {}, {})")
            values += self.before
        text = (
            "SELECT task_id, prediction_id, decided_at, winning_correction_id, deciding_grade_id\n"
            f"FROM {reviews}\nWHERE {' AND '.join(['failed', *conditions])}\n"
            f"ORDER BY decided_at DESC, task_id DESC, prediction_id DESC\nLIMIT {self.limit + 1}"
        )
        return text, values


@dataclass(frozen=True)
class Episode:
    """All events of one task in time order."""

    task_id: str
    every: ClassVar[float] = 1.0

    @property
    def key(self) -> str:
        return repr(self)

    @property
    def nothing(self) -> Any:
        return {}

    def run(self, connection: DuckDBPyConnection) -> Any:
        """{} where there is none."""
        found = _episodes(connection, {self.task_id}).get(self.task_id)
        if found is None:
            return {}
        events = [_event(kind, each) for kind in ("prediction", "correction", "grade") for each in found[f"{kind}s"]]
        return {
            "task_id": self.task_id,
            "events": sorted(events, key=lambda event: (event["at"], event["kind"] != "prediction")),
            "winners": found["winners"],
            "reviewed": found["reviewed"],
            "failed": found["failed"],
            "sql": f"SELECT * FROM episodes WHERE task_id = {literal(self.task_id)}",
        }


@dataclass(frozen=True)
class Alerts:
    """Those that are open, the newest that are over after having fired, and when which ones fired."""

    every: ClassVar[float] = 1.0
    key: ClassVar[str] = "alerts"
    nothing: ClassVar[Any] = {"open": [], "recent": [], "fired": []}

    def run(self, connection: DuckDBPyConnection) -> Any:
        found = connection.execute(
            """
            SELECT
                alert_id, any_value(rule), any_value(segment), any_value(actor), any_value("version"),
                max(state = 'RESOLVED'), max(state = 'FIRING'), min(occurred_at), max(occurred_at),
                min(occurred_at) FILTER (state = 'FIRING'),
                arg_max(message, (occurred_at, state = 'FIRING', state = 'RESOLVED')),
                any_value(message) FILTER (state = 'FIRING')
            FROM alerts
            GROUP BY alert_id
            ORDER BY max(occurred_at) DESC, alert_id
            """
        ).fetchall()
        opened: list[Any] = []
        over: list[Any] = []
        fired: list[Any] = []
        for alert_id, rule, segment, actor, version, resolved, fires, since, last, fired_at, message, why in found:
            alert = {"alert_id": alert_id, "rule": rule, "segment": segment, "actor": actor, "version": version}
            alert |= {"since": _time(since), "fired_at": _time(fired_at), "message": message}
            if not resolved:
                opened.append(alert | {"state": "FIRING" if fires else "PENDING"})
            elif fires and len(over) < _NEWEST_OVER:
                over.append(alert | {"state": "RESOLVED", "resolved_at": _time(last), "message": why})
            if fires:
                fired.append({"at": _time(fired_at), "text": why})
        return {"open": opened, "recent": over, "fired": fired}


@dataclass(frozen=True)
class Latency:
    """How long it took from a correction to its example, both in Kafka: of the newest examples."""

    every: ClassVar[float] = 5.0
    key: ClassVar[str] = "latency"
    nothing: ClassVar[Any] = {"latency": None}
    sql: ClassVar[str] = (
        "SELECT quantile_cont(seconds, 0.5) AS p50, quantile_cont(seconds, 0.99) AS p99, count(*) AS examples\n"
        "FROM (\n"
        "    SELECT\n"
        "        epoch(_arrived_at - greatest(prediction_source.arrived_at, feedback_source.arrived_at)) AS seconds\n"
        f"    FROM raw.examples\n    ORDER BY _arrived_at DESC\n    LIMIT {_NEWEST_EXAMPLES}\n)"
    )

    def run(self, connection: DuckDBPyConnection) -> Any:
        [(half, most, examples)] = connection.execute(self.sql).fetchall()
        if not examples or half is None:
            return self.nothing
        found = {"p50": round(max(0.0, half), 4), "p99": round(max(0.0, most), 4), "examples": examples}
        return {"latency": found | {"sql": self.sql}}


@dataclass(frozen=True)
class DeadLetters:
    """How many messages were refused in the last week, by topic and reason, most first."""

    every: ClassVar[float] = 5.0
    key: ClassVar[str] = "dead letters"
    nothing: ClassVar[Any] = {"dead_letters": []}

    def run(self, connection: DuckDBPyConnection) -> Any:
        found = connection.execute(
            """
            SELECT source_topic, reason, count(*) AS number
            FROM dead_letters
            WHERE _arrived_at >= now() - INTERVAL 7 DAYS
            GROUP BY ALL
            ORDER BY number DESC, source_topic, reason
            LIMIT 50
            """
        ).fetchall()
        return {"dead_letters": [{"topic": topic, "reason": reason, "count": n} for topic, reason, n in found]}


@dataclass(frozen=True)
class Counted:
    """The answer to a question about failure rates, from the lake's copy of the stream's counts."""

    question: Question
    courses: bool = False
    every: ClassVar[float] = 10.0

    @property
    def key(self) -> str:
        return f"{self.courses} {self.question.sql()}"

    @property
    def nothing(self) -> Any:
        return [] if self.question.by or self.question.step else [Row(None, {}, Counts())]

    def run(self, connection: DuckDBPyConnection) -> list[Row] | list[Course]:
        ask = self.question.ask_courses if self.courses else self.question.ask
        return ask(connection)


def _run(connection: DuckDBPyConnection, text: str, values: Sequence[Any]) -> list[Any]:
    return connection.execute(text.format(*"?" * len(values)), values).fetchall()


def _episodes(connection: DuckDBPyConnection, task_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    wanted = sorted(task_ids)
    if not wanted:
        return {}
    query = f"SELECT * FROM episodes WHERE task_id IN ({', '.join('?' * len(wanted))})"
    found = connection.execute(query, wanted)
    names = [column[0] for column in found.description or ()]
    every = (dict(zip(names, row, strict=True)) for row in found.fetchall())
    return {each["task_id"]: each for each in every}


def _failure(
    task_id: str, prediction_id: str, at: datetime, correction_id: str | None, grade_id: str | None, episode: Any
) -> dict[str, Any] | None:
    if episode is None:
        return None
    prediction = _first(episode["predictions"], prediction_id=prediction_id)
    correction = correction_id and _first(
        episode["corrections"], prediction_id=prediction_id, correction_id=correction_id
    )
    decided = correction or _first(episode["grades"], prediction_id=prediction_id, grade_id=grade_id)
    if prediction is None or decided is None:  # they came to the lake between the two queries
        return None
    return {
        "task_id": task_id,
        "prediction_id": prediction_id,
        "at": _time(at),
        "made_at": _time(prediction["occurred_at"]),
        "segment": prediction["segment"],
        "actor": prediction["actor"]["name"],
        "version": prediction["actor"]["version"],
        "actor_kind": prediction["actor"]["kind"],
        "input": _content(prediction["input"], MOST_CHARACTERS),
        "output": _content(prediction["output"], MOST_CHARACTERS),
        "truth": _content(decided.get("output"), MOST_CHARACTERS),
        "verdict": decided.get("verdict"),
        "author": decided["author"],
        "reason": decided["reason"] if correction else decided["rationale"],
        "category": decided.get("error_category"),
    }


def _event(kind: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """As the record has it, with names of our own for what all kinds have."""
    plain = {name: value for name, value in event.items() if name not in ("occurred_at", f"{kind}_id")}
    truth = "truth" if kind == "correction" else "output"
    for name, shown in (("input", "input"), ("output", truth)):
        if name in plain:
            plain[shown] = _content(plain.pop(name), MOST_WHOLE)
    if "context" in plain:
        plain["context"] = [_content(each, MOST_WHOLE) for each in plain["context"]]
    if "error_category" in plain:
        plain["category"] = plain.pop("error_category")
    plain["attributes"] = {each["key"]: each["value"] for each in plain["attributes"]}
    return {
        "kind": kind,
        "at": _time(event["occurred_at"]),
        "id": event[f"{kind}_id"],
        "prediction_id": event["prediction_id"],
        **plain,
    }


def _first(events: Iterable[Mapping[str, Any]], **wanted: object) -> Mapping[str, Any] | None:
    return next((each for each in events if all(each[name] == value for name, value in wanted.items())), None)


def _content(content: Mapping[str, str] | None, most: int) -> dict[str, Any] | None:
    if content is None:
        return None
    body = content["body"]
    return {"content_type": content["content_type"], "body": body[:most], "cut": len(body) > most}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
