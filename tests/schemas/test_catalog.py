"""Schema ids: hashes where there is no registry, and a real registry where there is one."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from confluent_kafka.schema_registry import ConfigCompatibilityLevel, SchemaRegistryClient, ServerConfig
from confluent_kafka.schema_registry import Schema as RegistrySchema

from flyback.errors import ConfigurationError, IncompatibleSchema, RegistryUnavailable, UnknownSchema
from flyback.local.process import free_port
from flyback.schemas import codec
from flyback.schemas.catalog import BundledCatalog, Catalog, RegistryCatalog, hashed_id, open_catalog
from flyback.schemas.codec import Schema, bundled, released
from flyback.settings import load
from flyback.streams.topology import TOPICS
from tests.strategies import correction

RECORDS = [topic.record for topic in TOPICS if topic.record]


def changed(record: str, drop: str = "", add: dict[str, Any] | None = None) -> Schema:
    schema = json.loads(bundled(record).text)
    schema["fields"] = [field for field in schema["fields"] if field["name"] != drop] + ([add] if add else [])
    return Schema(json.dumps(schema))


def test_without_a_registry_every_schema_of_every_release_is_known() -> None:
    catalog = open_catalog(load())
    assert isinstance(catalog, BundledCatalog)
    for record in RECORDS:
        assert catalog.schema(catalog.id_for(record, "any.topic")) is bundled(record)
    for _, _, schema in released():
        assert catalog.schema(hashed_id(schema)).canonical == schema.canonical


def test_without_a_registry_another_id_is_unknown() -> None:
    with pytest.raises(UnknownSchema, match="4711"):
        BundledCatalog().schema(4711)


def test_two_schemas_of_one_id_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyback.schemas.catalog.hashed_id", lambda schema: 5)
    with pytest.raises(IncompatibleSchema, match="hash to the same id 5"):
        BundledCatalog()


def test_the_same_schema_in_another_layout_is_no_collision() -> None:
    text = json.dumps(json.loads(bundled("Grade").text), indent=7)
    assert BundledCatalog([Schema(text)]).id_for("Grade", "t")


@pytest.fixture
def registry(registry_url: str) -> SchemaRegistryClient:
    return SchemaRegistryClient({"url": registry_url})


@pytest.fixture
def catalog(registry_url: str) -> Catalog:
    return open_catalog(load(registry_url=registry_url))


def test_a_schema_is_registered_under_its_topic_and_must_stay_compatible(
    registry: SchemaRegistryClient, catalog: Catalog, topic_prefix: str
) -> None:
    for record in RECORDS:
        topic = f"{topic_prefix}{record}"
        schema_id = catalog.id_for(record, topic)
        assert registry.get_latest_version(f"{topic}-value").schema_id == schema_id
        level = registry.get_config(f"{topic}-value").compatibility_level
        assert level == ConfigCompatibilityLevel.FULL_TRANSITIVE
        assert catalog.schema(schema_id).canonical == bundled(record).canonical


def test_what_one_catalog_wrote_another_one_reads(registry_url: str, catalog: Catalog, topic_prefix: str) -> None:
    value = codec.encode("Correction", correction(), catalog.id_for("Correction", f"{topic_prefix}c"))
    other = RegistryCatalog(load(registry_url=registry_url))
    schema = other.schema(int.from_bytes(value[1:5], "big"))
    assert codec.decode("Correction", value, schema) == correction()


def test_workers_that_start_together_on_a_new_registry_get_the_same_ids(registry_url: str, topic_prefix: str) -> None:
    workers = [RegistryCatalog(load(registry_url=registry_url)) for _ in range(4)]
    together = threading.Barrier(len(workers))

    def register(worker: RegistryCatalog) -> list[int]:
        ids = []
        for number in range(8):
            together.wait(60)
            ids.append(worker.id_for("Grade", f"{topic_prefix}{number}"))
        return ids

    with ThreadPoolExecutor(len(workers)) as pool:
        first, *others = pool.map(register, workers)
    assert all(ids == first for ids in others)


def test_a_later_version_of_a_schema_is_taken_where_it_is_compatible(
    registry: SchemaRegistryClient, catalog: Catalog, topic_prefix: str
) -> None:
    older = changed("Grade", drop="rationale")
    registry.register_schema(f"{topic_prefix}g-value", RegistrySchema(older.text, "AVRO"))
    assert catalog.id_for("Grade", f"{topic_prefix}g")
    assert registry.get_latest_version(f"{topic_prefix}g-value").version == 2


@pytest.mark.parametrize("level", [None, ConfigCompatibilityLevel.NONE])
def test_an_incompatible_schema_is_refused_even_where_the_subject_had_no_rule(
    registry: SchemaRegistryClient, catalog: Catalog, topic_prefix: str, level: ConfigCompatibilityLevel | None
) -> None:
    subject = f"{topic_prefix}g-value"
    registry.register_schema(subject, RegistrySchema(changed("Grade", drop="rubric").text, "AVRO"))
    if level is not None:
        registry.set_config(subject, ServerConfig(compatibility=level))
    with pytest.raises(IncompatibleSchema, match=r"flyback\.v1\.Grade"):
        catalog.id_for("Grade", f"{topic_prefix}g")
    assert registry.get_versions(subject) == [1]


def test_an_id_that_the_registry_does_not_have_is_unknown(catalog: Catalog) -> None:
    with pytest.raises(UnknownSchema) as caught:
        catalog.schema(987_654)
    assert caught.value.schema_id == 987_654


def test_an_unknown_id_is_asked_for_again_once_it_is_registered(
    registry: SchemaRegistryClient, catalog: Catalog, topic_prefix: str
) -> None:
    text = changed("Alert", add={"name": topic_prefix.rstrip("."), "type": "string", "default": "", "doc": "New."}).text
    last = registry.register_schema(f"{topic_prefix}one-value", RegistrySchema(text, "AVRO"))
    with pytest.raises(UnknownSchema):
        catalog.schema(last + 1)
    later = changed("Alert", add={"name": "x" + topic_prefix[:-1], "type": "string", "default": "", "doc": "New."}).text
    new = registry.register_schema(f"{topic_prefix}two-value", RegistrySchema(later, "AVRO"))
    assert new == last + 1
    assert catalog.schema(new).canonical == Schema(later).canonical


def test_a_schema_of_another_kind_is_no_record(
    registry: SchemaRegistryClient, catalog: Catalog, topic_prefix: str
) -> None:
    text = 'syntax = "proto3"; message Prediction { string task_id = 1; }'
    schema_id = registry.register_schema(f"{topic_prefix}proto-value", RegistrySchema(text, "PROTOBUF"))
    assert catalog.schema(schema_id).name == ""


@contextmanager
def http_server(status: int, answer: dict[str, Any]) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server that gives every request one answer; its URL, and the paths and Authorization headers asked with."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = _answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_user_and_password_are_sent_to_the_registry() -> None:
    expected = "Basic " + base64.b64encode(b"ann:s3cret").decode()
    with http_server(200, {"schema": bundled("Grade").text}) as (url, asked):
        settings = load(registry_url=url, registry_username="ann", registry_password="s3cret")
        assert RegistryCatalog(settings).schema(3).canonical == bundled("Grade").canonical
    assert [authorization for _, authorization in asked] == [expected]


def test_schemas_and_ids_are_asked_for_once() -> None:
    with http_server(200, {"schema": bundled("Grade").text, "id": 3, "compatibility": "FULL_TRANSITIVE"}) as (
        url,
        asked,
    ):
        catalog = RegistryCatalog(load(registry_url=url))
        assert catalog.schema(3) is catalog.schema(3)
        assert catalog.id_for("Grade", "a") == catalog.id_for("Grade", "a") == 3
        before = len(asked)
        catalog.id_for("Grade", "b")
        assert len(asked) > before
        del asked[:]
        catalog.id_for("Grade", "a")
        catalog.schema(3)
        assert asked == []


def test_a_registry_that_is_down_is_unavailable() -> None:
    catalog = RegistryCatalog(load(registry_url=f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(RegistryUnavailable):
        catalog.schema(1)
    with pytest.raises(RegistryUnavailable):
        catalog.id_for("Grade", "t")


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_password_is_not_waited_for(status: int) -> None:
    with (
        http_server(status, {"error_code": status, "message": "no"}) as (url, _),
        pytest.raises(ConfigurationError, match="SCHEMA_REGISTRY_PASSWORD"),
    ):
        RegistryCatalog(load(registry_url=url)).schema(1)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_registry_that_fails_is_unavailable_after_one_request(status: int) -> None:
    with (
        http_server(status, {"error_code": status, "message": "no"}) as (url, asked),
        pytest.raises(RegistryUnavailable, match=str(status)),
    ):
        RegistryCatalog(load(registry_url=url)).schema(1)
    assert len(asked) == 1  # whoever asks tries again by itself


def test_a_registry_that_never_answers_is_given_up() -> None:
    assert load(registry_url="http://127.0.0.1:1").registry()["timeout"] <= 5


@pytest.mark.parametrize("url", ["localhost:8081", "ftp://localhost"])
def test_an_address_that_is_none_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="SCHEMA_REGISTRY_URL"):
        open_catalog(load(registry_url=url))


def test_a_password_in_the_address_is_never_in_a_message() -> None:
    with pytest.raises(RegistryUnavailable) as unavailable:
        RegistryCatalog(load(registry_url=f"http://ann:canary@127.0.0.1:{free_port()}")).schema(1)
    with pytest.raises(ConfigurationError) as misconfigured:
        RegistryCatalog(load(registry_url="ftp://ann:canary@127.0.0.1"))
    with http_server(409, {"error_code": 409, "message": "no"}) as (url, _), pytest.raises(IncompatibleSchema) as no:
        RegistryCatalog(load(registry_url=url.replace("//", "//ann:canary@"))).id_for("Grade", "t")
    for caught in (unavailable, misconfigured, no):
        assert "canary" not in str(caught.value)
        assert "127.0.0.1" in str(caught.value)
