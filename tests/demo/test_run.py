"""The demo in smoke form, as a user runs it: on the embedded broker and on real Kafka."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from deltalake import DeltaTable, write_deltalake

from flyback import verify
from flyback.demo.corpus import Text
from flyback.demo.workload import expected, first
from flyback.local.java import MissingTool, find_java
from flyback.local.kafka import JAVA_VERSION
from flyback.settings import Settings, load
from flyback.sinks.tables import landed
from tests import brokers
from tests.conftest import ENVIRONMENT
from tests.processes import running_in
from tests.waiting import eventually

Start = Callable[..., subprocess.Popen[str]]
LIMIT = 200
SECONDS = 200


@dataclass(frozen=True)
class Played:
    """A finished run of the demo, with `--json`."""

    folder: Path
    summary: dict[str, Any]
    said: str


def demo(folder: Path, *options: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "flyback", "demo", *options],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert running_in(folder) == {}
    return done


def played(folder: Path, *options: str) -> Played:
    done = demo(folder, "--limit", str(LIMIT), "--json", *options)
    return Played(folder, json.loads(done.stdout), done.stderr)


@pytest.fixture(scope="module")
def embedded(embedded_bootstrap: str, pinned_sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """On a broker that the demo starts; the fixture of the embedded broker only says whether there is one."""
    return played(tmp_path_factory.mktemp("embedded-demo"))


@pytest.fixture(scope="module")
def on_kafka(kafka_bootstrap: str, pinned_sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Played:
    return played(tmp_path_factory.mktemp("kafka-demo"), "--bootstrap", kafka_bootstrap)


def assert_as_computed_from_the_texts(summary: dict[str, Any], texts: list[Text]) -> None:
    wanted = expected(first(texts, LIMIT))
    found = {domain["domain"]: domain for domain in summary["domains"]}
    assert list(found) == list(wanted)
    for name, domain in wanted.items():
        assert found[name]["predictions"] == found[name]["reviewed"] == domain.predictions
        assert found[name]["failures"] == domain.failures
        assert found[name]["correlation"] == pytest.approx(domain.correlation)
        low, high = found[name]["interval"]
        assert 0 <= low < found[name]["failure_rate"] < high <= 1
    assert summary["predictions"] == summary["examples"] == summary["coaching"] == LIMIT
    assert summary["stream_equals_batch"] is True
    assert summary["differences"] == []
    assert summary["compared"]["raw"] == summary["events"] > 4 * LIMIT


def test_on_the_embedded_broker_the_lake_says_what_the_texts_say(embedded: Played, texts: list[Text]) -> None:
    assert_as_computed_from_the_texts(embedded.summary, texts)
    assert "in memory" in embedded.said


def test_on_real_kafka_the_lake_says_what_the_texts_say(on_kafka: Played, texts: list[Text]) -> None:
    assert_as_computed_from_the_texts(on_kafka.summary, texts)


def test_on_a_kafka_of_its_own_the_lake_says_what_the_texts_say(
    pinned_sdist: Path, tmp_path: Path, texts: list[Text]
) -> None:
    try:
        find_java(JAVA_VERSION, "")
    except MissingTool as missing:
        brokers.not_available(ENVIRONMENT, str(missing))
    run = played(tmp_path, "--broker", "kafka")
    assert_as_computed_from_the_texts(run.summary, texts)
    assert not list(tmp_path.glob("flyback-data/demo/*/broker/data"))


def test_the_next_commands_work_as_they_are_printed(embedded: Played) -> None:
    commands = embedded.summary["next_commands"]
    assert len(commands) == 3
    for command in commands:
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "flyback"]
        done = subprocess.run(
            [sys.executable, *words[1:]], cwd=embedded.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) > 1


def test_running_it_again_in_the_same_folder_just_works(embedded: Played, texts: list[Text]) -> None:
    done = demo(embedded.folder, "--limit", "20")
    assert "stream equals batch   yes" in done.stdout
    assert "tweets" in done.stdout
    assert len(list(embedded.folder.glob("flyback-data/demo/*/lake"))) == 2


def test_the_lake_of_another_run_is_refused_with_what_to_do(embedded: Played) -> None:
    done = demo(embedded.folder, "--limit", "20", "--lake", embedded.summary["lake"], code=3)
    assert done.stdout == ""
    assert "error: the sink ended with exit code 3" in done.stderr
    assert "this broker started anew" in done.stderr
    assert "Set FLYBACK_LAKE to a new folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_runs_on_one_kafka_are_kept_apart_by_their_topics(on_kafka: Played, kafka_bootstrap: str) -> None:
    (folder,) = on_kafka.folder.glob("flyback-data/demo/*")
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    prefix = f"demo-{folder.name.lower()}."
    assert f"{prefix}predictions.v1" in admin.list_topics(timeout=10).topics
    assert f"The run's topics, {prefix}*, stay on {kafka_bootstrap}" in on_kafka.said
    (every,) = re.findall(r"--delete --topic '(.+)'", on_kafka.said)
    left = [name for name in admin.list_topics(timeout=10).topics if name.startswith("demo-")]
    assert [name for name in left if re.fullmatch(every, name)] == [name for name in left if name.startswith(prefix)]


def test_ctrl_c_ends_it_and_leaves_nothing_running(
    start: Start, embedded_bootstrap: str, pinned_sdist: Path, tmp_path: Path
) -> None:
    process = start(tmp_path)
    eventually(lambda: len(running_in(tmp_path)) > 5, "its processes run", 60)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted; nothing is left running" in err
    assert running_in(tmp_path) == {}


def test_live_it_stays_up_until_ctrl_c(
    start: Start, embedded_bootstrap: str, pinned_sdist: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, "--live", "--limit", "100")

    def examples() -> int:
        places = [landed(str(lake)) for lake in tmp_path.glob("flyback-data/demo/*/lake")]
        return sum(offset for found in places for (topic, _), offset in found.items() if topic.endswith("examples.v1"))

    eventually(lambda: process.poll() is not None or examples() > 0, "the first examples are in the lake", 90)
    at_first = examples()
    # a commit later the counts, shown twice a second, have been shown again
    eventually(lambda: process.poll() is not None or examples() > at_first, "more examples are in the lake", 90)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert re.search(r"sent [1-9].* joined [1-9].* derived [1-9].* rows in the lake [1-9]", err)
    assert "stopped; the lake is flyback-data/demo/" in out
    assert re.search(r"^Open http://127\.0\.0\.1:\d+$", out, re.MULTILINE)
    assert running_in(tmp_path) == {}


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a demo in a folder; one that a failed test left running is killed, and its children end with it."""
    running: list[subprocess.Popen[str]] = []

    def run(folder: Path, *options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "flyback", "demo", *options],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def settings_of_run(on_kafka: Played, kafka_bootstrap: str, tmp_path: Path) -> Settings:
    """For the run's topics and a copy of its lake, to be damaged."""
    (folder,) = on_kafka.folder.glob("flyback-data/demo/*")
    lake = shutil.copytree(folder / "lake", tmp_path / "lake")
    return load(bootstrap_servers=kafka_bootstrap, topic_prefix=f"demo-{folder.name.lower()}.", lake=str(lake))


def examples_of(settings: Settings) -> DeltaTable:
    return DeltaTable(f"{settings.lake}/examples")


def test_a_row_that_is_missing_changed_or_twice_in_the_lake_is_found(settings_of_run: Settings) -> None:
    assert verify.compare(settings_of_run).equal
    before = examples_of(settings_of_run)
    rows = before.to_pyarrow_table()
    identity = rows.column("example_id")[0].as_py()

    before.delete(f"example_id = '{identity}'")
    (difference,) = verify.compare(settings_of_run).differences
    assert difference == f"examples: 1 rows only by batch, such as example_id {identity}"

    write_deltalake(examples_of(settings_of_run), rows.slice(0, 1), mode="append")
    assert verify.compare(settings_of_run).equal

    write_deltalake(examples_of(settings_of_run), rows.slice(0, 1), mode="append")
    (difference,) = verify.compare(settings_of_run).differences
    assert difference == f"examples: 1 rows only by the stream, such as example_id {identity}"
    examples_of(settings_of_run).restore(0)
    write_deltalake(examples_of(settings_of_run), rows, mode="append")

    examples_of(settings_of_run).update(updates={"authority": "7"}, predicate=f"example_id = '{identity}'")
    assert len(verify.compare(settings_of_run).differences) == 2


def test_a_wrong_rate_and_a_missing_raw_row_are_found(settings_of_run: Settings) -> None:
    lake = settings_of_run.lake
    DeltaTable(f"{lake}/failure_rates").update(updates={"failures": "failures + 1"}, predicate="actor_kind = 'MODEL'")
    predictions = DeltaTable(f"{lake}/predictions")
    identity = predictions.to_pyarrow_table().column("prediction_id")[0].as_py()
    predictions.delete(f"prediction_id = '{identity}'")
    differences = verify.compare(settings_of_run).differences
    assert any(difference.startswith("failure rates: ") for difference in differences)
    assert any(difference.startswith("predictions: ") for difference in differences)
