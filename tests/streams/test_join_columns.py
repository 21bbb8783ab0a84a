"""Many pairs at once derive what each derives by itself, byte for byte; what is not certain is left to `derive`."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyruhvro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyback.schemas import codec, wire
from flyback.schemas.catalog import hashed_id
from flyback.streams import join_columns
from flyback.streams.matcher import Pair
from tests.strategies import arrived, correction, grade, message, prediction, valid_event
from tests.streams.records import reordered

FEEDBACK = {"Correction": correction, "Grade": grade}


def assert_like_one_by_one(pairs: Sequence[Pair]) -> None:
    found = join_columns.bodies(pairs)
    assert None not in found
    for pair, derived in zip(pairs, found, strict=True):
        assert derived is not None
        record, body = derived
        one = pair.derived
        schema_id = hashed_id(codec.bundled(record))
        assert record == one.record
        assert wire.frame(schema_id, body) == codec.encode(record, one.event, schema_id)


@pytest.mark.parametrize("record", FEEDBACK)
@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_pairs_derive_what_each_derives_by_itself(record: str, data: st.DataObject) -> None:
    predictions = data.draw(st.lists(valid_event("Prediction"), min_size=4, max_size=6))
    feedback = data.draw(st.lists(valid_event(record), min_size=4, max_size=6))
    pairs = [
        Pair(message(arrived("Prediction", p, 10 * i, 1_000 + i)), message(arrived(record, f, 10 * i + j, 2_000 + j)))
        for i, p in enumerate(predictions)
        for j, f in enumerate(feedback)
    ]
    assert_like_one_by_one(pairs)


def test_models_and_people_and_both_kinds_of_feedback_are_told_apart() -> None:
    pairs = []
    for i in range(80):
        actor = {"kind": ("MODEL", "HUMAN")[i % 2], "name": "a", "version": ""}
        record = ("Correction", "Grade")[i // 2 % 2]
        about = prediction(f"t{i}", actor=actor)
        pairs.append(Pair(message(arrived("Prediction", about)), message(arrived(record, FEEDBACK[record](f"t{i}")))))
    assert_like_one_by_one(pairs)
    found = [derived[0] for derived in join_columns.bodies(pairs) if derived is not None]
    assert found == ["Example", "Coaching", "GradedExample", "Coaching"] * 20


def ours(many: int = 20) -> list[Pair]:
    return [
        Pair(message(arrived("Prediction", prediction(f"t{i}"))), message(arrived("Correction", correction(f"t{i}"))))
        for i in range(many)
    ]


def test_one_pair_that_is_not_certain_leaves_the_others_alone() -> None:
    pairs = ours()
    many = prediction("t7", attributes={f"name-{i}": "x" for i in range(60)})
    pairs[7] = pairs[7]._replace(prediction=message(arrived("Prediction", many)))
    found = join_columns.bodies(pairs)
    assert [i for i, derived in enumerate(found) if derived is None] == [7]


def test_what_cannot_be_encoded_as_columns_is_left_to_derive(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """As Rust raises it."""

    def panics(batch: pa.RecordBatch, schema: str, chunks: int) -> list[pa.Array]:
        if '"Example"' in schema:
            raise PanicException
        encoded: list[pa.Array] = encode(batch, schema, chunks)
        return encoded

    encode = pyruhvro.serialize_record_batch
    monkeypatch.setattr("pyruhvro.serialize_record_batch", panics)
    assert join_columns.bodies(ours()) == [None] * 20


def test_few_pairs_and_those_of_other_writers_are_left_to_derive() -> None:
    assert join_columns.bodies(ours(3)) == [None] * 3
    theirs = [pair._replace(prediction=pair.prediction._replace(schema=reordered("Prediction"))) for pair in ours()]
    found = join_columns.bodies([*ours(), *theirs])
    assert None not in found[:20]
    assert found[20:] == [None] * 20
