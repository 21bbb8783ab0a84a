"""How commands talk: results on stdout (tables or JSON), everything else on stderr."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 100_000  # columns; a pipe has no width to fit, and nothing may be cut off there


def stdout() -> Console:
    """The console for results."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def stderr() -> Console:
    """The console for progress, notes and errors."""
    return Console(stderr=True, highlight=False)


def complain(message: str) -> None:
    """One clear line on stderr."""
    stderr().print(Text("error: ", style="bold red") + Text(message), soft_wrap=True)


def note(message: str) -> None:
    """Something worth knowing that is no result."""
    stderr().print(Text(message), soft_wrap=True)


def print_line(text: str) -> None:
    """One line of a result, as it is."""
    typer.echo(text)


def print_json(value: Any) -> None:
    """A result for a script: one JSON document. Times as ISO 8601, bytes as text where they are, else hex."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A result for a person; None shows as an empty cell, numbers stand to the right."""
    listed = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(listed) and all(
            isinstance(row[index], int | float) and not isinstance(row[index], bool) for row in listed
        )
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console = stdout()
    with console.capture() as rendered:
        console.print(table)
    for line in rendered.get().splitlines():
        typer.echo(line.rstrip())


def program() -> str:
    """What to type to run this program again: `flyback`, `.venv/bin/flyback` or `python -m flyback`."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return "python -m flyback"
    found = shutil.which("flyback")
    if found and Path(found).resolve() == started.resolve():
        return "flyback"
    here = Path.cwd()
    return str(started.relative_to(here)) if started.is_relative_to(here) else str(started)


def readable(content: bytes) -> str:
    """Bytes as text where they are UTF-8, else in hexadecimal."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.hex()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return readable(bytes(value))
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)
