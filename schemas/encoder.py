"""Avro bodies by functions that are made once for a schema: in 0.6 of fastavro's time, which looks each type up anew.

What they give is what fastavro gives, byte for byte. They take the plain values that our own code makes, with every
field there, and raise an exception, whichever, for all else: `codec.body` then leaves the value to fastavro, which
knows defaults and more types, or says what is wrong.

Loops are written out: a function called by `map` or in a comprehension costs CPython more than what it does here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

Encoder = Callable[[Any], bytes]
_Put = Callable[[bytes], None]
_Part = Callable[[Any, _Put], None]
"""Puts the bytes of one value."""

_LONG = range(-(2**63), 2**63)


def compiled(schema: Any) -> Encoder:
    """The encoder of a schema as fastavro parsed it. Raises NotImplementedError for what our schemas do not use."""
    part = _part(schema, {})

    def encode(value: Any) -> bytes:
        found: list[bytes] = []
        part(value, found.append)
        return b"".join(found)

    return encode


def _part(schema: Any, named: dict[str, _Part]) -> _Part:
    if isinstance(schema, list):
        if len(schema) != 2 or schema[0] != "null":
            raise NotImplementedError("a union of other than null and one type")
        return _optional(_part(schema[1], named))
    if isinstance(schema, str):
        if found := named.get(schema) or _PRIMITIVES.get(schema):
            return found
        raise NotImplementedError(schema)
    match schema["type"]:
        case "record":
            fields = {field["name"]: _part(field["type"], named) for field in schema["fields"]}
            named[schema["name"]] = record = _record(fields)
            return record
        case "enum":
            named[schema["name"]] = symbol = _enum(schema["symbols"])
            return symbol
        case "array":
            return _array(_part(schema["items"], named))
        case "map":
            return _map(_part(schema["values"], named))
        case other:
            return _part(other, named)


def _varint(value: int) -> bytes:
    """Zigzag, then seven bits a byte, the lowest first."""
    left = value << 1 ^ value >> 63
    found = []
    while left > 127:
        found.append(left & 127 | 128)
        left >>= 7
    found.append(left)
    return bytes(found)


_size = lru_cache(maxsize=4096)(_varint)  # lengths repeat
_pack = struct.Struct("<d").pack


def _long(value: int, put: _Put) -> None:
    if type(value) is not int or value not in _LONG:
        raise TypeError
    put(_varint(value))


def _double(value: float, put: _Put) -> None:
    if type(value) is not float:
        raise TypeError
    put(_pack(value))


def _boolean(value: bool, put: _Put) -> None:
    if type(value) is not bool:
        raise TypeError
    put(b"\x01" if value else b"\x00")


def _string(value: str, put: _Put) -> None:
    body = str.encode(value)
    put(_size(len(body)))
    put(body)


_PRIMITIVES: Mapping[str, _Part] = {
    "boolean": _boolean,
    "int": _long,  # fastavro too writes a longer one
    "long": _long,
    "double": _double,
    "string": _string,
}


def _optional(part: _Part) -> _Part:
    def optional(value: Any, put: _Put) -> None:
        if value is None:
            put(b"\x00")
        else:
            put(b"\x02")
            part(value, put)

    return optional


def _enum(symbols: Iterable[str]) -> _Part:
    numbers = {symbol: _varint(number) for number, symbol in enumerate(symbols)}
    return lambda value, put: put(numbers[value])


def _record(fields: Mapping[str, _Part]) -> _Part:
    parts = tuple(fields.items())

    def record(value: dict[str, Any], put: _Put) -> None:
        if type(value) is not dict or len(value) != len(parts):
            raise TypeError
        for name, part in parts:
            part(value[name], put)

    return record


def _array(part: _Part) -> _Part:
    def array(values: list[Any], put: _Put) -> None:
        if type(values) is not list:
            raise TypeError
        if values:  # all in one block; its end is the empty one
            put(_size(len(values)))
            for value in values:
                part(value, put)
        put(b"\x00")

    return array


def _map(part: _Part) -> _Part:
    def entries(values: dict[str, Any], put: _Put) -> None:
        if type(values) is not dict:
            raise TypeError
        if values:
            put(_size(len(values)))
            for key, value in values.items():
                _string(key, put)
                part(value, put)
        put(b"\x00")

    return entries
