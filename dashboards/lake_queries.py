"""What is asked of the lake. Values are bound, never part of the text; in the text that people see they are written."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
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
_NEWEST_EXAMPLES = 1_000
_NEWEST_OVER = 20
_LABEL_COLUMNS: Mapping[Label, str] = {
    "actor_kind": "actor.kind",
    "actor": "actor.name",
    "version": "actor.version",
    "segment": "segment",
}


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
    """Predictions of a range that failed, those first that were found to last."""

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
        text, values = self._asked()
        found = connection.execute(text.format(*"?" * len(values)), values).fetchall()
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

    def _asked(self) -> tuple[str, list[Any]]:
        conditions = ["failed", "occurred_at >= {}", "occurred_at < {}"]
        values: list[Any] = [self.since, self.until]
        for label, wanted in self.where:
            conditions.append(f"{_LABEL_COLUMNS[label]} IN ({', '.join(['{}'] * len(wanted))})")
            values += wanted
        if self.find:
            columns = " OR ".join(f"contains(lower({column}), lower({{}}))" for column in _LABEL_COLUMNS.values())
            conditions.append(f"({columns})")
            values += [self.find] * len(_LABEL_COLUMNS)
        if self.before is not None:
            conditions.append("(decided_at, task_id, prediction_id) < ({}, {}, {})")
            values += self.before
        text = (
            "SELECT task_id, prediction_id, decided_at, winning_correction_id, deciding_grade_id\n"
            f"FROM reviews\nWHERE {' AND '.join(conditions)}\n"
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

    def run(self, connection: DuckDBPyConnection) -> Any:
        [(half, most, examples)] = connection.execute(
            f"""
            SELECT quantile_cont(seconds, 0.5), quantile_cont(seconds, 0.99), count(*)
            FROM (
                SELECT
                    epoch(_arrived_at - greatest(prediction_source.arrived_at, feedback_source.arrived_at)) AS seconds
                FROM raw.examples
                ORDER BY _arrived_at DESC
                LIMIT {_NEWEST_EXAMPLES}
            )
            """
        ).fetchall()
        if not examples or half is None:
            return self.nothing
        return {"latency": {"p50": round(max(0.0, half), 4), "p99": round(max(0.0, most), 4), "examples": examples}}


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
