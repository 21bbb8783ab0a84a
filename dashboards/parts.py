"""What the page shows of failure rates: the parts of a view, computed from answers to questions. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from flyback.dashboards.questions import LABELS, Course, Question, Row, badness, plain, worst_first
from flyback.dashboards.rate_store import Appearance
from flyback.dashboards.view import SPARK_STEPS, View, chart_step, spark_step, starts
from flyback.errors import LakeError
from flyback.streams.rates import Counts, Estimate, plain_rate, weighted_rate

MOST_ROWS = 1_000
Part = dict[str, Any]
"""For JSON."""


class NotYet(Exception):
    """Somebody is looking for the answer: ask again in a moment."""


class Answers(Protocol):
    """Where questions are asked. Both may raise NotYet."""

    def ask(self, question: Question) -> list[Row]: ...

    def courses(self, question: Question) -> list[Course]: ...


class Mark(NamedTuple):
    """Something that happened; `kind` is version or alert."""

    at: datetime
    kind: str
    text: str


def headline(view: View, now: datetime, answers: Answers) -> Part:
    """The sums of the range, and of the one of the same length before it: None where nobody has them yet."""
    asked = view.question(now)
    [total] = answers.ask(asked)
    earlier = replace(asked, since=asked.since - (asked.until - asked.since), until=asked.since)
    try:
        [before] = answers.ask(earlier)
    except (NotYet, LakeError):
        before = None
    return {
        **_range(asked),
        **total.plain(),
        "before": None if before is None else {**_range(earlier), **before.plain()},
        "sql": asked.sql(),
    }


def rates(view: View, now: datetime, answers: Answers) -> Part:
    """What `flyback rates --json` says: one row for each combination of the view's labels."""
    asked = view.question(now, view.by)
    found = [row for row in answers.ask(asked) if view.shows(row.labels)]
    return {**_range(asked), "rates": [row.plain() for row in found]}


def chart(view: View, now: datetime, answers: Answers, marks: Iterable[Mark] = ()) -> Part:
    """The worst lines, over time; where nothing was reviewed a line has a gap."""
    asked = view.question(now, view.by)
    rate = rate_of(view)
    every = worst_first([row for row in answers.ask(asked) if view.shows(row.labels)], rate)
    shown = every[: view.top]
    # values are chosen label by label, so that some combinations come along that nobody asked for
    chosen = {label: sorted({row.labels[label] for row in shown}) for label in view.by}
    stepped = replace(asked, step=chart_step(asked), where={**asked.where, **chosen})
    assert stepped.step is not None
    places = {start: i for i, start in enumerate(starts(stepped, stepped.step))}
    lines = {tuple(row.labels.values()): [Counts()] * len(places) for row in shown}
    for row in answers.ask(stepped) if shown else ():
        line = lines.get(tuple(row.labels.values()))
        if line is not None and row.start is not None:
            line[places[int(row.start.timestamp())]] = row.counts
    return {
        "step": int(stepped.step.total_seconds()),
        "starts": list(places),
        "series": [_line(row, lines[tuple(row.labels.values())], rate) for row in shown],
        "more": len(every) - len(shown),
        "marks": [
            {"at": int(mark.at.timestamp()), "kind": mark.kind, "text": mark.text}
            for mark in marks
            if asked.since <= mark.at < asked.until
        ],
        "sql": stepped.sql(),
    }


def table(view: View, now: datetime, answers: Answers) -> Part:
    """Every combination of labels, the worst first, with what became of its rate; at most MOST_ROWS."""
    asked = view.question(now, LABELS)
    stepped = replace(asked, step=spark_step(asked))
    assert stepped.step is not None
    grid = starts(stepped, stepped.step)[-SPARK_STEPS:]
    rate = rate_of(view)
    every = sorted(
        (course for course in answers.courses(stepped) if view.shows(course.row.labels)),
        key=lambda course: badness(course.row.counts, rate),
        reverse=True,
    )
    return {
        "rows": [{**course.row.plain(), "spark": _spark(view, course, grid)} for course in every[:MOST_ROWS]],
        "more": max(0, len(every) - MOST_ROWS),
        "spark_step": int(stepped.step.total_seconds()),
        "sql": asked.sql(),
    }


def version_marks(view: View, appearances: Sequence[Appearance]) -> list[Mark]:
    """When a version first made a prediction, of what the view's filters leave."""
    first: dict[tuple[str, str], datetime] = {}
    where = dict(view.where)
    for at, labels in appearances:
        if labels["version"] and all(labels[label] in values for label, values in where.items()):
            named = labels["actor"], labels["version"]
            first[named] = min(at, first.get(named, at))
    return [Mark(at, "version", f"{actor} {version}") for (actor, version), at in first.items()]


def rate_of(view: View) -> Callable[[Counts], Estimate]:
    """The rate that the view's lines and order are about."""
    return weighted_rate if view.rate == "weighted" else plain_rate


def _range(question: Question) -> Part:
    return {"since": question.since.isoformat(), "until": question.until.isoformat()}


def _line(row: Row, line: Sequence[Counts], rate: Callable[[Counts], Estimate]) -> Part:
    estimates = [rate(counts) for counts in line]
    drawn = {
        name: [None if each.rate is None else round(getattr(each, field), 5) for each in estimates]
        for name, field in (("value", "rate"), ("low", "low"), ("high", "high"))
    }
    counts = row.counts
    return {
        "labels": row.labels,
        "name": " ".join(filter(None, row.labels.values())) or "all",
        "predictions": counts.predictions,
        "reviewed": counts.reviewed,
        "failures": counts.failures,
        "rate": plain(rate(counts)),
        **drawn,
        "reviews": [each.reviews for each in estimates],
    }


def _spark(view: View, course: Course, grid: Sequence[int]) -> list[float | None]:
    over, of = (course.sum_wy, course.sum_w) if view.rate == "weighted" else (course.failures, course.reviewed)
    found = {start: round(a / b, 4) for start, a, b in zip(course.starts, over, of, strict=True) if b}
    return [found.get(start) for start in grid]
