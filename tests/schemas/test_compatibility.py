"""Planted changes that must be found, and harmless ones that must not."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from flyback.schemas.codec import Schema, bundled
from flyback.schemas.compatibility import check, check_bundled, incompatibilities, invalid_defaults


def prediction() -> dict[str, Any]:
    found: dict[str, Any] = copy.deepcopy(json.loads(bundled("Prediction").text))
    return found


def field(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return next(field for field in schema["fields"] if field["name"] == name)


def without(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return {**schema, "fields": [field for field in schema["fields"] if field["name"] != name]}


def found(changed: dict[str, Any]) -> list[str]:
    return list(incompatibilities(Schema(json.dumps(changed)), bundled("Prediction")))


def test_every_bundled_schema_is_compatible_with_all_its_releases() -> None:
    verdicts = check_bundled()
    assert [verdict for verdict in verdicts if verdict.problems] == []
    assert {verdict.record for verdict in verdicts} >= {"Prediction", "Correction", "Example", "Alert"}
    assert all(verdict.releases for verdict in verdicts)


def test_the_same_schema_has_no_problem() -> None:
    assert found(prediction()) == []


def test_a_new_field_with_a_default_is_compatible() -> None:
    changed = prediction()
    changed["fields"].append({"name": "locale", "type": ["null", "string"], "default": None, "doc": "Language."})
    assert found(changed) == []


def test_removing_a_field_that_has_a_default_is_compatible() -> None:
    assert found(without(prediction(), "confidence")) == []


def test_new_words_in_a_doc_string_are_compatible() -> None:
    assert found({**prediction(), "doc": "Something else."}) == []


def test_a_new_field_without_a_default_cannot_read_old_data() -> None:
    changed = prediction()
    changed["fields"].append({"name": "locale", "type": "string", "doc": "Language."})
    assert any("new schema cannot read old data" in problem for problem in found(changed))


def test_removing_a_field_without_a_default_breaks_old_readers() -> None:
    problems = found(without(prediction(), "prediction_id"))
    assert any("old schema cannot read new data" in problem for problem in problems)


def test_a_field_of_another_type_is_incompatible_both_ways() -> None:
    changed = prediction()
    field(changed, "segment")["type"] = "long"
    assert len([problem for problem in found(changed) if "cannot read" in problem]) == 2


def test_int_widened_to_long_breaks_old_readers_only() -> None:
    changed = json.loads(bundled("Correction").text)
    field(changed, "authority")["type"] = "long"
    problems = list(incompatibilities(Schema(json.dumps(changed)), bundled("Correction")))
    assert len(problems) == 1
    assert "old schema cannot read new data" in problems[0]


def test_another_enum_symbol_breaks_old_readers() -> None:
    changed = prediction()
    kind = field(changed, "actor")["type"]["fields"][0]["type"]
    kind["symbols"] = [*kind["symbols"], "TEAM"]
    assert any("old schema cannot read new data" in problem for problem in found(changed))


def test_another_namespace_is_found_though_avro_lets_it_pass() -> None:
    problems = found({**prediction(), "namespace": "flyback.v2"})
    assert any("namespace must stay" in problem for problem in problems)


def test_micros_turned_into_millis_is_found_though_avro_lets_it_pass() -> None:
    changed = prediction()
    field(changed, "occurred_at")["type"]["logicalType"] = "timestamp-millis"
    assert found(changed) == [
        "Prediction.occurred_at: its logical type was timestamp-micros and is timestamp-millis: add a new field instead"
    ]


def test_a_dropped_logical_type_is_found() -> None:
    changed = prediction()
    field(changed, "occurred_at")["type"] = "long"
    assert any("timestamp-micros and is none" in problem for problem in found(changed))


def test_a_logical_type_inside_a_nested_record_is_looked_at_too() -> None:
    changed = json.loads(bundled("Example").text)
    arrived_at = field(field(changed, "prediction_source")["type"], "arrived_at")
    arrived_at["type"]["logicalType"] = "timestamp-millis"
    problems = list(incompatibilities(Schema(json.dumps(changed)), bundled("Example")))
    assert any(problem.startswith("Source.arrived_at") for problem in problems)


@pytest.mark.parametrize(
    ("name", "default"), [("segment", 5), ("confidence", "high"), ("context", {}), ("attributes", [])]
)
def test_a_default_of_another_type_is_found(name: str, default: object) -> None:
    changed = prediction()
    field(changed, name)["default"] = default
    assert list(invalid_defaults(Schema(json.dumps(changed))))


def test_a_schema_is_compared_with_every_release_and_not_only_the_latest() -> None:
    old = without(prediction(), "segment")
    old["fields"].append({"name": "segment", "type": "long", "doc": "Of another type, once."})
    releases = [(1, Schema(json.dumps(old))), (2, bundled("Prediction"))]
    verdict = check("Prediction", bundled("Prediction"), releases)
    assert verdict.releases == (1, 2)
    assert verdict.problems
    assert all(problem.startswith("against release 1") for problem in verdict.problems)


def test_a_record_that_was_never_released_is_a_problem() -> None:
    assert "never released" in check("Prediction", bundled("Prediction"), []).problems[0]


def test_a_change_since_the_latest_release_is_told() -> None:
    changed = Schema(json.dumps({**prediction(), "doc": "Other words."}))
    verdict = check("Prediction", changed, [(1, bundled("Prediction"))])
    assert verdict.changed
    assert not verdict.problems
