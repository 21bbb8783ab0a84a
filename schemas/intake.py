"""From a Kafka message on a raw topic to a valid event, or the reason why not."""

from __future__ import annotations

from flyback.errors import InvalidEvent
from flyback.schemas import codec, wire
from flyback.schemas.catalog import Catalog
from flyback.schemas.codec import Record
from flyback.schemas.rules import CHECKS
from flyback.streams.topology import partition_for


def accept(
    record: str,
    key: bytes | None,
    value: bytes | None,
    partition: int,
    partitions: int,
    max_bytes: int,
    catalog: Catalog,
) -> Record:
    """The valid event in a message of the raw topic that holds `record`, found in `partition` of `partitions`.

    Raises InvalidEvent for what belongs into the dead letters, with one of the reasons of `REASONS`; UnknownSchema
    and RegistryUnavailable for what may be read later.
    """
    if value is not None and len(value) > max_bytes:
        raise InvalidEvent("oversized", "", f"the value has {len(value)} bytes, FLYBACK_MAX_EVENT_BYTES is {max_bytes}")
    writer = catalog.schema(wire.schema_id(value))
    assert value is not None  # schema_id() refuses an empty one
    event = codec.decode(record, value, writer)
    CHECKS[record](event)
    task_id: str = event["task_id"]
    if key is None:
        raise InvalidEvent("missing_key", "key", "the message key must be the task_id")
    if key != task_id.encode():
        raise InvalidEvent("key_mismatch", "key", "the message key is not the task_id")
    if partition_for(key, partitions) != partition:
        raise InvalidEvent(
            "wrong_partition",
            "key",
            f"this key belongs into partition {partition_for(key, partitions)}: produce with Java's murmur2 "
            "partitioner (librdkafka: partitioner=murmur2_random)",
        )
    return event


REASONS = (
    "empty_value",
    "no_magic_byte",
    "truncated",
    "trailing_bytes",
    "invalid_avro",
    "invalid_utf8",
    "incompatible_schema",
    "wrong_record_type",
    "unknown_schema",  # only where FLYBACK_UNKNOWN_SCHEMA=dead-letter
    "empty_field",
    "out_of_range",
    "missing_output",
    "missing_key",
    "key_mismatch",
    "wrong_partition",
    "oversized",
    "conflict",  # the same identity with other content; the engine alone can tell
    "pair_too_large",  # likewise: the derived event exceeds the derived topics' limit
)
"""Every reason for which a raw event is dead-lettered."""
