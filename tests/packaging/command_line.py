"""Whether our command line takes what files and documents say to type."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from flyback.cli.app import app


def refusal(arguments: list[str]) -> str:
    """Why the command line does not take these arguments; empty where it does. Nothing is run."""
    # --help takes effect once everything else was parsed.
    done = CliRunner().invoke(app, [*arguments, "--help"])
    if done.exit_code:
        return done.output
    command: Any = get_command(app)
    for argument in arguments:
        if isinstance(command, TyperGroup) and not argument.startswith("-"):
            command = command.commands[argument]
    needs_more = isinstance(command, TyperGroup) and not command.invoke_without_command
    return f"{arguments} needs one more word" if needs_more else ""
