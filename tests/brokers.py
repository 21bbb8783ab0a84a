"""Where the tests get a real Kafka from: an address in the environment, else Docker, else Java and Maven."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest

from flyback.errors import BrokerError
from flyback.local.java import MissingTool
from flyback.local.kafka import KAFKA_VERSION, SINGLE_NODE, KafkaBroker, fetch_jars, new_cluster_id
from flyback.local.process import free_port
from flyback.local.readiness import answers_metadata
from flyback.local.registry import fetch_application

GIVEN_SECONDS = 10.0
START_SECONDS = 90


def fetch() -> None:
    """Have in the cache what several processes would else fetch at once: Maven's repository is for one at a time."""
    with suppress(BrokerError):  # the tests that miss it say so
        fetch_jars()
        fetch_application()


@contextmanager
def real_kafka(environment: Mapping[str, str], folder: Path) -> Iterator[str]:
    """`bootstrap.servers` of a Kafka broker, ended on exit if it was started here."""
    if given := environment.get("KAFKA_BOOTSTRAP_SERVERS"):
        if not answers_metadata({"bootstrap.servers": given}, timeout=GIVEN_SECONDS):
            pytest.fail(f"no Kafka answers at KAFKA_BOOTSTRAP_SERVERS={given}", pytrace=False)
        yield given
    elif docker_answers():
        with kafka_container() as bootstrap:
            yield bootstrap
    else:
        with own_kafka(environment, folder) as broker:
            yield broker.bootstrap


@contextmanager
def own_kafka(environment: Mapping[str, str], folder: Path, **options: Any) -> Iterator[KafkaBroker]:
    """A running `KafkaBroker`; without Java or Maven the test is skipped, or fails where CI=true."""
    broker = KafkaBroker(folder, **options)
    try:
        broker.start()
    except MissingTool as missing:
        not_available(environment, f"no Kafka to test on: {missing}")
    try:
        yield broker
    finally:
        broker.stop()


def not_available(environment: Mapping[str, str], reason: str) -> NoReturn:
    """Skip, loudly; but a skipped test must not look like a passed one in CI."""
    if environment.get("CI", "").lower() == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def docker_answers() -> bool:
    import docker  # type: ignore[import-untyped]
    from docker.errors import DockerException  # type: ignore[import-untyped]

    try:
        client = docker.from_env(timeout=5)
    except DockerException:
        return False
    try:
        return bool(client.ping())
    except DockerException:
        return False
    finally:
        client.close()


@contextmanager
def kafka_container() -> Iterator[str]:
    """Apache's own image, configured as `KafkaBroker` is."""
    from testcontainers.core.container import DockerContainer

    # The same port inside and outside, since the broker has to advertise it before the container runs.
    port = free_port()
    container = DockerContainer(f"apache/kafka:{KAFKA_VERSION}").with_bind_ports(port, port)
    bootstrap = f"{container.get_container_host_ip()}:{port}"
    properties = {
        **SINGLE_NODE,
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": f"CLIENT://0.0.0.0:{port},INTERNAL://localhost:9094,CONTROLLER://localhost:9093",
        "advertised.listeners": f"CLIENT://{bootstrap},INTERNAL://localhost:9094",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": "/tmp/kraft-combined-logs",
    }
    container.with_env("CLUSTER_ID", new_cluster_id())
    for name, value in properties.items():
        container.with_env("KAFKA_" + name.replace(".", "_").upper(), value)
    with container:
        wait_for_metadata(bootstrap)
        yield bootstrap


def wait_for_metadata(bootstrap: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not answers_metadata({"bootstrap.servers": bootstrap}):
        if time.monotonic() > deadline:
            pytest.fail(f"Kafka in Docker was not ready at {bootstrap} after {START_SECONDS} s", pytrace=False)
