"""`flyback topology`: the graph of topics, writers and readers."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from flyback.cli import output


class Format(StrEnum):
    """How to print the topology."""

    text = "text"
    mermaid = "mermaid"
    asyncapi = "asyncapi"


def topology(
    form: Annotated[Format, typer.Option("--format", help="asyncapi is JSON, AsyncAPI 3.")] = Format.text,
) -> None:
    """Print every topic with its key, record, writer and readers."""
    from flyback import settings
    from flyback.cli import topology_formats as formats

    loaded = settings.load()
    if form is Format.asyncapi:
        output.print_json(formats.asyncapi(loaded))
    elif form is Format.mermaid:
        output.print_line(formats.mermaid(loaded))
    else:
        output.print_table(formats.COLUMNS, formats.rows(loaded))
