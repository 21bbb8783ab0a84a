"""docs/bench.md says what is so: its command runs, and its JSON is as listed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flyback.bench.verdict import IN_THE_WAY
from flyback.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "bench.md").read_text(encoding="utf-8")
TINY = ("--events", "500", "--seconds", "2", "--event-bytes", "500", "--json")


def keys(row: str) -> set[str]:
    """The names in a row of the page's table of JSON."""
    [cell] = re.findall(rf"^\|{row}\|([^|]*)\|$", PAGE, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", cell))


def test_the_command_of_the_page_runs_and_its_json_is_as_the_page_lists_it(
    kafka_bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYBACK_SESSION_TIMEOUT", "6s")
    [command] = re.findall(r"^flyback bench .*$", PAGE, re.MULTILINE)
    here = command.replace("kafka:9092", kafka_bootstrap).replace("/srv/flyback", str(tmp_path))
    result = CliRunner().invoke(app, [*shlex.split(here)[1:], *TINY])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert set(found) == keys("the whole")
    assert set(found["sent"]) == keys("`sent`")
    common = keys("a part, and `latency`")
    assert set(found["latency"]) == common - {"limit"} | keys("`latency`")
    for name, part in found["parts"].items():
        assert set(part) == common | (set() if name == "consume" else keys(f"`{name}`")), name
        assert set(part["limit"]) == keys("`limit`")
    assert set(found["verdict"]) == keys("`verdict`")
    assert found["verdict"]["narrowest"] in IN_THE_WAY
    assert found["event_bytes"] == 500
