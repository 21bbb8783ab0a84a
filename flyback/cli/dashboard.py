"""`flyback dashboard`: the live page, served until it is stopped."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyback.cli import output
from flyback.cli.options import Bootstrap, Lake, Sinks, Workers

if TYPE_CHECKING:
    from flyback.status import Status
    from flyback.status.lag import Lag


def dashboard(
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Listen there.", show_default="FLYBACK_DASHBOARD_HOST")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Listen there; 0: any free one.", show_default="FLYBACK_DASHBOARD_PORT"),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let everybody look who can reach it, without token or password.")
    ] = False,
    bootstrap: Bootstrap = None,
    lake: Lake = None,
    worker: Workers = None,
    sink: Sinks = None,
) -> None:
    """Show live failure rates on a page, until SIGTERM or Ctrl-C.

    It reads failure rates from Kafka and details from the lake, and changes
    neither. Elsewhere than on this machine it wants FLYBACK_DASHBOARD_TOKEN,
    or FLYBACK_DASHBOARD_USER and FLYBACK_DASHBOARD_PASSWORD.
    """
    from flyback import logs, settings
    from flyback.dashboards.access import Access
    from flyback.dashboards.server import run
    from flyback.schemas.catalog import open_catalog
    from flyback.status import examine

    loaded = settings.load(bootstrap_servers=bootstrap, lake=lake, dashboard_host=host, dashboard_port=port)
    logs.configure(loaded)
    access = Access.of(loaded, loaded.dashboard_host, insecure)

    def health() -> dict[str, Any]:
        return health_part(examine(loaded, worker or [], sink or []))

    run(loaded, open_catalog(loaded), access, health, lambda address: output.print_line(f"open {address}"))


def health_part(found: Status) -> dict[str, Any]:
    """What the page shows of `flyback status`."""
    commits = {
        "worker": [partition.last_commit for partition in found.partitions],
        "sink": [landed.last_commit for landed in found.sinks],
    }
    return {
        "verdict": found.verdict,
        "problems": found.problems,
        "unknown": found.unknown,
        "lags": [
            *_lags("worker", (lag for partition in found.partitions for lag in partition.lags)),
            *_lags("sink", (lag for landed in found.sinks for lag in landed.lags)),
        ],
        "last_commit": {process: _newest(times) for process, times in commits.items()},
        "restoring": [
            {"partition": each.partition, "restored": each.restored, "to_restore": each.to_restore}
            for each in found.restoring
        ],
    }


def _lags(process: str, lags: Iterable[Lag]) -> list[dict[str, Any]]:
    """One for each topic."""
    from flyback.status.lag import Total

    by_topic: dict[str, list[Lag]] = {}
    for lag in lags:
        by_topic.setdefault(lag.topic, []).append(lag)
    totals = {topic: Total.of(each) for topic, each in by_topic.items()}
    return [
        {"process": process, "topic": topic, "events": total.events, "seconds": total.seconds}
        for topic, total in totals.items()
    ]


def _newest(times: Iterable[float | None]) -> str | None:
    newest = max((time for time in times if time is not None), default=None)
    return None if newest is None else datetime.fromtimestamp(newest, UTC).isoformat()
