"""`flyback bench`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flyback.cli import output
from flyback.cli.options import AsJson, Bootstrap
from flyback.errors import ConfigurationError

if TYPE_CHECKING:
    from flyback.bench.measure import Plan
    from flyback.bench.run import Report
    from flyback.settings import Settings

_STEPS = {
    "create": "make topics",
    "produce": "produce (events)",
    "sdk": "send through the SDK (events)",
    "consume": "consume (events)",
    "worker": "join (messages)",
    "latency": "join at a steady rate (events)",
    "sink": "write to the lake (rows)",
    "delete": "delete topics",
}
_ASK_BYTES = 2_000_000_000
_BAR = 20
_SHORT_SECONDS = 2.0
_INTERRUPTED = 130  # as shells say it


def bench(
    seconds: Annotated[float, typer.Option(min=1.0, help="How long each part is measured, about.")] = 10.0,
    event_bytes: Annotated[int, typer.Option(help="Size of an event.")] = 1_000,
    events: Annotated[
        int | None, typer.Option(min=100, help="Events of each part, however long it takes.", show_default="by time")
    ] = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Partitions of the topics.", show_default="as installed")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="For state and lake: a folder on the disk they will use.", show_default="a temporary one"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before more than 2 GB are written.")] = False,
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Measure what your Kafka and this machine carry, and say which part limits it.

    Takes about two minutes, on topics of its own under a random prefix, which
    are deleted at the end, and on Ctrl-C. Nothing that is installed is touched.
    """
    for needed in ("faust", "rocksdict", "deltalake"):  # by its processes, which start late
        if not _is_there(needed):
            raise ModuleNotFoundError(name=needed)
    from flyback import settings as all_settings
    from flyback.bench.events import LEAST_BYTES
    from flyback.bench.ground import installed
    from flyback.bench.measure import Plan
    from flyback.bench.run import run
    from flyback.cli.progress import Steps
    from flyback.stack import signals_interrupt

    loaded = all_settings.load(bootstrap_servers=bootstrap)
    if not LEAST_BYTES <= event_bytes <= loaded.max_event_bytes:
        most = f"{loaded.max_event_bytes} (FLYBACK_MAX_EVENT_BYTES)"
        raise ConfigurationError(f"--event-bytes {event_bytes} must be from {LEAST_BYTES} to {most}")
    plan = Plan(seconds, event_bytes, events)
    found = installed(loaded, partitions)
    _announce(found, plan, folder, yes)
    try:
        with signals_interrupt(), Steps(_STEPS) as progress:
            report = run(found, plan, folder, progress)
    except KeyboardInterrupt:
        output.note("interrupted; its topics are deleted and nothing is left running")
        raise typer.Exit(_INTERRUPTED) from None
    if as_json:
        output.print_json(report.as_dict())
    else:
        _show(report)


def _announce(settings: Settings, plan: Plan, folder: Path | None, yes: bool) -> None:
    """What will be created and written. Raises ConfigurationError where that is much, and nobody agrees."""
    from flyback.streams.topology import Topology

    output.note(
        f"On {settings.bootstrap_servers}: {len(Topology(settings).names)} topics {plan.topic_prefix}*, "
        f"{settings.partitions} partitions, {settings.replication_factor} replicas, deleted at the end. It writes "
        f"at most {plan.kafka_bytes / 1e6:,.0f} MB to Kafka, before compression and replication, and "
        f"{plan.disk_bytes / 1e6:,.0f} MB to {folder or 'the folder for temporary files (--folder)'}."
    )
    if plan.kafka_bytes <= _ASK_BYTES or yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError("that is more than 2 GB: give --yes, or fewer --events or --event-bytes")
    typer.confirm("Go on?", abort=True, err=True)


def _show(report: Report) -> None:
    verdict, parts = report.verdict, report.parts
    most = max(part.events_per_second for part in parts.values())
    output.print_table(
        ("part", "events/s", "", "MB/s", "CPU of a core", "limited by"),
        [
            (
                name + ("  <- narrowest" if name == verdict.narrowest else ""),
                f"{part.events_per_second:,.0f}",
                "#" * max(1, round(_BAR * part.events_per_second / most)),
                f"{part.mb_per_second:,.1f}",
                "" if part.cpu_percent is None else f"{part.cpu_percent:.0f} %",
                verdict.limits[name].by,
            )
            for name, part in parts.items()
        ],
    )
    output.print_line("")
    for name, text in _details(report):
        output.print_line(f"{name:<22}{text}")
    one, most_workers = verdict.worker_events_per_second, verdict.most_workers
    output.print_line(
        f"\nThe narrowest part is the {verdict.narrowest}, limited by {verdict.limits[verdict.narrowest].by}."
        f"\nNext: {verdict.limits[verdict.narrowest].next}"
        f"\nOne worker carries about {one:,.0f} events/s of {report.plan.event_bytes:,} bytes here; with "
        f"{report.partitions} partitions at most {most_workers} workers, each with a core of its own, about "
        f"{verdict.all_workers_events_per_second:,.0f} events/s."
    )
    if short := [name for name, part in parts.items() if part.seconds < _SHORT_SECONDS]:
        output.note(
            f"measured for less than {_SHORT_SECONDS:g} s, so only roughly: {', '.join(short)}. Give more --events"
        )


def _details(report: Report) -> Iterator[tuple[str, str]]:
    made, sdk, worker, sink = (report.parts[name].details for name in ("produce", "sdk", "worker", "sink"))
    latency = report.latency
    far = "" if report.connect_ms is None else f"; a connection takes {report.connect_ms:.2g} ms"
    yield "acknowledgement", f"p50 {made['ack_p50_ms']:.1f} ms, p99 {made['ack_p99_ms']:.1f} ms, one by one{far}"
    yield "predict()", f"p50 {sdk['call_p50_us']:.0f} us, p99 {sdk['call_p99_us']:.0f} us, in one service process"
    yield (
        "correction to example",
        f"p50 {latency.details['p50_ms']:.0f} ms, p99 {latency.details['p99_ms']:.0f} ms at "
        f"{latency.events_per_second:,.0f} events/s; a transaction takes {latency.details['transaction_ms']:.0f} ms",
    )
    yield "worker", f"{worker['transactions_percent']:.0f} % of the time in {worker['transactions']:,.0f} transactions"
    yield (
        "sink",
        f"{sink['commits']:,.0f} commits, {sink['disk_mb_per_second']:,.0f} MB/s to disk; "
        f"a plain file is written at {sink['disk_plain_mb_per_second']:,.0f} MB/s",
    )


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # it is imported already, and has no spec: Faust has none
        return True
