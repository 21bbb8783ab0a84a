"""Confluent's framing: a zero byte, four bytes of schema id, the body."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyback.errors import InvalidEvent
from flyback.schemas import wire


def reason(value: bytes | None) -> str:
    with pytest.raises(InvalidEvent) as caught:
        wire.schema_id(value)
    return caught.value.reason


def test_the_frame_is_confluent_s() -> None:
    assert wire.frame(0x01020304, b"body") == b"\x00\x01\x02\x03\x04body"


@given(st.integers(0, 2**32 - 1), st.binary())
def test_the_id_that_was_framed_is_found(schema_id: int, body: bytes) -> None:
    framed = wire.frame(schema_id, body)
    assert wire.schema_id(framed) == schema_id
    assert framed[wire.HEADER :] == body


@pytest.mark.parametrize("value", [None, b""])
def test_no_value_is_empty(value: bytes | None) -> None:
    assert reason(value) == "empty_value"


@pytest.mark.parametrize("value", [b"\x01", b'{"task_id": "t"}', b"\x01\x00\x00\x00\x01x", b"Obj\x01"])
def test_another_first_byte_is_no_magic_byte(value: bytes) -> None:
    assert reason(value) == "no_magic_byte"


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_less_than_a_header_is_truncated(length: int) -> None:
    assert reason(bytes(length)) == "truncated"


def test_a_header_alone_names_its_schema() -> None:
    assert wire.schema_id(bytes(5)) == 0
