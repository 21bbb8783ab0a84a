"""The API's answers and parameters, as its OpenAPI document says them: nothing is checked by them at run time."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from flyback.dashboards.questions import LABELS
from flyback.dashboards.view import MOST_LINES, RANGES


class _Document(BaseModel):
    model_config = ConfigDict(extra="allow")


class Error(_Document):
    """What was wrong, and what to do."""

    error: str


class Estimate(_Document):
    """A failure rate with its 95 % interval, 0 to 1, and of how many reviews it is; null where there are none."""

    value: float | None
    low: float
    high: float
    reviews: int


class Rate(_Document):
    """Counts of one combination of the labels that `by` names, which are fields as well."""

    predictions: int
    reviewed: int
    failures: int
    rate: Estimate
    weighted_rate: Estimate


class Rates(_Document):
    """What `flyback rates --json` prints."""

    since: str
    until: str
    rates: list[Rate]


class Content(_Document):
    """A text as it was given, `cut` where it goes on."""

    content_type: str
    body: str
    cut: bool


class Actor(_Document):
    """Who answered, corrected or graded."""

    kind: str
    name: str
    version: str


class Failure(_Document):
    """A prediction that failed, with the review that decides. `at` is when that was made."""

    task_id: str
    prediction_id: str
    at: str
    made_at: str
    segment: str
    actor: str
    version: str
    actor_kind: str
    input: Content
    output: Content
    truth: Content | None
    verdict: str | None
    author: Actor
    reason: str | None
    category: str | None


class Failures(_Document):
    """Newest first; `next` goes on where this ends."""

    rows: list[Failure]
    next: str | None
    sql: str


class Event(_Document):
    """A prediction, correction or grade; besides these the fields of its record."""

    kind: str
    at: str
    id: str
    prediction_id: str


class Episode(_Document):
    """One task."""

    task_id: str
    events: list[Event]
    winners: list[dict[str, str]]
    reviewed: int
    failed: int
    sql: str


class Alert(_Document):
    """One alert as it stands."""

    alert_id: str
    rule: str
    state: str
    segment: str | None
    actor: str | None
    version: str | None
    since: str
    fired_at: str | None
    message: str


class Alerts(_Document):
    """Those that are open, and the newest that are over."""

    open: list[Alert]
    recent: list[Alert]


class Health(_Document):
    """How workers and sinks are. `verdict`: well, behind, not well or unknown."""

    verdict: str
    problems: list[str]
    lags: list[dict[str, Any]]
    last_commit: dict[str, str | None]
    restoring: list[dict[str, int | None]]
    dead_letters: list[dict[str, Any]]


class Whole(_Document):
    """All parts of a view; those that could not be had in time are not there."""

    headline: dict[str, Any] | None = None
    chart: dict[str, Any] | None = None
    table: dict[str, Any] | None = None
    failures: Failures | None = None
    alerts: Alerts | None = None
    health: Health | None = None


_TEXT = {"type": "string"}
_MANY = {"type": "array", "items": _TEXT}
_VIEW: dict[str, tuple[dict[str, Any], str]] = {
    "range": ({"type": "string", "enum": list(RANGES), "default": "1h"}, "How far back from now."),
    "since": ({"type": "string", "format": "date-time"}, "In place of a range: from then on."),
    "until": ({"type": "string", "format": "date-time"}, "Before then; without it now."),
    "by": ({"type": "string", "default": "segment"}, f"Apart by these, comma-separated: {', '.join(LABELS)}."),
    "find": (_TEXT, "Only what has this in a label."),
    "top": ({"type": "integer", "minimum": 1, "maximum": MOST_LINES, "default": 8}, "Lines of the chart."),
    "rate": ({"type": "string", "enum": ["plain", "weighted"], "default": "plain"}, "Which rate."),
    **dict.fromkeys(LABELS, (_MANY, "Only these.")),
}


def of_view(*more: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a view, for a route that reads them itself."""
    view = [{"name": name, "in": "query", "schema": kind, "description": text} for name, (kind, text) in _VIEW.items()]
    return {"parameters": [*view, *more]}


FORMAT = {"name": "format", "in": "query", "schema": {"type": "string", "enum": ["json", "csv"]}}
ERRORS: dict[int | str, dict[str, Any]] = {
    422: {"model": Error, "description": "What is wrong with the parameters, and what is allowed."},
    503: {"model": Error, "description": "Not now: try again after Retry-After seconds."},
}


def answers(document: type[BaseModel], **more: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """What a route answers; `more`: other forms of it, by content type."""
    found: dict[str, Any] = {"model": document, "description": (document.__doc__ or "").strip()}
    return {200: found | ({"content": more} if more else {})} | ERRORS
