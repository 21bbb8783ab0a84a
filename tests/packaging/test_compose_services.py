"""Kafka and the registry exactly as docker-compose.yml configures them, run without Docker.

Their images turn variables into properties, and so does `server_properties`; only addresses and folders are changed
to this machine's.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flyback import settings, topics
from flyback.errors import IncompatibleSchema, UnknownSchema
from flyback.local.java import SHORT_LIVED, MissingTool, find_java
from flyback.local.kafka import JAVA_VERSION as KAFKA_JAVA
from flyback.local.kafka import fetch_jars
from flyback.local.process import ChildProcess, free_port
from flyback.local.readiness import answers_metadata
from flyback.local.registry import CONFLUENT_API, fetch_application
from flyback.local.registry import JAVA_VERSION as REGISTRY_JAVA
from flyback.schemas.catalog import open_catalog
from flyback.schemas.codec import bundled
from tests import brokers
from tests.conftest import ENVIRONMENT

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
pytestmark = [pytest.mark.kafka, pytest.mark.registry]


class Here:
    """A service's addresses on this machine: each port of the file stands for one free port."""

    def __init__(self) -> None:
        self.ports: defaultdict[str, int] = defaultdict(free_port)

    def address(self, text: str) -> str:
        """The text with every `host:port` in it as an address of this machine."""
        return re.sub(r"(?<![\w.-])(?:kafka|registry|localhost)?:(\d{4,5})\b", self._local, text)

    def _local(self, found: re.Match[str]) -> str:
        return f"127.0.0.1:{self.ports[found[1]]}"


@pytest.fixture(scope="module")
def here() -> Here:
    return Here()


def server_properties(environment: dict[str, Any], here: Here, data: Path) -> dict[str, str]:
    """What Kafka's image makes of its variables: KAFKA_LOG_DIRS is log.dirs."""
    found = {
        name.removeprefix("KAFKA_").replace("_", ".").lower(): here.address(str(value))
        for name, value in environment.items()
        if name.startswith("KAFKA_")
    }
    return found | {"log.dirs": str(data)}


@pytest.fixture(scope="module")
def kafka(here: Here, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address that the other containers use."""
    folder = tmp_path_factory.mktemp("compose-kafka")
    environment = SERVICES["kafka"]["environment"]
    properties = folder / "server.properties"
    lines = [f"{key}={value}\n" for key, value in server_properties(environment, here, folder / "data").items()]
    properties.write_text("".join(lines), encoding="utf-8")
    try:
        run_java = [find_java(KAFKA_JAVA, "skip this"), "-Xmx512m", *SHORT_LIVED, "-cp", f"{fetch_jars()}/*"]
    except MissingTool as missing:
        brokers.not_available(ENVIRONMENT, str(missing))
    cluster = f"--cluster-id={environment['CLUSTER_ID']}"
    format_storage = [*run_java, "kafka.tools.StorageTool", "format", cluster, "--config", properties]
    subprocess.run(list(map(str, format_storage)), check=True, capture_output=True)
    bootstrap = here.address("kafka:19092")
    with ChildProcess("Kafka", [*run_java, "kafka.Kafka", properties], folder / "kafka.log") as process:
        process.wait_ready(lambda: answers_metadata({"bootstrap.servers": bootstrap}), timeout=180)
        yield bootstrap


class Registry:
    """The registry service; started again, it is a new container with nothing of its own."""

    def __init__(self, here: Here, folder: Path) -> None:
        service = SERVICES["registry"]
        self.url = here.address("http://registry:8080") + CONFLUENT_API
        test = service["healthcheck"]["test"][1:]
        port = str(here.ports["8080"])
        self._health_check = [part.replace("$$", "$").replace("localhost/8080", f"localhost/{port}") for part in test]
        variables = {name: here.address(str(value)) for name, value in service["environment"].items()}
        variables |= {"QUARKUS_HTTP_HOST": "127.0.0.1", "QUARKUS_HTTP_PORT": port}
        variables |= {"QUARKUS_MANAGEMENT_HOST": "127.0.0.1", "QUARKUS_MANAGEMENT_PORT": str(free_port())}
        self._process = ChildProcess(
            "the registry",
            [
                find_java(REGISTRY_JAVA, "skip this"),
                "-Xmx512m",
                *SHORT_LIVED,
                "-jar",
                fetch_application() / "quarkus-run.jar",
            ],
            folder / "registry.log",
            env={"PATH": os.environ["PATH"], **variables},
        )

    def start(self) -> None:
        self._process.start()
        self._process.wait_ready(self.healthy, timeout=180)

    def stop(self) -> None:
        self._process.kill()

    def healthy(self) -> bool:
        """What the health check in the file says."""
        return subprocess.run(self._health_check, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def registry(here: Here, kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    try:
        found = Registry(here, tmp_path_factory.mktemp("compose-registry"))
    except MissingTool as missing:
        brokers.not_available(ENVIRONMENT, str(missing))
    assert not found.healthy()
    found.start()
    yield found
    found.stop()


def test_the_topics_service_makes_what_worker_and_sink_ask_for(kafka: str) -> None:
    loaded = settings.load(bootstrap_servers=kafka)
    assert topics.create(loaded)
    topics.require(loaded)
    assert not [finding for finding in topics.check(loaded) if finding.fatal]


def test_the_registry_keeps_ids_over_a_restart_and_refuses_what_is_not_compatible(registry: Registry) -> None:
    loaded = settings.load(registry_url=registry.url)
    registered = open_catalog(loaded).id_for("Prediction", "flyback.predictions.v1")
    registry.stop()
    with pytest.raises(Exception, match="registry"):
        open_catalog(loaded).schema(registered)
    registry.start()
    assert open_catalog(loaded).schema(registered).name == bundled("Prediction").name
    with pytest.raises(UnknownSchema):
        open_catalog(loaded).schema(registered + 1_000)
    with urllib.request.urlopen(f"{registry.url}/config", timeout=10) as answer:
        assert json.load(answer)["compatibilityLevel"] == "FULL_TRANSITIVE"
    with pytest.raises(IncompatibleSchema):
        open_catalog(loaded).id_for("Correction", "flyback.predictions.v1")
