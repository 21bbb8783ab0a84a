"""A real Prometheus scrapes our endpoint and evaluates our rules: what it answers is what was exposed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from flyback import metrics
from flyback.dashboards.endpoint import serve
from flyback.settings import Settings
from flyback.streams.rate_cells import WindowGauges
from flyback.streams.rates import wilson
from flyback.streams.windows import Counts, Row
from tests import prometheus
from tests.conftest import ENVIRONMENT
from tests.dashboards.test_grafana import DASHBOARDS, ROOT
from tests.waiting import eventually

SECONDS = 60.0
COUNTS = {  # what a window holds, by segment
    "nothing reviewed": Counts(5, 0, 0),
    "one right": Counts(1, 1, 0),
    "one wrong": Counts(1, 1, 1),
    "few": Counts(100, 10, 3),
    "all wrong": Counts(9_000, 1_000, 1_000),
    "rare": Counts(40_000_000, 2_000_000, 1),
    'a "quoted" \\ segment\n': Counts(30, 20, 10),
}
TOTAL = Counts(*map(sum, zip(*COUNTS.values(), strict=True)))


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[prometheus.Prometheus]:
    """It has scraped a worker with these windows, and evaluated every rule after that."""
    windows = WindowGauges()
    windows.show({Row(window, "MODEL", name): each for name, each in COUNTS.items() for window in ("1h", "24h")})
    for process in ("worker", "sink"):
        metrics.LAG.labels(process).set_function(lambda: 90.0)
    metrics.EVENTS.labels("predictions").inc(3)
    metrics.TRANSACTION_SECONDS.observe(0.3)
    with serve(Settings(), 0, lambda: {"ok": True}) as endpoint:
        places = {"worker:9464": f"127.0.0.1:{endpoint.port}"}
        with prometheus.running(ENVIRONMENT, tmp_path_factory.mktemp("prometheus"), places) as server:
            eventually(lambda: server.query("segment:flyback_failure_rate:high"), "the rates are recorded", SECONDS)
            eventually(lambda: server.query("process:flyback_lag_seconds:max2m"), "all rules ran", SECONDS)
            yield server
    windows.show({})


def test_every_value_that_is_exposed_is_what_prometheus_has(scraped: prometheus.Prometheus) -> None:
    exposed = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(metrics.REGISTRY).decode())
        for sample in family.samples
        if sample.name.startswith("flyback_")
    }
    stored = {
        (
            labels["__name__"],
            frozenset(pair for pair in labels.items() if pair[0] not in ("__name__", "job", "instance")),
        ): value
        for labels, value in scraped.query('{__name__=~"flyback_.+", job="flyback-worker"}')
    }
    assert stored == exposed


def test_every_rule_is_evaluated_without_error(scraped: prometheus.Prometheus) -> None:
    rules = scraped.rules()
    assert len(rules) > 20
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []


def test_the_rates_and_their_intervals_are_those_of_the_stream(scraped: prometheus.Prometheus) -> None:
    expected = {name: each for name, each in COUNTS.items() if each.reviewed}
    assert by_segment(scraped, "ratio") == {name: each.failures / each.reviewed for name, each in expected.items()}
    for bound, side in enumerate(("low", "high")):
        ours = {name: wilson(each.failures, each.reviewed)[bound] for name, each in expected.items()}
        assert by_segment(scraped, side) == pytest.approx(ours, rel=1e-9, abs=1e-12)


def test_the_rate_over_all_segments_is_that_of_their_sums(scraped: prometheus.Prometheus) -> None:
    low, high = wilson(TOTAL.failures, TOTAL.reviewed)
    expected = {
        "flyback_predictions:sum": TOTAL.predictions,
        "flyback_reviewed:sum": TOTAL.reviewed,
        "flyback_failures:sum": TOTAL.failures,
        "flyback_failure_rate:ratio": TOTAL.failures / TOTAL.reviewed,
        "flyback_failure_rate:low": low,
        "flyback_failure_rate:high": high,
    }
    found = {name: scraped.value(f'kind:{name}{{window="1h", actor_kind="MODEL"}}') for name in expected}
    assert found == pytest.approx(expected, rel=1e-9)


def test_every_query_of_the_dashboards_is_answered(scraped: prometheus.Prometheus) -> None:
    chosen = {"$window": "1h", "$actor_kind": "MODEL", "$segment": ".*"}
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                expression = target["expr"]
                for variable, value in chosen.items():
                    expression = expression.replace(variable, value)
                found = scraped.query(expression)
                assert found or name != "failure-rates.json", expression


def test_every_query_of_the_documents_is_answered(scraped: prometheus.Prometheus) -> None:
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")]
    blocks = [block for page in pages for block in re.findall(r"```promql\n(.*?)```", page, re.DOTALL)]
    assert len(blocks) > 1
    for block in blocks:
        scraped.query(block)


def test_an_alert_that_is_not_for_long_enough_is_pending(scraped: prometheus.Prometheus) -> None:
    eventually(
        lambda: scraped.query('ALERTS{alertname="FlybackLagging", process="worker", alertstate="pending"}'),
        "the lag is noticed",
        SECONDS,
    )


def by_segment(server: prometheus.Prometheus, what: str) -> dict[str, float]:
    found = server.query(f'segment:flyback_failure_rate:{what}{{window="1h", actor_kind="MODEL"}}')
    return {labels["segment"]: value for labels, value in found}
