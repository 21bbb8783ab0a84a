"""The views resolve and count as the stream does: `streams/rates.py` and `streams/join.py` are the reference."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyback.schemas.codec import Record
from flyback.sinks.lake import lake
from flyback.streams import join, rates
from flyback.streams.rates import Cell, Counts, Review
from tests.sinks.events import HUMAN, MINUTE, MODEL, correction, grade, prediction
from tests.sinks.lakes import HandMade, as_arrived

# Any order of these but that of code points (UTF-16's, a language's, one that stops at NUL) is another one.
IDS = st.sampled_from(["a", "B", "a\0", "a\0b", "ä", "\uffee", "\U0001f600", "10", "9", "Z", "ab"])
TIMES = st.integers(MINUTE, MINUTE + 2)  # ties are common
PROBABILITIES = st.one_of(st.none(), st.floats(1e-4, 1.0))
ANSWERS = st.tuples(st.sampled_from(["p1", "p2"]), st.sampled_from([MODEL, HUMAN]), st.sampled_from(["x", "y"]))
CORRECTIONS = st.builds(
    lambda name, answer, verdict, changed: correction("t", name, verdict, prediction_id=answer, **changed),
    IDS,
    st.sampled_from(["p1", "p2", "p3"]),
    st.sampled_from(["CONFIRMED", "CORRECTED", "REJECTED"]),
    st.fixed_dictionaries(
        {"authority": st.integers(-1, 1), "occurred_at": TIMES, "sampling_probability": PROBABILITIES}
    ),
)
GRADES = st.builds(
    lambda name, answer, passed, probability: grade(
        "t", name, passed, prediction_id=answer, sampling_probability=probability
    ),
    IDS,
    st.sampled_from(["p1", "p2", "p3"]),
    st.sampled_from([True, False, None]),
    PROBABILITIES,
)
HISTORIES = st.lists(  # of some tasks
    st.tuples(st.lists(ANSWERS, max_size=3), st.lists(CORRECTIONS, max_size=6), st.lists(GRADES, max_size=4)),
    min_size=1,
    max_size=8,
)
numbers = count()


def history_of(tasks: list[tuple[Any, ...]]) -> dict[str, list[Record]]:
    """Events by record. Ids may come twice, with the same content or with another one."""
    events: dict[str, list[Record]] = defaultdict(list)
    for i, (answers, corrections, grades) in enumerate(tasks):
        task = {"task_id": f"t{i}"}
        events["Prediction"] += [
            prediction(f"t{i}", number, actor=actor, segment=segment) for number, actor, segment in answers
        ]
        events["Correction"] += [given | task for given in corrections]
        events["Grade"] += [given | task for given in grades]
    return events


@given(tasks=HISTORIES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_views_resolve_and_count_any_history_as_the_stream_does(tasks: list[tuple[Any, ...]], tmp_path: Path) -> None:
    events = history_of(tasks)
    made = HandMade(tmp_path / str(next(numbers)))
    for name, record in (("predictions", "Prediction"), ("corrections", "Correction"), ("grades", "Grade")):
        made.add(name, *events[record])
    outcome = join.batch(as_arrived(events), timedelta(days=1))
    made.add("examples", *(found.event for found in outcome.derived if found.record == "Example"))

    with lake(made.path) as connection:
        columns = ", ".join(f'"{name}"' for name in (*Cell._fields[1:], *Counts._fields))
        counted = connection.sql(
            f'SELECT "partition", epoch_us("minute"), {columns} FROM failure_rates_exact'
        ).fetchall()
        decided = connection.sql(
            "SELECT task_id, prediction_id, winning_correction_id, deciding_grade_id FROM reviews"
        ).fetchall()
        resolved = connection.sql(
            "SELECT task_id, prediction_id, correction_id, corrections, superseded_ids FROM examples_resolved"
        ).fetchall()

    edge = 1 + len(Cell._fields)
    exact = {(row[0], Cell(*row[1:edge])): Counts(*row[edge:]) for row in counted}
    assert exact == rates.batch(outcome.first_copies.values(), timedelta(days=1))

    reviews = {identity[1:]: Review() for identity in outcome.first_copies if identity[0] == "Prediction"}
    given_to: dict[tuple[str, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for identity, copy in outcome.first_copies.items():
        answer = identity[1:3]
        if copy.record != "Prediction" and answer in reviews:
            reviews[answer] = reviews[answer].with_feedback(copy.record, copy.event)
        if copy.record == "Correction":
            given_to[answer].append((copy.event["authority"], copy.event["occurred_at"], identity[3]))
    assert {(row[0], row[1]): row[2:] for row in decided} == {
        answer: (
            review.correction.correction_id if review.correction else None,
            review.grade.grade_id if review.grade else None,
        )
        for answer, review in reviews.items()
    }
    best_first = {answer: [found[2] for found in sorted(rows, reverse=True)] for answer, rows in given_to.items()}
    models = {
        identity[1:]
        for identity, copy in outcome.first_copies.items()
        if copy.record == "Prediction" and copy.event["actor"]["kind"] == "MODEL"
    }
    assert {(row[0], row[1]): row[2:] for row in resolved} == {
        answer: (ids[0], len(ids), ids[1:]) for answer, ids in best_first.items() if answer in models
    }


def test_weights_are_those_of_the_stream_to_the_last_digit(tmp_path: Path) -> None:
    chance = Random(7)
    halves = [chance.randrange(1_000_000, 10_000_000_000) + 0.5 for _ in range(500)]  # of the last digit, or next to it
    probabilities = [1e6 / half for half in halves] + [math.sqrt(1e6 / half) for half in halves]
    probabilities += [chance.uniform(1e-4, 1.0) for _ in range(500)] + [1 / 2**n for n in range(14)]
    events = [correction(f"t{i}", sampling_probability=min(1.0, p)) for i, p in enumerate(probabilities)]
    made = HandMade(tmp_path)
    made.add("predictions", *(prediction(f"t{i}", segment=f"{i}") for i in range(len(events))))
    made.add("corrections", *events)
    with lake(made.path) as connection:
        found = connection.sql("SELECT segment::INTEGER, sum_w, sum_w2 FROM failure_rates_exact").fetchall()
    expected = [Review().with_feedback("Correction", event).counts() for event in events]
    assert sorted(found) == [(i, counts.sum_w, counts.sum_w2) for i, counts in enumerate(expected)]
