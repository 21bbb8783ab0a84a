"""The load: the same for the same seed, and everything in it that a join has to bear."""

from __future__ import annotations

from collections import Counter

from tests.chaos.workload import CHUNK, REPEATED_AFTER, WITHOUT_COPIES, Item, chunk
from tests.streams.records import POISON

FIRST = [item for number in range(6) for item in chunk(7, "a", number)]


def of_prediction(item: Item) -> tuple[str, str]:
    return item.arguments["task_id"], item.arguments["prediction_id"]


def identity(item: Item) -> tuple[str, ...]:
    given = item.arguments
    return (*of_prediction(item), given.get("correction_id", ""), given.get("grade_id", ""))


EVENTS = [item for item in FIRST if item.call != "poison"]
PREDICTED = {of_prediction(item): i for i, item in reversed([*enumerate(EVENTS)]) if item.call == "predict"}
FEEDBACK = [(i, item) for i, item in enumerate(EVENTS) if item.call != "predict"]


def test_a_chunk_is_the_same_every_time_and_another_seed_or_service_has_other_events() -> None:
    assert [*chunk(7, "a", 3)] == [*chunk(7, "a", 3)]
    assert [*chunk(7, "a", 3)] != [*chunk(8, "a", 3)]
    here, there = ({identity(i) for i in chunk(7, load, 3) if i.call != "poison"} for load in "ab")
    assert not here & there


def test_a_third_of_it_is_feedback_early_and_late_and_on_nothing() -> None:
    assert len(FEEDBACK) > len(EVENTS) / 4
    early = sum(PREDICTED.get(of_prediction(item), -1) > i for i, item in FEEDBACK)
    late = sum(PREDICTED.get(of_prediction(item), i) < i - 100 for i, item in FEEDBACK)
    nowhere = sum(of_prediction(item) not in PREDICTED for _, item in FEEDBACK)
    assert min(early, late, nowhere) > 100


def test_copies_have_the_content_of_their_originals_some_of_them_chunks_later() -> None:
    originals = {item.number: item.arguments for item in EVENTS if not item.copy}
    copies = [item for item in EVENTS if item.copy]
    assert len(copies) > len(EVENTS) / 20
    assert all(item.arguments == originals[item.number] for item in copies)
    last = [item for item in chunk(7, "a", 5) if item.copy]
    assert any(item.number // (100 * CHUNK) == 5 - REPEATED_AFTER for item in last)


def test_conflicts_have_an_identity_that_was_sent_with_other_content() -> None:
    contents = {(identity(item), item.number) for item in EVENTS}
    assert sum(n > 1 for n in Counter(found for found, _ in contents).values()) > 100


def test_there_is_poison_of_every_kind_models_and_people_and_sampled_feedback() -> None:
    assert {item.arguments["kind"] for item in FIRST if item.call == "poison"} == set(POISON)
    assert {item.arguments["actor"].kind for item in EVENTS if item.call == "predict"} == {"MODEL", "HUMAN"}
    assert {item.arguments["sampling_probability"] for _, item in FEEDBACK} > {None, 1.0, 0.001}


def test_every_event_says_which_of_the_load_it_is() -> None:
    assert all(item.arguments["attributes"] == {"load": "a", "number": str(item.number)} for item in EVENTS)


def test_for_a_short_window_nothing_is_sent_twice() -> None:
    events = [item for number in range(5) for item in chunk(7, "a", number, WITHOUT_COPIES) if item.call != "poison"]
    assert len({identity(item) for item in events}) == len(events)
