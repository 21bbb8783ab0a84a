"""`flyback schemas list|id|check`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from flyback.cli import output
from flyback.cli.options import AsJson
from flyback.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True, help="The Avro schemas: what there is, their ids, their compatibility.")


@app.command("list", epilog="Example:  flyback schemas list")
def listing(as_json: AsJson = False) -> None:
    """List every record with its topic, releases and id without a registry."""
    from flyback import settings
    from flyback.schemas.catalog import hashed_id
    from flyback.schemas.codec import bundled, released
    from flyback.streams.topology import TOPICS

    prefix = settings.load().topic_prefix
    found = []
    for topic in TOPICS:
        if topic.record:
            schema = bundled(topic.record)
            releases = [number for _, number, old in released() if old.name == schema.name]
            found.append(
                {
                    "record": topic.record,
                    "name": schema.name,
                    "topic": prefix + topic.name,
                    "releases": releases,
                    "id_without_registry": hashed_id(schema),
                }
            )
    if as_json:
        output.print_json(found)
        return
    rows = [
        (row["record"], row["topic"], ", ".join(map(str, row["releases"])), row["id_without_registry"])  # type: ignore[call-overload]
        for row in found
    ]
    output.print_table(("record", "topic", "releases", "id without registry"), rows)


@app.command("id", epilog="Example:  flyback schemas id Prediction")
def schema_id(
    record: Annotated[str, typer.Argument(metavar="RECORD", help="Such as Prediction; see `schemas list`.")],
    as_json: AsJson = False,
) -> None:
    """Print the id that a producer writes before this record's Avro bytes.

    With SCHEMA_REGISTRY_URL set it is the registry's, and the schema is registered where it is new.
    """
    from flyback import settings
    from flyback.schemas.catalog import open_catalog
    from flyback.streams.topology import TOPICS, Topology

    records = [topic.record for topic in TOPICS if topic.record]
    if record not in records:
        raise ConfigurationError(f"there is no record {record}: give one of {', '.join(records)}")
    loaded = settings.load()
    topic = Topology(loaded).topic_of(record)
    found = open_catalog(loaded).id_for(record, topic)
    if as_json:
        output.print_json({"record": record, "topic": topic, "id": found})
    else:
        output.print_line(str(found))


@app.command(epilog="Example:  flyback schemas check --json")
def check(as_json: AsJson = False) -> None:
    """Check that every schema can read, and be read by, all of its releases. Exits 1 where one cannot."""
    from flyback.schemas import compatibility

    verdicts = compatibility.check_bundled()
    if as_json:
        output.print_json([asdict(verdict) for verdict in verdicts])
    else:
        for verdict in verdicts:
            state = "changed since the latest release" if verdict.changed else "released"
            output.print_line(f"{verdict.record}: {state}, {'wrong' if verdict.problems else 'compatible'}")
            for problem in verdict.problems:
                output.print_line(f"  {problem}")
    if any(verdict.problems for verdict in verdicts):
        raise typer.Exit(1)
