"""`pip install flyback` alone gives the SDK, and importing it is cheap."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import flyback
from tests.brokers import not_available
from tests.conftest import ENVIRONMENT

ROOT = Path(__file__).parents[2]
OF_THE_EXTRAS = {"deltalake", "duckdb", "faust", "httpx", "pyarrow", "pyruhvro", "rich", "rocksdict", "typer"}
# These two take longer to import than all the rest: the settings are read when a Client is made.
ONLY_FOR_A_CLIENT = {"pydantic", "structlog"}


def modules_after(statement: str, python: Path = Path(sys.executable), folder: Path = ROOT) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `statement`."""
    script = f"{statement}\nimport json, sys\nprint(json.dumps([name for name in sys.modules if '.' not in name]))"
    ended = subprocess.run([python, "-c", script], capture_output=True, text=True, timeout=60, check=False, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stdout))


def test_importing_the_sdk_loads_nothing_of_worker_and_lake_nor_the_settings() -> None:
    loaded = modules_after("from flyback import Client, PredictionRef, chat, human, model")
    assert not loaded & (OF_THE_EXTRAS | ONLY_FOR_A_CLIENT)


def test_making_a_client_loads_nothing_of_worker_and_lake() -> None:
    loaded = modules_after("from flyback import Client; Client(bootstrap_servers='127.0.0.1:1').close()")
    assert not loaded & (OF_THE_EXTRAS - {"rich"})  # structlog and pydantic take rich where it is there


def test_importing_flyback_alone_does_not_even_load_kafkas_client() -> None:
    assert not modules_after("import flyback") & {"confluent_kafka", "fastavro"}


def test_the_base_installation_alone_gives_a_working_sdk(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for folder in ("flyback", "schemas", "streams", "sinks", "dashboards"):
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignore)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / file).exists():
            shutil.copy(ROOT / file, source)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(source)],
        capture_output=True, text=True, timeout=240, check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    if installed.returncode and unreachable(installed.stderr):
        not_available(ENVIRONMENT, "no package index to install from")
    assert installed.returncode == 0, installed.stderr
    script = """
from flyback import Client, human, model
client = Client(bootstrap_servers="127.0.0.1:1")
p = client.predict(task_id="t", actor=model("m"), input="in", output={"label": "x"})
client.confirm(p, author=human("ann"))
assert client.close(timeout=0) == 2
"""
    assert not modules_after(script, python, tmp_path) & OF_THE_EXTRAS


def unreachable(pips_words: str) -> bool:
    """Whether pip failed to reach its index, rather than to build or find something there."""
    return any(
        word in pips_words for word in ("NewConnectionError", "ConnectTimeoutError", "Name or service not known")
    )


def test_without_duckdb_asking_for_the_lake_says_which_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    monkeypatch.delitem(sys.modules, "flyback.sinks.lake", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"flyback\.lake needs duckdb: type `pip install 'flyback\[sink\]'`"):
        _ = flyback.lake
