"""What `flyback doctor` says of the schema registry."""

from __future__ import annotations

from confluent_kafka.schema_registry import ConfigCompatibilityLevel, Schema, SchemaRegistryClient, ServerConfig

from flyback.doctor import registry
from flyback.local.process import free_port
from flyback.schemas.catalog import open_catalog
from flyback.settings import load
from flyback.streams.topology import Topology


def test_a_registry_that_is_down_is_told_without_its_password() -> None:
    address = f"127.0.0.1:{free_port()}"
    (found,) = registry.examine(load(registry_url=f"http://user:secret@{address}"))
    assert found.verdict == "failed"
    assert f"http://{address} does not answer" in found.found
    assert "secret" not in found.found


def test_a_registry_address_that_is_none_is_told() -> None:
    (found,) = registry.examine(load(registry_url="localhost:8081"))
    assert found.verdict == "failed"
    assert "SCHEMA_REGISTRY_URL" in str(found.mend)


def test_the_registry_s_schemas_are_compared_with_ours(registry_url: str, topic_prefix: str) -> None:
    settings = load(registry_url=registry_url, topic_prefix=topic_prefix)
    missing = {check.name: check for check in registry.examine(settings)}
    assert missing["registry"].verdict == "ok"
    assert missing["schemas"].verdict == "warning"
    assert f"{topic_prefix}predictions.v1-value" in missing["schemas"].found

    catalog, topology = open_catalog(settings), Topology(settings)
    for name in topology.names:
        if record := topology[name].record:
            catalog.id_for(record, name)
    assert {check.name: check.verdict for check in registry.examine(settings)} == {"registry": "ok", "schemas": "ok"}

    client = SchemaRegistryClient({"url": registry_url})
    client.set_config(f"{topic_prefix}grades.v1-value", ServerConfig(ConfigCompatibilityLevel.BACKWARD))
    (_, loose) = registry.examine(settings)
    assert loose.verdict == "warning"
    assert f"{topic_prefix}grades.v1-value: compatibility is BACKWARD" in loose.found
    assert f"{registry_url}/config/{topic_prefix}grades.v1-value" in str(loose.mend)


def test_somebody_else_s_schema_in_the_registry_is_told(registry_url: str, topic_prefix: str) -> None:
    client = SchemaRegistryClient({"url": registry_url})
    other = '{"type": "record", "name": "Other", "fields": [{"name": "a", "type": "int"}]}'
    client.register_schema(f"{topic_prefix}predictions.v1-value", Schema(other, "AVRO"))
    (_, found) = registry.examine(load(registry_url=registry_url, topic_prefix=topic_prefix))
    assert found.verdict == "failed"
    assert "its latest schema is not compatible with our Prediction" in found.found
