"""`flyback schemas list|id|check`."""

from __future__ import annotations

import json

import pytest

from flyback.schemas import compatibility
from flyback.schemas.catalog import hashed_id
from flyback.schemas.codec import Schema, bundled
from tests.cli.conftest import Flyback


def test_list_names_every_record_with_its_topic_and_id(flyback: Flyback) -> None:
    listed = flyback("schemas", "list", "--json").json
    by_record = {row["record"]: row for row in listed}
    assert by_record["Prediction"] == {
        "record": "Prediction",
        "name": "flyback.v1.Prediction",
        "topic": "flyback.predictions.v1",
        "releases": [1],
        "id_without_registry": hashed_id(bundled("Prediction")),
    }
    assert "flyback.coaching.v1" in flyback("schemas", "list").out


def test_id_prints_what_a_producer_has_to_write(flyback: Flyback) -> None:
    assert flyback("schemas", "id", "Grade").out == f"{hashed_id(bundled('Grade'))}\n"
    assert flyback("schemas", "id", "Grade", "--json").json["topic"] == "flyback.grades.v1"


def test_id_asks_the_registry_where_there_is_one(
    flyback: Flyback, registry_url: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", registry_url)
    monkeypatch.setenv("FLYBACK_TOPIC_PREFIX", topic_prefix)
    found = flyback("schemas", "id", "Grade", "--json").json
    assert found["id"] != hashed_id(bundled("Grade"))


def test_check_says_that_the_bundled_schemas_are_compatible(flyback: Flyback) -> None:
    said = flyback("schemas", "check")
    assert said.code == 0
    assert "Prediction: released, compatible" in said.out


def test_check_exits_1_and_names_what_is_incompatible(flyback: Flyback, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = json.loads(bundled("Prediction").text)
    changed["fields"].append({"name": "locale", "type": "string", "doc": "Language."})

    def with_a_broken_one(record: str) -> Schema:
        return Schema(json.dumps(changed)) if record == "Prediction" else bundled(record)

    monkeypatch.setattr(compatibility, "bundled", with_a_broken_one)
    said = flyback("schemas", "check", "--json")
    assert said.code == 1
    verdict = next(verdict for verdict in said.json if verdict["record"] == "Prediction")
    assert any("cannot read old data" in problem for problem in verdict["problems"])
    assert "Prediction: changed since the latest release, wrong" in flyback("schemas", "check").out
