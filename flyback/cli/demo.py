"""`flyback demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from flyback.cli.options import AsJson
from flyback.cli.services import BrokerChoice


def demo(
    bootstrap: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Use this running Kafka, under a topic prefix of the run's own."),
    ] = None,
    broker: Annotated[BrokerChoice, typer.Option(help="The broker to start.")] = BrokerChoice.embedded,
    lake: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Where the lake goes.", show_default="in the run's folder"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Play only so many texts.", show_default="all 23,703")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Play in real time and stay up until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Play 23,703 real texts, a real model and its real reviewers through the whole flywheel."""
    raise NotImplementedError
