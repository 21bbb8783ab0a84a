"""What is printed in the end."""

from __future__ import annotations

import json
from pathlib import Path

from tests.chaos.report import Row, as_json, failure, summary, table

CLEAN = Row("worker killed", times=3, events=12_345, join_stall=2.345, lake_stall=0.4, kills=3)
LOST = Row(
    "sink killed", times=20, lost=2, named=["examples in the lake: lost: e-1"], logs={"sink-1": "oh"}, folder=Path("/f")
)
ENDED = Row("disk full", times=1, problem="AssertionError: worker-1 ended with 3")


def test_the_table_has_one_line_for_each_fault_and_no_counts_where_there_was_no_verdict() -> None:
    assert table([CLEAN, LOST, ENDED]).splitlines() == [
        "| fault | times | lost | double | wrong | longest stall of the join | of the lake |",
        "|-|-:|-:|-:|-:|-:|-:|",
        "| worker killed | 3 | 0 | 0 | 0 | 2.3 s | 0.4 s |",
        "| sink killed | 20 | 2 | 0 | 0 | 0.0 s | 0.0 s |",
        "| disk full | 1 | ? | ? | ? | 0.0 s | 0.0 s |",
    ]


def test_the_summary_has_the_seed_and_says_whether_anything_was_found() -> None:
    assert summary([CLEAN], 7, 61.4) == "Seed 7: 1 rounds, nothing found; 12,345 events, 3 kills, 61 s."
    assert "2 of 3 rounds failed" in summary([CLEAN, LOST, ENDED], 7, 61.4)


def test_a_failure_says_how_to_have_it_again_which_events_and_what_the_processes_said() -> None:
    said = failure(LOST, 7)
    for part in ('--seed 7 --only "sink killed"', "Kept in /f", "lost: e-1", "end of sink-1\noh"):
        assert part in said
    assert "ended with 3" in failure(ENDED, 7)


def test_json_has_every_row() -> None:
    found = json.loads(json.dumps(as_json([CLEAN, LOST, ENDED], 7, 61.4)))
    assert (found["seed"], found["failed"]) == (7, 2)
    assert [(row["fault"], row["lost"], row["folder"]) for row in found["rounds"]] == [
        ("worker killed", 0, None),
        ("sink killed", 2, "/f"),
        ("disk full", 0, None),
    ]
