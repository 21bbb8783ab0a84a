"""What a viewer looks at: one range of time, its labels and filters, as the address of the page says it."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, cast, get_args

from flyback.dashboards.questions import LABELS, Label, Question
from flyback.errors import ConfigurationError

RANGES: Mapping[str, timedelta] = {
    "now": timedelta(minutes=5),
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
}
Rate = Literal["plain", "weighted"]
MOST_LINES = 20
SPARK_STEPS = 24
_ONCE = ("range", "since", "until", "by", "find", "top", "rate")
PARAMETERS = (*_ONCE, *LABELS)
_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)
ENOUGH_REVIEWS = 20
"""Of a point of the chart, by the median of all points: with fewer, lines leap between 0 and 100 %."""
_MOST_POINTS, _LEAST_POINTS = 200, 12
_STEPS = [timedelta(minutes=n) for n in (1, 5, 15, 60, 360, 1440)]
_MONDAY = datetime(2000, 1, 3, tzinfo=UTC)  # DuckDB's time_bucket counts from there
_LONGEST_TEXT = 200


@dataclass(frozen=True)
class View:
    """Hashable: viewers of equal views are shown the same bytes. Without `since` the range ends now.

    `where`: the values that a label may have, sorted. `find`: what a line's or row's labels must contain.
    """

    range: str = "1h"
    since: datetime | None = None
    until: datetime | None = None
    by: tuple[Label, ...] = ("segment",)
    where: tuple[tuple[Label, tuple[str, ...]], ...] = ()
    find: str = ""
    top: int = 8
    rate: Rate = "plain"

    def question(self, now: datetime, by: tuple[Label, ...] = ()) -> Question:
        """Of the whole range, the running minute and so many whole ones before it where it ends now."""
        running = _whole(now)
        until = running + _MINUTE if self.until is None else _whole(self.until + _MINUTE - timedelta.resolution)
        since = running - RANGES[self.range] if self.since is None else _whole(self.since)
        where: Mapping[Label, tuple[str, ...]] = dict(self.where)
        return Question(since, until, by, where=where).rounded()

    def shows(self, labels: Mapping[str, str]) -> bool:
        """Whether one of these labels contains what is looked for, in whatever case."""
        wanted = self.find.casefold()
        return not wanted or any(wanted in value.casefold() for value in labels.values())


def parse(parameters: Iterable[tuple[str, str]]) -> View:
    """The view of a page's query parameters. Raises ConfigurationError: which is wrong, and what is allowed."""
    given: dict[str, list[str]] = defaultdict(list)
    for name, value in parameters:
        if name not in PARAMETERS:
            raise ConfigurationError(f"no parameter {name[:40]!r}: there are {', '.join(PARAMETERS)}")
        given[name].append(value)
    if twice := [name for name in _ONCE if len(given[name]) > 1]:
        raise ConfigurationError(f"{twice[0]}: give it once")
    once = {name: given[name][0] for name in _ONCE if given[name]}
    since, until = (_time(name, once[name]) if name in once else None for name in ("since", "until"))
    if until is not None and since is None:
        raise ConfigurationError("until: give since as well")
    if since is not None and "range" in once:
        raise ConfigurationError("range: give it, or since and until, not both")
    if since is not None and until is not None and since >= until:
        raise ConfigurationError(f"no time lies between {since.isoformat()} and {until.isoformat()}")
    by = tuple(dict.fromkeys(filter(None, map(str.strip, once.get("by", "segment").split(",")))))
    for name in by:
        _one_of("by", name, LABELS)
    if any(len(value) > _LONGEST_TEXT for values in given.values() for value in values):
        raise ConfigurationError(f"a value is longer than {_LONGEST_TEXT} characters")
    return View(
        "" if since else _one_of("range", once.get("range", "1h"), tuple(RANGES)),
        since,
        until,
        cast(tuple[Label, ...], by),
        tuple((label, tuple(sorted(set(given[label])))) for label in LABELS if given[label]),
        once.get("find", "").strip(),
        _lines(once.get("top", "8")),
        cast(Rate, _one_of("rate", once.get("rate", "plain"), get_args(Rate))),
    )


def chart_steps(question: Question) -> list[timedelta]:
    """How far apart the chart's points may be, finest first: at most some 200 points, and 12 where there can be."""
    length = question.until - question.since
    least = max(_HOUR if question.long else _MINUTE, length / _MOST_POINTS)
    days = timedelta(days=-(-least // timedelta(days=1)))
    finest, *coarser = [step for step in _STEPS if step >= least] or [days]
    return [finest, *(step for step in coarser if length / step >= _LEAST_POINTS)]


def chart_step(
    steps: Sequence[timedelta], reviews: Callable[[timedelta], Sequence[int]], before: timedelta | None = None
) -> timedelta:
    """The finest of the steps whose points have ENOUGH_REVIEWS; the coarsest where none has.

    `reviews`: of each point that has any, with this step. The step `before` stays until its points have less than half
    of what is enough, or those of a finer one twice that: a chart shall not change with every review.
    """
    if not reviews(steps[0]):
        return steps[0]
    typical = {step: statistics.median(reviews(step)) for step in steps}
    if before in typical and typical[before] >= ENOUGH_REVIEWS / 2:
        finer = [typical[step] for step in steps if step < before]
        if all(number < 2 * ENOUGH_REVIEWS for number in finer):
            return before
    return next((step for step in steps if typical[step] >= ENOUGH_REVIEWS), steps[-1])


def stepped(question: Question, step: timedelta) -> Question:
    """The question by steps, from the begin of its first to the end of its last: none of them is cut."""
    until = step_of(question.until - timedelta.resolution, step) + step
    return replace(question, since=step_of(question.since, step), until=until, step=step)


def step_of(moment: datetime, step: timedelta) -> datetime:
    """When the step begins that a moment is in, as DuckDB's time_bucket has it."""
    return _MONDAY + (moment - _MONDAY) // step * step


def spark_step(question: Question) -> timedelta:
    """A 24th of the range, without the running minute (or hour, where it is long), in whole ones."""
    unit = _HOUR if question.long else _MINUTE
    return max(unit, -(-(question.until - question.since - unit) // (SPARK_STEPS * unit)) * unit)


def starts(question: Question, step: timedelta) -> list[int]:
    """When each step of the range begins, Unix seconds: as the answers to the question with this step have it."""
    first = step_of(question.since, step)
    seconds = int(step.total_seconds())
    return list(range(int(first.timestamp()), int(question.until.timestamp()), seconds))


def _whole(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _time(name: str, text: str) -> datetime:
    try:
        # a plus in an address is a space, if nobody took care
        found = datetime.fromisoformat(re.sub(r" (?=\d\d:\d\d$)", "+", text))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigurationError(f"{name}: write a time as 2026-01-31T12:00Z, not {text[:40]!r}") from None


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ConfigurationError(f"{name}: one of {', '.join(allowed)}, not {value[:40]!r}")
    return value


def _lines(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,2}", text) or not 1 <= int(text) <= MOST_LINES:
        raise ConfigurationError(f"top: a number from 1 to {MOST_LINES}, not {text[:40]!r}")
    return int(text)
