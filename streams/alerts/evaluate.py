"""Do the rules hold? From the counts as they are now: late feedback changes the answer for times that are over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from flyback.streams.alerts import sequential
from flyback.streams.alerts.rules import Counted, DeadLetters, Lag, NoPredictions, NoReviews, Rate, Rise, Rule
from flyback.streams.alerts.table import Labels, Series, Table
from flyback.streams.rates import MINUTE, Counts, Estimate, plain_rate, weighted_rate


@dataclass(frozen=True)
class Observed:
    """What rules look at. None: not known here and now, so that alerts of such rules stay as they are.

    `dead_letters` are counts by minute (microseconds UTC) and topic without the prefix, `lag` the seconds that a reader
    (`worker`, `sink`) is behind.
    """

    table: Table
    dead_letters: Mapping[tuple[int, str], int] | None = None
    lag: Mapping[str, float] | None = None


class Evaluation(NamedTuple):
    """One rule's answer for one combination of labels.

    `holds`: an alert begins, or goes on. `clears`: an alert that fires ends. Neither: what is, stays. `said` is the end
    of a sentence for a person. For rates, `estimate` is the rate with its 95 % interval.
    """

    labels: Labels
    value: float
    threshold: float
    holds: bool
    clears: bool
    said: str
    counts: Counts = Counts()
    estimate: Estimate | None = None


Evaluations = Mapping[str, list[Evaluation]]
"""By rule's name; a rule that cannot be answered now is left out."""


def evaluate(rules: Iterable[Rule], observed: Observed, now: int) -> Evaluations:
    """Every rule's answers, one for each combination of labels that the table has; `now` in microseconds UTC."""
    answers = {rule.name: _ANSWERS[type(rule)](rule, observed, now // MINUTE) for rule in rules}
    return {name: list(found) for name, found in answers.items() if found is not None}


def _rate(rule: Rate, observed: Observed, running: int) -> Iterator[Evaluation]:
    for labels, series in observed.table.series(rule).items():
        counts = series.total(running - rule.window, running)
        estimate = plain_rate(counts) if rule.rate == "plain" else weighted_rate(counts)
        rate = estimate.rate or 0.0
        value = rate if rule.bound == "rate" else estimate.low
        enough = estimate.reviews >= rule.at_least
        said = f"{_percent(estimate)}; the rule is above {rule.above:.1%}"
        if not enough:
            said = f"{_percent(estimate)}: fewer than {rule.at_least} are reviewed, so the rule says nothing"
        holds = enough and value > rule.above
        # the lower end moves with each review: an alert ends when the rate itself is back
        clears = not enough or rate <= rule.above
        yield Evaluation(labels, value, rule.above, holds, clears, said, counts, estimate)


def _rise(rule: Rise, observed: Observed, running: int) -> Iterator[Evaluation]:
    last = running - rule.settle
    first = (running - rule.window) // 60 * 60  # the baseline ends with a whole hour
    judged = {}
    for labels, series in observed.table.series(rule).items():
        baseline = series.total(first - rule.baseline, first - 1)
        if baseline.reviewed >= rule.at_least:
            judged[labels] = series, baseline
    threshold = sequential.threshold(rule.false_alarm_every, rule.window + 60, len(judged))
    for labels, (series, baseline) in judged.items():
        bound = sequential.bound(baseline.failures, baseline.reviewed)
        minutes = [(minute, each.reviewed, each.failures) for minute, each in series.between(first, last)]
        found = sequential.evidence(minutes, first, last, bound)
        recent = plain_rate(Counts(reviewed=found.reviewed, failures=found.failures))
        said = (
            f"{_percent(recent)} in the last {_duration(running - found.since + 1)}; "
            f"before it was {baseline.failures / baseline.reviewed:.1%}, at most {bound:.1%}"
        )
        holds, clears = found.wealth >= threshold, found.wealth < threshold / sequential.CLEARING
        counts = series.total(first, last)
        yield Evaluation(labels, found.wealth, threshold, holds, clears, said, counts, recent)


def _no_predictions(rule: NoPredictions, observed: Observed, running: int) -> Iterator[Evaluation]:
    for labels, series in observed.table.series(rule).items():
        newest = series.newest("predictions", running - rule.within, running)
        if newest is not None:
            yield _silence(rule, labels, series, running, newest, True, "prediction")


def _no_reviews(rule: NoReviews, observed: Observed, running: int) -> Iterator[Evaluation]:
    first = running - rule.within
    for labels, series in observed.table.series(rule).items():
        newest = series.newest("reviewed", first, running)
        enough = series.total(running - rule.window, running).predictions >= rule.at_least
        newest = first - 1 if newest is None else newest
        yield _silence(rule, labels, series, running, newest, enough, "reviewed prediction")


def _silence(
    rule: Counted, labels: Labels, series: Series, running: int, newest: int, enough: bool, what: str
) -> Evaluation:
    age = running - newest
    holds = enough and age > rule.window
    counts = series.total(running - rule.window, running)
    said = f"the newest {what} is {_duration(age)} old; the rule is {_duration(rule.window)}"
    return Evaluation(labels, age * 60.0, rule.window * 60.0, holds, not holds, said, counts)


def _dead_letters(rule: DeadLetters, observed: Observed, running: int) -> list[Evaluation] | None:
    if observed.dead_letters is None:
        return None
    letters = sum(
        letters
        for (minute, topic), letters in observed.dead_letters.items()
        if running - rule.window <= minute // MINUTE <= running and (not rule.topics or topic in rule.topics)
    )
    said = f"{letters:,} dead letters in the last {_duration(rule.window)}; the rule is more than {rule.above:,}"
    holds = letters > rule.above
    return [Evaluation(Labels(), letters, rule.above, holds, not holds, said)]


def _lag(rule: Lag, observed: Observed, running: int) -> list[Evaluation] | None:
    seconds = {} if observed.lag is None else dict(observed.lag)
    if rule.reader:
        seconds = {reader: lag for reader, lag in seconds.items() if reader == rule.reader}
    if not seconds:
        return None
    reader = max(seconds, key=lambda reader: seconds[reader])
    said = f"the {reader} is {seconds[reader]:,.0f} s behind; the rule is more than {rule.above:,.0f} s"
    holds = seconds[reader] > rule.above
    return [Evaluation(Labels(), seconds[reader], rule.above, holds, not holds, said)]


_ANSWERS: Mapping[type[Rule], Callable[[Any, Observed, int], Iterable[Evaluation] | None]] = {
    Rate: _rate,
    Rise: _rise,
    NoPredictions: _no_predictions,
    NoReviews: _no_reviews,
    DeadLetters: _dead_letters,
    Lag: _lag,
}


def _percent(estimate: Estimate) -> str:
    if estimate.rate is None:
        return "nothing is reviewed"
    interval = f"95 % interval {estimate.low:.1%} to {estimate.high:.1%}"
    return f"{estimate.rate:.1%} failed ({interval}, {estimate.reviews:,} reviewed)"


def _duration(minutes: int) -> str:
    for unit, length in (("d", 1_440), ("h", 60)):
        if minutes >= length and minutes % length == 0:
            return f"{minutes // length} {unit}"
    return f"{minutes} min"
