"""Counts by minute for tests of alerts, and the rules that they are looked at with."""

from __future__ import annotations

from flyback.streams.alerts.rules import Rule, parse
from flyback.streams.rates import MINUTE, Cell, Counts

RUNNING = 29_000_000
NOW = RUNNING * MINUTE + 17_000_000  # 17 s into a minute


def rule(kind: str, more: str = "", name: str = "r") -> Rule:
    """One rule of this kind; `more` are further lines."""
    (found,) = parse(f'[[rule]]\nname = "{name}"\nkind = "{kind}"\n{more}', "rules.toml")
    return found


def cell(
    ago: int, segment: str = "s", actor: str = "m", version: str = "1", kind: str = "MODEL", running: int = RUNNING
) -> Cell:
    """The cell of the minute so many before the running one."""
    return Cell((running - ago) * MINUTE, kind, actor, version, segment)


def reviewed(many: int, failures: int = 0, predictions: int | None = None) -> Counts:
    """Reviews, each of a prediction of its own."""
    return Counts(many if predictions is None else predictions, many, failures)
