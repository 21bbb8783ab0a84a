"""What all tests share: brokers, topic prefixes, an environment without the developer's settings."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flyback import topics
from flyback.errors import BrokerError
from flyback.local import process
from flyback.local.java import MissingTool
from flyback.local.kafka import KafkaBroker
from flyback.local.registry import SchemaRegistry
from flyback.local.tansu import EmbeddedBroker, find_binary
from flyback.settings import Settings, load
from tests import brokers

# As it was before `isolated_environment` took the developer's settings away.
ENVIRONMENT = dict(os.environ)
OURS = ("FLYBACK_", "KAFKA_", "SCHEMA_REGISTRY_")
MARKER_OF_FIXTURE = {
    "kafka_bootstrap": "kafka",
    "start_kafka": "kafka",
    "registry_url": "registry",
    "embedded_bootstrap": "embedded",
}


def pytest_configure(config: pytest.Config) -> None:
    """Let processes that tests start be interrupted, also where a shell runs the tests as a job in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if (worker := os.environ.get("PYTEST_XDIST_WORKER")) is not None:
        take_own_ports(int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    elif config.getoption("numprocesses", None):
        brokers.fetch()


def take_own_ports(number: int, count: int) -> None:
    """No two processes that run tests side by side shall find the same port free: it is until somebody listens."""
    process.PORTS = process.PORTS[number::count]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in MARKER_OF_FIXTURE:
                item.add_marker(MARKER_OF_FIXTURE[fixture])


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main() -> Generator[None, object, object]:
    """The summary is the last word: Kafka clients that a test left say until the very end that their broker is gone."""
    code = yield
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    return code


@pytest.fixture
def columns_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets columns be used for as few messages as a test makes, where each would be decoded by itself."""
    monkeypatch.setattr("flyback.schemas.certain._FEW", 8)


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Set up before all other fixtures, so torn down after them."""
    yield
    left = process.running()
    for child in left:
        child.kill()
    assert not left, f"tests left these running: {', '.join(child.name for child in left)}"


@pytest.fixture(autouse=True)
def isolated_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's shell reaches a test."""
    for name in os.environ:
        if name.startswith(OURS):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`bootstrap.servers` of one real Kafka for the whole run: use `topic_prefix`, do not stop it."""
    with brokers.real_kafka(ENVIRONMENT, tmp_path_factory.mktemp("kafka")) as bootstrap:
        yield bootstrap


@pytest.fixture
def start_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., KafkaBroker]]:
    """Call it with `KafkaBroker`'s options for one more real Kafka of this test's own."""
    with ExitStack() as running:

        def start(**options: Any) -> KafkaBroker:
            folder = tmp_path_factory.mktemp("kafka")
            return running.enter_context(brokers.own_kafka(ENVIRONMENT, folder, **options))

        yield start


@pytest.fixture
def kafka_broker(start_kafka: Callable[..., KafkaBroker]) -> KafkaBroker:
    """A real Kafka of this test's own, which it may stop, kill and restart."""
    return start_kafka()


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test has, such as `t3f9a1c2.`; good for groups and transactional ids as well."""
    return f"t{uuid4().hex[:8]}."


@pytest.fixture(scope="session")
def embedded_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`bootstrap.servers` of one embedded broker for the whole run."""
    try:
        find_binary()
    except BrokerError as missing:
        brokers.not_available(ENVIRONMENT, str(missing))
    with EmbeddedBroker(tmp_path_factory.mktemp("embedded")) as broker:
        yield broker.bootstrap


@pytest.fixture(scope="session")
def registry_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of one real schema registry (Confluent API, FULL_TRANSITIVE) for the whole run."""
    if given := ENVIRONMENT.get("SCHEMA_REGISTRY_URL"):
        yield given
        return
    registry = SchemaRegistry(tmp_path_factory.mktemp("registry"))
    try:
        registry.start()
    except MissingTool as missing:
        brokers.not_available(ENVIRONMENT, f"no schema registry to test on: {missing}")
    try:
        yield registry.url
    finally:
        registry.stop()


@pytest.fixture
def installation(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Settings:
    """Of an installation on real Kafka whose topics are made, with folders of its own."""
    found = load(
        bootstrap_servers=kafka_bootstrap,
        topic_prefix=topic_prefix,
        group=topic_prefix,
        partitions=2,
        session_timeout="6s",
        transaction_timeout="6s",
        state_dir=tmp_path / "state",
        lake=str(tmp_path / "lake"),
        commit_interval="200ms",
        maintenance_interval="0s",
    )
    topics.create(found)
    return found
