"""The schema files themselves: valid, documented, shared types equal, released copies frozen, ids fixed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import avro.schema
import fastavro
import pytest

from flyback.schemas.catalog import hashed_id
from flyback.schemas.codec import NAMESPACE, Schema, bundled, released
from flyback.streams.topology import TOPICS

RECORDS = [topic.record for topic in TOPICS if topic.record]

IDS = {
    "Prediction": 1_920_255_280,
    "Correction": 800_675_790,
    "Grade": 1_157_025_560,
    "Example": 1_704_939_205,
    "GradedExample": 1_828_822_073,
    "Coaching": 904_916_224,
    "FailureRate": 995_219_565,
    "Progress": 1_769_413_882,
    "Replay": 485_035_543,
    "Alert": 1_677_719_990,
}
"""What is written into messages where there is no registry: a changed number is a new release."""

RELEASED_IDS = {
    "alert.1": 1_677_719_990,
    "coaching.1": 904_916_224,
    "correction.1": 800_675_790,
    "example.1": 1_704_939_205,
    "failure_rate.1": 995_219_565,
    "grade.1": 1_157_025_560,
    "graded_example.1": 1_828_822_073,
    "prediction.1": 1_920_255_280,
    "progress.1": 1_769_413_882,
    "replay.1": 485_035_543,
}
"""They are in messages that people keep: lines are added here, none ever changes."""


def definitions(node: Any) -> Iterator[dict[str, Any]]:
    """Every record and enum in a schema."""
    if isinstance(node, list):
        for each in node:
            yield from definitions(each)
    if isinstance(node, dict):
        if node.get("type") in ("record", "enum"):
            yield node
        for child in (node.get("type"), node.get("items"), node.get("values"), *node.get("fields", ())):
            if isinstance(child, dict | list):
                yield from definitions(child)


def test_every_record_of_the_topology_has_a_schema() -> None:
    assert sorted(RECORDS) == [
        "Alert",
        "Coaching",
        "Correction",
        "Example",
        "FailureRate",
        "Grade",
        "GradedExample",
        "Prediction",
        "Progress",
        "Replay",
    ]
    assert [bundled(record).name for record in RECORDS] == [f"{NAMESPACE}.{record}" for record in RECORDS]


@pytest.mark.parametrize("record", RECORDS)
def test_both_avro_libraries_read_the_schema(record: str) -> None:
    text = bundled(record).text
    assert fastavro.parse_schema(json.loads(text))
    assert avro.schema.parse(text)


@pytest.mark.parametrize("record", RECORDS)
def test_everything_in_a_schema_is_documented(record: str) -> None:
    for definition in definitions(json.loads(bundled(record).text)):
        assert definition.get("doc", "").endswith("."), definition["name"]
        for field in definition.get("fields", ()):
            assert field.get("doc", "").endswith("."), f"{definition['name']}.{field['name']}"


@pytest.mark.parametrize("record", RECORDS)
def test_names_are_snake_case_and_times_are_micros(record: str) -> None:
    for definition in definitions(json.loads(bundled(record).text)):
        for field in definition.get("fields", ()):
            assert field["name"] == field["name"].lower()
            assert field["name"].isidentifier()
            if field["name"].endswith("_at") or field["name"] == "minute":
                assert field["type"] == {"type": "long", "logicalType": "timestamp-micros"}


def test_a_type_of_several_records_is_the_same_in_all() -> None:
    found: dict[str, str] = {}
    for record in RECORDS:
        for definition in definitions(json.loads(bundled(record).text)):
            text = json.dumps(definition, sort_keys=True).replace("flyback.v1.", "")
            # where a nested type comes first in a file it is written out, later it is a name
            if definition["name"] in ("Actor", "ActorKind", "Content", "Score", "Source", "Verdict"):
                assert found.setdefault(definition["name"], text) == text, f"{definition['name']} in {record}"
    assert len(found) == 6


@pytest.mark.parametrize("record", RECORDS)
def test_a_field_that_was_not_in_the_first_release_has_a_default(record: str) -> None:
    first = next(schema for _, number, schema in released() if number == 1 and schema.name == bundled(record).name)
    known = {(d["name"], f["name"]) for d in definitions(json.loads(first.text)) for f in d.get("fields", ())}
    for definition in definitions(json.loads(bundled(record).text)):
        for field in definition.get("fields", ()):
            assert (definition["name"], field["name"]) in known or "default" in field, field["name"]


def test_releases_are_numbered_without_gaps_and_every_record_has_one() -> None:
    numbers: dict[str, list[int]] = {}
    for _, number, schema in released():
        numbers.setdefault(schema.name, []).append(number)
    assert sorted(numbers) == sorted(f"{NAMESPACE}.{record}" for record in RECORDS)
    assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())


def test_ids_without_a_registry_never_change() -> None:
    assert {record: hashed_id(bundled(record)) for record in RECORDS} == IDS


def test_the_id_of_a_released_schema_never_changes() -> None:
    assert {f"{stem}.{number}": hashed_id(schema) for stem, number, schema in released()} == RELEASED_IDS


def test_an_id_fits_into_31_bits_and_ignores_layout_and_order_of_keys() -> None:
    one = Schema('{"type": "record", "name": "A", "fields": [], "doc": "\u2603"}')
    other = Schema('{"doc":"\\u2603",\n "fields":[], "name":"A","type":"record"}')
    assert hashed_id(one) == hashed_id(other)
    assert 0 <= hashed_id(one) < 2**31
    assert hashed_id(Schema('{"type": "record", "name": "A", "fields": [], "doc": "x"}')) != hashed_id(one)
