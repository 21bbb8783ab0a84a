"""Invalid input is refused at the call, by the field's name; nothing is taken."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from flyback import Client, InvalidEvent, PredictionRef, human, model
from flyback.errors import ConfigurationError
from tests.sdk.conftest import MakeClient

REF = PredictionRef("t", "p")
PREDICTION = {"task_id": "t", "actor": model("m"), "input": "in", "output": "out"}
CORRECTION = {"output": "truth", "author": human("ann")}
GRADE = {"rubric": "tone", "rubric_version": "2", "scores": {"polite": (4, 5)}, "author": human("eve")}


@pytest.fixture
def client(make_client: MakeClient) -> Client:
    return make_client(max_event_bytes=2_000)


def refused(client: Client, call: str, *about: Any, **given: Any) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as error:
        getattr(client, call)(*about, **given)
    assert str(error.value).startswith(f"{error.value.field}: ")
    assert client.stats().waiting == 0
    return error.value


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ({"task_id": ""}, "task_id", "empty_field"),
        ({"task_id": 5}, "task_id", "wrong_type"),
        ({"task_id": None}, "task_id", "wrong_type"),
        ({"task_id": "\ud800"}, "task_id", "invalid_utf8"),
        ({"prediction_id": ""}, "prediction_id", "empty_field"),
        ({"prediction_id": b"p"}, "prediction_id", "wrong_type"),
        ({"actor": "vader"}, "actor", "wrong_type"),
        ({"input": None}, "input", "wrong_type"),
        ({"input": "x" * 3_000}, "input", "oversized"),
        ({"output": {"score": float("nan")}}, "output.score", "not_json"),
        ({"context": "one passage"}, "context", "wrong_type"),
        ({"context": ["fine", {"x": float("inf")}]}, "context[1].x", "not_json"),
        ({"context": ["x" * 3_000]}, "context", "oversized"),
        ({"confidence": 1.01}, "confidence", "out_of_range"),
        ({"confidence": -0.1}, "confidence", "out_of_range"),
        ({"confidence": float("nan")}, "confidence", "out_of_range"),
        ({"confidence": 10**400}, "confidence", "out_of_range"),
        ({"confidence": "0.9"}, "confidence", "wrong_type"),
        ({"confidence": True}, "confidence", "wrong_type"),
        ({"segment": ""}, "segment", "empty_field"),
        ({"segment": None}, "segment", "wrong_type"),
        ({"attributes": {"a": 1}}, "attributes['a']", "wrong_type"),
        ({"attributes": {1: "a"}}, "attributes key", "wrong_type"),
        ({"attributes": {"a": "\udfff"}}, "attributes['a']", "invalid_utf8"),
        ({"attributes": ["a"]}, "attributes", "wrong_type"),
        ({"occurred_at": datetime(2025, 1, 1)}, "occurred_at", "naive_datetime"),
        ({"occurred_at": "2025-01-01T00:00:00Z"}, "occurred_at", "wrong_type"),
        ({"traceparent": "abc"}, "traceparent", "invalid_traceparent"),
    ],
)
def test_a_prediction_is_refused(client: Client, given: dict[str, Any], field: str, reason: str) -> None:
    error = refused(client, "predict", **{**PREDICTION, **given})
    assert (error.field, error.reason) == (field, reason)


def test_a_task_id_too_long_for_a_message_key_is_refused(make_client: MakeClient) -> None:
    error = refused(make_client(), "predict", **{**PREDICTION, "task_id": "t" * 40_000})
    assert (error.field, error.reason) == ("task_id", "oversized")


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ({"output": None}, "output", "missing_output"),
        ({"author": REF}, "author", "wrong_type"),
        ({"authority": 2**31}, "authority", "out_of_range"),
        ({"authority": 1.5}, "authority", "wrong_type"),
        ({"authority": True}, "authority", "wrong_type"),
        ({"reason": 5}, "reason", "wrong_type"),
        ({"error_category": ["a"]}, "error_category", "wrong_type"),
        ({"sampling_probability": 0}, "sampling_probability", "out_of_range"),
        ({"sampling_probability": float("nan")}, "sampling_probability", "out_of_range"),
        ({"correction_id": ""}, "correction_id", "empty_field"),
        ({"occurred_at": datetime(2025, 1, 1)}, "occurred_at", "naive_datetime"),
    ],
)
def test_a_correction_is_refused(client: Client, given: dict[str, Any], field: str, reason: str) -> None:
    error = refused(client, "correct", REF, **{**CORRECTION, **given})
    assert (error.field, error.reason) == (field, reason)


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ({"rubric": ""}, "rubric", "empty_field"),
        ({"rubric_version": 2}, "rubric_version", "wrong_type"),
        ({"scores": [("polite", 4, 5)]}, "scores", "wrong_type"),
        ({"scores": {"polite": 4}}, "scores['polite']", "wrong_type"),
        ({"scores": {"polite": ("4", 5)}}, "scores['polite'].score", "wrong_type"),
        ({"scores": {"polite": (6, 5)}}, "scores[0].score", "out_of_range"),
        ({"scores": {"polite": (float("nan"), 5)}}, "scores[0].score", "out_of_range"),
        ({"scores": {"polite": (1, float("inf"))}}, "scores[0].max_score", "out_of_range"),
        ({"scores": {"": (1, 5)}}, "scores[0].criterion", "empty_field"),
        ({"passed": 1}, "passed", "wrong_type"),
        ({"rationale": 1}, "rationale", "wrong_type"),
        ({"grade_id": ""}, "grade_id", "empty_field"),
    ],
)
def test_a_grade_is_refused(client: Client, given: dict[str, Any], field: str, reason: str) -> None:
    error = refused(client, "grade", REF, **{**GRADE, **given})
    assert (error.field, error.reason) == (field, reason)


@pytest.mark.parametrize(
    ("about", "given", "field"),
    [
        ((), {}, "task_id"),
        ((), {"task_id": "t"}, "prediction_id"),
        ((), {"prediction_id": "p"}, "task_id"),
        ((REF,), {"task_id": "t"}, "prediction"),
        (("p",), {}, "prediction"),
        ((PredictionRef("", "p"),), {}, "task_id"),
        ((PredictionRef("t", 5),), {}, "prediction_id"),  # type: ignore[arg-type]
    ],
)
@pytest.mark.parametrize("call", ["confirm", "reject"])
def test_feedback_that_does_not_name_one_prediction_is_refused(
    client: Client, call: str, about: tuple[Any, ...], given: dict[str, Any], field: str
) -> None:
    assert refused(client, call, *about, author=human("ann"), **given).field == field


def test_an_event_of_exactly_the_largest_size_is_taken(make_client: MakeClient) -> None:
    probe = make_client(max_event_bytes=2_000)
    with pytest.raises(InvalidEvent) as error:
        probe.predict(**{**PREDICTION, "input": "x" * 2_000, "prediction_id": "p"})  # type: ignore[arg-type]
    size = int(str(error.value).split("an event of ")[1].split()[0])
    fits = "x" * (4_000 - size)
    probe.predict(**{**PREDICTION, "input": fits, "prediction_id": "p"})  # type: ignore[arg-type]
    with pytest.raises(InvalidEvent, match="2001 bytes"):
        probe.predict(**{**PREDICTION, "input": fits + "x", "prediction_id": "p"})  # type: ignore[arg-type]
    assert probe.stats().waiting == 1


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no such setting: bootstrap"):
        Client(bootstrap="127.0.0.1:1")


def test_a_setting_that_kafkas_client_refuses_is_a_configuration_error(make_client: MakeClient) -> None:
    with pytest.raises(ConfigurationError, match=r"ssl\.ca\.location"):
        make_client(security_protocol="SSL", ssl_ca_location="/nowhere/ca.pem")


@pytest.mark.parametrize("value", ["", "[]", '{"task_id": "t"}', '{"task_id": 1, "prediction_id": "p"}', "{"])
def test_a_reference_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(InvalidEvent):
        PredictionRef.from_json(value)
