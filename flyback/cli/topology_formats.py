"""The topology as table rows, as a Mermaid graph, and as an AsyncAPI document."""

from __future__ import annotations

import json
from typing import Any

from flyback import __version__
from flyback.schemas.codec import bundled
from flyback.settings import Settings
from flyback.streams.topology import Kind, Topology

COLUMNS = ("topic", "kind", "record", "key", "writers", "readers")


def rows(settings: Settings) -> list[tuple[str, ...]]:
    """One row a topic, in `COLUMNS`."""
    topology = Topology(settings)
    found: list[tuple[str, ...]] = []
    for name in topology.names:
        topic = topology[name]
        writers, readers = ", ".join(topic.writers), ", ".join(topic.readers)
        found.append((name, topic.kind.value, topic.record or "", topic.key, writers, readers))
    return found


def mermaid(settings: Settings) -> str:
    """A flowchart: writers and readers as boxes, topics as cylinders; dead letters dashed."""
    topology = Topology(settings)
    lines = ["flowchart LR"]
    found = [topology[full] for full in topology.names]
    people = dict.fromkeys(name for topic in found for name in (*topic.writers, *topic.readers))
    lines += [f'    {_node(name)}["{name}"]' for name in people]
    for full in topology.names:
        topic = topology[full]
        arrow = "-.->" if topic.kind is Kind.DEAD_LETTERS else "-->"
        lines.append(f'    {_node(full)}[("{full}")]')
        lines += [f"    {_node(writer)} {arrow} {_node(full)}" for writer in topic.writers]
        lines += [f"    {_node(full)} {arrow} {_node(reader)}" for reader in topic.readers]
    return "\n".join(lines)


def asyncapi(settings: Settings) -> dict[str, Any]:
    """An AsyncAPI 3.0 document: a channel and its message for each topic, seen from Flyback."""
    topology = Topology(settings)
    channels, operations, messages = {}, {}, {}
    for full in topology.names:
        topic = topology[full]
        message = topic.record or "DeadLetter"
        messages[message] = _message(topic.record)
        channels[topic.name] = {
            "address": full,
            "messages": {message: {"$ref": f"#/components/messages/{message}"}},
            "description": f"{topic.kind.value}; key: {topic.key}; written by {', '.join(topic.writers)}, "
            f"read by {', '.join(topic.readers)}",
            "bindings": {
                "kafka": {
                    "topic": full,
                    "partitions": topology.partitions(full),
                    "replicas": settings.replication_factor,
                    "topicConfiguration": _binding(topology.config(full)),
                    "bindingVersion": "0.5.0",
                }
            },
        }
        operations[f"{'receive' if topic.kind is Kind.RAW else 'send'}-{topic.name}"] = {
            "action": "receive" if topic.kind is Kind.RAW else "send",
            "channel": {"$ref": f"#/channels/{_pointer(topic.name)}"},
        }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Flyback", "version": __version__},
        "defaultContentType": "application/vnd.apache.avro",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def _message(record: str | None) -> dict[str, Any]:
    if record is None:
        return {"description": "The original bytes; why and where from is in the headers __connect.errors.*"}
    schema = json.loads(bundled(record).text)
    return {
        "name": record,
        "description": schema["doc"],
        "contentType": "application/vnd.apache.avro",
        "payload": {"schemaFormat": "application/vnd.apache.avro+json;version=1.9.0", "schema": schema},
        "bindings": {"kafka": {"schemaIdLocation": "payload", "schemaIdPayloadEncoding": "confluent"}},
    }


def _binding(config: Any) -> dict[str, Any]:
    """Only the options that the Kafka binding knows, in its types."""
    found: dict[str, Any] = {}
    for option, value in config.items():
        if option == "cleanup.policy":
            found[option] = value.split(",")
        elif option in ("retention.ms", "retention.bytes", "max.message.bytes"):
            found[option] = int(value)
    return found


def _node(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


def _pointer(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
