"""What plain values are is found out fast, and what they come to is the same as of any other value like them."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flyback import Content, InvalidEvent, fields
from flyback.content import as_record, as_records, content

TEXTS = st.text() | st.text(st.characters(categories=["Cs", "Ll"]), max_size=3)  # with lone surrogates
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


class Text(str):
    """As numpy's and other libraries' strings are: not let through at once."""


class Number(float):
    """As numpy's numbers are."""


def outcome(call: Callable[..., Any], *given: Any) -> object:
    """What it gives, or the error's words."""
    try:
        return call(*given)
    except InvalidEvent as error:
        return error.reason, error.field, str(error)


@given(TEXTS)
def test_a_string_and_its_subclass_come_to_the_same(value: str) -> None:
    assert outcome(fields.text, "segment", value) == outcome(fields.text, "segment", Text(value))
    assert outcome(fields.optional_text, "reason", value) == outcome(fields.optional_text, "reason", Text(value))


@given(st.floats())
def test_a_number_and_its_subclass_come_to_the_same(value: float) -> None:
    plain, other = fields.number("confidence", value), fields.number("confidence", Number(value))
    assert type(plain) is type(other) is float
    assert plain.hex() == other.hex()


@given(st.dictionaries(TEXTS | st.integers(), TEXTS | st.integers(), max_size=3))
def test_attributes_in_a_dict_and_in_another_mapping_come_to_the_same(value: dict[Any, Any]) -> None:
    found = outcome(fields.attributes, "attributes", value)
    assert found == outcome(fields.attributes, "attributes", MappingProxyType(value))
    assert found is not value


def test_attributes_that_the_caller_changes_later_stay_what_they_were() -> None:
    given_ones = {"language": "en"}
    found = fields.attributes("attributes", given_ones)
    given_ones["language"] = "de"
    assert found == {"language": "en"}


@given(VALUES)
def test_a_content_and_its_record_come_to_the_same(value: Any) -> None:
    found: Any = outcome(content, "input", value)
    assert outcome(as_record, "input", value) == (found.to_dict() if isinstance(found, Content) else found)


def test_a_context_of_nothing_is_empty_however_it_is_given() -> None:
    assert as_records("context", ()) == as_records("context", []) == as_records("context", iter(())) == []


def test_an_event_without_a_time_happens_now() -> None:
    before = time.time_ns() // 1000
    assert before <= fields.micros("occurred_at", None) <= time.time_ns() // 1000
