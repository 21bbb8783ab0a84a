"""docs/streams.md says what is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flyback import topics
from flyback.cli.app import app
from flyback.schemas.intake import REASONS
from flyback.settings import load

PAGE = (Path(__file__).parents[2] / "docs" / "streams.md").read_text(encoding="utf-8")


def test_the_page_lists_every_reason_for_a_dead_letter() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(REASONS)


def test_every_command_of_the_page_runs(
    kafka_bootstrap: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix)
    topics.create(settings)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    commands = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert len(commands) >= 3
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "flyback"
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{command}: {result.output}"
