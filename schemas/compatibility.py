"""Whether a schema is fully compatible with an earlier one, decided without a registry.

Avro's own rules are asked in both directions (FULL). They let some changes pass that break readers all the
same: another namespace, a changed logical type (millis for micros), an invalid default. Those are looked for
here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fastavro

from flyback.errors import FlybackError
from flyback.schemas.codec import Schema, bundled, released
from flyback.streams.topology import TOPICS


@dataclass(frozen=True, slots=True)
class Verdict:
    """One record's schema against every release of it. No `problems`: old and new can read each other."""

    record: str
    releases: tuple[int, ...]
    changed: bool
    problems: tuple[str, ...]


def check_bundled() -> list[Verdict]:
    """Every record of this version against all of its releases (FULL_TRANSITIVE), in topology order."""
    verdicts = []
    for record in (topic.record for topic in TOPICS if topic.record):
        current = bundled(record)
        earlier = [(number, schema) for _, number, schema in released() if schema.name == current.name]
        verdicts.append(check(record, current, earlier))
    return verdicts


def check(record: str, current: Schema, earlier: Sequence[tuple[int, Schema]]) -> Verdict:
    """One schema against earlier releases, given as (number, schema) in order.

    Raises FlybackError where the package `avro` is missing.
    """
    problems = list(invalid_defaults(current))
    if not earlier:
        problems.append("was never released: freeze it as a file in schemas/released/")
    for number, schema in earlier:
        problems += [f"against release {number}: {problem}" for problem in incompatibilities(current, schema)]
    changed = bool(earlier) and earlier[-1][1].canonical != current.canonical
    return Verdict(record, tuple(number for number, _ in earlier), changed, tuple(problems))


def incompatibilities(current: Schema, earlier: Schema) -> Iterator[str]:
    """Why readers of one of the two schemas cannot read what the other writes; nothing where all can."""
    moved = list(_moved_names(current, earlier))
    yield from moved
    yield from _changed_logical_types(current, earlier)
    if not moved:  # a moved name makes everything below it mismatch, which says nothing new
        yield from _unreadable("the new schema cannot read old data", reader=current, writer=earlier)
        yield from _unreadable("the old schema cannot read new data", reader=earlier, writer=current)


def invalid_defaults(schema: Schema) -> Iterator[str]:
    """Why fastavro refuses the schema itself: a default of the wrong type, an undefined name."""
    try:
        fastavro.parse_schema(json.loads(schema.text), _force=True)
    except Exception as error:  # SchemaParseException and whatever a malformed node provokes
        yield f"is not valid Avro: {error}"
        return
    for record, field in _fields(json.loads(schema.text)):
        if "default" in field and not _default_fits(field["type"], field["default"]):
            yield f"{record}.{field['name']}: its default {json.dumps(field['default'])} is not of its type"


def _default_fits(kind: Any, default: Any) -> bool:
    """Whether a default can be one of a field's type; for a union, of its first branch."""
    first = kind[0] if isinstance(kind, list) else kind
    name = first["type"] if isinstance(first, dict) else first
    python: dict[str, type | tuple[type, ...]] = {
        "null": type(None),
        "boolean": bool,
        "int": int,
        "long": int,
        "float": (int, float),
        "double": (int, float),
        "string": str,
        "bytes": str,
        "fixed": str,
        "enum": str,
        "array": list,
        "map": dict,
        "record": dict,
    }
    expected = python.get(name)
    if expected is None:  # a named type, defined elsewhere
        return True
    if isinstance(default, bool) and name != "boolean":
        return False
    if not isinstance(default, expected):
        return False
    return name != "enum" or default in first["symbols"]


def _unreadable(what: str, *, reader: Schema, writer: Schema) -> Iterator[str]:
    try:
        from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
        from avro.schema import parse
    except ImportError as error:
        raise FlybackError("checking schemas needs: pip install 'flyback[registry]'") from error
    try:
        parsed = [parse(schema.text, validate_names=False) for schema in (reader, writer)]
    except Exception as error:  # avro's errors share no base class of their own
        yield f"is not valid Avro: {error}"
        return
    checker: Any = ReaderWriterCompatibilityChecker  # its constructor has no annotations
    result = checker().get_compatibility(*parsed)
    if result.compatibility is SchemaCompatibilityType.compatible:
        return
    yield f"{what} ({'; '.join(sorted(result.messages))}, at {', '.join(sorted(result.locations))})"


def _moved_names(current: Schema, earlier: Schema) -> Iterator[str]:
    """Named types that kept their short name but not their namespace: other readers no longer know them."""
    before = {name.rpartition(".")[2]: name for name in _names(json.loads(earlier.text))}
    for name in _names(json.loads(current.text)):
        was = before.get(name.rpartition(".")[2], name)
        if was != name:
            yield f"{was} is now called {name}: a namespace must stay"


def _changed_logical_types(current: Schema, earlier: Schema) -> Iterator[str]:
    now, before = (
        {(record, field["name"]): _logical_types(field["type"]) for record, field in _fields(json.loads(schema.text))}
        for schema in (current, earlier)
    )
    for place in now.keys() & before.keys():
        if now[place] != before[place]:
            was, became = (", ".join(types) or "none" for types in (before[place], now[place]))
            yield f"{'.'.join(place)}: its logical type was {was} and is {became}: add a new field instead"


def _definitions(node: Any, namespace: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(full name, definition) of every record, enum and fixed, in the order in which they are written."""
    if isinstance(node, list):
        for branch in node:
            yield from _definitions(branch, namespace)
    if not isinstance(node, dict):
        return
    if "name" in node:
        namespace = node.get("namespace", namespace)
        yield (f"{namespace}.{node['name']}" if namespace else node["name"]), node
    children: Iterable[Any] = (
        [field["type"] for field in node.get("fields", ())],
        node.get("items"),
        node.get("values"),
        node["type"] if isinstance(node.get("type"), dict | list) else None,
    )
    for child in children:
        yield from _definitions(child, namespace)


def _names(schema: Any) -> list[str]:
    return [name for name, _ in _definitions(schema)]


def _fields(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """(short name of the record, field) of every field of every record."""
    for name, definition in _definitions(schema):
        for field in definition.get("fields", ()):
            yield name.rpartition(".")[2], field


def _logical_types(node: Any) -> tuple[str, ...]:
    """The logical types in a field's type, those of records defined inside it left out."""
    if isinstance(node, list):
        return tuple(found for branch in node for found in _logical_types(branch))
    if not isinstance(node, dict) or "fields" in node:
        return ()
    own = (str(node["logicalType"]),) if "logicalType" in node else ()
    return own + tuple(found for key in ("items", "values", "type") for found in _logical_types(node.get(key)))
