"""Messages for the raw topics: valid ones, and one of each kind of poison."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flyback.schemas import codec, wire
from flyback.schemas.catalog import Catalog, hashed_id
from flyback.schemas.codec import Record, Schema, bundled
from flyback.streams.clients import Headers
from flyback.streams.topology import Topology
from tests.strategies import correction, grade, prediction


@dataclass(frozen=True)
class Raw:
    """A message for the raw topic that holds `record`; `shift` partitions away from where its task belongs."""

    record: str
    task: str
    key: bytes | None
    value: bytes | None
    headers: Headers | None = None
    shift: int = 0


def raw(record: str, event: Record, headers: Headers | None = None) -> Raw:
    """The message of an event, as a service sends it. The event's rules are not checked."""
    return Raw(record, event["task_id"], event["task_id"].encode(), framed(record, event), headers)


def framed(record: str, event: Record) -> bytes:
    """The event's bytes under the id that `BundledCatalog` has for its schema."""
    return codec.encode(record, event, hashed_id(codec.bundled(record)))


def reordered(record: str) -> Schema:
    """A schema of another writer: our fields, the last one first."""
    schema: dict[str, Any] = json.loads(bundled(record).text)
    *others, last = schema["fields"]
    return Schema(json.dumps(schema | {"fields": [last, *others]}))


def registered(message: Raw, topology: Topology, catalog: Catalog) -> Raw:
    """The same message under the id that this catalog has for its schema, where it is one of the raw records'."""
    for topic in topology.raw:
        record = str(topology[topic].record)
        head = wire.frame(hashed_id(codec.bundled(record)), b"")
        if message.value is not None and message.value.startswith(head):
            return replace(message, value=wire.frame(catalog.id_for(record, topic), message.value[len(head) :]))
    return message


def a_prediction(task: str = "t", **changed: Any) -> Raw:
    return raw("Prediction", prediction(task, **changed))


def a_correction(task: str = "t", **changed: Any) -> Raw:
    return raw("Correction", correction(task, **changed))


def a_grade(task: str = "t", **changed: Any) -> Raw:
    return raw("Grade", grade(task, **changed))


def _bytes(change: Callable[[bytes], bytes | None]) -> Callable[[str], Raw]:
    def build(task: str) -> Raw:
        whole = raw("Correction", correction(task, correction_id="poison"))
        assert whole.value is not None
        return replace(whole, value=change(whole.value))

    return build


def _event(record: str, **changed: Any) -> Callable[[str], Raw]:
    def build(task: str) -> Raw:
        if record == "Prediction":
            return raw(record, prediction(task, prediction_id="poison") | changed)
        if record == "Grade":
            return raw(record, grade(task, grade_id="poison") | changed)
        return raw(record, correction(task, correction_id="poison") | changed)

    return build


def _message(**changed: Any) -> Callable[[str], Raw]:
    def build(task: str) -> Raw:
        return replace(raw("Correction", correction(task, correction_id="poison")), **changed)

    return build


POISON: Mapping[str, tuple[str, Callable[[str], Raw]]] = {
    "empty value": ("empty_value", _bytes(lambda value: b"")),
    "no value": ("empty_value", _bytes(lambda value: None)),
    "no magic byte": ("no_magic_byte", _bytes(lambda value: b'{"verdict": "CONFIRMED"}')),
    "cut in its header": ("truncated", _bytes(lambda value: value[:3])),
    "cut in its body": ("truncated", _bytes(lambda value: value[:-9])),
    "trailing bytes": ("trailing_bytes", _bytes(lambda value: value + b"\x00")),
    "another record": ("wrong_record_type", lambda task: replace(_event("Grade")(task), record="Correction")),
    "no UTF-8": ("invalid_utf8", _bytes(lambda value: value.replace(b"sarcasm", b"\xff" * 7))),
    "no key": ("missing_key", _message(key=None)),
    "another key": ("key_mismatch", _message(key=b"another task")),
    "another partition": ("wrong_partition", _message(shift=1)),
    "no id": ("empty_field", _event("Correction", correction_id="")),
    "CORRECTED without output": ("missing_output", _event("Correction", output=None)),
    "probability of 0": ("out_of_range", _event("Correction", sampling_probability=0.0)),
    "probability NaN": ("out_of_range", _event("Correction", sampling_probability=float("nan"))),
    "score NaN": (
        "out_of_range",
        _event("Grade", scores=[{"criterion": "polite", "score": float("nan"), "max_score": 5.0}]),
    ),
    "a text for a segment": ("out_of_range", _event("Prediction", segment="x" * 1_001)),
    "time beyond year 9999": ("out_of_range", _event("Correction", occurred_at=2**62)),
}
"""By kind: the reason in its dead letter, and such a message of a task."""
