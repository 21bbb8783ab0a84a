"""docs/dashboard.md: its commands run, and it lists what there is."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flyback.dashboards import live, view
from flyback.dashboards.access import Access
from flyback.dashboards.app import API, build
from flyback.dashboards.board import Board
from flyback.dashboards.feed import Following
from flyback.dashboards.lake_reader import LakeReader
from flyback.dashboards.server import Server, address, listen
from flyback.settings import variables
from tests.dashboards.sample_server import Sample, health, lake_of
from tests.waiting import eventually

PAGE = (Path(__file__).parents[2] / "docs" / "dashboard.md").read_text(encoding="utf-8")
AN_HOUR_AGO = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%MZ")
CURLS = [shlex.split(line) for line in re.findall(r"^curl .*$", PAGE, re.MULTILINE)]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    """The address of a dashboard with numbers made up."""
    now = datetime.now(UTC)
    sample = Sample(now, minutes=30)
    board = Board(sample.store, LakeReader(lake_of(tmp_path / "lake", now).path), Following, health, patience=60.0)
    at = listen("127.0.0.1", 0)
    server = Server(build(board), Access())
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([at])))
    thread.start()
    eventually(lambda: server.started, "it serves", 60)
    yield address(at)
    server.stop()
    thread.join(60)
    sample.store.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="THE COMMANDS ARE NOT TRIED: there is no curl")
def test_its_commands_give_what_it_says(page: str, tmp_path: Path) -> None:
    said = []
    for command in CURLS:
        here = [
            word.replace("http://localhost:9466", page).replace("2026-01-31T12:00Z", AN_HOUR_AGO) for word in command
        ]
        done = subprocess.run([*here, "--silent"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 28), done.stderr  # 28: as long as it may take
        said.append(done.stdout)
    rates, _, failures, episode, well, stream = said
    assert {row["segment"] for row in json.loads(rates)["rates"]} == {"amazon", "movies", "nyt", "tweets"}
    with (tmp_path / "rates.csv").open(encoding="utf-8") as table:
        assert len(list(csv.DictReader(table))) == 4
    assert len(json.loads(failures)["rows"]) == 5
    assert json.loads(episode)["task_id"] == "amazon/1"
    assert json.loads(well)["verdict"] == "well"
    assert "event: status" in stream


def test_it_lists_every_parameter_and_route() -> None:
    first = [re.findall(r"`([\w./{}]+)`", line.split("|")[1]) for line in PAGE.splitlines() if line.startswith("| `")]
    listed = {name for names in first for name in names}
    assert set(view.PARAMETERS) <= listed
    app = build(Board(None, None, Following))  # type: ignore[arg-type]
    routes = {route.path for route in app.routes if hasattr(route, "path")}
    api = {path.removeprefix(f"{API}/").replace(":path", "") for path in routes if path.startswith(API)}
    assert api <= listed
    assert {f"FLYBACK_{name}" for name in listed if name.isupper()} <= set(variables())


def test_its_limits_are_those_of_the_code() -> None:
    assert f"{live.MOST_VIEWS} different views and {live.MOST_VIEWERS:,} viewers" in PAGE
