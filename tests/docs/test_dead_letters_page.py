"""docs/dead-letters.md says what is so: its commands run, and its repair repairs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flyback import topics
from flyback.cli.app import app
from flyback.settings import load

PAGE = (Path(__file__).parents[2] / "docs" / "dead-letters.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_every_command_of_the_page_runs(
    kafka_bootstrap: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix)
    topics.create(settings)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 6
    for command in commands:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}: {result.output}"


def test_the_repair_of_the_page_gives_key_and_value() -> None:
    class Letter:
        key, value = b"t", b"value\n"

    [block] = blocks("python")
    found: dict[str, object] = {}
    exec(block, found)
    repair = found["repair"]
    assert callable(repair)
    assert repair(Letter) == (b"t", b"value")
