"""The counts of the stream as a table: whatever arrives in whatever batches, the last of each key counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyback.dashboards.questions import LABELS, Question, worst_first
from flyback.dashboards.rate_store import KEPT, RateStore
from flyback.errors import ConfigurationError
from flyback.sinks.columns import from_records
from flyback.streams.rates import Counts

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = Question(START - timedelta(hours=12), START + timedelta(hours=12))
Said = tuple[int, int, str, str, int, int]
"""Partition, minute after the start, version, segment, predictions and failures."""


def records(said: Sequence[Said]) -> list[dict[str, object]]:
    return [
        {
            "partition": partition,
            "minute": int((START + timedelta(minutes=minute)).timestamp()) * 1_000_000,
            "actor_kind": "MODEL",
            "actor": "vader",
            "version": version,
            "segment": segment,
            **Counts(predictions, failures, failures)._asdict(),
            "derive_version": 1,
        }
        for partition, minute, version, segment, predictions, failures in said
    ]


@pytest.fixture
def store() -> Iterator[RateStore]:
    found = RateStore()
    yield found
    found.close()


def put(store: RateStore, *said: Said) -> None:
    store.put(from_records("FailureRate", records(said)))


said = st.tuples(
    st.integers(0, 1), st.integers(0, 130), st.sampled_from("12"), st.sampled_from("ab"), st.integers(0, 9), st.just(1)
)


@settings(max_examples=30, deadline=None)
@given(batches=st.lists(st.lists(said, min_size=1, max_size=6), max_size=5), long=st.booleans())
def test_what_was_said_last_of_each_key_counts(batches: list[list[Said]], long: bool) -> None:
    store = RateStore()
    latest: dict[tuple[int, int, str, str], Counts] = {}
    for batch in batches:
        put(store, *batch)
        latest |= {each[:4]: Counts(each[4], each[5], each[5]) for each in batch}
    wanted: dict[tuple[datetime, str], list[Counts]] = defaultdict(list)
    for (_, minute, _, segment), counts in latest.items():
        wanted[START + timedelta(hours=minute // 60), segment].append(counts)
    since = START - timedelta(days=2 * long)
    question = Question(since, START + timedelta(hours=24), by=("segment",), step=timedelta(hours=1))
    found = {(row.start, row.labels["segment"]): row.counts for row in store.ask(question)}
    store.close()
    assert found == {key: Counts.total(each) for key, each in wanted.items()}


def test_a_question_without_labels_has_one_answer_even_where_nothing_is_there(store: RateStore) -> None:
    [row] = store.ask(DAY)
    assert (row.start, row.labels, row.counts) == (None, {}, Counts())
    assert row.plain()["rate"] == {"value": None, "low": 0.0, "high": 1.0, "reviews": 0}


def test_labels_are_chosen_by_their_values_whatever_these_look_like(store: RateStore) -> None:
    hostile = "a' OR '1'='1"
    put(store, (0, 0, "1", hostile, 5, 1), (0, 0, "1", "b", 7, 1))
    [row] = store.ask(Question(DAY.since, DAY.until, by=LABELS, where={"segment": [hostile]}))
    assert row.labels == {"actor_kind": "MODEL", "actor": "vader", "version": "1", "segment": hostile}
    assert row.counts.predictions == 5


def test_minutes_outside_the_range_are_left_out(store: RateStore) -> None:
    put(store, (0, 0, "1", "a", 1, 1), (0, 1, "1", "a", 2, 1), (0, 2, "1", "a", 4, 1))
    [row] = store.ask(Question(START + timedelta(minutes=1), START + timedelta(minutes=2)))
    assert row.counts.predictions == 2


def test_a_long_range_has_whole_hours(store: RateStore) -> None:
    put(store, (0, 0, "1", "a", 1, 1), (0, 59, "1", "a", 2, 1))
    question = Question(START + timedelta(minutes=30), START + timedelta(days=2))
    assert store.ask(question)[0].counts.predictions == 3
    put(store, (0, 59, "1", "a", 8, 1))
    assert store.ask(question)[0].counts.predictions == 9, "late feedback changes an hour that was summed up"
    assert question.rounded() == Question(START, START + timedelta(days=2))


def test_a_long_range_in_steps_shorter_than_an_hour_keeps_its_minutes(store: RateStore) -> None:
    put(store, (0, 0, "1", "a", 1, 1), (0, 59, "1", "a", 2, 1))
    question = Question(START - timedelta(days=2, minutes=30), START + timedelta(hours=1), step=timedelta(minutes=5))
    assert question.rounded() == question
    found = [(row.start, row.counts.predictions) for row in store.ask(question)]
    assert found == [(START, 1), (START + timedelta(minutes=55), 2)]


def test_old_minutes_are_forgotten(store: RateStore) -> None:
    put(store, (0, 0, "1", "a", 1, 1), (0, 90, "1", "a", 2, 1))
    store.forget(START + KEPT + timedelta(minutes=30))
    assert store.ask(DAY)[0].counts.predictions == 2


def test_the_worst_come_first_by_what_their_rate_is_at_least(store: RateStore) -> None:
    for segment, failures, reviewed in (("three of three", 3, 3), ("half of many", 450, 900), ("few", 1, 100)):
        [record] = records([(0, 0, "1", segment, 1_000, 0)])
        store.put(from_records("FailureRate", [record | {"reviewed": reviewed, "failures": failures}]))
    found = worst_first(store.ask(Question(DAY.since, DAY.until, by=("segment",))))
    assert [row.labels["segment"] for row in found] == ["half of many", "three of three", "few"]


@pytest.mark.parametrize(
    ("question", "complaint"),
    [
        ({"by": ("colour",)}, "'colour' is no label of a failure rate: there are actor_kind, actor, version, segment"),
        ({"where": {"colour": ["red"]}}, "'colour' is no label"),
        ({"since": START.replace(tzinfo=None)}, "needs a time zone"),
        ({"until": START}, "no time lies between"),
        ({"step": timedelta(seconds=90)}, "whole minutes"),
        ({"step": timedelta(minutes=1), "until": START + timedelta(days=20)}, "more than 20,000 steps"),
    ],
)
def test_what_cannot_be_asked_is_told(question: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Question(**{"since": START, "until": START + timedelta(hours=1), **question})  # type: ignore[arg-type]
