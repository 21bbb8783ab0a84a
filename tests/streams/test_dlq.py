"""Dead letters: original bytes, coordinates and the reason."""

from __future__ import annotations

from hashlib import sha256

from flyback.streams.dlq import letter


def a_letter(
    value: bytes | None = b"\x01\xff",
    headers: list[tuple[str, bytes | None]] | None = None,
    message: str = "a string is not UTF-8",
) -> tuple[bytes | None, list[tuple[str, bytes | None]]]:
    found, made = letter(
        "flyback.grades.v1", 3, 41, 1_700_000_000_123, value, headers, "invalid_utf8", message, max_bytes=10
    )
    return found, [*made]


def test_a_letter_says_where_the_message_stood_and_why_it_was_refused() -> None:
    value, headers = a_letter()
    assert value == b"\x01\xff"
    assert headers == [
        ("__connect.errors.topic", b"flyback.grades.v1"),
        ("__connect.errors.partition", b"3"),
        ("__connect.errors.offset", b"41"),
        ("__connect.errors.timestamp", b"1700000000123"),
        ("__connect.errors.exception.class.name", b"invalid_utf8"),
        ("__connect.errors.exception.message", b"a string is not UTF-8"),
    ]


def test_a_value_of_exactly_the_limit_is_kept_and_one_byte_more_is_not() -> None:
    assert a_letter(b"x" * 10)[0] == b"x" * 10
    value, headers = a_letter(b"x" * 11)
    assert value is None
    assert headers[-2:] == [
        ("__connect.errors.value.sha256", sha256(b"x" * 11).hexdigest().encode()),
        ("__connect.errors.value.size", b"11"),
    ]


def test_an_empty_value_stays_what_it_was() -> None:
    assert a_letter(None)[0] is None
    assert a_letter(b"")[0] == b""


def test_the_message_s_own_headers_come_first_in_their_order_with_their_copies() -> None:
    own: list[tuple[str, bytes | None]] = [("a", b"1"), ("traceparent", b"\xff"), ("a", b"2")]
    assert a_letter(headers=own)[1][:3] == own


def test_a_header_without_a_value_stays_without_one() -> None:
    assert a_letter(headers=[("a", None), ("b", b"")])[1][:2] == [("a", None), ("b", b"")]


def test_a_letter_that_is_refused_again_tells_of_the_last_time_only() -> None:
    _, first = a_letter()
    assert a_letter(headers=[("a", b"1"), *first])[1] == [("a", b"1"), *first]


def test_the_sentence_may_be_in_any_script() -> None:
    assert ("__connect.errors.exception.message", "ключ".encode()) in a_letter(message="ключ")[1]
