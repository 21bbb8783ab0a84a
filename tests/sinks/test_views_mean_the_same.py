"""The views give the rows of `plain_views.sql`, whatever copies, conflicts and disagreements are in the lake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from flyback.schemas.codec import Record
from flyback.sinks.lake import AsOf, Lake, lake
from flyback.streams import join
from tests.sinks.events import HUMAN, MINUTE, MODEL, as_read, correction, grade, prediction, text
from tests.sinks.lakes import HandMade, as_arrived

PLAIN = Path(__file__).with_name("plain_views.sql").read_text(encoding="utf-8")
RAW = {"Prediction": "predictions", "Correction": "corrections", "Grade": "grades"}
DERIVED = {"Example": "examples", "GradedExample": "graded_examples", "Coaching": "coaching"}
COMMITS = 3
_T = TypeVar("_T")


def history(chance: Random) -> dict[str, list[Record]]:
    """Raw events by record: ids come twice, with the same content and with another, and some have no prediction."""
    authors = [HUMAN, {**HUMAN, "name": "bob"}, MODEL]
    events: dict[str, list[Record]] = {name: [] for name in RAW}
    for i in range(80):
        task = f"t{i}"
        for _ in range(chance.randrange(4)):
            number, actor, at = (
                f"p{chance.randrange(2)}",
                chance.choice([MODEL, MODEL, HUMAN]),
                MINUTE + chance.randrange(9),
            )
            said = text(chance.choice("xy"))
            events["Prediction"].append(prediction(task, number, actor=actor, output=said, occurred_at=at))
        for _ in range(chance.randrange(9)):
            changed = {
                "prediction_id": f"p{chance.randrange(3)}",
                "author": chance.choice(authors),
                "authority": chance.randrange(2),
                "occurred_at": MINUTE + chance.randrange(3),
                "sampling_probability": chance.choice([None, 0.3, 1.0]),
            }
            verdict = chance.choice(["CONFIRMED", "CORRECTED", "REJECTED"])
            given = correction(task, f"c{chance.randrange(4)}", verdict, **changed)
            given["output"] = text(chance.choice("xyz")) if verdict == "CORRECTED" else None
            events["Correction"].append(given)
        for _ in range(chance.randrange(3)):
            number, passed = f"g{chance.randrange(3)}", chance.choice([True, False, None])
            changed = {"prediction_id": f"p{chance.randrange(3)}", "sampling_probability": chance.choice([None, 0.3])}
            events["Grade"].append(grade(task, number, passed, **changed))
    return {name: with_copies(chance, found) for name, found in events.items()}


def with_copies(chance: Random, events: Sequence[_T]) -> list[_T]:
    """In another order, a third of them twice."""
    found = [*events, *chance.sample(list(events), len(events) // 3)]
    chance.shuffle(found)
    return found


def conflicting(chance: Random, event: Record) -> Record:
    """A later copy of a derived event, which says something else."""
    if "verdict" not in event or chance.random() < 0.5:
        return event
    return {**event, "verdict": "REJECTED", "truth": None, "authority": 9}


def counts(chance: Random) -> Iterator[Record]:
    for number in range(60):
        yield {
            "partition": 0,
            "minute": MINUTE + 60_000_000 * chance.randrange(2),
            "actor_kind": chance.choice(["MODEL", "HUMAN"]),
            "actor": chance.choice(["vader", "ann"]),
            "version": "3",
            "segment": chance.choice(["amazon", "nyt"]),
            **dict.fromkeys(("predictions", "reviewed", "failures", "weighted_reviews"), number),
            **dict.fromkeys(("sum_w", "sum_wy", "sum_w2", "sum_w2y"), chance.randrange(100)),
            "derive_version": 1,
        }


@pytest.fixture(scope="module", params=range(2))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HandMade:
    """Every table in three commits."""
    chance = Random(request.param)
    raw = history(chance)
    outcome = join.batch(as_arrived(raw), timedelta(days=1))
    tables = {table: raw[record] for record, table in RAW.items()}
    for record, table in DERIVED.items():
        first = [as_read(record, found.event) for found in outcome.derived if found.record == record]
        tables[table] = [*first, *(conflicting(chance, event) for event in chance.sample(first, len(first) // 3))]
    tables["failure_rates"] = list(counts(chance))
    lake = HandMade(tmp_path_factory.mktemp("lake"))
    for name, events in tables.items():
        size = -(-len(events) // COMMITS)
        for start in range(0, len(events), size):
            lake.add(name, *events[start : start + size])
    return lake


VIEWS = [line.split()[2].removeprefix("plain.") for line in PLAIN.splitlines() if line.startswith("CREATE VIEW")]


def differences(connection: Lake, view: str) -> tuple[int, int, int]:
    """How many rows there are, how many only the view has, and how many only its plain form has."""
    counted = [
        connection.sql(f"SELECT count(*) FROM ({rows})").fetchall()[0][0]
        for rows in (
            f"FROM {view}",
            f"FROM {view} EXCEPT ALL FROM plain.{view}",
            f"FROM plain.{view} EXCEPT ALL FROM {view}",
        )
    ]
    return counted[0], counted[1], counted[2]


@pytest.mark.parametrize("as_of", [None, dict.fromkeys([*RAW.values(), *DERIVED.values(), "failure_rates"], 2)])
def test_views_give_the_rows_of_their_plain_form(made: HandMade, as_of: AsOf) -> None:
    with lake(made.path, as_of=as_of) as connection:
        connection.execute("CREATE SCHEMA plain").execute(PLAIN)
        for view in VIEWS:
            rows, more, fewer = differences(connection, view)
            assert (view, rows > 0, more, fewer) == (view, True, 0, 0)


def test_a_row_is_found_by_each_of_its_ids(made: HandMade) -> None:
    with lake(made.path) as connection:
        for view, ids in (
            ("predictions", ["task_id", "prediction_id"]),
            ("examples", ["example_id", "task_id", "prediction_id", "correction_id"]),
            ("graded_examples", ["graded_example_id", "task_id", "prediction_id", "grade_id"]),
            ("coaching", ["coaching_id", "task_id", "prediction_id", "feedback_id"]),
            ("examples_resolved", ["example_id", "task_id", "prediction_id", "correction_id"]),
            ("reviews", ["task_id", "prediction_id"]),
            ("episodes", ["task_id"]),
        ):
            every = connection.sql(f"SELECT {', '.join(ids)}, v FROM {view} AS v").fetchall()
            for column, name in enumerate(ids):
                wanted = every[len(every) // 2][column]
                found = connection.execute(f"SELECT v FROM {view} AS v WHERE {name} = ?", [wanted]).fetchall()
                assert sorted(map(repr, found)) == sorted(repr(row[-1:]) for row in every if row[column] == wanted)
