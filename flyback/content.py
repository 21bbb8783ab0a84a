"""Who answers or judges, and what is asked and answered: the two small types of the SDK's arguments."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flyback.errors import InvalidEvent
from flyback.fields import text, wrong_type

TEXT = "text/plain"
JSON = "application/json"
CHAT = "application/vnd.flyback.chat+json"

_KINDS = ("MODEL", "HUMAN")
# With any of these an assistant's message needs no content.
_INSTEAD_OF_CONTENT = ("tool_calls", "function_call", "refusal", "audio")

_write = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Actor:
    """Who answers or judges; made by `model` and `human`. Raises InvalidEvent for an empty name."""

    kind: Literal["MODEL", "HUMAN"]
    name: str
    version: str = ""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise InvalidEvent("wrong_type", "kind", "must be MODEL or HUMAN")
        if not text("name", self.name):
            raise InvalidEvent("empty_field", "name", "must not be empty")
        text("version", self.version)

    def to_dict(self) -> dict[str, str]:
        return {"kind": self.kind, "name": self.name, "version": self.version}


def model(name: str, version: str = "") -> Actor:
    """A model, by its name and version: `model("vader", "3.3.2")`."""
    return Actor("MODEL", name, version)


def human(name: str) -> Actor:
    """A person, by the name under which they answer or review: `human("ann")`."""
    return Actor("HUMAN", name)


@dataclass(frozen=True, slots=True)
class Content:
    """A body in the form that `content_type` names. Strings, JSON values and `chat(...)` become one by themselves."""

    content_type: str
    body: str

    def __post_init__(self) -> None:
        if not text("content_type", self.content_type):
            raise InvalidEvent("empty_field", "content_type", "must not be empty")
        text("body", self.body)

    def to_dict(self) -> dict[str, str]:
        return {"content_type": self.content_type, "body": self.body}


ContentLike = Content | str | int | float | bool | Mapping[str, Any] | Sequence[Any]
"""What becomes a `Content`: text, a JSON value, or a Content as it is."""


def content(field: str, value: object) -> Content:
    """A string as text/plain, any other JSON value as application/json, a Content as it is.

    Raises InvalidEvent naming the path of what JSON cannot hold, such as `output.scores[2]`.
    """
    if isinstance(value, Content):
        return value
    if isinstance(value, str):
        return Content(TEXT, text(field, value))
    if value is None:
        raise InvalidEvent(
            "wrong_type",
            field,
            "must be text, a JSON value or a Content, is None; JSON's null is Content('application/json', 'null')",
        )
    return Content(JSON, compact(field, value))


def as_record(field: str, value: object) -> dict[str, str]:
    """What `content(...).to_dict()` gives, for text without making a Content first."""
    if type(value) is str:
        return {"content_type": TEXT, "body": text(field, value)}
    return content(field, value).to_dict()


def as_records(field: str, values: object) -> list[dict[str, str]]:
    """The same of each item of a list. Text or a mapping alone is refused: it would be taken apart."""
    if type(values) is tuple and not values:
        return []
    if isinstance(values, (str, bytes, Mapping, Content)) or not isinstance(values, Iterable):
        raise wrong_type(field, "a list of contents", values)
    return [as_record(f"{field}[{i}]", value) for i, value in enumerate(values)]


def chat(messages: Iterable[Mapping[str, Any]]) -> Content:
    """A conversation: `{role, content, ...}` messages as the OpenAI-compatible APIs take them, all their keys kept.

    `content` is text, a list of parts with a `type`, or None where there are tool calls. Raises InvalidEvent naming
    the message and key, such as `messages[2].content`.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise wrong_type("messages", "a list of messages", messages)
    found = list(messages)
    if not found:
        raise InvalidEvent("empty_field", "messages", "must hold at least one message")
    for i, message in enumerate(found):
        _check_message(f"messages[{i}]", message)
    return Content(CHAT, compact("messages", found))


def compact(field: str, value: object) -> str:
    """Compact JSON, characters as they are. Raises InvalidEvent naming the path of what JSON cannot hold."""
    try:
        return _write(_plain(field, value))
    except RecursionError:
        raise InvalidEvent("not_json", field, "is nested too deeply, or holds itself") from None


def _plain(path: str, value: object) -> object:
    """The value in the types that JSON has, every part of it checked."""
    if isinstance(value, str):
        return text(path, value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidEvent(
                "not_json", path, f"is {float(value)}, which JSON cannot hold: leave it out, or use None"
            )
        return value
    if isinstance(value, int):
        try:
            str(int(value))
        except ValueError:  # Python's own limit, for both writing and reading
            raise InvalidEvent("not_json", path, "is a whole number of too many digits") from None
        return value
    if isinstance(value, Mapping):
        found = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise wrong_type(f"{path} key {key!r}", "a string", key)
            name = text(f"{path} key", key)
            found[name] = _plain(f"{path}.{name}", item)
        return found
    if isinstance(value, (list, tuple)):
        return [_plain(f"{path}[{i}]", item) for i, item in enumerate(value)]
    raise wrong_type(path, "text, a number, True, False, None, a list or a mapping", value)


def _check_message(path: str, message: object) -> None:
    if not isinstance(message, Mapping):
        raise wrong_type(
            path, "a mapping with role and content (a client library's object: its .model_dump())", message
        )
    if "role" not in message:
        raise InvalidEvent("missing_role", path, "needs a role, such as user or assistant")
    if not text(f"{path}.role", message["role"]):
        raise InvalidEvent("empty_field", f"{path}.role", "must not be empty")
    _check_message_content(path, message)
    calls = message.get("tool_calls")
    if calls is not None:
        if not isinstance(calls, (list, tuple)):
            raise wrong_type(f"{path}.tool_calls", "a list", calls)
        for i, call in enumerate(calls):
            _check_tool_call(f"{path}.tool_calls[{i}]", call)
    if message["role"] == "tool" and "tool_call_id" in message:
        text(f"{path}.tool_call_id", message["tool_call_id"])


def _check_message_content(path: str, message: Mapping[str, Any]) -> None:
    given = message.get("content")
    if given is None:
        if not any(message.get(key) for key in _INSTEAD_OF_CONTENT):
            raise InvalidEvent("missing_content", f"{path}.content", "is needed where there are no tool calls")
    elif isinstance(given, (list, tuple)):
        for i, part in enumerate(given):
            if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
                raise InvalidEvent(
                    "wrong_type", f"{path}.content[{i}]", "must be a part such as {'type': 'text', 'text': ...}"
                )
    else:
        if not isinstance(given, str):
            raise wrong_type(f"{path}.content", "a string, a list of parts or None", given)
        text(f"{path}.content", given)


def _check_tool_call(path: str, call: object) -> None:
    if not isinstance(call, Mapping):
        raise wrong_type(path, "a mapping", call)
    if call.get("type", "function") != "function":
        return
    function = call.get("function")
    if not isinstance(function, Mapping):
        raise wrong_type(f"{path}.function", "a mapping with name and arguments", function)
    if not text(f"{path}.function.name", function.get("name")):
        raise InvalidEvent("empty_field", f"{path}.function.name", "must not be empty")
