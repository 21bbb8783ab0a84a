"""A real schema registry of our own, without Docker: Apicurio Registry, in memory, on 127.0.0.1."""

from __future__ import annotations

import http.client
import os
import tarfile
from pathlib import Path

from flyback.local.java import DEPENDENCY_PLUGIN, SHORT_LIVED, fetch_once, find_java, run_maven
from flyback.local.process import ChildProcess, Server, free_port, refuse_taken_port

APICURIO_VERSION = "3.3.3"
JAVA_VERSION = 21
CONFLUENT_API = "/apis/ccompat/v7"
ALTERNATIVES = "set SCHEMA_REGISTRY_URL to a running registry, or leave it unset: Flyback does without one"


class SchemaRegistry(Server):
    """Apicurio Registry with its Confluent-compatible API; what it holds is gone when it stops.

    `folder` takes its log. Schemas have to be FULL_TRANSITIVE compatible unless a subject says otherwise.
    `start` raises `BrokerError`, or its subclass `MissingTool` without Java 21+ or (the first time) Maven.
    """

    @property
    def url(self) -> str:
        """What goes into SCHEMA_REGISTRY_URL."""
        return f"http://127.0.0.1:{self.port}{CONFLUENT_API}"

    def start(self) -> None:
        """Start it and return when it serves requests (3-5 s; the first time ever, 150 MB are fetched)."""
        refuse_taken_port(self.port)
        java = os.fspath(find_java(JAVA_VERSION, ALTERNATIVES))
        application = fetch_application()
        properties = {
            "apicurio.rules.global.compatibility": "FULL_TRANSITIVE",
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": str(self.port),
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": str(free_port()),
        }
        options = [f"-D{name}={value}" for name, value in properties.items()]
        self._process = ChildProcess(
            "the schema registry",
            [java, "-Xmx512m", *SHORT_LIVED, *options, "-jar", application / "quarkus-run.jar"],
            self.folder / "registry.log",
            # It takes properties from variables as well: none of the caller's are meant for it.
            env={"PATH": os.environ.get("PATH", "")},
            advice=f"Is port {self.port} taken? Else {ALTERNATIVES}.",
        )
        self._process.start()
        self._process.wait_ready(self._answers, timeout=120)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", f"{CONFLUENT_API}/subjects")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def fetch_application() -> Path:
    """The unpacked application, fetched by Maven the first time. Raises `BrokerError`, `MissingTool`."""

    def unpack(folder: Path) -> None:
        artifact = f"io.apicurio:apicurio-registry-app:{APICURIO_VERSION}:tar.gz:all"
        goal = f"{DEPENDENCY_PLUGIN}:copy"
        run_maven([goal, f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"], ALTERNATIVES)
        for archive in folder.glob("*.tar.gz"):
            with tarfile.open(archive) as packed:
                # an attribute, since extractall() takes no filter before Python 3.11.4
                packed.extraction_filter = getattr(tarfile, "data_filter", None)
                packed.extractall(folder)
            archive.unlink()

    return fetch_once(f"apicurio-registry-{APICURIO_VERSION}", unpack)
