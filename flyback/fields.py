"""What a caller gave, checked for its Python type and turned into what Avro holds.

Every function takes the field's path first, for the message of the InvalidEvent that it raises. What a value must
satisfy beyond its type is in `flyback.schemas.rules`.

A service calls these for every event. So what nearly every value is, of the exact type, is let through before the
questions that cost more: what abstract types it belongs to, how its path reads.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from numbers import Integral, Real
from typing import Any

from flyback.errors import InvalidEvent

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INT = range(-(2**31), 2**31)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def wrong_type(field: str, expected: str, value: object) -> InvalidEvent:
    """The error for a value of another type; it names the type, never the value."""
    return InvalidEvent("wrong_type", field, f"must be {expected}, is {type(value).__name__}")


def text(field: str, value: object) -> str:
    """A string that UTF-8 can hold."""
    if type(value) is str and value.isascii():
        return value
    if not isinstance(value, str):
        raise wrong_type(field, "a string", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidEvent(
                "invalid_utf8",
                field,
                f"character {error.start} is a lone surrogate (U+{ord(value[error.start]):04X}), which UTF-8 cannot "
                "hold: replace it where the text is decoded",
            ) from None
    return value


def optional_text(field: str, value: object) -> str | None:
    """A string that UTF-8 can hold, or None."""
    return None if value is None else text(field, value)


def number(field: str, value: object) -> float:
    """A real number, numpy's included; a bool is none."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise wrong_type(field, "a number", value)
    try:
        return float(value)
    except OverflowError:
        raise InvalidEvent("out_of_range", field, "is too large for a double") from None


def optional_number(field: str, value: object) -> float | None:
    """A real number or None."""
    return None if value is None else number(field, value)


def integer(field: str, value: object) -> int:
    """A whole number of 32 bits; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise wrong_type(field, "a whole number", value)
    if int(value) not in _INT:
        raise InvalidEvent("out_of_range", field, f"must be between {_INT[0]} and {_INT[-1]}")
    return int(value)


def optional_flag(field: str, value: object) -> bool | None:
    """True, False or None; nothing that merely counts as such."""
    if value is None or isinstance(value, bool):
        return value
    raise wrong_type(field, "True, False or None", value)


def attributes(field: str, value: object) -> dict[str, str]:
    """String keys and string values; None stands for no attributes."""
    if value is None:
        return {}
    if type(value) is dict and _ascii(found := value.copy()):
        return found
    if not isinstance(value, Mapping):
        raise wrong_type(field, "a mapping of strings", value)
    return {text(f"{field} key", key): text(f"{field}[{key!r}]", item) for key, item in value.items()}


def _ascii(pairs: dict[Any, Any]) -> bool:
    """Whether these are plain strings without a character that UTF-8 might not hold."""
    for key, item in pairs.items():  # a loop: `all` with a generator takes twice as long
        if type(key) is not str or type(item) is not str or not key.isascii() or not item.isascii():
            return False
    return True


def micros(field: str, value: object) -> int:
    """Microseconds since the epoch (UTC) of an aware datetime; None stands for now."""
    if value is None:
        return time.time_ns() // 1000
    if not isinstance(value, datetime):
        raise wrong_type(field, "a datetime", value)
    if value.utcoffset() is None:
        raise InvalidEvent(
            "naive_datetime", field, "must have a time zone: use datetime.now(timezone.utc) or .astimezone()"
        )
    return (value - _EPOCH) // _MICROSECOND


def traceparent(field: str, value: object) -> bytes | None:
    """A W3C trace context's `traceparent` as a header's value."""
    if value is None:
        return None
    if not _TRACEPARENT.fullmatch(text(field, value)):
        raise InvalidEvent("invalid_traceparent", field, "must look like 00-<32 hex digits>-<16 hex digits>-01")
    return str(value).encode()
