"""Other ways to build the same join, each with an environment of its own; README.md tells what each does.

Each function makes what its peer needs, the first time, and gives the command to which a folder with job.json is added.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from flyback.errors import FlybackError
from flyback.local.java import find_java, run_maven

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "peers"
_ADVICE = "leave Kafka Streams out by naming other contenders with --only"


def kafka_streams(topology: str) -> Sequence[str]:
    """`topology`: dsl or processor. Needs Maven and a JDK 17. Raises BrokerError, MissingTool."""
    target = CACHE / "kafka_streams"
    target.mkdir(parents=True, exist_ok=True)
    run_maven(["--file", os.fspath(HERE / "kafka_streams" / "pom.xml"), f"-Dtarget={target}", "compile"], _ADVICE)
    java = os.fspath(find_java(17, _ADVICE))
    return [java, "-Xmx1g", "-cp", f"{target / 'classes'}:{target / 'dependency'}/*", "flyback.peer.Main", topology]


def quixstreams() -> Sequence[str]:
    """Makes a virtual environment of its pinned requirements. Raises FlybackError where that fails."""
    environment, requirements = CACHE / "quixstreams", HERE / "quixstreams" / "requirements.txt"
    python, installed = environment / "bin" / "python", environment / "installed.txt"
    if not installed.exists() or installed.read_bytes() != requirements.read_bytes():
        _run([sys.executable, "-m", "venv", "--clear", os.fspath(environment)])
        _run(
            [
                os.fspath(python),
                "-m",
                "pip",
                "--disable-pip-version-check",
                "install",
                "-q",
                "-r",
                os.fspath(requirements),
            ]
        )
        installed.write_bytes(requirements.read_bytes())
    return [os.fspath(python), "-m", "benchmarks.peers.quixstreams.peer"]


def faust_tables() -> Sequence[str]:
    """In our own environment, which has Faust."""
    return [sys.executable, "-m", "benchmarks.peers.faust_tables.peer"]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FlybackError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
