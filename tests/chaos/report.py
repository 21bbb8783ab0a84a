"""What came of the rounds: one table, and of each failure what somebody needs who wants to see it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_HEAD = (
    "| fault | times | lost | double | wrong | longest stall of the join | of the lake |",
    "|-|-:|-:|-:|-:|-:|-:|",
)


@dataclass
class Row:
    """One round. `events` are those in the raw topics, stalls are in seconds, `problem` is why the round failed."""

    fault: str
    times: int = 0
    events: int = 0
    lost: int = 0
    double: int = 0
    wrong: int = 0
    join_stall: float = 0.0
    lake_stall: float = 0.0
    seconds: float = 0.0
    kills: int = 0
    """Processes that ended by SIGKILL."""
    named: list[str] = field(default_factory=list)
    """The events concerned, by name."""
    problem: str | None = None
    skipped: str | None = None
    """Why there was no round on this machine."""
    logs: dict[str, str] = field(default_factory=dict)
    """The end of each process's log, where the round failed."""
    folder: Path | None = None
    """Where everything was kept, if the round failed."""

    @property
    def failed(self) -> bool:
        return self.problem is not None or bool(self.lost or self.double or self.wrong)

    @property
    def outcome(self) -> str:
        """In a few words, and why it failed."""
        if self.failed:
            return f"FAILED ({self.problem or '; '.join(self.named)})"
        return f"SKIPPED ({self.skipped})" if self.skipped else "nothing found"


def table(rows: Sequence[Row]) -> str:
    """Markdown. A round that did not get as far as a verdict has no counts."""
    return "\n".join((*_HEAD, *map(_line, rows)))


def summary(rows: Sequence[Row], seed: int, seconds: float) -> str:
    """The line below the table."""
    events, kills, failed = (
        sum(row.events for row in rows),
        sum(row.kills for row in rows),
        sum(r.failed for r in rows),
    )
    outcome = f"{failed} of {len(rows)} rounds failed" if failed else f"{len(rows)} rounds, nothing found"
    return f"Seed {seed}: {outcome}; {events:,} events, {kills} kills, {seconds:.0f} s."


def failure(row: Row, seed: int) -> str:
    """Of a round that failed: how to have it again, what was wrong, the ends of the logs."""
    parts = [f"FAILED: {row.fault}", f'Again: python -m tests.chaos --seed {seed} --only "{row.fault}"']
    if row.folder is not None:
        parts.append(f"Kept in {row.folder}")
    if row.problem is not None:
        parts.append(row.problem)
    parts += row.named
    parts += [f"--- end of {name}\n{tail}" for name, tail in row.logs.items()]
    return "\n".join(parts)


def as_json(rows: Sequence[Row], seed: int, seconds: float) -> dict[str, Any]:
    """For a script."""
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "failed": sum(row.failed for row in rows),
        "rounds": [{**asdict(row), "folder": row.folder and str(row.folder)} for row in rows],
    }


def _line(row: Row) -> str:
    if row.skipped is not None:
        return f"| {row.fault} | skipped | | | | | |"
    counts = ("?",) * 3 if row.problem is not None else (str(row.lost), str(row.double), str(row.wrong))
    cells = (row.fault, str(row.times), *counts, f"{row.join_stall:.1f} s", f"{row.lake_stall:.1f} s")
    return f"| {' | '.join(cells)} |"
