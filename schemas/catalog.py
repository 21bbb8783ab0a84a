"""Which schema id stands for which schema: a registry where there is one, hashes of the bundled schemas where not."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Protocol

from flyback.errors import ConfigurationError, FlybackError, IncompatibleSchema, RegistryUnavailable, UnknownSchema
from flyback.schemas.codec import Schema, bundled, released
from flyback.settings import Settings
from flyback.streams.topology import TOPICS


class Catalog(Protocol):
    """Ids for what we write, schemas for what we read. Thread-safe."""

    def id_for(self, record: str, topic: str) -> int:
        """The id to write `record` with into `topic` (full name). Raises RegistryUnavailable, IncompatibleSchema."""
        ...

    def schema(self, schema_id: int) -> Schema:
        """The schema of an id. Raises UnknownSchema, RegistryUnavailable."""
        ...


def hashed_id(schema: Schema) -> int:
    """The id without a registry: the first 31 bits of SHA-256 over the full schema as sorted compact JSON."""
    return int.from_bytes(hashlib.sha256(schema.canonical.encode()).digest()[:4], "big") >> 1


class BundledCatalog:
    """Deterministic ids for every schema ever released, for use without a registry."""

    def __init__(self, more: Iterable[Schema] = ()) -> None:
        self._schemas: dict[int, Schema] = {}
        current = [bundled(topic.record) for topic in TOPICS if topic.record]
        for schema in (*current, *(schema for _, _, schema in released()), *more):
            other = self._schemas.setdefault(hashed_id(schema), schema)
            if other.canonical != schema.canonical:
                raise IncompatibleSchema(
                    f"{schema.name} and {other.name} hash to the same id {hashed_id(schema)}: change a doc string"
                )

    def id_for(self, record: str, topic: str) -> int:
        return hashed_id(bundled(record))

    def schema(self, schema_id: int) -> Schema:
        try:
            return self._schemas[schema_id]
        except KeyError:
            raise UnknownSchema(schema_id) from None


class RegistryCatalog:
    """A Confluent-compatible registry: subjects by topic name, FULL_TRANSITIVE compatibility."""

    def __init__(self, settings: Settings) -> None:
        # imported here: the registry client needs an extra, and the SDK must load without it
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient
        except ImportError as error:
            raise FlybackError("SCHEMA_REGISTRY_URL needs: pip install 'flyback[registry]'") from error
        self._url = _without_credentials(settings.registry_url or "")
        try:
            self._client = SchemaRegistryClient(settings.registry())
        except ValueError as error:
            raise ConfigurationError(f"SCHEMA_REGISTRY_URL: {_without_credentials(str(error))}") from None
        self._schemas: dict[int, Schema] = {}
        self._ids: dict[tuple[str, str], int] = {}

    def id_for(self, record: str, topic: str) -> int:
        if (record, topic) not in self._ids:
            self._ids[record, topic] = self._register(f"{topic}-value", bundled(record))
        return self._ids[record, topic]

    def schema(self, schema_id: int) -> Schema:
        if schema_id not in self._schemas:
            from confluent_kafka.schema_registry.error import SchemaRegistryError

            try:
                found = self._client.get_schema(schema_id)
            except SchemaRegistryError as error:
                if error.http_status_code == 404:
                    raise UnknownSchema(schema_id) from None
                raise self._unavailable(error) from error
            except Exception as error:  # the client lets its HTTP library's errors through
                raise self._unavailable(error) from error
            self._schemas[schema_id] = Schema(found.schema_str or "")
        return self._schemas[schema_id]

    def _register(self, subject: str, schema: Schema) -> int:
        from confluent_kafka.schema_registry import ConfigCompatibilityLevel, ServerConfig
        from confluent_kafka.schema_registry import Schema as RegistrySchema
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            # the rule first: a subject that somebody left without one would take any schema
            rule = ServerConfig(compatibility=ConfigCompatibilityLevel.FULL_TRANSITIVE)
            try:
                self._client.set_config(subject, rule)
            except SchemaRegistryError as error:
                if error.http_status_code != 409:
                    raise
                self._client.set_config(subject, rule)  # another process made it at the same moment: now it can be set
            return self._client.register_schema(subject, RegistrySchema(schema.text, "AVRO"))
        except SchemaRegistryError as error:
            if error.http_status_code == 409:
                raise IncompatibleSchema(
                    f"{self._url} refuses {schema.name} for {subject}: not compatible with an earlier version"
                ) from error
            raise self._unavailable(error) from error
        except Exception as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> FlybackError:
        said = f"schema registry {self._url}: {type(error).__name__}: {_without_credentials(str(error))}"
        if getattr(error, "http_status_code", None) in (401, 403):
            return ConfigurationError(f"{said}. Check SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD")
        return RegistryUnavailable(said)


def _without_credentials(text: str) -> str:
    """Addresses in it without `user:password@`."""
    return re.sub(r"//[^/\s]*@", "//", text)


def open_catalog(settings: Settings) -> Catalog:
    """The registry where SCHEMA_REGISTRY_URL is set, else the bundled schemas."""
    return RegistryCatalog(settings) if settings.registry_url else BundledCatalog()
