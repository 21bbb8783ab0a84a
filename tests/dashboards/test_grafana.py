"""The dashboards of Grafana: written by our code, of Grafana's types, asking for what there is.

tests/dashboards/test_prometheus.py sends their queries to a real Prometheus.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flyback.dashboards.grafana.__main__ import FOLDER, files
from flyback.local.java import fetch_once
from tests import brokers
from tests.conftest import ENVIRONMENT
from tests.dashboards.metric_names import RECORDED, RECORDING, SERIES, named_in

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "dashboards" / "grafana"
CHECK = Path(__file__).with_name("grafana")
DASHBOARDS: dict[str, dict[str, Any]] = {name: json.loads(text) for name, text in files().items()}
PROVISIONED = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in GRAFANA.rglob("*.yml")}
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
each_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)


def test_the_files_are_what_the_code_writes() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert written == files(), "type `make grafana`"


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Grafana's types and TypeScript, as locked, in the cache."""
    if shutil.which("npm") is None:
        brokers.not_available(ENVIRONMENT, "there is no npm on the PATH: install Node.js")

    def install(folder: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(CHECK / name, folder)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True)

    lock = (CHECK / "package-lock.json").read_bytes()
    return fetch_once(f"grafana-schema-{hashlib.sha256(lock).hexdigest()[:12]}", install) / "node_modules"


def broken() -> Iterator[tuple[str, dict[str, Any]]]:
    """A dashboard with one thing wrong, several times."""
    operations = DASHBOARDS["operations.json"]
    kinds = {panel["type"]: i for i, panel in enumerate(operations["panels"])}

    def planted(what: str, value: object, *path: Any) -> tuple[str, dict[str, Any]]:
        found = copy.deepcopy(operations)
        inner = found
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        return what, found

    yield planted("a title that is no text", 5, "title")
    yield planted("a field that does not exist", [], "pannels")
    yield planted("a place that is no number", "0", "panels", 1, "gridPos", "x")
    yield planted("a panel that does not exist", "timeserie", "panels", kinds["timeseries"], "type")
    legend = ("panels", kinds["timeseries"], "options", "legend")
    yield planted("an option's value that does not exist", "lits", *legend, "displayMode")
    yield planted("an option that does not exist", True, "panels", kinds["table"], "options", "sort")
    custom = ("panels", kinds["timeseries"], "fieldConfig", "defaults", "custom")
    yield planted("a property that does not exist", 2, *custom, "lineThickness")
    yield planted("a sharing of the cursor that does not exist", 7, "graphTooltip")


def test_grafanas_types_take_them_and_refuse_broken_ones(node_modules: Path, tmp_path: Path) -> None:
    for name in ("types.ts", "tsconfig.json"):
        shutil.copy(CHECK / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(node_modules)
    wrong = dict(broken())
    for name, dashboard in (DASHBOARDS | wrong).items():
        source = f'import type {{ OurDashboard }} from "./types";\n({json.dumps(dashboard)}) satisfies OurDashboard;\n'
        (tmp_path / f"{name}.ts").write_text(source, encoding="utf-8")
    done = subprocess.run([node_modules / ".bin" / "tsc"], cwd=tmp_path, capture_output=True, text=True, check=False)
    refused = set(re.findall(r"^(.+)\.ts\(\d+,\d+\): error", done.stdout, re.MULTILINE))
    assert refused == set(wrong), done.stdout


def test_the_types_are_those_of_the_grafana_that_is_started() -> None:
    locked = json.loads((CHECK / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert COMPOSE["grafana"]["image"] == f"grafana/grafana:{locked['node_modules/@grafana/schema']['version']}"


def test_what_npm_locks_has_hashes_and_no_address() -> None:
    locked = json.loads((CHECK / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert [name for name, package in locked.items() if name and "integrity" not in package] == []
    assert not re.search(r"https?:|resolved", (CHECK / "package-lock.json").read_text(encoding="utf-8"))


def expressions(dashboard: dict[str, Any]) -> list[str]:
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    return asked + [
        variable["query"]["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"
    ]


@each_dashboard
def test_it_asks_for_metrics_that_there_are(dashboard: dict[str, Any]) -> None:
    for expression in expressions(dashboard):
        names = named_in(expression.replace("label_values(", "(").replace(", segment)", ")"))
        assert names, expression
        assert names <= SERIES | RECORDED, expression


def test_every_metric_is_on_a_dashboard() -> None:
    asked = set().union(*(named_in(expression) for each in DASHBOARDS.values() for expression in expressions(each)))
    rules = {rule["record"]: rule["expr"] for rule in RECORDING}
    while more := set().union(*(named_in(rules[name]) for name in asked & rules.keys())) - asked:
        asked |= more
    missing = {name for name in SERIES if not name.endswith(("_sum", "_count"))} - asked
    assert not missing, "give it a panel in dashboards/grafana/operations.py, then type `make grafana`"


@each_dashboard
def test_its_panels_do_not_overlap_and_say_what_they_show(dashboard: dict[str, Any]) -> None:
    assert [panel["id"] for panel in dashboard["panels"]] == list(range(1, len(dashboard["panels"]) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        assert panel["type"] == "row" or panel["description"]
        place = panel["gridPos"]
        cells = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert not cells & taken, panel["title"]
        taken |= cells
    assert max(x for x, _ in taken) < 24


@each_dashboard
def test_it_asks_the_data_source_that_is_chosen(dashboard: dict[str, Any]) -> None:
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    for panel in dashboard["panels"]:
        for asking in [panel, *panel["targets"]] if panel["type"] != "row" else []:
            assert asking["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_grafana_is_given_the_dashboards_and_prometheus() -> None:
    mounted = dict(volume.split(":")[:2][::-1] for volume in COMPOSE["grafana"]["volumes"])
    [provider] = PROVISIONED["flyback"]["providers"]
    assert ROOT / mounted[provider["options"]["path"]] == FOLDER.resolve()
    assert ROOT / mounted["/etc/grafana/provisioning"] == GRAFANA / "provisioning"
    [source] = PROVISIONED["prometheus"]["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in COMPOSE
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)
