"""`flyback demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flyback.cli import output
from flyback.cli.options import AsJson
from flyback.cli.services import BrokerChoice
from flyback.errors import ConfigurationError

if TYPE_CHECKING:
    from flyback.demo.run import Counts, Options
    from flyback.demo.summary import Summary
    from flyback.stack import BrokerKind

_STEPS = {
    "download": "fetch the texts (bytes)",
    "read": "read the texts",
    "start": "start broker, worker and sink",
    "send": "send events through the SDK",
    "joined": "join them (messages)",
    "landed": "write them to the lake (messages)",
    "compare": "compare stream with batch",
}
_INTERRUPTED = 130  # as shells say it


def demo(
    bootstrap: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Use this running Kafka, under a topic prefix of the run's own."),
    ] = None,
    broker: Annotated[BrokerChoice | None, typer.Option(help="The broker to start.", show_default="embedded")] = None,
    lake: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Where the lake goes.", show_default="in the run's folder"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Play only so many texts.", show_default="all 23,703")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Play in real time, with the dashboard, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Play 23,703 real texts, a real model and its real reviewers through the whole flywheel.

    Everything goes into a folder of the run's own, flyback-data/demo/TIME.
    Exits 0 if all events have landed and the stream derived what one pass
    over them derives.
    """
    if bootstrap and broker:
        raise ConfigurationError("--bootstrap and --broker exclude each other: give one")
    if live and as_json:
        raise ConfigurationError("--live has no result to print as JSON: leave --json out")
    from flyback.demo.run import Options

    kind: BrokerKind = "kafka" if broker is BrokerChoice.kafka else "embedded"
    options = Options(bootstrap, kind, lake, limit, output.program())
    if bootstrap:
        every = options.topic_prefix.replace(".", r"\.") + ".*"
        output.note(
            f"The run's topics, {options.topic_prefix}*, stay on {bootstrap} when it is over. To delete them:\n"
            f"  kafka-topics.sh --bootstrap-server {bootstrap} --delete --topic '{every}'"
        )
    else:
        where = "in memory" if kind == "embedded" else "in the run's folder, for the time of the run"
        output.note(f"The broker is {'embedded' if kind == 'embedded' else 'Apache Kafka'}, {where}.")
    if live:
        _play_live(options)
        return
    found = _play(options)
    if as_json:
        output.print_json(found.as_dict())
    else:
        _show(found)
    if not found.comparison.equal:
        raise typer.Exit(1)


def _play(options: Options) -> Summary:
    from flyback.cli.progress import Steps
    from flyback.demo.run import run

    try:
        with Steps(_STEPS) as progress:
            return run(options, progress)
    except KeyboardInterrupt:
        output.note("interrupted; nothing is left running")
        raise typer.Exit(_INTERRUPTED) from None


def _play_live(options: Options) -> None:
    from rich.live import Live
    from rich.text import Text

    from flyback.demo import summary
    from flyback.demo.run import run_live

    with Live(console=output.stderr(), auto_refresh=False) as line:

        def progress(step: str, done: int, total: int) -> None:
            line.update(Text(f"{_STEPS[step]} {done:,} of {total:,}"), refresh=True)

        def show(counts: Counts) -> None:
            line.update(Text(_sentence(counts)), refresh=True)

        def opened(address: str) -> None:
            output.print_line(f"Open {address}")

        lake = run_live(options, progress, show, output.note, opened)
    if lake is None:
        output.note("interrupted before it began")
        return
    output.print_line(f"stopped; the lake is {lake}\n\nNext:")
    for command in summary.next_commands(options.program, lake):
        output.print_line(f"  {command}")


def _sentence(counts: Counts) -> str:
    return (
        f"sent {counts.sent:,}   joined {counts.joined:,}   derived {counts.derived:,}   "
        f"rows in the lake {counts.rows:,}   (Ctrl-C stops)"
    )


def _show(found: Summary) -> None:
    rows = [
        (
            domain.domain,
            f"{domain.predictions:,}",
            f"{domain.reviewed:,}",
            f"{domain.failures:,}",
            "" if domain.failure_rate is None else f"{domain.failure_rate:.3f}",
            f"{domain.interval[0]:.3f} to {domain.interval[1]:.3f}",
            "" if domain.correlation is None else f"{domain.correlation:.3f}",
            f"{domain.paper_correlation:.3f}",
        )
        for domain in found.domains
    ]
    output.print_table(
        (
            "domain",
            "predictions",
            "reviewed",
            "failures",
            "failure rate",
            "95 % interval",
            "correlation",
            "in the paper",
        ),
        rows,
    )
    comparison = found.comparison
    derived = sum(comparison.derived.values())
    output.print_line("")
    output.print_line(f"training examples     {found.examples:,}")
    output.print_line(f"coaching moments      {found.coaching:,}")
    output.print_line(
        f"stream equals batch   {'yes' if comparison.equal else 'NO'} "
        f"({comparison.raw:,} raw events, {derived:,} derived rows, {comparison.rates:,} rate counts compared)"
    )
    for difference in comparison.differences:
        output.print_line(f"  {difference}")
    output.print_line(
        f"events                {found.events:,} in {found.seconds:.1f} s: {found.events_per_second:,.0f} a second"
    )
    output.print_line(f"lake                  {found.lake}")
    output.print_line("\nNext:")
    for command in found.next_commands:
        output.print_line(f"  {command}")
