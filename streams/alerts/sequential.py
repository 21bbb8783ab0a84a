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
- Minutes before the window began no bet, and after a rise is over all bets begin anew: that leaves wealth out, which
  makes alarms fewer.
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

RECOVERED = math.log(1_000)
"""A rise is over when what the best bet won has gone down by this factor."""

_MOST = 1e300
_LOG_MOST = 600.0


class Evidence(NamedTuple):
    """What speaks for a rise: all wealth, of the bets that `begun` or a later minute began.

    From `since` on the reviews say it most clearly: so many, with so many failures.
    """

    wealth: float
    begun: int
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

    When the bet that won most loses it again, the rise is over, and all who have bet until then leave: else an alert
    would outlast it for hours, and hide the next one. It is Page's test for the way back, as a bet's wealth is the
    likelihood of the rate at which it grows fastest, against that of the bound.
    """
    seen = [(minute, reviewed, failures) for minute, reviewed, failures in minutes if reviewed]
    begun = before = first - 1
    bets = _bets(bound)
    for place, (minute, reviewed, failures) in enumerate(seen):
        for bet in bets:
            bet.review(place, minute - before, reviewed, failures)
        before = minute
        leading = max(bets, key=lambda bet: bet.peak, default=None)
        if leading is not None and leading.peak >= RECOVERED <= leading.peak - leading.run:
            begun, bets = minute, _bets(bound)
    wealth = sum(bet.wealth + last - before for bet in bets) / len(BETS)
    leading = max(bets, key=lambda bet: bet.run, default=None)
    clearest = [] if leading is None or leading.run <= 0 else seen[leading.since :]
    since = clearest[0][0] if clearest else last
    return Evidence(wealth, begun + 1, since, sum(each[1] for each in clearest), sum(each[2] for each in clearest))


class _Bet:
    """All bets at one λ: what they have now, and the logarithm of what the one has that begins where it is best."""

    def __init__(self, bet: float, bound: float) -> None:
        self._won, self._lost = math.log1p(bet * (1 - bound)), math.log1p(-bet * bound)
        self.wealth = self.run = self.peak = 0.0
        self.since = 0

    def review(self, place: int, begun: int, reviewed: int, failures: int) -> None:
        """Take the reviews of one minute, for so many bets that have begun since the one before."""
        gain = failures * self._won + (reviewed - failures) * self._lost
        self.wealth = min(_MOST, (self.wealth + begun) * math.exp(min(gain, _LOG_MOST)))
        if self.run <= 0:
            self.run = self.peak = 0.0
            self.since = place
        self.run += gain
        self.peak = max(self.peak, self.run)


def _bets(bound: float) -> list[_Bet]:
    return [_Bet(bet, bound) for bet in BETS if bet * bound < 1]  # another could lose more than it has


def threshold(every: int, window: int, series: int) -> float:
    """The wealth at which to say that a rate has risen: on average at most one false alarm in `every` minutes.

    For so many series looked at side by side, together. At the first look the bets of one `window` have begun already.
    """
    return float((every + window) * max(1, series))
