"""`flyback topics create|check|list`."""

from __future__ import annotations

from dataclasses import asdict

import typer

from flyback.cli import output
from flyback.cli.options import AsJson, Bootstrap

app = typer.Typer(no_args_is_help=True, help="Make, check and list the topics.")


@app.command(epilog="Example:  flyback topics create --bootstrap localhost:9092")
def create(bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """Make the topics that are missing; existing ones are left as they are."""
    from flyback import settings, topics
    from flyback.streams.topology import Topology

    loaded = settings.load(bootstrap_servers=bootstrap)
    made = topics.create(loaded)
    existed = [name for name in Topology(loaded).names if name not in made]
    if as_json:
        output.print_json({"made": made, "existed": existed})
        return
    for name in made:
        output.print_line(f"made {name}")
    output.print_line(f"{len(made)} made, {len(existed)} were there already")


@app.command(epilog="Example:  flyback topics check && flyback worker")
def check(bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """Compare the topics with the topology. Exits 1 if a worker would lose or misplace events on them."""
    from flyback import settings, topics

    findings = topics.check(settings.load(bootstrap_servers=bootstrap))
    if as_json:
        output.print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            output.print_line(f"{'wrong' if finding.fatal else 'note'}: {finding}")
        if not findings:
            output.print_line("all topics are as the topology says")
    if any(finding.fatal for finding in findings):
        raise typer.Exit(1)


@app.command("list", epilog="Example:  flyback topics list --json")
def listing(bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """List the topics with their partitions on the broker."""
    from flyback import settings, topics

    found = topics.listing(settings.load(bootstrap_servers=bootstrap))
    if as_json:
        output.print_json([{**asdict(topic), "kind": topic.kind.value} for topic in found])
        return
    rows = [
        (topic.name, topic.kind.value, topic.record, topic.partitions or "missing", topic.replicas or None)
        for topic in found
    ]
    output.print_table(("topic", "kind", "record", "partitions", "replicas"), rows)
