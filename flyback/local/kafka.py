"""A real Apache Kafka broker of our own, without Docker: jars from Maven, one JVM, bound to 127.0.0.1."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from flyback.errors import BrokerError
from flyback.local.java import DEPENDENCY_PLUGIN, SHORT_LIVED, fetch_once, find_java, run_maven
from flyback.local.process import ChildProcess, Server, free_port, listens, refuse_taken_port
from flyback.local.readiness import answers_metadata

KAFKA_VERSION = "4.2.1"  # not 4.3 or 4.4: docs/adr/0011
JAVA_VERSION = 17
ALTERNATIVES = "use the embedded broker (--broker embedded), or --bootstrap HOST:PORT of a running Kafka"

# Kafka's storage tool takes both inside a comma-separated list, and has no way to quote them.
PLAIN_WORD = re.compile(r"[\w.@+-]+", re.ASCII)

# One node, so every replication factor is 1. Small internal topics and no rebalance delay, so that it is
# ready soon; a shorter session with its controller, which after a crash does not take the broker back before
# the session of its former life has ended; abandoned transactions are ended soon after their timeout, since
# they hold up every read_committed reader.
SINGLE_NODE = MappingProxyType(
    {
        "process.roles": "broker,controller",
        "node.id": "1",
        "broker.session.timeout.ms": "6000",
        "broker.heartbeat.interval.ms": "1000",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "INTERNAL",
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "log.cleaner.dedupe.buffer.size": "16777216",
    }
)


@dataclass(frozen=True)
class Member:
    """Which node of a cluster a broker is; the other fields are the same for all of its nodes."""

    node_id: int
    cluster_id: str
    controllers: Mapping[int, int]
    """A port for each node id."""

    @property
    def properties(self) -> dict[str, str]:
        voters = [f"{node}@127.0.0.1:{port}" for node, port in self.controllers.items()]
        return {"node.id": str(self.node_id), "controller.quorum.voters": ",".join(voters)}


class KafkaBroker(Server):
    """Apache Kafka in KRaft mode, broker and controller in one process of 127.0.0.1.

    `folder` takes configuration, log and data: a broker started on it again finds its topics. `properties`
    are broker properties that override ours. With `sasl_scram=(user, password)` clients have to log in by
    SASL_PLAINTEXT and SCRAM-SHA-512. Several with a `member` each are one cluster: start them at the same time,
    since none is ready before the others. `start` raises `BrokerError`, or its subclass `MissingTool` without
    Java 17+ or (the first time) Maven.
    """

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        properties: Mapping[str, str] = MappingProxyType({}),
        sasl_scram: tuple[str, str] | None = None,
        member: Member | None = None,
        heap_mb: int = 512,
    ) -> None:
        if sasl_scram is not None and not all(map(PLAIN_WORD.fullmatch, sasl_scram)):
            raise BrokerError("sasl_scram: user and password may hold letters, digits and any of _.@+- only")
        super().__init__(folder, port)
        self._properties = dict(properties)
        self._credentials = sasl_scram
        self._internal_ports = (free_port(), free_port() if member is None else member.controllers[member.node_id])
        self._member = member
        self._heap_mb = heap_mb

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def client_config(self) -> dict[str, str]:
        """What a confluent-kafka client needs to connect, the password included."""
        if self._credentials is None:
            return {"bootstrap.servers": self.bootstrap}
        user, password = self._credentials
        return {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": password,
        }

    def start(self) -> None:
        """Start it and return when it serves clients (2-3 s; the first time ever, 44 MB are fetched)."""
        refuse_taken_port(self.port)
        java = os.fspath(find_java(JAVA_VERSION, ALTERNATIVES))
        jars = fetch_jars()
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "server.properties"
        configuration.write_text(_as_properties(self._server_properties()), encoding="utf-8")
        if not (self.folder / "data" / "meta.properties").exists():
            self._format(java, jars, configuration)
        logging = Path(__file__).with_name("kafka-log4j2.xml")
        self._process = ChildProcess(
            "Kafka",
            [
                java,
                f"-Xmx{self._heap_mb}m",
                *SHORT_LIVED,
                f"-Dlog4j2.configurationFile={logging}",
                "-cp",
                f"{jars}/*",
                "kafka.Kafka",
                configuration,
            ],
            self.folder / "kafka.log",
            advice=f"Is port {self.port} taken? Else {ALTERNATIVES}.",
        )
        self._process.start()
        self._process.wait_ready(lambda: listens(self.port) and answers_metadata(self.client_config), timeout=120)

    def stop(self) -> None:
        """End it in an orderly way; the data stay in `folder`."""
        if self._process is not None:
            self._process.stop(timeout=15)

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """Stop it if it runs, then start it on the same port with the same data."""
        self.stop()
        self.start()

    def _server_properties(self) -> dict[str, str]:
        internal, controller = self._internal_ports
        listeners = f"CLIENT://{self.bootstrap},INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller}"
        alone = {"controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}"}
        client_protocol = "PLAINTEXT" if self._credentials is None else "SASL_PLAINTEXT"
        scram = {
            "listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.client.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
        }
        return {
            **SINGLE_NODE,
            **(alone if self._member is None else self._member.properties),
            "listeners": listeners,
            "listener.security.protocol.map": (f"CLIENT:{client_protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"),
            "log.dirs": os.fspath(self.folder.absolute() / "data"),
            **({} if self._credentials is None else scram),
            **self._properties,
        }

    def _format(self, java: str, jars: Path, configuration: Path) -> None:
        command = [
            java,
            "-Xmx256m",
            *SHORT_LIVED,
            "-cp",
            f"{jars}/*",
            "kafka.tools.StorageTool",
            "format",
            *(["--standalone"] if self._member is None else []),
        ]
        cluster_id = new_cluster_id() if self._member is None else self._member.cluster_id
        # "=": an id that starts with "-" would else be taken for an option.
        command += [f"--cluster-id={cluster_id}", "--config", os.fspath(configuration)]
        if self._credentials is not None:
            user, password = self._credentials
            command += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            output = (done.stdout + done.stderr).strip()
            raise BrokerError(
                f"Kafka could not format {self.folder}: {output}\nGive an empty folder, or {ALTERNATIVES}"
            )


def new_cluster_id() -> str:
    """A random cluster id in Kafka's own form: a UUID in 22 characters of URL-safe base64."""
    return urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def fetch_jars() -> Path:
    """The folder with Kafka's jars, fetched by Maven the first time. Raises `BrokerError`, `MissingTool`."""

    def copy_dependencies(folder: Path) -> None:
        # From a copy: Maven may write beside the pom, and an installed package's folder may be read-only.
        pom = folder.parent / "pom.xml"
        pom.write_bytes(Path(__file__).with_name("kafka-pom.xml").read_bytes())
        run_maven(
            [
                f"--file={pom}",
                f"-Dkafka.version={KAFKA_VERSION}",
                f"-DoutputDirectory={folder}",
                f"{DEPENDENCY_PLUGIN}:copy-dependencies",
            ],
            ALTERNATIVES,
        )

    return fetch_once(f"kafka-{KAFKA_VERSION}", copy_dependencies)


def _as_properties(properties: Mapping[str, str]) -> str:
    escaped = {key: value.replace("\\", "\\\\").replace("\n", "\\n") for key, value in properties.items()}
    return "".join(f"{key}={value}\n" for key, value in sorted(escaped.items()))
