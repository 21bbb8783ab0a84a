"""The worker as a process: windows over real Kafka and the embedded broker, signals, exit codes, health."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from prometheus_client.parser import text_string_to_metric_families

from flyback import topics
from flyback.local.kafka import KafkaBroker
from flyback.local.process import ChildProcess, free_port
from flyback.schemas import codec
from flyback.schemas.catalog import BundledCatalog
from flyback.settings import Settings
from flyback.streams.topology import Topology
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
MINUTE = 60_000_000


class Worker:
    """A worker process with a stub for an engine."""

    def __init__(self, settings: Settings, folder: Path, behaviour: str = "idle") -> None:
        self.settings = settings
        self.process = ChildProcess(
            "worker",
            [sys.executable, "-m", "tests.streams.worker_process", behaviour],
            folder / f"worker-{free_port()}.log",
            env={**os.environ, **settings.environment()},
            cwd=ROOT,
        )
        self.process.start()

    def get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.settings.worker_http_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def health(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.get("/healthz")[1] or "{}")
        return found

    def windows(self, name: str = "predictions") -> dict[tuple[str, str, str], float]:
        """Values of one gauge by window, kind of actor and segment."""
        return {
            (sample.labels["window"], sample.labels["actor_kind"], sample.labels["segment"]): sample.value
            for family in text_string_to_metric_families(self.get("/metrics")[1])
            if family.name == f"flyback_window_{name}"
            for sample in family.samples
        }

    def until_windows_run(self) -> None:
        eventually(lambda: self.health().get("windows") == "running", "rate windows run", 60)

    def until_serving(self) -> None:
        eventually(lambda: self.get("/healthz")[0], "the endpoint answers", 60)

    def log(self) -> list[dict[str, object]]:
        lines = self.process.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def stop(self) -> int | None:
        """SIGTERM; the exit code is 137 where it did not end by itself."""
        return self.process.stop(timeout=15)


Start = Callable[..., Worker]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts workers, and ends those that a test left."""
    started: list[Worker] = []

    def begin(settings: Settings, behaviour: str = "idle") -> Worker:
        started.append(Worker(settings, tmp_path, behaviour))
        return started[-1]

    yield begin
    for worker in started:
        worker.process.kill()


def settings_for(bootstrap: str, prefix: str, folder: Path) -> Settings:
    return Settings(
        bootstrap_servers=bootstrap,
        topic_prefix=prefix,
        state_dir=folder / "state",
        worker_http_port=free_port(),
        partitions=2,
    )


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Settings:
    found = settings_for(kafka_bootstrap, topic_prefix, tmp_path)
    topics.create(found)
    return found


def running_minute() -> int:
    return time.time_ns() // 1_000 // MINUTE * MINUTE


def send_counts(
    producer: Producer,
    settings: Settings,
    partition: int,
    minute: int,
    counts: tuple[int, int, int],
    segment: str = "s",
) -> None:
    topic = Topology(settings).topic_of("FailureRate")
    record = {
        "partition": partition,
        "minute": minute,
        "actor_kind": "MODEL",
        "actor": "m",
        "version": "1",
        "segment": segment,
        **dict(zip(("predictions", "reviewed", "failures"), counts, strict=True)),
        **dict.fromkeys(("weighted_reviews", "sum_w", "sum_wy", "sum_w2", "sum_w2y"), 0),
        "derive_version": 1,
    }
    key = json.dumps([partition, minute, "MODEL", "m", "1", segment], separators=(",", ":"))
    value = codec.encode("FailureRate", record, BundledCatalog().id_for("FailureRate", topic))
    producer.produce(topic, value, key, partition=partition)


def test_windows_follow_the_committed_counts_and_survive_a_restart(settings: Settings, start: Start) -> None:
    worker = start(settings)
    worker.until_windows_run()
    producer = Producer(settings.kafka(transactional_id=f"{settings.topic_prefix}test"))
    producer.init_transactions(30)
    minute = running_minute() - 10 * MINUTE

    producer.begin_transaction()
    send_counts(producer, settings, 0, minute, (1, 0, 0))
    send_counts(producer, settings, 0, minute, (10, 4, 1))  # absolute: the last one wins
    send_counts(producer, settings, 1, minute, (5, 5, 2))
    send_counts(producer, settings, 1, minute - 3000 * MINUTE, (99, 99, 99), "long ago")
    producer.commit_transaction(30)
    producer.begin_transaction()
    send_counts(producer, settings, 1, minute, (1000, 1000, 1000))
    producer.flush(30)
    producer.abort_transaction(30)
    producer.begin_transaction()
    send_counts(producer, settings, 0, minute, (3, 0, 0), "t")  # so that we know the aborted one was passed
    send_counts(producer, settings, 1, minute, (3, 0, 0), "t")
    producer.commit_transaction(30)

    eventually(lambda: worker.windows().get(("24h", "MODEL", "t")) == 6, "all counts are in the windows", 60)
    expected = {
        (window, "MODEL", segment): value
        for segment, values in {"s": (0, 0, 15, 15), "t": (0, 0, 6, 6)}.items()
        for window, value in zip(("1m", "5m", "1h", "24h"), values, strict=True)
    }
    assert worker.windows() == expected
    assert worker.windows("reviewed")["1h", "MODEL", "s"] == 9
    assert worker.windows("failures")["1h", "MODEL", "s"] == 3
    assert worker.stop() == 0

    # what they are computed from is gone: the restarted worker has only its table's changelog
    admin = AdminClient(settings.kafka())
    rates = Topology(settings).topic_of("FailureRate")
    for gone in admin.delete_records([TopicPartition(rates, partition, -1) for partition in (0, 1)]).values():
        gone.result(30)
    again = start(settings)
    eventually(lambda: again.windows() == expected, "the windows are back", 60)
    assert again.stop() == 0


def test_the_windows_read_whatever_compression_the_engine_may_be_set_to(settings: Settings, start: Start) -> None:
    minute = running_minute() - 10 * MINUTE
    codecs = get_args(Settings.model_fields["compression"].annotation)
    for codec_name in codecs:
        # a batch is only sent compressed where that makes it smaller
        producer = Producer(settings.kafka(compression_type=codec_name, linger_ms=200))
        for i in range(20):
            send_counts(producer, settings, 0, minute - i * MINUTE, (1, 0, 0), codec_name)
        assert producer.flush(30) == 0
    worker = start(settings)
    expected = {("1h", "MODEL", codec_name): 20.0 for codec_name in codecs}
    eventually(lambda: expected.items() <= worker.windows().items(), "all are counted", 60)


def test_two_workers_share_the_windows_and_one_takes_over_from_the_other(
    settings: Settings, tmp_path: Path, start: Start
) -> None:
    both = [
        start(settings),
        start(settings.model_copy(update={"state_dir": tmp_path / "other", "worker_http_port": free_port()})),
    ]
    producer = Producer(settings.kafka())
    for partition in (0, 1):
        send_counts(producer, settings, partition, running_minute(), (5 + partition, 2, 1))
    producer.flush(30)

    def shown() -> list[float]:
        return sorted(worker.windows().get(("24h", "MODEL", "s"), 0) for worker in both)

    eventually(lambda: shown() == [5, 6], "each shows its partition", 90)
    assert both[0].stop() == 0
    eventually(lambda: both[1].windows().get(("24h", "MODEL", "s")) == 11, "the other shows both", 90)
    assert both[1].stop() == 0


def test_the_changelog_is_compacted_and_has_the_partitions_of_the_counts(settings: Settings, start: Start) -> None:
    worker = start(settings)
    worker.until_windows_run()
    assert worker.stop() == 0
    admin = AdminClient(settings.kafka())
    name = f"{settings.topic_prefix}app-rates-changelog"
    assert len(admin.list_topics(name, timeout=30).topics[name].partitions) == settings.partitions
    [config] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).values()
    assert config.result(30)["cleanup.policy"].value == "compact"


def test_what_cannot_be_read_is_counted_and_the_rest_is_kept(settings: Settings, start: Start) -> None:
    worker = start(settings)
    worker.until_windows_run()
    producer = Producer(settings.kafka())
    rates = Topology(settings).topic_of("FailureRate")
    producer.produce(rates, b"no avro", b"[0]", partition=0)
    producer.produce(rates, b"\x00\x00\x00\x00\x01x", b"[0,1]", partition=0)
    send_counts(producer, settings, 0, running_minute(), (4, 2, 1))
    producer.flush(30)
    eventually(lambda: worker.windows().get(("24h", "MODEL", "s")) == 4, "the good one is in the windows", 60)
    body = worker.get("/metrics")[1]
    assert f'flyback_app_skipped_total{{reason="no_magic_byte",topic="{rates}"}} 1.0' in body
    assert f'flyback_app_skipped_total{{reason="unknown_schema",topic="{rates}"}} 1.0' in body
    assert worker.stop() == 0


def test_the_engine_goes_on_where_faust_cannot_start(settings: Settings, start: Start) -> None:
    settings.state_dir.mkdir(parents=True)
    (settings.state_dir / "faust").write_text("a file where Faust needs a folder")
    worker = start(settings)
    eventually(lambda: worker.health().get("windows") == "waiting", "the failure is noticed", 60)
    assert worker.get("/healthz")[0] == 200
    assert worker.health()["engine"] == "running"
    (settings.state_dir / "faust").unlink()
    worker.until_windows_run()
    assert worker.stop() == 0
    failures = [line for line in worker.log() if "the rate windows failed" in str(line["event"])]
    assert failures
    assert "File exists" in str(failures[0]["reason"])


def test_the_windows_work_on_the_embedded_broker(
    embedded_bootstrap: str, topic_prefix: str, tmp_path: Path, start: Start
) -> None:
    settings = settings_for(embedded_bootstrap, topic_prefix, tmp_path)
    topics.create(settings)
    worker = start(settings)
    worker.until_windows_run()
    producer = Producer(settings.kafka())
    for partition in (0, 1):
        for minutes_ago in range(30):
            send_counts(producer, settings, partition, running_minute() - minutes_ago * MINUTE, (2, 1, 1))
    producer.flush(30)
    eventually(lambda: worker.windows().get(("24h", "MODEL", "s")) == 120, "all counts are in the windows", 60)
    assert worker.stop() == 0
    again = start(settings)
    eventually(lambda: again.windows().get(("24h", "MODEL", "s")) == 120, "the windows are back", 60)
    assert again.stop() == 0


def test_one_line_says_what_the_worker_was_told_and_nothing_is_logged_for_an_event(
    settings: Settings, start: Start
) -> None:
    worker = start(settings)
    worker.until_windows_run()
    eventually(lambda: worker.health().get("alerts") == "watching", "the alert rules are watched", 60)
    before = len(worker.log())
    producer = Producer(settings.kafka())
    for _ in range(100):
        send_counts(producer, settings, 0, running_minute(), (4, 2, 1))
    producer.flush(30)
    eventually(lambda: worker.windows().get(("24h", "MODEL", "s")) == 4, "the counts are in the windows", 60)
    assert len(worker.log()) == before
    worker.stop()
    [line] = [line for line in worker.log() if line["event"] == "worker starts"]
    assert line["bootstrap"] == settings.bootstrap_servers
    assert line["group"] == settings.group
    assert line["state_dir"] == str(settings.state_dir)
    assert line["registry"] == "none"


def test_a_password_in_the_registrys_address_is_not_logged(tmp_path: Path, start: Start) -> None:
    address = "http://user:canary-7c1@127.0.0.1:1/apis"
    worker = start(settings_for("127.0.0.1:1", "t.", tmp_path).model_copy(update={"registry_url": address}), "refuses")
    worker.process.wait(60)
    text = worker.process.log.read_text(encoding="utf-8")
    assert "canary-7c1" not in text
    assert "http://127.0.0.1:1/apis" in text


def test_without_any_broker_the_worker_waits_and_ends_on_sigterm(tmp_path: Path, start: Start) -> None:
    worker = start(settings_for(f"127.0.0.1:{free_port()}", "t.", tmp_path))
    worker.until_serving()
    eventually(lambda: 'flyback_waits_total{cause="broker"}' in worker.get("/metrics")[1], "it waits", 60)
    assert worker.health()["windows"] == "starting"
    assert worker.stop() == 0


def test_when_the_broker_has_died_the_worker_still_ends_on_sigterm(
    kafka_broker: KafkaBroker, tmp_path: Path, start: Start
) -> None:
    settings = settings_for(kafka_broker.bootstrap, "t.", tmp_path)
    topics.create(settings)
    worker = start(settings)
    worker.until_windows_run()
    kafka_broker.kill()
    assert worker.stop() == 0
    assert len(worker.log()) < 20  # some lines for each client, not one for each attempt


def test_the_windows_go_on_after_the_broker_was_away(kafka_broker: KafkaBroker, tmp_path: Path, start: Start) -> None:
    settings = settings_for(kafka_broker.bootstrap, "t.", tmp_path)
    topics.create(settings)
    worker = start(settings)
    worker.until_windows_run()
    kafka_broker.kill()
    kafka_broker.restart()
    producer = Producer(settings.kafka())
    send_counts(producer, settings, 0, running_minute(), (4, 2, 1))
    assert producer.flush(60) == 0
    eventually(lambda: worker.windows().get(("24h", "MODEL", "s")) == 4, "the counts are in the windows", 90)
    assert worker.stop() == 0


def test_an_engine_that_hangs_does_not_keep_the_process(tmp_path: Path, start: Start) -> None:
    worker = start(settings_for("127.0.0.1:1", "t.", tmp_path), "hangs")
    worker.until_serving()
    assert worker.stop() == 0
    assert worker.log()[-1]["event"] == "worker ended without waiting any longer"


def test_an_engine_that_does_not_get_on_ends_the_process_so_that_it_is_started_again(
    tmp_path: Path, start: Start
) -> None:
    worker = start(settings_for("127.0.0.1:1", "t.", tmp_path), "hangs in a step")
    assert worker.process.wait(60) == 1
    assert "start this worker again" in str(worker.log()[-2]["event"])


def test_an_engine_that_seems_to_hang_once_goes_on(tmp_path: Path, start: Start) -> None:
    worker = start(settings_for("127.0.0.1:1", "t.", tmp_path), "was frozen")
    worker.until_serving()
    eventually(lambda: worker.health()["totals"]["looks"] > 4, "it was looked at again")
    assert worker.stop() == 0


def test_an_error_of_ours_ends_the_process_with_its_code_and_one_line(tmp_path: Path, start: Start) -> None:
    worker = start(settings_for("127.0.0.1:1", "t.", tmp_path), "refuses")
    assert worker.process.wait(60) == 3
    [line] = [line for line in worker.log() if line["level"] == "error" and line["logger"] != "librdkafka"]
    assert "the state belongs to another cluster" in str(line["event"])
    assert "Traceback" not in worker.process.log.read_text(encoding="utf-8")


def test_any_other_error_ends_the_process_with_one_and_a_traceback(tmp_path: Path, start: Start) -> None:
    worker = start(settings_for("127.0.0.1:1", "t.", tmp_path), "breaks")
    assert worker.process.wait(60) == 1
    [line] = [line for line in worker.log() if line["level"] == "error" and line["logger"] != "librdkafka"]
    assert "ZeroDivisionError: a bug" in str(line["exception"])


def test_a_taken_port_ends_the_process_by_the_name_of_its_variable(tmp_path: Path, start: Start) -> None:
    settings = settings_for("127.0.0.1:1", "t.", tmp_path)
    first = start(settings)
    first.until_serving()
    second = start(settings)
    assert second.process.wait(60) == 2
    assert "FLYBACK_WORKER_HTTP_PORT" in str(second.log()[-1]["event"])
    assert first.stop() == 0
