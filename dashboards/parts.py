"""What the page shows of failure rates: the parts of a view, computed from answers to questions. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from flyback.dashboards.questions import LABELS, Course, Label, Question, Row, badness, plain, worst_first
from flyback.dashboards.rate_store import Appearance
from flyback.dashboards.view import SPARK_STEPS, View, chart_step, chart_steps, spark_step, starts, step_of, stepped
from flyback.errors import LakeError
from flyback.streams.rates import Counts, Estimate, plain_rate, weighted_rate

MOST_ROWS = 1_000
MOST_VALUES = 500
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


def chart(
    view: View, now: datetime, answers: Answers, marks: Iterable[Mark] = (), before: timedelta | None = None
) -> Part:
    """The worst lines, over time; where nothing was reviewed a line has a gap.

    Steps are whole ones, so that the first may begin a little before the range; the last is still `running` where the
    range ends now. `before`: the step that the view's chart had.
    """
    asked = view.question(now, view.by)
    rate = rate_of(view)
    every = worst_first([row for row in answers.ask(asked) if view.shows(row.labels)], rate)
    shown = every[: view.top]
    # values are chosen label by label, so that some combinations come along that nobody asked for
    chosen = {label: sorted({row.labels[label] for row in shown}) for label in view.by}
    of_lines = replace(asked, where={**asked.where, **chosen})
    names = {tuple(row.labels.values()) for row in shown}
    step, rows = _points(view, of_lines, names, answers, before)
    drawn = stepped(of_lines, step)
    places = {start: i for i, start in enumerate(starts(drawn, step))}
    lines = {name: [Counts()] * len(places) for name in names}
    for start, name, counts in rows:
        lines[name][places[int(start.timestamp())]] = counts
    return {
        "step": int(step.total_seconds()),
        "running": drawn.until > now,
        "starts": list(places),
        "series": [_line(row, lines[tuple(row.labels.values())], rate) for row in shown],
        "more": len(every) - len(shown),
        "marks": [
            {"at": int(mark.at.timestamp()), "kind": mark.kind, "text": mark.text}
            for mark in marks
            if drawn.since <= mark.at < drawn.until
        ],
        "sql": drawn.sql(),
    }


def table(view: View, now: datetime, answers: Answers, least: timedelta = timedelta(0)) -> Part:
    """Every combination of labels, the worst first, with what became of its rate; at most MOST_ROWS.

    `least`: the step of the view's chart, which its small ones are not finer than.
    """
    asked = view.question(now, LABELS)
    step = max(spark_step(asked), least)
    grid = starts(asked, step)[-SPARK_STEPS:]
    rate = rate_of(view)
    found = answers.courses(replace(asked, step=step))
    every = sorted(
        (course for course in found if view.shows(course.row.labels)),
        key=lambda course: badness(course.row.counts, rate),
        reverse=True,
    )
    return {
        "rows": [{**course.row.plain(), "spark": _spark(view, course, grid)} for course in every[:MOST_ROWS]],
        "more": max(0, len(every) - MOST_ROWS),
        "spark_step": int(step.total_seconds()),
        "values": _values(asked, [course.row for course in found], answers),
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


Name = tuple[str, ...]
"""The values of a line's labels, in the order of the view's `by`."""
Points = list[tuple[datetime, Name, Counts]]


def _points(
    view: View, asked: Question, names: set[Name], answers: Answers, before: timedelta | None
) -> tuple[timedelta, Points]:
    """How far apart the points of these lines are, and all that there are."""

    def ask(step: timedelta) -> Points:
        found = answers.ask(stepped(asked, step)) if names else []
        told = ((row.start, tuple(row.labels.values()), row.counts) for row in found)
        return [(start, name, counts) for start, name, counts in told if start is not None and name in names]

    steps = chart_steps(asked)
    finest = ask(steps[0])
    reviewed = [(start, name, _reviews(view, counts)) for start, name, counts in finest]

    def reviews(step: timedelta) -> list[int]:
        points: Counter[tuple[datetime, Name]] = Counter()
        for start, name, number in reviewed:
            points[step_of(start, step), name] += number
        return [number for number in points.values() if number]

    step = chart_step(steps, reviews, before)
    return step, finest if step == steps[0] else ask(step)


def _values(asked: Question, rows: Sequence[Row], answers: Answers) -> dict[str, list[tuple[str, int]]]:
    """What each label may be filtered by: its values in the range, as the filters of the others leave them.

    With the predictions of each, most first; at most MOST_VALUES. `rows`: the question's answer.
    """
    found: dict[str, list[tuple[str, int]]] = {}
    for label in LABELS:
        others: dict[Label, Sequence[str]] = {name: wanted for name, wanted in asked.where.items() if name != label}
        counted: Counter[str] = Counter()
        for row in rows if len(others) == len(asked.where) else answers.ask(replace(asked, by=(label,), where=others)):
            counted[row.labels[label]] += row.counts.predictions
        found[label] = sorted(counted.items(), key=lambda each: (-each[1], each[0]))[:MOST_VALUES]
    return found


def _reviews(view: View, counts: Counts) -> int:
    """How many reviews the view's rate comes from."""
    return counts.weighted_reviews if view.rate == "weighted" else counts.reviewed


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
