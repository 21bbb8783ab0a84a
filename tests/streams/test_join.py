"""The pure join: what a pair becomes, which pairs there are, and ids that never change."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyback.schemas import codec
from flyback.schemas.codec import Record, bundled
from flyback.schemas.content import fingerprint
from flyback.streams import join
from flyback.streams.join import Arrived, Derived, derive, pair_id
from tests.strategies import (
    EPOCH_MS,
    TOPIC,
    WINDOW_MS,
    History,
    any_event,
    arrived,
    correction,
    grade,
    histories,
    prediction,
    valid_event,
)

WINDOW = timedelta(milliseconds=WINDOW_MS)
A_PERSON = {"kind": "HUMAN", "name": "bob", "version": ""}


def derived(answer: Record, feedback_record: str, feedback: Record) -> Derived:
    return derive(arrived("Prediction", answer, 3), arrived(feedback_record, feedback, 5, EPOCH_MS + 7))


@pytest.mark.parametrize("verdict", ["CONFIRMED", "CORRECTED", "REJECTED"])
def test_a_correction_of_a_model_is_an_example(verdict: str) -> None:
    found = derived(prediction(), "Correction", correction(verdict=verdict))
    assert (found.record, found.event["verdict"], found.event["correction_id"]) == ("Example", verdict, "c")


def test_a_grade_of_a_model_is_a_graded_example() -> None:
    found = derived(prediction(), "Grade", grade())
    assert (found.record, found.event["grade_id"]) == ("GradedExample", "g")
    assert {name: found.event[name] for name in ("rubric", "rubric_version", "passed", "rationale", "scores")} == {
        "rubric": "tone",
        "rubric_version": "2",
        "passed": True,
        "rationale": None,
        "scores": [{"criterion": "polite", "score": 4.0, "max_score": 5.0}],
    }


@pytest.mark.parametrize("verdict", ["CONFIRMED", "CORRECTED", "REJECTED"])
def test_a_correction_of_a_person_is_coaching(verdict: str) -> None:
    found = derived(prediction(actor=A_PERSON), "Correction", correction(verdict=verdict))
    assert found.record == "Coaching"
    assert (found.event["feedback_kind"], found.event["feedback_id"]) == ("CORRECTION", "c")
    assert found.event["verdict"] == verdict


def test_a_grade_of_a_person_is_coaching() -> None:
    found = derived(prediction(actor=A_PERSON), "Grade", grade())
    assert found.record == "Coaching"
    assert (found.event["feedback_kind"], found.event["feedback_id"]) == ("GRADE", "g")
    assert found.event["scores"] == grade()["scores"]


@pytest.mark.parametrize(
    ("verdict", "truth"),
    [("CONFIRMED", prediction()["output"]), ("CORRECTED", correction()["output"]), ("REJECTED", None)],
)
def test_the_truth_follows_from_the_verdict(verdict: str, truth: Record | None) -> None:
    assert derived(prediction(), "Correction", correction(verdict=verdict)).event["truth"] == truth


def test_output_given_beside_another_verdict_is_not_taken_for_the_truth() -> None:
    stray = {"content_type": "text/plain", "body": "stray"}
    for verdict in ("CONFIRMED", "REJECTED"):
        assert derived(prediction(), "Correction", correction(verdict=verdict, output=stray)).event["truth"] != stray


def test_a_derived_event_carries_the_whole_story_and_where_it_comes_from() -> None:
    answer, given_ = prediction(context=[{"content_type": "text/plain", "body": "a review"}]), correction()
    event = derived(answer, "Correction", given_).event
    for name in ("task_id", "prediction_id", "actor", "input", "context", "output", "confidence", "segment"):
        assert event[name] == answer[name]
    for name in ("author", "authority", "reason", "error_category", "sampling_probability"):
        assert event[name] == given_[name]
    assert (event["attributes"], event["feedback_attributes"]) == (answer["attributes"], given_["attributes"])
    assert (event["occurred_at"], event["feedback_occurred_at"]) == (answer["occurred_at"], given_["occurred_at"])
    source = {"topic": TOPIC["Prediction"], "partition": 0, "offset": 3, "arrived_at": EPOCH_MS * 1000}
    assert event["prediction_source"] == source
    assert event["feedback_source"] == {
        "topic": TOPIC["Correction"],
        "partition": 0,
        "offset": 5,
        "arrived_at": (EPOCH_MS + 7) * 1000,
    }
    assert event["derive_version"] == join.DERIVE_VERSION


@given(
    valid_event("Prediction"),
    st.sampled_from(("Correction", "Grade")).flatmap(lambda record: st.tuples(st.just(record), valid_event(record))),
)
@settings(deadline=None)
def test_every_derived_event_fits_its_schema_and_loses_nothing_on_the_way(
    answer: Record, feedback: tuple[str, Record]
) -> None:
    found = derived(answer, *feedback)
    read = codec.decode(found.record, codec.encode(found.record, found.event, 1), bundled(found.record))
    assert {name: read[name] for name in found.event} == found.event


def test_ids_of_derived_events_never_change() -> None:
    assert pair_id(arrived("Correction", correction("t-1", "p-1", "c-1"))) == "20f3d60cfcdeee00764b7dc4e32e4abd"
    assert pair_id(arrived("Grade", grade("t-1", "p-1", "c-1"))) == "730e9aef42436c0fa6d859985e7609c9"
    assert (
        pair_id(arrived("Correction", correction("t\u00e4sk \u2603", 'p"', "\\"))) == "bdb78ca675f0ebc9682887a0703a2281"
    )


def test_the_id_of_a_pair_depends_on_its_identity_alone() -> None:
    one = arrived("Correction", correction("t", "p", "c"))
    other = arrived("Correction", correction("t", "p", "c", "REJECTED", reason="x"), 9, EPOCH_MS + 1, partition=2)
    assert pair_id(one) == pair_id(other)


def test_ids_that_only_look_alike_when_joined_are_different_pairs() -> None:
    ids = {
        pair_id(arrived("Correction", correction(*names)))
        for names in (("a", "b", "c"), ("ab", "", "c"), ('a","b', "", "c"), ("a", "bc", ""), ("b", "a", "c"))
    }
    assert len(ids) == 5


def test_a_correction_and_a_grade_may_have_the_same_id() -> None:
    records = [
        arrived("Prediction", prediction()),
        arrived("Correction", correction(correction_id="x")),
        arrived("Grade", grade(grade_id="x")),
    ]
    outcome = join.batch(records, WINDOW)
    assert sorted(each.record for each in outcome.derived) == ["Example", "GradedExample"]
    assert not outcome.duplicates
    assert not outcome.conflicts


@pytest.mark.parametrize(("apart", "pairs"), [(0, 1), (WINDOW_MS - 1, 1), (WINDOW_MS, 1), (WINDOW_MS + 1, 0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_exactly_one_window_apart_is_still_a_pair(apart: int, pairs: int, sign: int) -> None:
    records = [
        arrived("Prediction", prediction(), arrived_at=EPOCH_MS),
        arrived("Correction", correction(), arrived_at=EPOCH_MS + sign * apart),
    ]
    assert len(join.batch(records, WINDOW).derived) == pairs
    assert len(join.batch(records, None).derived) == 1


def test_a_prediction_of_another_task_with_the_same_id_is_not_a_pair() -> None:
    records = [arrived("Prediction", prediction("other", "p")), arrived("Correction", correction("t", "p"))]
    assert join.batch(records, None).derived == []


def test_the_first_copy_by_offset_counts_whatever_came_in_first() -> None:
    records = [
        arrived("Correction", correction(), 4),
        arrived("Prediction", prediction(segment="later"), 9),
        arrived("Prediction", prediction(segment="first"), 2),
        arrived("Prediction", prediction(segment="first", occurred_at=1), 10),
    ]
    outcome = join.batch(records, WINDOW)
    assert [each.event["segment"] for each in outcome.derived] == ["first"]
    assert [each.offset for each in outcome.conflicts] == [9]
    assert [each.offset for each in outcome.duplicates] == [10]


def test_the_window_is_counted_from_first_copies() -> None:
    records = [
        arrived("Prediction", prediction(), 0, EPOCH_MS),
        arrived("Prediction", prediction(), 1, EPOCH_MS + WINDOW_MS),
        arrived("Correction", correction(), 0, EPOCH_MS + WINDOW_MS + 1),
    ]
    assert join.batch(records, WINDOW).derived == []


@given(histories(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_one_pass_gives_what_comparing_each_with_each_gives(history: History, chance: Random) -> None:
    """The same again, written down naively."""

    def identity(one: Arrived) -> tuple[str, ...]:
        names = ("task_id", "prediction_id", "correction_id", "grade_id")
        return (one.record, *(one.event.get(name, "") for name in names))

    records = sorted(history.records, key=lambda one: (identity(one), one.offset))
    copies = [list(group) for _, group in groupby(records, key=identity)]
    firsts = [group[0] for group in copies]
    pairs = {
        (p.event["task_id"], p.event["prediction_id"], f.record, f.offset)
        for p in firsts
        for f in firsts
        if p.record == "Prediction" and f.record != "Prediction"
        if identity(p)[1:3] == identity(f)[1:3]
        if p.arrived_at - WINDOW_MS <= f.arrived_at <= p.arrived_at + WINDOW_MS
    }
    shuffled = list(history.records)
    chance.shuffle(shuffled)
    outcome = join.batch(shuffled, WINDOW)
    topics = {topic: record for record, topic in TOPIC.items()}
    assert sorted(
        (
            e.event["task_id"],
            e.event["prediction_id"],
            topics[e.event["feedback_source"]["topic"]],
            e.event["feedback_source"]["offset"],
        )
        for e in outcome.derived
    ) == sorted(pairs)
    assert len(outcome.duplicates) + len(outcome.conflicts) == len(records) - len(firsts)


@given(st.sampled_from(tuple(TOPIC)), st.data(), st.integers(), st.randoms(use_true_random=False))
def test_the_time_of_an_event_and_the_order_of_its_attributes_do_not_matter(
    record: str, data: st.DataObject, occurred_at: int, chance: Random
) -> None:
    event = data.draw(any_event(record))
    names = list(event["attributes"])
    chance.shuffle(names)
    other = {**event, "occurred_at": occurred_at, "attributes": {name: event["attributes"][name] for name in names}}
    assert fingerprint(record, other) == fingerprint(record, event)


CHANGES = {
    "Prediction": prediction(
        segment="x",
        confidence=0.5,
        context=[{"content_type": "text/plain", "body": "x"}],
        input={"content_type": "text/plain", "body": "x"},
        output={"content_type": "text/plain", "body": "x"},
        actor={"kind": "HUMAN", "name": "vader", "version": "3.3.2"},
        attributes={"split": "b", "lang": "en"},
    ),
    "Correction": correction(
        verdict="REJECTED",
        output={"content_type": "text/plain", "body": "x"},
        author=A_PERSON,
        authority=1,
        reason=None,
        error_category="x",
        sampling_probability=0.5,
        attributes={},
    ),
    "Grade": grade(
        rubric="x",
        rubric_version="3",
        scores=[{"criterion": "polite", "score": 3.0, "max_score": 5.0}],
        passed=None,
        rationale="x",
        author=A_PERSON,
        sampling_probability=0.5,
        attributes={"a": ""},
    ),
}


@pytest.mark.parametrize(
    ("record", "name"), [(record, name) for record, event in CHANGES.items() for name in event if name != "occurred_at"]
)
def test_everything_but_the_time_is_content(record: str, name: str) -> None:
    event = {"Prediction": prediction(), "Correction": correction(), "Grade": grade()}[record]
    changed = CHANGES[record][name] if CHANGES[record][name] != event[name] else f"{event[name]}-"
    assert fingerprint(record, {**event, name: changed}) != fingerprint(record, event)


def test_the_order_of_a_list_is_content() -> None:
    passages = [{"content_type": "text/plain", "body": body} for body in "ab"]
    one, other = (fingerprint("Prediction", prediction(context=order)) for order in (passages, passages[::-1]))
    assert one != other


def test_copies_in_other_partitions_and_places_are_the_same_event() -> None:
    one = arrived("Prediction", prediction())
    assert replace(one, offset=7, arrived_at=8).identity == one.identity
