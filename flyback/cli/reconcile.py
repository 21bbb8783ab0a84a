"""`flyback reconcile`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flyback.cli import output
from flyback.cli.options import AsJson, Bootstrap, Lake
from flyback.cli.progress import Steps
from flyback.errors import FlybackError

if TYPE_CHECKING:
    from flyback.reconcile import Finding

_STEPS = {"joined": "joined by the stream", "landed": "in the lake", "derived": "derived", "written": "written"}


def reconcile(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is missing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the lake holds what was written.")] = False,
    bootstrap: Bootstrap = None,
    lake: Lake = None,
    as_json: AsJson = False,
) -> None:
    """Derive what the stream could not: feedback later than the join window, pairs lost with the state.

    Compares the lake's raw events with its derived rows, and writes the missing ones with the ids they would have
    had. Workers and sinks go on meanwhile. Running it twice adds nothing.
    """
    from flyback import landing, logs, settings, topics
    from flyback.reconcile import reconcile as run
    from flyback.stack import signals_interrupt

    loaded = settings.load(bootstrap_servers=bootstrap, lake=lake)
    logs.configure(loaded)
    with output.stderr().status(f"Asking Kafka at {loaded.bootstrap_servers}"):
        topics.require(loaded)
    try:
        with signals_interrupt(), Steps(_STEPS) as progress:
            findings = run(loaded, progress, write=not dry_run)
            if wait and not dry_run:
                landing.wait_until_landed(loaded, progress, lambda: None)
    except KeyboardInterrupt:
        raise FlybackError("broken off: what was written counts. Run it again: it adds what is still missing") from None
    if as_json:
        output.print_json([{**asdict(found), "missing": found.missing} for found in findings])
    else:
        _show(findings, dry_run)


def _show(findings: list[Finding], dry_run: bool) -> None:
    columns = ("missing", "later than the window", "other", "too large", "refused", "written", "without raw events")
    output.print_table(
        ("topic", *columns),
        [
            (
                found.topic,
                found.missing,
                found.late,
                found.other,
                found.too_large,
                found.refused,
                found.written,
                found.without_raw,
            )
            for found in findings
        ],
    )
    for found in findings:
        for ids, count, what in (
            (found.too_large_ids, found.too_large, "do not fit the topic (twice FLYBACK_MAX_EVENT_BYTES)"),
            (
                found.refused_ids,
                found.refused,
                f"are dead letters of a sink: mend the cause, and `flyback dlq replay --topic {found.topic}` puts them "
                "back",
            ),
            (found.without_raw_ids, found.without_raw, "were derived from events that the lake does not hold"),
        ):
            if count:
                more = ", ..." if count > len(ids) else ""
                output.note(f"{found.topic}: {count} {what}: {', '.join(ids)}{more}")
    if dry_run and any(found.missing > found.too_large + found.refused for found in findings):
        output.note("nothing was written: run it without --dry-run")
