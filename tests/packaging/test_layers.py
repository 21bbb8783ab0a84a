"""The layers, as `make layers` checks them."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGURATION = ".importlinter"


def contract(name: str) -> configparser.SectionProxy:
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / CONFIGURATION)
    return parsed[f"importlinter:contract:{name}"]


def listed(name: str, option: str) -> set[str]:
    return set(contract(name)[option].split())


def lint_imports(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config", CONFIGURATION, *options],
        cwd=folder,
        env=os.environ | {"NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_import_keeps_to_the_layers() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "also"), [("base", set()), ("sdk", listed("sdk", "source_modules")), ("dashboards", {"flyback.sinks"})]
)
def test_the_base_is_the_same_in_every_contract(name: str, also: set[str]) -> None:
    expected = listed("base", "source_modules") | also
    allowed = [line.split(" -> ")[1] for line in contract(name)["ignore_imports"].strip().splitlines()]
    assert {module.removesuffix(".**") for module in allowed} == expected


@pytest.mark.parametrize(
    ("name", "module", "planted"),
    [
        ("base", "errors", "from flyback import topics"),
        ("base", "schemas/codec", "from flyback.streams.state import Store"),
        ("light", "content", "import typer"),
        ("light", "schemas/codec", "import pyarrow"),
        ("metrics", "delivery", "from flyback import metrics"),
        ("sdk", "client", "from flyback.sinks import lake"),
        ("siblings", "sinks/columns", "from flyback.streams import engine"),
        ("siblings", "streams/engine", "from flyback.sinks import columns"),
        ("dashboards", "dashboards/endpoint", "from flyback.streams import state"),
        ("alerts", "streams/alerts/states", "from flyback.streams import windows"),
        ("faust", "topics", "import faust"),
        ("pure", "streams/rates", "def later():\n    import confluent_kafka"),
        ("no-io", "streams/windows", "import time"),
    ],
)
def test_a_planted_import_breaks_its_contract(tmp_path: Path, name: str, module: str, planted: str) -> None:
    shutil.copytree(ROOT / "flyback", tmp_path / "flyback", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / CONFIGURATION, tmp_path)
    with (tmp_path / "flyback" / f"{module}.py").open("a", encoding="utf-8") as source:
        source.write(f"\n{planted}\n")
    done = lint_imports(tmp_path, "--contract", name)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract(name)['name']} BROKEN" in done.stdout
