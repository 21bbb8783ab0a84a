"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Bootstrap = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Kafka's address.",
        show_default="KAFKA_BOOTSTRAP_SERVERS",
        show_envvar=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Lake = Annotated[
    str | None,
    typer.Option(metavar="FOLDER", help="The lake: a folder or s3:// address.", show_default="FLYBACK_LAKE"),
]
Workers = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOST:PORT", help="A worker's endpoint; may be repeated.", show_default="FLYBACK_WORKER_HTTP_PORT"
    ),
]
Sinks = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOST:PORT", help="A sink's endpoint; may be repeated.", show_default="FLYBACK_SINK_HTTP_PORT"
    ),
]
