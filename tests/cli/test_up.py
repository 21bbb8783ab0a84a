"""`flyback up` as a person has it: started in a folder, used by the snippet it prints, ended by Ctrl-C."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from flyback import topics
from flyback.schemas import wire
from flyback.settings import load
from flyback.sinks.lake import lake as open_lake
from flyback.sinks.tables import TABLES, Source, TableWriter
from flyback.streams.topology import Topology
from tests.processes import running_in
from tests.waiting import eventually

Started = Callable[..., subprocess.Popen[str]]
LAST_LINE = "Ctrl-C stops everything."


def printed(process: subprocess.Popen[str]) -> list[str]:
    """What `up` prints once all is running."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if lines[-1] == LAST_LINE:
            return lines
    assert process.stderr is not None
    raise AssertionError(f"`up` ended early: {process.stderr.read()}")


def value(lines: list[str], name: str) -> str:
    return next(line for line in lines if line.startswith(name)).removeprefix(name).strip()


def run_snippet(lines: list[str]) -> None:
    start = lines.index("Send a prediction and a correction:") + 2
    snippet = "\n".join(lines[start : start + 5])
    subprocess.run([sys.executable, "-c", snippet], check=True, timeout=60)


def examples(folder: Path) -> int:
    try:
        with open_lake(folder) as lake:
            return len(lake.sql("from examples_resolved").fetchall())
    except Exception:  # the lake is not there yet
        return 0


def failures_on(page: str) -> int:
    with urlopen(f"{page}/api/v1/view", timeout=30) as answer:
        return int(json.load(answer)["headline"]["failures"])


def interrupted(process: subprocess.Popen[str], number: int = signal.SIGINT) -> str:
    """What it says on stderr after Ctrl-C; it must end well and leave nothing running."""
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    return err


def test_up_with_the_embedded_broker_joins_what_its_snippet_sends(started: Started, tmp_path: Path) -> None:
    process = started("up")
    lines = printed(process)
    assert "IN MEMORY" in value(lines, "Kafka")
    run_snippet(lines)
    eventually(lambda: examples(tmp_path / value(lines, "lake")) == 1, "the example is in the lake", 60)
    eventually(lambda: failures_on(value(lines, "page")) == 1, "the dashboard counts it", 60)
    printed_status = shlex.split(lines[lines.index("See how far worker and sink are:") + 2])
    asked = [sys.executable, "-m", "flyback", *printed_status[printed_status.index("status") :]]
    said = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert said.stdout.startswith("well: workers at the end"), said
    interrupted(process)
    assert running_in(tmp_path) == {}


def test_up_says_what_the_worker_waits_for(started: Started, tmp_path: Path) -> None:
    process = started("up")
    bootstrap = value(printed(process), "Kafka").split()[0]
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce("flyback.predictions.v1", wire.frame(4711, b"newer than us"), b"t", partition=0)
    assert producer.flush(30) == 0
    assert process.stderr is not None
    for line in process.stderr:
        if "the worker waits: unknown schema id 4711 at flyback.predictions.v1/0@0" in line:
            break
    else:
        raise AssertionError("it said nothing of the schema")
    interrupted(process)


def test_up_starts_on_a_running_kafka_and_stops_by_sigterm(
    started: Started, tmp_path: Path, kafka_bootstrap: str, topic_prefix: str
) -> None:
    names = {"FLYBACK_TOPIC_PREFIX": topic_prefix, "FLYBACK_GROUP": topic_prefix}
    process = started("up", "--no-dashboard", "--bootstrap", kafka_bootstrap, FLYBACK_WORKER_HTTP_PORT="0", **names)
    lines = printed(process)
    assert value(lines, "Kafka") == kafka_bootstrap
    assert not [line for line in lines if line.startswith("page")]
    run_snippet(lines)
    eventually(lambda: examples(tmp_path / "flyback-data" / "lake") == 1, "the example is in the lake", 60)
    interrupted(process, signal.SIGTERM)
    assert running_in(tmp_path) == {}


def test_a_worker_that_is_killed_is_started_again(
    started: Started, tmp_path: Path, kafka_bootstrap: str, topic_prefix: str
) -> None:
    names = {"FLYBACK_TOPIC_PREFIX": topic_prefix, "FLYBACK_GROUP": topic_prefix}
    process = started("up", "--bootstrap", kafka_bootstrap, **names)
    lines = printed(process)

    def worker() -> int | None:
        workers = [pid for pid, command in running_in(tmp_path).items() if command.endswith("-m flyback worker")]
        return next((pid for pid in workers if "guard.py" not in running_in(tmp_path).get(pid, "guard.py")), None)

    first = worker()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    eventually(lambda: worker() not in (None, first), "another worker runs", 30)
    run_snippet(lines)
    eventually(lambda: examples(tmp_path / "flyback-data" / "lake") == 1, "the new worker joins", 60)
    said = interrupted(process)
    assert "the worker ended with exit code 137" in said
    assert "it is started again in 1 s" in said
    assert running_in(tmp_path) == {}


def test_the_lake_of_another_cluster_is_refused_with_the_sinks_own_words(
    started: Started, tmp_path: Path, kafka_bootstrap: str, topic_prefix: str
) -> None:
    settings = load(bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix)
    topics.create(settings)
    name = Topology(settings).topic_of("Prediction")
    table = next(table for table in TABLES if table.record == "Prediction")
    foreign = TableWriter(str(tmp_path / "theirs"), table, {name: Source("another-cluster", "an-id", 4)})
    foreign.commit(table.schema.empty_table(), {}, {(name, 0): 1})
    process = started("up", "--bootstrap", kafka_bootstrap, "--lake", "theirs", FLYBACK_TOPIC_PREFIX=topic_prefix)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, out + err
    assert "error: the sink ended with exit code 3" in err
    assert "cluster another-cluster" in err
    assert "Set FLYBACK_LAKE to a new folder" in err
    assert "Traceback" not in err
    assert running_in(tmp_path) == {}


def test_topics_that_are_not_fit_stop_up_before_anything_runs(
    started: Started, tmp_path: Path, kafka_bootstrap: str, topic_prefix: str
) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    name = f"{topic_prefix}predictions.v1"
    admin.create_topics([NewTopic(name, 4, 1)])[name].result(10)
    process = started("up", "--bootstrap", kafka_bootstrap, FLYBACK_TOPIC_PREFIX=topic_prefix)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "message.timestamp.type is CreateTime, LogAppendTime is needed" in err
    assert not (tmp_path / "flyback-data" / "logs").exists()


def test_bootstrap_and_broker_exclude_each_other(started: Started) -> None:
    process = started("up", "--bootstrap", "127.0.0.1:1", "--broker", "kafka")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "exclude each other" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_it_starts_leaves_nothing(started: Started, tmp_path: Path, number: int) -> None:
    process = started("up")
    deadline = time.monotonic() + 30
    while len(running_in(tmp_path)) < 3 and time.monotonic() < deadline:  # itself, a guard, the broker
        time.sleep(0.01)
    interrupted(process, number)
    assert running_in(tmp_path) == {}
