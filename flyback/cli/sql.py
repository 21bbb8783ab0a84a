"""`flyback sql`: a query over the lake's views."""

from __future__ import annotations

import csv
import sys
from typing import Annotated

import typer

from flyback.cli import output
from flyback.cli.options import AsJson, Lake
from flyback.cli.times import moment
from flyback.errors import ConfigurationError, LakeError


def sql(
    query: Annotated[str | None, typer.Argument(metavar="QUERY", help="SQL; `-` or none: read stdin.")] = None,
    lake: Lake = None,
    as_of: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The lake as it was then: 2026-01-31T12:00 (UTC unless it says)."),
    ] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Run SQL over the lake with DuckDB and print the result.

    The views: predictions, corrections, grades, examples, graded_examples,
    coaching, failure_rates, failure_rates_exact, alerts, dead_letters, reviews,
    examples_resolved, episodes, disputes.
    """
    if as_json and as_csv:
        raise ConfigurationError("--json and --csv exclude each other: give one")
    statement = _statement(query)
    from flyback import settings
    from flyback.sinks.lake import lake as open_lake

    at = None if as_of is None else moment("--as-of", as_of)
    import duckdb

    with open_lake(settings.load(lake=lake).lake, as_of=at) as connection:
        try:
            # only the lake's views are tables here, never a variable of this function
            connection.execute("set python_enable_replacements = false")
            found = connection.execute(statement)
            columns = [column[0] for column in found.description or ()]
            rows = found.fetchall() if columns else []
        except duckdb.Error as error:
            raise LakeError(f"DuckDB cannot run this query: {error}") from error
    if as_json:
        output.print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    else:
        output.print_table(columns, rows)


def _statement(given: str | None) -> str:
    if given not in (None, "-"):
        return str(given)
    if given is None and sys.stdin.isatty():
        raise ConfigurationError('no query: type `flyback sql "select ..."`, or pipe one in')
    statement = sys.stdin.read().strip()
    if not statement:
        raise ConfigurationError("no query: stdin was empty")
    return statement
