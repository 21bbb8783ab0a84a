"""dashboards/prometheus as promtool sees it, and what it says of our metrics and documents."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from flyback import metrics
from tests.conftest import ENVIRONMENT
from tests.dashboards.metric_names import ALERTS, CLIENT, OURS, RECORDED, RECORDING, SERIES, named_in
from tests.prometheus import RULES, promtool

ROOT = RULES.parents[1]


def test_promtool_takes_the_configuration_with_its_rules() -> None:
    said = promtool(ENVIRONMENT, "check", "config", RULES / "prometheus.yml")
    assert "2 rule files found" in said
    assert f"{len(RECORDING)} rules found" in said
    assert f"{len(ALERTS)} rules found" in said


def test_the_addresses_it_asks_are_those_of_the_services() -> None:
    config = yaml.safe_load((RULES / "prometheus.yml").read_text(encoding="utf-8"))
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    asked = {job["job_name"]: job["static_configs"] for job in config["scrape_configs"]}
    served = {
        f"flyback-{name}": [{"targets": [f"{name}:{services[name]['ports'][0].rpartition(':')[2]}"]}]
        for name in ("worker", "sink")
    }
    assert asked == served


@pytest.mark.parametrize("name", ["recording_test.yml", "alerts_test.yml"])
def test_the_rules_give_what_is_written_beside_them(name: str) -> None:
    promtool(ENVIRONMENT, "test", "rules", Path(__file__).parent / "prometheus" / name)


def test_every_alert_is_set_off_in_a_test() -> None:
    text = (Path(__file__).parent / "prometheus" / "alerts_test.yml").read_text(encoding="utf-8")
    assert {rule["alert"] for rule in ALERTS} == set(re.findall(r'alertname(?:: |=")(\w+)', text))


def test_names_of_metrics_follow_the_conventions_of_prometheus() -> None:
    services = CollectorRegistry()
    metrics.expose(CLIENT, services)
    for registry in (metrics.REGISTRY, services):
        assert promtool(ENVIRONMENT, "check", "metrics", given=generate_latest(registry).decode()) == ""


def test_labels_are_those_whose_values_are_few() -> None:
    """What a task, an actor or a person gives has no place here; the segments are bounded by `WindowGauges`."""
    assert set().union(*OURS.values()) == {
        "actor_kind", "cause", "outcome", "process", "reason", "rule", "segment", "state", "table", "topic", "window",
    }  # fmt: skip


def test_metrics_are_defined_in_one_place() -> None:
    product = [path for path in (ROOT / "flyback").glob("*") if path.name != "metrics.py"]
    files = [file for path in product for file in ([path] if path.is_file() else path.resolve().rglob("*.py"))]
    assert len(files) > 50
    defining = re.compile(r"^\s*(from|import) prometheus_client( |$)", re.MULTILINE)
    assert [file.name for file in files if file.suffix == ".py" and defining.search(file.read_text("utf-8"))] == []


def test_a_service_shows_what_its_client_counts_and_nothing_else_of_ours() -> None:
    services = CollectorRegistry()
    metrics.expose(CLIENT, services)
    shown = re.findall(r"^(\w+) (\S+)$", generate_latest(services).decode(), re.MULTILINE)
    assert shown == [
        ("flyback_client_sent_total", "5.0"),
        ("flyback_client_failed_total", "1.0"),
        ("flyback_client_waiting_events", "2.0"),
        ("flyback_client_waiting_bytes", "300.0"),
    ]
    with pytest.raises(ValueError, match="Duplicated"):
        metrics.expose(CLIENT, services)


@pytest.mark.parametrize("rule", [*RECORDING, *ALERTS], ids=lambda rule: rule.get("record") or rule["alert"])
def test_a_rule_asks_for_what_there_is(rule: dict[str, Any]) -> None:
    assert named_in(rule["expr"])
    assert named_in(rule["expr"]) <= SERIES | RECORDED


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_is_wrong_how_bad_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "runbook_url"}
    page, _, anchor = said["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert not anchor or anchor in {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
