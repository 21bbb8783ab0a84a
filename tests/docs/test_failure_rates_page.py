"""docs/failure-rates.md: its commands run, and its figures are what the simulation gives."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import intervals
from flyback import settings, topics
from flyback.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "failure-rates.md").read_text(encoding="utf-8")
COMMANDS = [line for line in re.findall(r"^flyback rates.*$", PAGE, re.MULTILINE) if "--watch" not in line]


def test_its_commands_run(kafka_bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYBACK_TOPIC_PREFIX", f"{tmp_path.name}.")
    topics.create(settings.load(bootstrap_servers=kafka_bootstrap))
    assert len(COMMANDS) == 4
    for command in COMMANDS:
        result = CliRunner().invoke(app, [*shlex.split(command)[1:], "--bootstrap", kafka_bootstrap])
        assert result.exit_code == 0, f"{command}: {result.output}"


def test_its_table_has_the_worlds_of_the_simulation() -> None:
    table = intervals.markdown([intervals.covered(world, runs=1) for world in intervals.WORLDS])
    wanted = [line.split("|")[1:3] for line in table.splitlines()]
    assert [line.split("|")[1:3] for line in PAGE.splitlines() if line.count("|") == 8] == wanted
