"""`flyback rates`: failure rates in the terminal, from the stream's own counts."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyback.cli import output
from flyback.cli.options import AsJson, Bootstrap
from flyback.cli.times import duration, moment_or_ago
from flyback.errors import ConfigurationError

if TYPE_CHECKING:
    from flyback.dashboards.questions import Question, Row
    from flyback.streams.rates import Estimate

WATCH_SECONDS = 2.0
_PATIENCE = 120.0
_COLUMNS = ("predictions", "reviewed", "failures", "rate", "95 %", "weighted", "95 %")


def rates(
    by: Annotated[
        str, typer.Option(metavar="LABELS", help="Apart by these: actor_kind, actor, version, segment.")
    ] = "actor_kind",
    since: Annotated[str, typer.Option(metavar="TIME", help="From then, or so long ago, on.")] = "1h",
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before then.", show_default="now")] = None,
    step: Annotated[str | None, typer.Option(metavar="DURATION", help="Apart by time as well: 5m, 1h.")] = None,
    where: Annotated[list[str] | None, typer.Option(metavar="LABEL=VALUE", help="Only these; may be repeated.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds, until Ctrl-C.")] = False,
    as_sql: Annotated[
        bool, typer.Option("--sql", help="Print the query that gives the same from the lake, and ask nothing.")
    ] = False,
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Show how often predictions failed, by when they were made, with 95 % intervals.

    "rate" is of what was reviewed. "weighted" is of all predictions, from
    reviews with a sampling probability. The worst come first: by what their
    rate is at least.
    """

    def question() -> Question:
        return _question(datetime.now(UTC), by, since, until, step, where or [])

    asked = question()
    if as_sql:
        output.print_line(asked.sql())
        return
    from flyback import settings
    from flyback.dashboards.feed import Feed
    from flyback.dashboards.rate_store import RateStore
    from flyback.schemas.catalog import open_catalog

    loaded = settings.load(bootstrap_servers=bootstrap)
    store = RateStore()
    with Feed(loaded, open_catalog(loaded), store) as feed:
        with output.stderr().status(f"Reading failure rates from {loaded.bootstrap_servers}"):
            feed.until_live(_PATIENCE)
        if not watch:
            _print(asked, store.ask(asked), as_json)
            return
        try:
            while True:
                asked = question()
                output.stdout().clear()  # nothing where it is no terminal
                _print(asked, store.ask(asked), as_json, lines=True)
                if feed.following.error:
                    output.complain(feed.following.error)
                time.sleep(WATCH_SECONDS)
        except KeyboardInterrupt:
            return


def _question(now: datetime, by: str, since: str, until: str | None, step: str | None, where: list[str]) -> Question:
    from flyback.dashboards.questions import Question

    minute = timedelta(minutes=1)
    chosen: dict[Any, list[str]] = {}
    for each in where:
        label, sign, value = each.partition("=")
        if not sign:
            raise ConfigurationError(f"--where {each}: write LABEL=VALUE, such as segment=amazon")
        chosen.setdefault(label, []).append(value)
    return Question(
        _whole(moment_or_ago("--since", since, now)),
        _whole(moment_or_ago("--until", until, now)) if until else _whole(now) + minute,
        tuple(filter(None, map(str.strip, by.split(",")))),  # type: ignore[arg-type]  # it checks them
        duration("--step", step) if step else None,
        chosen,
    ).rounded()


def _whole(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _print(question: Question, rows: list[Row], as_json: bool, lines: bool = False) -> None:
    if as_json:
        found = {
            "since": question.since.isoformat(),
            "until": question.until.isoformat(),
            "rates": [row.plain() for row in rows],
        }
        if lines:
            output.print_line(json.dumps(found))
        else:
            output.print_json(found)
        return
    from flyback.dashboards.questions import worst_first

    timed = question.step is not None
    shown = rows if timed else worst_first(rows)
    output.print_table([*(["from"] if timed else []), *question.by, *_COLUMNS], [_line(row) for row in shown])


def _line(row: Row) -> list[object]:
    from flyback.streams.rates import plain_rate, weighted_rate

    counts = row.counts
    start = [] if row.start is None else [f"{row.start:%Y-%m-%d %H:%M}"]
    shown = [text for estimate in (plain_rate(counts), weighted_rate(counts)) for text in _shown(estimate)]
    return [*start, *row.labels.values(), counts.predictions, counts.reviewed, counts.failures, *shown]


def _shown(estimate: Estimate) -> tuple[str | None, str | None]:
    if estimate.rate is None:
        return None, None
    return f"{estimate.rate:.1%}", f"{estimate.low:.1%} to {estimate.high:.1%}"
