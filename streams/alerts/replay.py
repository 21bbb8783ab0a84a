"""When would a rule have fired? The same evaluation and the same states, minute for minute of a time that is over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from flyback.schemas.codec import Record
from flyback.streams.alerts import states
from flyback.streams.alerts.evaluate import Observed, evaluate
from flyback.streams.alerts.rules import Rule
from flyback.streams.alerts.table import Table
from flyback.streams.rates import MINUTE, Cell, Counts


class Change(NamedTuple):
    """What was added to a cell's counts, and when it was known: microseconds UTC, such as the arrival of the event."""

    known_at: int
    cell: Cell
    counts: Counts


def replay(
    rules: Sequence[Rule], history: Iterable[Change], since: int, until: int, every: int = 1
) -> Iterator[Record]:
    """The alerts that these rules would have given from `since` to `until` (microseconds UTC), as they would have come.

    Looks every so many minutes, each time at what was known by then, whatever was added later. The history should begin
    `horizon(rules)` before `since`. Dead letters and lag are not in it: such rules give no alert.
    """
    table = Table(rules)
    changes = iter(sorted(history, key=lambda change: change.known_at))
    change = next(changes, None)
    if change is None:
        return
    known: states.Known = {}
    begin, step = since // MINUTE * MINUTE, every * MINUTE
    silent = max(0, (change.known_at - begin) // step)  # before anything is known there is no alert
    for now in range(begin + silent * step, until + 1, step):
        while change is not None and change.known_at <= now:
            table.add(change.cell, change.counts)
            change = next(changes, None)
        known, records = states.step(known, rules, evaluate(rules, Observed(table), now), now)
        yield from records
