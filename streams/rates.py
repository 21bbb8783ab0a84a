"""Failure rates: which review decides, what it adds to a count, and what may be said of a count.

All sums are integers, so that the order of events cannot matter.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache
from typing import NamedTuple

from flyback.schemas.codec import Record
from flyback.streams.join import Arrived, within

MINUTE = 60_000_000
MILLIONTHS = 1_000_000
Z95 = 1.959963984540054


class Cell(NamedTuple):
    """What one count is kept for: an event minute (microseconds UTC), an actor, its version and a segment."""

    minute: int
    actor_kind: str
    actor: str
    version: str
    segment: str


class Counts(NamedTuple):
    """Absolute counts of one cell. The sums are in millionths, w = 1/p for a review sampled with probability p."""

    predictions: int = 0
    reviewed: int = 0
    failures: int = 0
    weighted_reviews: int = 0
    sum_w: int = 0
    sum_wy: int = 0
    sum_w2: int = 0
    sum_w2y: int = 0

    @classmethod
    def total(cls, counts: Iterable[Counts]) -> Counts:
        """The sum of any but no counts."""
        return cls(*map(sum, zip(*counts, strict=True)))

    def plus(self, other: Counts) -> Counts:
        """Element by element."""
        return Counts(*map(int.__add__, self, other))

    def minus(self, other: Counts) -> Counts:
        """Element by element."""
        return Counts(*map(int.__sub__, self, other))


class Correcting(NamedTuple):
    """A correction, in the order in which corrections win: the largest does."""

    authority: int
    occurred_at: int
    correction_id: str
    failed: bool
    probability: float | None


class Grading(NamedTuple):
    """A grade with a verdict, in the order in which grades decide: the largest id does."""

    grade_id: str
    passed: bool
    probability: float | None


Judgement = Correcting | Grading


def judgement_of(record: str, event: Record) -> Judgement | None:
    """What a feedback says of its prediction; None for a grade without a verdict."""
    probability = event["sampling_probability"]
    if record == "Correction":
        failed = event["verdict"] != "CONFIRMED"
        return Correcting(event["authority"], event["occurred_at"], event["correction_id"], failed, probability)
    return None if event["passed"] is None else Grading(event["grade_id"], event["passed"], probability)


class Review(NamedTuple):
    """The reviews of one prediction so far: its winning correction and its deciding grade."""

    correction: Correcting | None = None
    grade: Grading | None = None

    def with_feedback(self, record: str, event: Record) -> Review:
        """The review after one more correction or grade; the order of calls does not matter."""
        return self.plus(judgement_of(record, event))

    def plus(self, judgement: Judgement | None) -> Review:
        """The same for what the correction or grade says."""
        if isinstance(judgement, Correcting):
            wins = self.correction is None or judgement[:3] > self.correction[:3]
            return Review(judgement, self.grade) if wins else self
        if isinstance(judgement, Grading):
            decides = self.grade is None or judgement.grade_id > self.grade.grade_id
            return Review(self.correction, judgement) if decides else self
        return self

    def counts(self) -> Counts:
        """What this review adds to its cell. The winning correction decides, where there is none the deciding grade."""
        if self.correction is not None:
            failed, probability = self.correction.failed, self.correction.probability
        elif self.grade is not None:
            failed, probability = not self.grade.passed, self.grade.probability
        else:
            return Counts()
        y = int(failed)
        if probability is None:
            return Counts(reviewed=1, failures=y)
        w, w2 = round(MILLIONTHS / probability), round(MILLIONTHS / (probability * probability))
        return Counts(0, 1, y, 1, w, w * y, w2, w2 * y)


def cell_of(prediction: Record) -> Cell:
    """The cell that a prediction is counted in: its own event minute, whenever its feedback comes."""
    actor = prediction["actor"]
    minute = prediction["occurred_at"] // MINUTE * MINUTE
    return Cell(minute, actor["kind"], actor["name"], actor["version"], prediction["segment"])


def slack_ms(window_ms: int) -> int:
    """How far clocks may disagree: 5 minutes, or a sixth of a window that is shorter than half an hour."""
    return min(300_000, window_ms // 6)


def closes_at(cell: Cell, window_ms: int) -> int:
    """When a minute closes, ms: events that arrive then or later do not change its counts any more."""
    return cell.minute // 1000 + window_ms - slack_ms(window_ms)


@lru_cache(1_000)
def counted_arrivals(cell: Cell, window_ms: int) -> range:
    """The arrivals (ms) with which a prediction is counted: not from the future, and before its minute closes."""
    return range(cell.minute // 1000 - slack_ms(window_ms), closes_at(cell, window_ms))


def prediction_counts(cell: Cell, arrived_at: int, window_ms: int) -> bool:
    """Whether a prediction that arrived then (ms) is counted."""
    return arrived_at in counted_arrivals(cell, window_ms)


def batch(first_copies: Iterable[Arrived], window: timedelta) -> dict[tuple[int, Cell], Counts]:
    """Counts by (partition, cell) from the first copies of a history: the reference for the stream."""
    window_ms = window // timedelta(milliseconds=1)
    predictions: dict[tuple[str, str], Arrived] = {}
    feedback: dict[tuple[str, str], list[Arrived]] = defaultdict(list)
    for arrived in first_copies:
        episode = (arrived.event["task_id"], arrived.event["prediction_id"])
        if arrived.record == "Prediction":
            predictions[episode] = arrived
        else:
            feedback[episode].append(arrived)
    counts: dict[tuple[int, Cell], Counts] = defaultdict(Counts)
    for episode, prediction in predictions.items():
        cell = cell_of(prediction.event)
        if not prediction_counts(cell, prediction.arrived_at, window_ms):
            continue
        review = Review()
        for given in feedback[episode]:
            if within(prediction, given, window_ms) and given.arrived_at < closes_at(cell, window_ms):
                review = review.with_feedback(given.record, given.event)
        key = (prediction.partition, cell)
        counts[key] = counts[key].plus(Counts(predictions=1)).plus(review.counts())
    return dict(counts)


def wilson(failures: int, reviewed: int, z: float = Z95) -> tuple[float, float]:
    """Interval of a rate from `failures` of `reviewed`, (0, 1) where nothing was reviewed.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    return _wilson(failures / reviewed, reviewed, z) if reviewed else (0.0, 1.0)


def _wilson(rate: float, n: float, z: float) -> tuple[float, float]:
    centre = rate + z * z / (2 * n)
    spread = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


class Estimate(NamedTuple):
    """A failure rate with its 95 % interval, all between 0 and 1. `rate` is None where there are no `reviews`."""

    rate: float | None
    low: float
    high: float
    reviews: int
    """How many reviews it comes from."""


def plain_rate(counts: Counts) -> Estimate:
    """Of what was reviewed; of all predictions only where each was as likely to be reviewed as any other."""
    rate = counts.failures / counts.reviewed if counts.reviewed else None
    return Estimate(rate, *wilson(counts.failures, counts.reviewed), counts.reviewed)


def weighted_rate(counts: Counts, z: float = Z95) -> Estimate:
    """Of all predictions, from the reviews that were sampled with a known probability.

    The rate is that of J. Hájek, "Comment on a paper by D. Basu" (1971): Σw·y / Σw. The interval is Wilson's for as
    many reviews as would have, unweighted, the rate's linearised variance Σw²(y - rate)² / (Σw)² (C.-E. Särndal et al.,
    "Model Assisted Survey Sampling", 1992, 5.7). For it alone, half a failure and half a success of the weight Σw²/Σw
    are added, as A. Agresti and B. Coull ("Approximate is better than exact", 1998) add some of weight 1: without,
    few failures of large weight make it far too small. How often it is right: `benchmarks/intervals.py`.
    """
    if counts.sum_w == 0:
        return Estimate(None, 0.0, 1.0, 0)
    rate = counts.sum_wy / counts.sum_w
    half = counts.sum_w2 / counts.sum_w / 2
    sum_w, sum_wy = counts.sum_w / MILLIONTHS + 2 * half, counts.sum_wy / MILLIONTHS + half
    failed, passed = counts.sum_w2y / MILLIONTHS, (counts.sum_w2 - counts.sum_w2y) / MILLIONTHS
    near = sum_wy / sum_w
    variance = ((1 - near) ** 2 * (failed + 2 * half * half) + near**2 * (passed + 2 * half * half)) / sum_w**2
    reviews = near * (1 - near) / variance
    low, high = _wilson(near, reviews, z)
    return Estimate(rate, min(low, rate), max(high, rate), counts.weighted_reviews)
