"""`flyback doctor`: a line for a check, JSON for scripts, and an exit code."""

from __future__ import annotations

import pytest

from flyback.local.process import free_port
from flyback.settings import Settings
from tests.cli.conftest import Flyback


def test_each_check_is_a_line_with_what_mends_it_below(flyback: Flyback, own_topics: Settings) -> None:
    said = flyback("doctor")
    lines = said.out.splitlines()
    assert said.code == 0, said.out
    assert lines[0].startswith("ok       broker           cluster ")
    (at,) = [number for number, line in enumerate(lines) if line.startswith("warning  replication ")]
    assert lines[at + 1].strip().startswith("mend: ")
    assert lines[-1].endswith(" skipped")
    assert ", 0 failed, " in lines[-1]


def test_the_json_has_every_check(flyback: Flyback, own_topics: Settings) -> None:
    found = flyback("doctor", "--json").json
    assert found["ok"] is True
    assert {frozenset(check) for check in found["checks"]} == {frozenset({"name", "verdict", "found", "mend"})}
    assert found["checks"][0]["name"] == "broker"


def test_it_exits_1_where_a_check_failed(flyback: Flyback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyback.doctor.brokers.SECONDS", 0.5)
    said = flyback("doctor", "--bootstrap", f"127.0.0.1:{free_port()}", "--json")
    assert said.code == 1
    assert said.json["ok"] is False
