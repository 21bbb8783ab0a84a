"""`SchemaRegistry`: a real registry that keeps schemas compatible."""

from __future__ import annotations

import json

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError


def test_it_takes_a_compatible_schema_and_refuses_an_incompatible_one(registry_url: str, topic_prefix: str) -> None:
    client = SchemaRegistryClient({"url": registry_url})
    subject = f"{topic_prefix}events-value"

    def record(*fields: dict[str, str]) -> Schema:
        return Schema(json.dumps({"type": "record", "name": "Event", "fields": fields}), "AVRO")

    first = client.register_schema(subject, record({"name": "id", "type": "string"}))
    added = {"name": "note", "type": "string", "default": ""}
    second = client.register_schema(subject, record({"name": "id", "type": "string"}, added))
    assert first != second
    with pytest.raises(SchemaRegistryError) as refusal:
        client.register_schema(subject, record({"name": "id", "type": "long"}))
    assert refusal.value.http_status_code == 409
