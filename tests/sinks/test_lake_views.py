"""Each view on a small lake, with answers worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flyback.schemas.codec import Record
from flyback.sinks.dead_letters import rows as dead_letter_rows
from flyback.sinks.lake import VIEWS, Lake, lake
from flyback.sinks.message import Message, Messages
from flyback.sinks.sink import with_provenance
from flyback.sinks.tables import TABLES
from flyback.streams import dlq
from flyback.streams.join import DERIVE_VERSION
from tests.sinks.events import HUMAN, MINUTE, MODEL, correction, derived, grade, prediction, text
from tests.sinks.lakes import TOPOLOGY, HandMade

BOB = {"kind": "HUMAN", "name": "bob", "version": ""}


@pytest.fixture
def made(tmp_path: Path) -> HandMade:
    return HandMade(tmp_path / "lake")


def dicts(connection: Lake, query: str) -> list[dict[str, Any]]:
    relation = connection.sql(query)
    return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]


def test_an_empty_lake_has_every_view_typed_and_empty(made: HandMade) -> None:
    with lake(made.path) as connection:
        assert connection.versions == {table.name: None for table in TABLES}
        for view in VIEWS:
            assert connection.sql(f"SELECT * FROM {view}").fetchall() == []
        for table in TABLES:
            assert connection.sql(f"FROM raw.{table.name}").columns == table.schema.names
        types = dict(connection.execute("SELECT column_name, column_type FROM (DESCRIBE predictions)").fetchall())
    assert types["occurred_at"] == "TIMESTAMP WITH TIME ZONE"
    assert types["attributes"] == 'STRUCT("key" VARCHAR, "value" VARCHAR)[]'
    assert types["actor"] == 'STRUCT(kind VARCHAR, "name" VARCHAR, "version" VARCHAR)'


def test_the_types_of_a_view_do_not_change_when_its_table_appears(made: HandMade) -> None:
    described = "SELECT column_name, column_type FROM (DESCRIBE {})"
    with lake(made.path) as connection:
        before = {view: connection.sql(described.format(view)).fetchall() for view in VIEWS}
        made.add("predictions", prediction("t1"))
        made.add("corrections", correction("t1"))
        made.add("grades", grade("t1"))
        made.add("examples", derived(prediction("t1"), correction("t1")))
        connection.refresh()
        assert {view: connection.sql(described.format(view)).fetchall() for view in VIEWS} == before


def test_views_take_the_first_copy_and_raw_keeps_all(made: HandMade) -> None:
    conflicting = prediction("t1", output=text("other"))
    made.add("predictions", prediction("t1"), prediction("t2"))
    made.add("predictions", prediction("t1"), conflicting)
    made.add("corrections", correction("t1", "c1"), correction("t2", "c1"), correction("t1", "c1", "REJECTED"))
    with lake(made.path) as connection:
        assert connection.sql("SELECT count(*) FROM raw.predictions").fetchall() == [(4,)]
        found = connection.sql("SELECT task_id, output.body, _offset FROM predictions ORDER BY task_id").fetchall()
        assert found == [("t1", "positive", 0), ("t2", "positive", 1)]
        feedback = connection.sql("SELECT task_id, verdict FROM corrections ORDER BY task_id").fetchall()
        assert feedback == [("t1", "CORRECTED"), ("t2", "CORRECTED")]


def test_the_winning_example_has_the_highest_authority_then_the_latest_time_then_the_largest_id(
    made: HandMade,
) -> None:
    answer = prediction("t1")
    for given in (
        correction("t1", "c1", "CONFIRMED", authority=1, author=BOB),
        correction("t1", "c2", authority=1, occurred_at=MINUTE + 99_000_000),
        correction("t1", "c3", authority=1, occurred_at=MINUTE + 99_000_000, output=text("neutral")),
        correction("t1", "c4", authority=0, occurred_at=MINUTE + 999_000_000),
    ):
        made.add("examples", derived(answer, given))
    made.add("examples", derived(prediction("t2"), correction("t2", "c9", "CONFIRMED")))
    made.add("examples", derived(prediction("t3"), correction("t3", "c8", "REJECTED")))
    with lake(made.path) as connection:
        found = dicts(connection, "FROM examples_resolved ORDER BY task_id")
        columns = connection.sql("FROM examples").columns
    assert list(found[0]) == [*columns, "corrections", "superseded_ids", "disputed"]
    assert [(row["correction_id"], row["corrections"], row["superseded_ids"]) for row in found] == [
        ("c3", 4, ["c2", "c1", "c4"]),
        ("c9", 1, []),
        ("c8", 1, []),
    ]
    assert [row["truth"] and row["truth"]["body"] for row in found] == ["neutral", "positive", None]
    assert [row["disputed"] for row in found] == [True, False, False]


def test_a_dispute_keeps_each_authors_latest_correction_at_the_top_authority(made: HandMade) -> None:
    answer = prediction("t1")
    for given in (
        correction("t1", "c1", author=BOB),  # replaced by c2
        correction("t1", "c2", "CONFIRMED", author=BOB, occurred_at=MINUTE + 70_000_000),
        correction("t1", "c3", occurred_at=MINUTE + 80_000_000),
        correction("t1", "c4", "CONFIRMED", author=MODEL, occurred_at=MINUTE + 75_000_000),
        correction("t1", "c5", authority=-1, output=text("neutral"), author={**HUMAN, "name": "eve"}),
    ):
        made.add("examples", derived(answer, given))
    with lake(made.path) as connection:
        (found,) = dicts(connection, "FROM disputes")
    assert (found["task_id"], found["prediction_id"], found["actor"]) == ("t1", "p1", MODEL)
    assert (found["segment"], found["authority"], found["winning_correction_id"]) == ("amazon", 0, "c3")
    assert found["positions"] == [
        {"verdict": "CONFIRMED", "truth": text("positive"), "authors": [BOB, MODEL], "correction_ids": ["c2", "c4"]},
        {"verdict": "CORRECTED", "truth": text("negative"), "authors": [HUMAN], "correction_ids": ["c3"]},
    ]
    assert found["first_at"] == datetime.fromtimestamp((MINUTE + 70_000_000) / 1e6, UTC)
    assert found["last_at"] == datetime.fromtimestamp((MINUTE + 80_000_000) / 1e6, UTC)


def test_a_person_is_disputed_too_and_a_rejection_is_a_position(made: HandMade) -> None:
    answer = prediction("t1", actor=HUMAN)
    made.add("coaching", derived(answer, correction("t1", "c1", "REJECTED", author=BOB)))
    made.add("coaching", derived(answer, correction("t1", "c2", "CONFIRMED", author=MODEL)))
    made.add("coaching", derived(answer, grade("t1", "g1", passed=False)))
    with lake(made.path) as connection:
        (found,) = dicts(connection, "FROM disputes")
    assert [position["truth"] for position in found["positions"]] == [None, text("positive")]


@pytest.mark.parametrize(
    "second",
    [
        correction("t1", "c2", author=BOB),  # the same truth
        correction("t1", "c2", "CONFIRMED"),  # the same author
        correction("t1", "c2", "CONFIRMED", author=BOB, authority=1),  # decided by authority
    ],
)
def test_reviewers_who_agree_or_are_overruled_are_no_dispute(made: HandMade, second: Record) -> None:
    made.add("examples", derived(prediction("t1"), correction("t1", "c1")), derived(prediction("t1"), second))
    with lake(made.path) as connection:
        assert connection.sql("FROM disputes").fetchall() == []


def test_the_same_truth_by_two_verdicts_is_no_dispute(made: HandMade) -> None:
    same = correction("t1", "c2", output=text("positive"), author=BOB)
    confirmed = correction("t1", "c1", "CONFIRMED")
    made.add("examples", derived(prediction("t1"), confirmed), derived(prediction("t1"), same))
    with lake(made.path) as connection:
        assert connection.sql("FROM disputes").fetchall() == []


def test_an_episode_has_all_events_of_a_task_in_time_order(made: HandMade) -> None:
    made.add(
        "predictions", prediction("t1", "p2", actor=HUMAN, occurred_at=MINUTE + 5), prediction("t1"), prediction("t2")
    )
    made.add(
        "corrections",
        correction("t1", "c1", "CONFIRMED"),
        correction("t1", "c2", authority=1, occurred_at=MINUTE + 7),
        correction("t3", "c3"),
    )
    made.add("grades", grade("t1", passed=False, prediction_id="p2"), grade("t1", "g2", prediction_id="p9"))
    with lake(made.path) as connection:
        both, single, orphan = dicts(connection, "FROM episodes ORDER BY task_id")
    assert [answer["prediction_id"] for answer in both["predictions"]] == ["p1", "p2"]
    assert [given["correction_id"] for given in both["corrections"]] == ["c2", "c1"]
    assert [given["grade_id"] for given in both["grades"]] == ["g1", "g2"]
    assert both["winners"] == [{"prediction_id": "p1", "correction_id": "c2", "verdict": "CORRECTED"}]
    assert (both["reviewed"], both["failed"], both["orphan_feedback"]) == (2, 2, 1)
    assert both["first_at"] == datetime.fromtimestamp((MINUTE + 1) / 1e6, UTC)
    assert both["last_at"] == datetime.fromtimestamp((MINUTE + 120_000_000) / 1e6, UTC)
    assert (single["corrections"], single["grades"], single["winners"]) == ([], [], [])
    assert (single["reviewed"], single["failed"], single["orphan_feedback"]) == (0, 0, 0)
    assert (orphan["predictions"], len(orphan["corrections"]), orphan["winners"]) == ([], 1, [])
    assert (orphan["reviewed"], orphan["failed"], orphan["orphan_feedback"]) == (0, 0, 1)


def test_exact_failure_rates_count_each_prediction_by_what_decides_about_it(made: HandMade) -> None:
    made.add("predictions", *(prediction(f"t{i}") for i in range(7)), prediction("t8", segment="nyt"))
    made.add(
        "corrections",
        correction("t0", "c1", "CONFIRMED", sampling_probability=0.5),
        correction("t1", "c1", sampling_probability=0.3),
        correction("t2", "c1", "REJECTED"),
        correction("t3", "c1", sampling_probability=0.1),
        correction("t3", "c2", "CONFIRMED", authority=9),  # wins, and carries no probability
        correction("t99", "c1"),  # an orphan
    )
    made.add(
        "grades",
        grade("t0", "g1", passed=False, sampling_probability=0.25),  # a correction decides
        grade("t4", "g1", passed=False, sampling_probability=0.7),
        grade("t4", "g2", passed=None),
        grade("t5", "g2", passed=True),
        grade("t5", "g1", passed=False),
    )
    with lake(made.path) as connection:
        amazon, nyt = dicts(connection, "FROM failure_rates_exact ORDER BY segment")
    assert amazon == {
        "partition": 0,
        "minute": datetime.fromtimestamp(MINUTE / 1e6, UTC),
        "actor_kind": "MODEL",
        "actor": "vader",
        "version": "3",
        "segment": "amazon",
        "predictions": 7,
        "reviewed": 6,
        "failures": 3,
        "weighted_reviews": 3,
        "sum_w": 2_000_000 + 3_333_333 + 1_428_571,
        "sum_wy": 3_333_333 + 1_428_571,
        "sum_w2": 4_000_000 + 11_111_111 + 2_040_816,
        "sum_w2y": 11_111_111 + 2_040_816,
        "derive_version": DERIVE_VERSION,
    }
    assert (nyt["predictions"], nyt["reviewed"], nyt["sum_w"]) == (1, 0, 0)


def test_failure_rates_are_the_latest_values_in_the_columns_of_the_exact_ones(made: HandMade) -> None:
    row = {
        "partition": 0,
        "minute": MINUTE,
        "actor_kind": "MODEL",
        "actor": "vader",
        "version": "3",
        "segment": "amazon",
        "predictions": 1,
        "reviewed": 0,
        "failures": 0,
        "weighted_reviews": 0,
        "sum_w": 0,
        "sum_wy": 0,
        "sum_w2": 0,
        "sum_w2y": 0,
        "derive_version": 1,
    }
    made.add("failure_rates", row, {**row, "segment": "nyt"})
    made.add("failure_rates", {**row, "predictions": 2})
    made.add("predictions", prediction("t1"), prediction("t2"), prediction("t3", segment="nyt"))
    with lake(made.path) as connection:
        found = connection.sql("SELECT segment, predictions FROM failure_rates ORDER BY segment").fetchall()
        assert found == [("amazon", 2), ("nyt", 1)]
        assert connection.sql("FROM failure_rates EXCEPT FROM failure_rates_exact").fetchall() == []
        assert connection.sql("FROM failure_rates_exact EXCEPT FROM failure_rates").fetchall() == []


def test_dead_letters_are_unique_by_where_the_message_stood(made: HandMade) -> None:
    place = (TOPOLOGY.dead_letters_of(TOPOLOGY.topic_of("Grade")), 1)

    def letter(offset: int, source_offset: int | None, value: bytes = b"bad") -> Message:
        headers: list[tuple[str, bytes | None]] = []
        if source_offset is not None:
            _, made_headers = dlq.letter(
                "flyback.grades.v1",
                1,
                source_offset,
                1_760_000_000_000,
                value,
                [("h", b"\xff")],
                "truncated",
                "why",
                99,
            )
            headers = list(made_headers)
        return Message(*place, offset, 1_760_000_000_001, b"key", value, headers)

    letters = [letter(0, 7), letter(1, 7), letter(2, 8), letter(3, None), letter(4, None)]
    made.add_rows("dead_letters", with_provenance(dead_letter_rows(letters), Messages.of(letters)), place)
    with lake(made.path) as connection:
        found = dicts(connection, "FROM dead_letters ORDER BY _offset")
    assert [(row["source_offset"], row["_offset"]) for row in found] == [(7, 0), (8, 2), (None, 3), (None, 4)]
    first = found[0]
    assert (first["source_topic"], first["source_partition"]) == ("flyback.grades.v1", 1)
    assert first["source_arrived_at"] == datetime.fromtimestamp(1_760_000_000, UTC)
    assert (first["reason"], first["message"], first["key"], first["value"]) == ("truncated", "why", b"key", b"bad")
    assert (first["value_size"], len(first["value_sha256"])) == (3, 64)
    assert first["headers"] == [{"key": "h", "value": b"\xff"}]
    assert found[2]["reason"] == "unknown"


def test_times_at_the_ends_of_the_calendar_are_exact(made: HandMade) -> None:
    first, last = -62_135_596_800_000_000, 253_402_300_799_999_999
    made.add("predictions", prediction("t1", occurred_at=first), prediction("t2", occurred_at=last))
    with lake(made.path) as connection:
        found = connection.sql("SELECT occurred_at, epoch_us(occurred_at) FROM predictions ORDER BY task_id").fetchall()
        minutes = connection.sql('SELECT epoch_us("minute") FROM failure_rates_exact ORDER BY 1').fetchall()
    assert [micros for _, micros in found] == [first, last]
    assert [moment.year for moment, _ in found] == [1, 9999]
    assert minutes == [(first,), (last // 60_000_000 * 60_000_000,)]


def test_every_view_has_a_definition_and_every_table_its_view() -> None:
    from importlib.resources import files

    names = {path.name.removesuffix(".sql") for path in files("flyback.sinks").joinpath("views").iterdir()}
    assert names == set(VIEWS)
    assert {table.name for table in TABLES} < names
    assert isinstance(TABLES[0].schema, pa.Schema)
