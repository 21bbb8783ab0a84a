"""The counts by minute that rules look at, summed as they ask for: kept up to date a change at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from flyback.streams.alerts.rules import LABELS, Counted, Rule
from flyback.streams.rates import MINUTE, Cell, Counts

_HOUR = 60
_NOTHING = Counts()


class Labels(NamedTuple):
    """Whom a value is about; None stands for all."""

    actor: str | None = None
    version: str | None = None
    segment: str | None = None

    def __str__(self) -> str:
        named = zip(self._fields, self, strict=True)
        return ", ".join(f"{name} {value}" for name, value in named if value is not None)


class Selection(NamedTuple):
    """Which cells a rule looks at, and which of their labels it tells apart."""

    by: frozenset[str]
    kinds: frozenset[str]
    actors: frozenset[str]
    versions: frozenset[str]
    segments: frozenset[str]

    @classmethod
    def of(cls, rule: Counted) -> Selection:
        where = rule.where
        parts = (rule.by, where.actor_kind, where.actor, where.version, where.segment)
        return cls(*map(frozenset, parts))

    def labels(self, cell: Cell) -> Labels | None:
        """Where the cell belongs; None where it is not looked at."""
        for wanted, label in zip(self[1:], cell[1:], strict=True):
            if wanted and label not in wanted:
                return None
        return Labels(*(getattr(cell, name) if name in self.by else None for name in LABELS))


class Series:
    """Counts by minute (numbered since the epoch) of whatever was added. Hours are summed, for long windows."""

    def __init__(self, coarse: int = 0) -> None:
        """Hours before `coarse` (numbered since the epoch) are kept as sums only."""
        self._hours: dict[int, Counts] = {}
        self._minutes: dict[int, dict[int, Counts]] = {}
        self._coarse = coarse

    def __bool__(self) -> bool:
        return bool(self._hours)

    def add(self, minute: int, change: Counts) -> None:
        """Add to one minute, or take from it."""
        hour = minute // _HOUR
        self._hours[hour] = self._hours.get(hour, _NOTHING).plus(change)
        if hour < self._coarse:
            return
        minutes = self._minutes.setdefault(hour, {})
        minutes[minute] = minutes.get(minute, _NOTHING).plus(change)

    def forget(self, before: int, coarse: int) -> None:
        """Drop the hours before the first of these, and all but the sums of those before the second."""
        self._coarse = max(self._coarse, coarse)
        self._hours = {hour: sums for hour, sums in self._hours.items() if hour >= before}
        self._minutes = {hour: minutes for hour, minutes in self._minutes.items() if hour >= self._coarse}

    def total(self, first: int, last: int) -> Counts:
        """The sum of these minutes, both included."""
        return Counts.total([_NOTHING, *self._parts(first, last)])

    def between(self, first: int, last: int) -> Iterator[tuple[int, Counts]]:
        """These minutes in order, both ends included, as far as something was added to them."""
        for hour in self._between(first, last):
            minutes = self._minutes.get(hour, {})
            yield from ((minute, minutes[minute]) for minute in sorted(minutes) if first <= minute <= last)

    def newest(self, field: str, first: int, last: int) -> int | None:
        """The newest of these minutes in which this count is not zero; of an hour that is only a sum, its last."""
        for hour in reversed(self._between(first, last)):
            if getattr(self._hours[hour], field):
                if hour < self._coarse:
                    return min(last, hour * _HOUR + _HOUR - 1)
                minutes = self.between(max(first, hour * _HOUR), min(last, hour * _HOUR + _HOUR - 1))
                found = [minute for minute, counts in minutes if getattr(counts, field)]
                if found:
                    return found[-1]
        return None

    def _parts(self, first: int, last: int) -> Iterator[Counts]:
        for hour in self._between(first, last):
            begin, end = hour * _HOUR, hour * _HOUR + _HOUR - 1
            if first <= begin and end <= last:
                yield self._hours[hour]
            else:
                yield from (counts for _, counts in self.between(max(first, begin), min(last, end)))

    def _between(self, first: int, last: int) -> list[int]:
        """The hours, in order, to which something was added."""
        return sorted(hour for hour in self._hours if first // _HOUR <= hour <= last // _HOUR)


class Table:
    """The counts that some rules look at. Cells may come in any order, from any partition, and change at any time.

    One series for each combination of labels that a rule tells apart: its windows are not summed from all cells anew.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = [rule for rule in rules if isinstance(rule, Counted)]
        self._series: dict[Selection, dict[Labels, Series]] = {Selection.of(rule): {} for rule in self._rules}
        self._coarse = dict.fromkeys(self._series, 0)

    @classmethod
    def of(cls, rules: Iterable[Rule], cells: Iterable[tuple[Cell, Counts]]) -> Table:
        """The table of these counts; those of one cell in several partitions are added."""
        table = cls(rules)
        for cell, counts in cells:
            table.add(cell, counts)
        return table

    def add(self, cell: Cell, change: Counts) -> None:
        """Add to one cell: its new counts `minus` those it had before."""
        for selection, series in self._series.items():
            if (labels := selection.labels(cell)) is not None:
                if labels not in series:
                    series[labels] = Series(self._coarse[selection])
                series[labels].add(cell.minute // MINUTE, change)

    def as_minute(self, minute: int) -> int:
        """A minute (microseconds UTC) that stands for this one: its hour's first, where only the hour's sum is kept."""
        hour = minute // (_HOUR * MINUTE)
        return hour * _HOUR * MINUTE if hour < min(self._coarse.values(), default=0) else minute

    def forget(self, now: int) -> None:
        """Drop what no rule looks at any more at this time, microseconds UTC; worth while once an hour."""
        for selection, series in self._series.items():
            rules = [rule for rule in self._rules if Selection.of(rule) == selection]
            before = (now // MINUTE - max(rule.horizon for rule in rules)) // _HOUR
            coarse = (now // MINUTE - max(rule.minutes_kept for rule in rules)) // _HOUR
            self._coarse[selection] = max(self._coarse[selection], coarse)
            for labels in list(series):
                series[labels].forget(before, coarse)
                if not series[labels]:
                    del series[labels]

    def series(self, rule: Counted) -> Mapping[Labels, Series]:
        """By labels, what such a rule looks at. Raises KeyError for a rule that the table was not made for."""
        return self._series[Selection.of(rule)]
