"""How often "the failure rate has risen" is said though it has not, and how long it takes to say so when it has.

The rule is that of `streams/alerts/default.toml`, looked at every minute, for one segment by itself: a baseline of a
week, then weeks without a change; or a rise that stays, for at most three days. Reviews come at random, so many an hour
on average. Needs no Kafka.

    python -m benchmarks.alerts --runs 200 --weeks 2
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from benchmarks import contest
from flyback.streams.alerts import sequential
from flyback.streams.alerts.rules import Rise, defaults

RATES = (0.01, 0.05, 0.2)
VOLUMES = (6, 60, 600)  # reviews an hour
RISES = (1.5, 2.0, 3.0)
LONGEST_HOURS = 72
HOUR = 60

Numbers: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"


@dataclass(frozen=True)
class Quiet:
    """Alarms in so many weeks in which nothing changed."""

    rate: float
    reviews_an_hour: float
    weeks: float
    alarms: int

    @property
    def days_between(self) -> float:
        """From one alarm to the next, on average; with none, at least this time."""
        return self.weeks * 7 / max(1, self.alarms)


@dataclass(frozen=True)
class Delay:
    """From a rise to the alarm: medians and nine in ten, None where not so many were found."""

    rate: float
    reviews_an_hour: float
    rise: float
    found: float
    minutes: float | None
    minutes_of_nine_in_ten: float | None
    reviews: float | None


class Segments:
    """Many segments side by side, each with its own reviews by minute, looked at an hour at a time."""

    def __init__(self, rule: Rise, segments: int, rate: float, volume: float, seed: int) -> None:
        self.rule = rule
        self._chance = np.random.default_rng(seed)
        self._segments, self._volume = segments, volume
        hours = (rule.baseline + rule.window) // HOUR + 1
        self._reviewed, self._failures = self._drawn(rate, hours * HOUR)

    def hour(self, rate: float) -> tuple[Numbers, Numbers]:
        """Let an hour pass in which predictions fail at this rate: all wealth at each minute, and its reviews."""
        rule, minutes = self.rule, self.rule.window + HOUR
        reviewed, failures = self._drawn(rate, HOUR)
        self._reviewed = np.concatenate([self._reviewed[HOUR:], reviewed])
        self._failures = np.concatenate([self._failures[HOUR:], failures])
        past = slice(len(self._reviewed) - minutes - rule.baseline, len(self._reviewed) - minutes)
        sums = self._failures[past].sum(axis=0), self._reviewed[past].sum(axis=0)
        bounds = np.array([sequential.bound(int(k), int(n)) for k, n in zip(*sums, strict=True)])
        return wealth(self._reviewed[-minutes:], self._failures[-minutes:], bounds), reviewed

    def _drawn(self, rate: float, minutes: int) -> tuple[Numbers, Numbers]:
        reviewed = self._chance.poisson(self._volume / HOUR, (minutes, self._segments))
        return reviewed.astype(float), self._chance.binomial(reviewed, rate).astype(float)


def wealth(reviewed: Numbers, failures: Numbers, bounds: Numbers) -> Numbers:
    """`sequential.evidence` at each minute of the last hour: arrays of (minutes, segments), and a bound a segment."""
    bets = np.array(sequential.BETS)[:, None]
    fair = bets * bounds < 1
    lost = np.log1p(-np.where(fair, bets * bounds, 0))
    gains = failures[:, None] * np.log1p(bets * (1 - bounds)) + (reviewed - failures)[:, None] * lost
    gains[:, ~fair] = -np.inf
    factors = np.exp(np.minimum(gains, 600))
    total, run, peak = np.zeros((3, *fair.shape))
    found = []
    for gain, factor in zip(gains, factors, strict=True):
        total = np.minimum((total + 1) * factor, 1e300)
        begins = run <= 0
        run = np.where(begins, 0, run) + gain
        peak = np.maximum(np.where(begins, 0, peak), run)
        leading, best = peak.argmax(axis=0), peak.max(axis=0)
        over = (best >= sequential.RECOVERED) & (best - run[leading, np.arange(len(bounds))] >= sequential.RECOVERED)
        if over.any():
            total[:, over] = run[:, over] = peak[:, over] = 0
        found.append(total.sum(axis=0) / len(bets))
    return np.array(found[-HOUR:])


def quiet(rule: Rise, rate: float, volume: float, segments: int, weeks: float, seed: int = 1) -> Quiet:
    """Let nothing happen."""
    side_by_side = Segments(rule, segments, rate, volume, seed)
    enough = sequential.threshold(rule.false_alarm_every, rule.window + HOUR, 1)
    firing, alarms = np.zeros(segments, bool), 0
    for _ in range(round(weeks * 7 * 24)):
        for found in side_by_side.hour(rate)[0]:
            alarms += int((~firing & (found >= enough)).sum())
            firing = np.where(firing, found >= enough / sequential.CLEARING, found >= enough)
    return Quiet(rate, volume, weeks * segments, alarms)


def delay(rule: Rise, rate: float, volume: float, rise: float, segments: int, seed: int = 1) -> Delay:
    """Let the rate rise by this factor after the baseline and a window."""
    side_by_side = Segments(rule, segments, rate, volume, seed)
    enough = sequential.threshold(rule.false_alarm_every, rule.window + HOUR, 1)
    minutes, reviews = np.full(segments, np.inf), np.zeros(segments)
    for hour in range(LONGEST_HOURS):
        found, reviewed = side_by_side.hour(min(1.0, rate * rise))
        for minute in range(HOUR):
            reviews += np.where(np.isinf(minutes), reviewed[minute], 0)
            minutes = np.where(np.isinf(minutes) & (found[minute] >= enough), hour * HOUR + minute + 1, minutes)
        if np.isfinite(minutes).all():
            break

    def at(share: float, values: Numbers) -> float | None:
        found_one = float(np.quantile(values, share, method="higher"))
        return found_one if np.isfinite(found_one) else None

    reviewed_until = np.where(np.isfinite(minutes), reviews, np.inf)
    share = float(np.isfinite(minutes).mean())
    return Delay(rate, volume, rise, share, at(0.5, minutes), at(0.9, minutes), at(0.5, reviewed_until))


def markdown(alarms: list[Quiet], delays: list[Delay]) -> str:
    """A table of false alarms, and one of delays."""
    first = contest.table(
        ("true rate", "reviews an hour", "weeks", "false alarms", "days between them"),
        (
            (f"{each.rate:.0%}", f"{each.reviews_an_hour:g}", f"{each.weeks:,.0f}", str(each.alarms), _days(each))
            for each in alarms
        ),
    )
    second = contest.table(
        ("rate rises", "reviews an hour", "found in 3 days", "after, median", "after, 9 in 10", "reviews, median"),
        (
            (
                f"{each.rate:.0%} to {each.rate * each.rise:.1%}",
                f"{each.reviews_an_hour:g}",
                f"{each.found:.0%}",
                _time(each.minutes),
                _time(each.minutes_of_nine_in_ten),
                "" if each.reviews is None else f"{each.reviews:,.0f}",
            )
            for each in delays
        ),
    )
    return f"{first}\n{second}"


def _days(each: Quiet) -> str:
    return f"{each.days_between:,.0f}" if each.alarms else f"over {each.days_between:,.0f}"


def _time(minutes: float | None) -> str:
    if minutes is None:
        return ""
    return f"{minutes:.0f} min" if minutes < 2 * HOUR else f"{minutes / HOUR:.1f} h"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.alerts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200, help="segments of each kind (default: %(default)s)")
    parser.add_argument("--weeks", type=float, default=2, help="weeks without a change (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="JSON instead of the tables")
    given = parser.parse_args()
    rises = next(rule for rule in defaults() if isinstance(rule, Rise))
    alarms = [quiet(rises, rate, volume, given.runs, given.weeks) for rate in RATES for volume in VOLUMES]
    delays = [delay(rises, rate, volume, rise, given.runs) for rate in RATES for volume in VOLUMES for rise in RISES]
    contest.report("alerts", [*alarms, *delays], markdown(alarms, delays), given.json)
