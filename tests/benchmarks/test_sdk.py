"""The SDK's benchmark, in tiny form."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import sdk, sdk_process
from benchmarks.contest import Ground, Void, markdown
from benchmarks.job import Job
from flyback.settings import Settings


def test_every_contender_sends_every_event_once(kafka_bootstrap: str, tmp_path: Path) -> None:
    runs = sdk.measure(Ground(kafka_bootstrap, tmp_path), argparse.Namespace(events=400, runs=1))
    assert [(run.contender, run.events) for run in runs] == [
        ("sdk", 100), ("sdk", 400), ("bare loop", 100), ("bare loop", 400), ("sdk, paced", 40)
    ]  # fmt: skip
    assert [sorted(run.detail) for run in runs if "sdk" in run.contender] == [
        ["max_us", "p50_us", "p99.9_us", "p99_us", "times_full"]
    ] * 3
    assert markdown(runs, ("p99_us",)).count("\n") == 2 + len(runs)


def test_an_event_that_is_missing_or_twice_there_voids_the_run(installation: Settings, tmp_path: Path) -> None:
    job = Job(installation.bootstrap_servers, installation.topic_prefix, installation.group, 3)
    sdk_process.bare(installation, 2)
    with pytest.raises(Void, match="1 of 3 predictions did not arrive"):
        sdk.check_sent(job, tmp_path)
    sdk_process.bare(installation, 3)
    with pytest.raises(Void, match="was sent twice"):
        sdk.check_sent(job, tmp_path)
