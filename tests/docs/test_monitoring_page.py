"""docs/monitoring.md has every alert and every rate, and its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import prometheus_client
import pytest

import flyback
from flyback import metrics
from tests.dashboards.metric_names import ALERTS, RECORDED

PAGE = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")


def test_every_alert_is_on_the_page() -> None:
    listed = re.findall(r"^\| `(Flyback\w+)` \|", PAGE, re.MULTILINE)
    assert listed == [rule["alert"] for rule in ALERTS]


def test_every_rate_on_the_page_is_recorded_and_the_other_way_round() -> None:
    assert set(re.findall(r"segment:\w+:\w+", PAGE)) == {name for name in RECORDED if name.startswith("segment:")}


def test_the_python_of_the_page_shows_what_a_client_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    services = prometheus_client.CollectorRegistry()
    monkeypatch.setattr(metrics.expose, "__defaults__", (services,))
    [block] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    found: dict[str, flyback.Client] = {}
    exec(block, found)
    try:
        assert services.get_sample_value("flyback_client_sent_total") == 0
    finally:
        found["client"].close()
