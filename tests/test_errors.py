"""Errors that scripts and supervisors can tell apart, with messages that help."""

from __future__ import annotations

import pickle

import pytest

from flyback import errors
from flyback.errors import DeliveryFailed, FlybackError, InvalidEvent, UnknownSchema

EVERY = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, FlybackError)]


def test_every_error_is_ours_and_says_in_its_docstring_what_it_means() -> None:
    assert len(EVERY) > 10
    assert all(each.__doc__ for each in EVERY)


def test_a_supervisor_can_tell_what_needs_a_person_by_the_exit_code() -> None:
    codes = {each.__name__: each.exit_code for each in EVERY if each.exit_code != 1}
    assert codes == {
        "ConfigurationError": 2,
        "RefusedToStart": 3,
        "DeadLetterRateExceeded": 4,
        "WorkerFenced": 5,
    }


def test_an_invalid_event_is_a_value_error_that_names_the_field() -> None:
    error = InvalidEvent("out_of_range", "confidence", "must be between 0 and 1, is 7")
    assert isinstance(error, ValueError)
    assert str(error) == "confidence: must be between 0 and 1, is 7"
    assert (error.reason, error.field) == ("out_of_range", "confidence")
    assert str(InvalidEvent("empty_value", "", "the message has no value")) == "the message has no value"


def test_an_unknown_schema_says_where_it_was_met_and_what_to_do() -> None:
    error = UnknownSchema(77, "flyback.grades.v1/3@41")
    assert "77 at flyback.grades.v1/3@41" in str(error)
    assert "FLYBACK_UNKNOWN_SCHEMA=dead-letter" in str(error)
    assert error.schema_id == 77
    assert " at " not in str(UnknownSchema(77)).partition(":")[0]


@pytest.mark.parametrize(
    "error",
    [
        InvalidEvent("out_of_range", "confidence", "must be between 0 and 1"),
        UnknownSchema(77, "a/1@2"),
        DeliveryFailed("_MSG_TIMED_OUT", "not delivered in 2 minutes"),
    ],
)
def test_an_error_comes_back_from_another_process(error: FlybackError) -> None:
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)
