"""The benchmark of many small commits, in tiny form."""

from __future__ import annotations

from pathlib import Path

from benchmarks import compaction


def test_maintenance_after_each_turn_leaves_few_files(tmp_path: Path) -> None:
    states = compaction.measure(tmp_path, commits=60, repeats=1, minutes=1)
    assert [(state.moment, state.commits, state.files) for state in states] == [
        ("before", 30, 30), ("after", 30, 1), ("before", 60, 31), ("after", 60, 1)
    ]  # fmt: skip
    assert compaction.markdown(states).count("\n") == 2 + len(states)
