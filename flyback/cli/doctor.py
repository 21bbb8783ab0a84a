"""`flyback doctor`: what is wrong here, and how to mend it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from flyback.cli import output
from flyback.cli.options import AsJson, Bootstrap, Lake

if TYPE_CHECKING:
    from flyback.doctor.check import Check, Verdict

_STYLES: dict[Verdict, str] = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}
_COLUMNS = (9, 17)  # verdict, name


def doctor(bootstrap: Bootstrap = None, lake: Lake = None, as_json: AsJson = False) -> None:
    """Check brokers, topics, registry, offsets, state, lake and this machine. Exits 1 if a check failed.

    Each check is ok, a warning, failed, or skipped, and says how to mend what it found. Nothing is changed.
    """
    from flyback import settings
    from flyback.doctor import examine

    checks = []
    for check in examine(settings.load(bootstrap_servers=bootstrap, lake=lake)):
        checks.append(check)
        if not as_json:
            _print(check)
    verdicts = Counter(check.verdict for check in checks)
    if as_json:
        output.print_json({"ok": not verdicts["failed"], "checks": [asdict(check) for check in checks]})
    else:
        output.print_line("\n" + ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in _STYLES))
    if verdicts["failed"]:
        raise typer.Exit(1)


def _print(check: Check) -> None:
    first, second = _COLUMNS
    indent = " " * (first + second)
    console = output.stdout()
    head = Text(check.verdict.ljust(first), style=_STYLES[check.verdict]) + Text(check.name.ljust(second), style="bold")
    found = check.found.splitlines()
    console.print(head + Text(found[0]), soft_wrap=True)
    for line in found[1:]:
        console.print(Text(indent + line), soft_wrap=True)
    for line in (check.mend or "").splitlines():
        console.print(Text(f"{indent}mend: {line}"), soft_wrap=True)
