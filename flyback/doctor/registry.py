"""The schema registry: there, with our schemas, and strict."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from flyback.doctor.check import Check, failed, ok, skipped, warning, worst
from flyback.errors import FlybackError
from flyback.schemas.codec import bundled
from flyback.settings import Settings
from flyback.streams.topology import TOPICS

_NAME, _SCHEMAS = "registry", "schemas"


def examine(settings: Settings) -> Iterator[Check]:
    """Whether it answers; then whether what it has is ours. Without a registry, nothing is wrong."""
    if settings.registry_url is None:
        yield skipped(_NAME, "SCHEMA_REGISTRY_URL is not set: schema ids are hashes of the schemas that Flyback has")
        return
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient
    except ImportError:
        yield failed(_NAME, "SCHEMA_REGISTRY_URL needs a package that is missing", "pip install 'flyback[registry]'")
        return
    where = _plain(settings.registry_url)
    try:
        client = SchemaRegistryClient(settings.registry())
        there = set(client.get_subjects())
    except (FlybackError, ValueError) as error:
        yield failed(_NAME, f"{where}: {_plain(str(error))}", "set SCHEMA_REGISTRY_URL to an http(s):// address")
        return
    except Exception as error:  # the client lets its HTTP library's errors through
        yield failed(
            _NAME,
            f"{where} does not answer: {type(error).__name__}: {_plain(str(error))}",
            "start the registry; or mend SCHEMA_REGISTRY_URL, SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD",
        )
        return
    yield ok(_NAME, f"{where} answers, with {len(there)} subjects")
    subjects = {f"{settings.topic_prefix}{topic.name}-value": topic.record for topic in TOPICS if topic.record}
    wrong = []
    if missing := [subject for subject in subjects if subject not in there]:
        wrong.append(
            warning(
                _SCHEMAS,
                f"not registered: {', '.join(missing)}",
                "nothing, where workers and producers may register schemas: they do so at their first event",
            )
        )
    for subject, record in subjects.items():
        if subject in there:
            wrong += _of_subject(client, where, subject, record)
    yield worst(_SCHEMAS, wrong, f"all {len(subjects)} subjects take our schemas, and are FULL_TRANSITIVE")


def _of_subject(client: Any, where: str, subject: str, record: str) -> Iterator[Check]:
    from confluent_kafka.schema_registry import Schema

    try:
        level = _level(client, subject)
        if level != "FULL_TRANSITIVE":
            yield warning(
                _SCHEMAS,
                f"{subject}: compatibility is {level}, so that a schema may come that cannot read what is there",
                "type `curl -X PUT -H 'Content-Type: application/json' --data "
                f'\'{{"compatibility": "FULL_TRANSITIVE"}}\' {where.rstrip("/")}/config/{subject}`',
            )
        if not client.test_compatibility(subject, Schema(bundled(record).text, "AVRO")):
            yield failed(
                _SCHEMAS,
                f"{subject}: its latest schema is not compatible with our {record}",
                "was another FLYBACK_TOPIC_PREFIX meant? Else somebody registered a schema of their own there: take "
                "it out, or use new topics under another prefix",
            )
    except Exception as error:
        yield warning(
            _SCHEMAS,
            f"{subject} cannot be looked at: {type(error).__name__}: {_plain(str(error))}",
            "try again; is the registry well?",
        )


def _level(client: Any, subject: str) -> str:
    """The subject's own level, else the registry's."""
    from confluent_kafka.schema_registry.error import SchemaRegistryError

    try:
        return str(client.get_compatibility(subject))
    except SchemaRegistryError as error:
        if error.http_status_code != 404:
            raise
        return str(client.get_compatibility())


def _plain(text: str) -> str:
    """Addresses in it without `user:password@`."""
    return re.sub(r"//[^/\s]*@", "//", text)
