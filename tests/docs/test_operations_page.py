"""docs/operations.md on `flyback doctor` and `flyback status` says what is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flyback import doctor
from flyback.cli.app import app
from flyback.settings import Settings
from tests.test_status import SECONDS, a_sink, a_worker, settings
from tests.waiting import eventually

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^flyback (?:doctor|status).*$", PAGE, re.MULTILINE)

__all__ = ["settings"]  # the fixture


def test_every_command_on_the_page_runs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert len(COMMANDS) == 4
    with a_worker(settings) as (engine, worker), a_sink(settings) as sink:
        eventually(lambda: not engine.status()["restoring"], "all is live", SECONDS)
        monkeypatch.setenv("FLYBACK_WORKER_HTTP_PORT", worker.rpartition(":")[2])
        monkeypatch.setenv("FLYBACK_SINK_HTTP_PORT", sink.rpartition(":")[2])
        for command in COMMANDS:
            here = command.replace("127.0.0.1:9464", worker).replace("127.0.0.1:9465", sink)
            result = CliRunner().invoke(app, shlex.split(here)[1:])
            assert result.exit_code == 0, f"{command}: {result.output}"


def test_the_page_lists_every_check(settings: Settings) -> None:
    section = PAGE[PAGE.index("## What is wrong") : PAGE.index("## How far behind")]
    cells = re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE)
    listed = {name for cell in cells for name in re.findall(r"`([^`]*)`", cell)}
    without = {"schemas", "lake files"}  # there is no registry, and no table yet
    assert {check.name for check in doctor.examine(settings)} == listed - without
