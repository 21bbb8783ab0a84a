"""Rate windows: what the last minutes and hours add up to. Pure: `now` is an argument.

A window of n minutes holds the running minute and the n whole minutes before it, by event time of the
prediction; minutes that are still to come are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import NamedTuple

WINDOWS: Mapping[str, int] = {"1m": 1, "5m": 5, "1h": 60, "24h": 1440}
"""Name and length in minutes, shortest first."""

LONGEST = max(WINDOWS.values())
MAX_SEGMENTS = 200
OTHER = "other"
_MINUTE = 60_000_000


class MinuteCounts(NamedTuple):
    """Absolute counts of one partition, event minute (microseconds UTC), kind of actor and segment.

    There may be several for the same: of several actors and versions.
    """

    partition: int
    minute: int
    actor_kind: str
    segment: str
    predictions: int
    reviewed: int
    failures: int


class Counts(NamedTuple):
    """What one window holds. `failures / reviewed` is the rate, and means nothing without `reviewed`."""

    predictions: int = 0
    reviewed: int = 0
    failures: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(
            self.predictions + other.predictions,
            self.reviewed + other.reviewed,
            self.failures + other.failures,
        )


class Row(NamedTuple):
    """Labels of one window's counts."""

    window: str
    actor_kind: str
    segment: str


def expired(minute: int, now: int) -> bool:
    """Whether a minute has left every window; both in microseconds UTC."""
    return now // _MINUTE - minute // _MINUTE > LONGEST


def totals(cells: Iterable[MinuteCounts], now: int) -> dict[Row, Counts]:
    """The counts of every window, summed over partitions and actors; `now` in microseconds UTC.

    Whoever appears in the longest window has a row in all of them, with zeros where nothing happened.
    """
    running = now // _MINUTE
    # for each kind and segment one slot a window, each with what the next shorter window does not hold
    slots: dict[tuple[str, str], list[list[int]]] = defaultdict(lambda: [[0, 0, 0] for _ in WINDOWS])
    lengths = list(WINDOWS.values())
    for cell in cells:
        age = running - cell.minute // _MINUTE
        if not 0 <= age <= LONGEST:
            continue
        slot = slots[cell.actor_kind, cell.segment][next(i for i, length in enumerate(lengths) if age <= length)]
        slot[0] += cell.predictions
        slot[1] += cell.reviewed
        slot[2] += cell.failures
    return {
        Row(window, *labels): counts
        for labels, added in slots.items()
        for window, counts in zip(WINDOWS, accumulate((Counts(*slot) for slot in added), Counts.plus), strict=True)
    }


def with_bounded_segments(rows: Mapping[Row, Counts], limit: int = MAX_SEGMENTS) -> dict[Row, Counts]:
    """The same counts with at most `limit` segments, those with most predictions; the rest is summed in `other`.

    The longest window decides, so that a segment does not move between windows.
    """
    longest = list(WINDOWS)[-1]
    sizes: dict[str, int] = defaultdict(int)
    for row, counts in rows.items():
        if row.window == longest:
            sizes[row.segment] += counts.predictions
    kept = set(sorted(sizes, key=lambda segment: (-sizes[segment], segment))[:limit])
    bounded: dict[Row, Counts] = defaultdict(Counts)
    for row, counts in rows.items():
        label = row if row.segment in kept else row._replace(segment=OTHER)
        bounded[label] = bounded[label].plus(counts)
    return dict(bounded)
