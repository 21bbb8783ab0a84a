"""Has the failure rate risen? A test that may be looked at every minute, with a bound on its false alarms.

The test is an e-detector (J. Shin, A. Ramdas, A. Rinaldo, "E-detectors: a nonparametric framework for sequential
change detection", New England Journal of Statistics in Data Science 2 (2024), section 2, the Shiryaev-Roberts kind):
each minute somebody begins to bet, one unit, that from this minute on predictions fail more often than `bound`. A bet
of the share λ multiplies the wealth by 1 + λ (y - bound) at each review, y = 1 for a failure (I. Waudby-Smith and
A. Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86 (2024), section 4). While the rate is at
most `bound`, no bet gains on average, so neither does the sum of all wealth, less one for each minute. Stopped where
that sum first reaches A, at least A minutes have passed on average. To look often costs nothing.

- Feedback comes late, and changes minutes that are over. A bet's wealth depends only on how many reviews and failures
  there are from its minute on, in whatever order they came, and each new review is a fair round of every bet that began
  at or before its minute. So it is computed anew from the present counts. Only a verdict that is changed is no new
  round: the test then is what it would have been with the last verdict from the start.
- Minutes before the window began no bet, which leaves wealth out and makes alarms fewer.
- All wealth falls as `bound` rises: where the bound is above the true rate at each look, it may move from look to look.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from flyback.streams.rates import wilson

BETS = (0.5, 1.0, 2.0, 4.0)
"""Each wealth is bet in equal parts at these λ: a small rate that rises by the factor 1 + λ makes λ grow fastest."""

Z99 = 2.3263478740408408
"""The baseline's rate is above the bound 1 time in 100."""

CLEARING = 10.0
"""An alert ends when the wealth is so many times smaller than what began it, lest it come and go."""

_MOST = 1e300
_LOG_MOST = 600.0


class Evidence(NamedTuple):
    """What speaks for a rise: all wealth, and the minutes from `since` on, whose reviews say it most clearly."""

    wealth: float
    since: int
    reviewed: int
    failures: int


def bound(failures: int, reviewed: int) -> float:
    """What a baseline's rate is at most, with 99 % confidence: the upper end of Wilson's interval."""
    return wilson(failures, reviewed, Z99)[1]


def evidence(minutes: Iterable[tuple[int, int, int]], first: int, last: int, bound: float) -> Evidence:
    """Look at the minutes from `first` to `last`: (minute, reviewed, failures) in order, empty ones may be left out.

    All wealth is summed by W ← (W + 1) · gain, once a minute. The minute that a rise is counted from is where the bet
    that won most has last begun to win (E. S. Page, "Continuous inspection schemes", Biometrika 41 (1954)).
    """
    seen = [(minute, reviewed, failures) for minute, reviewed, failures in minutes if reviewed]
    wealth, most, begin = 0.0, 0.0, len(seen)
    for bet in BETS:
        if bet * bound >= 1:  # it could lose more than it has
            continue
        won, lost = math.log1p(bet * (1 - bound)), math.log1p(-bet * bound)
        total, before, run, since = 0.0, first - 1, 0.0, 0
        for place, (minute, reviewed, failures) in enumerate(seen):
            gain = failures * won + (reviewed - failures) * lost
            total = min(_MOST, (total + minute - before) * math.exp(min(gain, _LOG_MOST)))
            before = minute
            run, since = (run + gain, since) if run > 0 else (gain, place)
        wealth += (total + last - before) / len(BETS)
        if run > most:
            most, begin = run, since
    since = seen[begin][0] if begin < len(seen) else last
    return Evidence(wealth, since, sum(each[1] for each in seen[begin:]), sum(each[2] for each in seen[begin:]))


def threshold(every: int, window: int, series: int) -> float:
    """The wealth at which to say that a rate has risen: on average at most one false alarm in `every` minutes.

    For so many series looked at side by side, together. At the first look the bets of one `window` have begun already.
    """
    return float((every + window) * max(1, series))
