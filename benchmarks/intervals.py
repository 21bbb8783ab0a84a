"""How often the intervals of failure rates hold the true rate, where reviewers see some predictions more than others.

Uncertain predictions fail more often, and are reviewed ten times as often. Each line simulates so many histories, and
counts in how many of them the plain and the weighted interval, which say 95 %, hold the rate that predictions really
fail with. Needs no Kafka.

    python -m benchmarks.intervals --runs 2000
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from benchmarks import contest
from flyback.streams.rates import MILLIONTHS, Counts, Estimate, plain_rate, weighted_rate


@dataclass(frozen=True)
class World:
    """Predictions of two kinds: uncertain ones, `share` of all, fail and are reviewed with the first of each two."""

    predictions: int
    reviewed: tuple[float, float]
    failing: tuple[float, float]
    share: float = 0.2

    @property
    def rate(self) -> float:
        """With which a prediction fails."""
        return self.share * self.failing[0] + (1 - self.share) * self.failing[1]

    def counts(self, chance: np.random.Generator) -> Counts:
        """One history, counted as the stream counts it."""
        uncertain = chance.random(self.predictions) < self.share
        failed = chance.random(self.predictions) < np.where(uncertain, *self.failing)
        probability = np.where(uncertain, *self.reviewed)
        reviewed = chance.random(self.predictions) < probability
        y, w = failed[reviewed], np.rint(MILLIONTHS / probability[reviewed])
        w2 = np.rint(MILLIONTHS / probability[reviewed] ** 2)
        sums = (w.sum(), w[y].sum(), w2.sum(), w2[y].sum())
        many = int(reviewed.sum())
        return Counts(self.predictions, many, int(y.sum()), many, *map(int, sums))


@dataclass(frozen=True)
class Coverage:
    """In which share of the histories an interval held the true rate; and how wide it was, on average."""

    world: World
    reviews: float
    plain: float
    weighted: float
    plain_width: float
    weighted_width: float


WORLDS = (
    World(500, (0.5, 0.05), (0.4, 0.05)),
    World(2_000, (0.5, 0.05), (0.4, 0.05)),
    World(5_000, (0.5, 0.05), (0.4, 0.05)),
    World(2_000, (0.2, 0.02), (0.4, 0.05)),
    World(2_000, (0.5, 0.05), (0.2, 0.01)),
    World(10_000, (0.1, 0.01), (0.3, 0.02)),
    World(2_000, (0.1, 0.1), (0.1, 0.1)),
)


def covered(world: World, runs: int, seed: int = 1) -> Coverage:
    """Simulate so many histories."""
    chance = np.random.default_rng(seed)
    counts = [world.counts(chance) for _ in range(runs)]
    plain, weighted = [plain_rate(each) for each in counts], [weighted_rate(each) for each in counts]

    def holding(estimates: list[Estimate]) -> float:
        return sum(each.low <= world.rate <= each.high for each in estimates) / runs

    def width(estimates: list[Estimate]) -> float:
        return sum(each.high - each.low for each in estimates) / runs

    reviews = sum(each.reviewed for each in counts) / runs
    return Coverage(world, reviews, holding(plain), holding(weighted), width(plain), width(weighted))


def markdown(found: list[Coverage]) -> str:
    """One line a world."""
    columns = ("predictions, reviewed and failing", "true rate", "reviews", "plain", "width", "weighted", "width")
    rows = []
    for each in found:
        pairs = zip(each.world.reviewed, each.world.failing, strict=True)
        kinds = (f"{reviewed:.0%} of those failing {failing:.0%}" for reviewed, failing in pairs)
        what = f"{each.world.predictions:,}: {', '.join(kinds)}"
        numbers = (each.world.rate, each.plain, each.plain_width, each.weighted, each.weighted_width)
        rate, *rest = (f"{number:.1%}" for number in numbers)
        rows.append((what, rate, f"{each.reviews:,.0f}", *rest))
    return contest.table(columns, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.intervals", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=2_000, help="histories of each (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="JSON instead of the table")
    given = parser.parse_args()
    coverages = [covered(world, given.runs) for world in WORLDS]
    contest.report("intervals", coverages, markdown(coverages), given.json)
