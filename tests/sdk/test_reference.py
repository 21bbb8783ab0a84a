"""PredictionRef: what a service keeps until the reviewer has answered."""

from __future__ import annotations

import copy
import pickle

import pytest

from flyback import PredictionRef

REF = PredictionRef("tä-1", "p")


def test_a_reference_survives_pickle_json_and_dictionaries() -> None:
    assert pickle.loads(pickle.dumps(REF)) == REF
    assert copy.deepcopy(REF) == REF
    assert PredictionRef.from_json(REF.to_json()) == REF
    assert PredictionRef.from_json(REF.to_json().encode()) == REF
    assert PredictionRef.from_dict({**REF.to_dict(), "anything": "else"}) == REF


def test_a_reference_is_hashable_and_cannot_be_changed() -> None:
    assert {REF: 1}[PredictionRef("tä-1", "p")] == 1
    with pytest.raises(AttributeError):
        REF.task_id = "other"  # type: ignore[misc]
