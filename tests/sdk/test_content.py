"""Strings, JSON values and chats as Content, and what is refused."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyback import Actor, Content, InvalidEvent, chat, human, model
from flyback.content import CHAT, JSON, TEXT, as_records, content
from flyback.schemas import codec

WORDS = st.text(st.characters(exclude_categories=["Cs"]))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner),
    max_leaves=20,
)


def correction_with(output: Content) -> dict[str, Any]:
    who = {"kind": "HUMAN", "name": "ann", "version": ""}
    return {
        "correction_id": "c", "task_id": "t", "prediction_id": "p", "verdict": "CORRECTED", "author": who,
        "authority": 0, "reason": None, "error_category": None, "sampling_probability": None, "attributes": {},
        "output": {"content_type": output.content_type, "body": output.body}, "occurred_at": 0,
    }  # fmt: skip


@given(JSON_VALUES)
def test_any_json_value_comes_back_from_content_and_avro(value: Any) -> None:
    made = content("output", {"value": value})
    framed = codec.encode("Correction", correction_with(made), 7)
    decoded = codec.decode("Correction", framed, codec.bundled("Correction"))
    assert made.content_type == JSON
    back = json.loads(decoded["output"]["body"])["value"]
    assert json.dumps(back) == json.dumps(value)  # tells 1 from 1.0 and True, and -0.0 from 0.0


@given(WORDS)
def test_any_text_comes_back_from_content_and_avro(value: str) -> None:
    made = content("output", value)
    framed = codec.encode("Correction", correction_with(made), 7)
    decoded = codec.decode("Correction", framed, codec.bundled("Correction"))
    assert decoded["output"] == {"content_type": TEXT, "body": value}


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ({"é": [1, 2.5, None, True]}, '{"é":[1,2.5,null,true]}'),
        ([], "[]"),
        ((1, 2), "[1,2]"),
        (3, "3"),
        (0.5, "0.5"),
        (False, "false"),
    ],
)
def test_json_values_are_written_compactly_with_characters_as_they_are(value: Any, body: str) -> None:
    assert content("input", value) == Content(JSON, body)


def test_a_content_passes_through_as_it_is() -> None:
    given_content = Content("application/x-custom", "anything")
    assert content("input", given_content) is given_content


def holding_itself() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "field", "says"),
    [
        ({"a": [1, {"b": float("nan")}]}, "output.a[1].b", "nan"),
        (float("inf"), "output", "inf"),
        ({1: "x"}, "output key 1", "must be a string, is int"),
        ({"a": {1, 2}}, "output.a", "is set"),
        (b"bytes", "output", "is bytes"),
        (None, "output", "is None"),
        (object(), "output", "is object"),
        ("a\ud800", "output", "character 1 is a lone surrogate (U+D800)"),
        ({"a": ["\udfff"]}, "output.a[0]", "lone surrogate (U+DFFF)"),
        ({"\ud800": 1}, "output key", "lone surrogate"),
        (holding_itself(), "output", "holds itself"),
        ({"n": 10**5000}, "output.n", "too many digits"),
    ],
)
def test_what_json_cannot_hold_is_refused_naming_its_path(value: Any, field: str, says: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        content("output", value)
    assert refused.value.field == field
    assert says in str(refused.value)


def test_each_item_of_a_context_becomes_a_content() -> None:
    expected = [Content(TEXT, "a"), Content(JSON, '{"b":1}'), Content("x", "y")]
    assert as_records("context", ["a", {"b": 1}, Content("x", "y")]) == [each.to_dict() for each in expected]


@pytest.mark.parametrize("value", ["one passage", {"a": 1}, Content(TEXT, "x"), 5, None])
def test_a_context_that_is_no_list_is_refused(value: Any) -> None:
    with pytest.raises(InvalidEvent, match=r"context: must be a list of contents"):
        as_records("context", value)


TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}}


def test_a_chat_keeps_every_key_tool_calls_included() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "And in Ulm?"}], "name": "eve"},
        {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "12 °C"},
    ]
    made = chat(messages)
    assert made.content_type == CHAT
    assert json.loads(made.body) == messages


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ("hello", "messages"),
        ({"role": "user", "content": "x"}, "messages"),
        (["hello"], "messages[0]"),
        ([{"content": "x"}], "messages[0]"),
        ([{"role": "", "content": "x"}], "messages[0].role"),
        ([{"role": 1, "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": "x"}, {"role": "user"}], "messages[1].content"),
        ([{"role": "user", "content": {"text": "x"}}], "messages[0].content"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        ([{"role": "assistant", "tool_calls": [{"function": {}}]}], "messages[0].tool_calls[0].function.name"),
        ([{"role": "assistant", "tool_calls": ["call"]}], "messages[0].tool_calls[0]"),
        ([{"role": "assistant", "content": "x", "tool_calls": "call"}], "messages[0].tool_calls"),
        ([{"role": "user", "content": "x", "score": float("nan")}], "messages[0].score"),
    ],
)
def test_a_chat_that_is_none_is_refused_naming_the_message(messages: Any, field: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        chat(messages)
    assert refused.value.field == field


def test_a_model_and_a_person_of_one_name_differ() -> None:
    assert model("ann") != human("ann")
    assert model("vader", "3.3.2") == Actor("MODEL", "vader", "3.3.2")
    assert human("ann") == Actor("HUMAN", "ann", "")


@pytest.mark.parametrize("name", ["", 5, None, "\ud800"])
def test_an_actor_without_a_proper_name_is_refused(name: Any) -> None:
    with pytest.raises(InvalidEvent, match=r"^name: "):
        human(name)


def test_contents_and_actors_can_be_pickled() -> None:
    for value in (model("vader", "3"), chat([{"role": "user", "content": "x"}])):
        assert pickle.loads(pickle.dumps(value)) == value
