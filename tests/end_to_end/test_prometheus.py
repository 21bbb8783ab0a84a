"""What a real worker and a real sink count is what Prometheus says of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flyback import Client, human, model
from flyback.streams.rates import wilson
from tests import prometheus
from tests.conftest import ENVIRONMENT
from tests.end_to_end.site import SECONDS, Site
from tests.waiting import eventually

PREDICTIONS, REVIEWED, FAILURES = 20, 8, 3


@pytest.fixture
def busy(site: Site) -> Iterator[Site]:
    """A worker and a sink that have seen twenty predictions of two segments, and eight reviews of one of them."""
    for service in (site.start_worker(), site.start_sink()):
        service.wait_ready()
    with Client(site.settings) as client:
        for i in range(PREDICTIONS):
            about = client.predict(
                task_id=f"t{i}", actor=model("m"), input="x", output="a", segment="s" if i < REVIEWED else "other one"
            )
            if i < FAILURES:
                client.correct(about, output="b", author=human("ann"))
            elif i < REVIEWED:
                client.confirm(about, author=human("ann"))
    site.until_landed()
    yield site


def test_prometheus_says_what_worker_and_sink_did(busy: Site, tmp_path: Path) -> None:
    settings = busy.settings
    places = {f"{name}:9464": f"127.0.0.1:{service.port}" for name, service in busy.services.items()}
    expected = {
        "count(up == 1)": 2,
        f'flyback_events_total{{topic="{settings.topic_prefix}predictions.v1"}}': PREDICTIONS,
        f'flyback_events_total{{topic="{settings.topic_prefix}corrections.v1"}}': REVIEWED,
        f'flyback_derived_total{{topic="{settings.topic_prefix}examples.v1"}}': REVIEWED,
        'flyback_sink_rows_total{table="predictions"}': PREDICTIONS,
        'flyback_sink_rows_total{table="examples"}': REVIEWED,
        'flyback_window_segments{job="flyback-worker"}': 2,
        'kind:flyback_predictions:sum{window="1h", actor_kind="MODEL"}': PREDICTIONS,
        'segment:flyback_reviewed:sum{window="24h", actor_kind="MODEL", segment="s"}': REVIEWED,
        'segment:flyback_failure_rate:ratio{window="1h", actor_kind="MODEL", segment="s"}': FAILURES / REVIEWED,
        'segment:flyback_failure_rate:low{window="1h", actor_kind="MODEL", segment="s"}': wilson(FAILURES, REVIEWED)[0],
        'kind:flyback_failure_rate:high{window="1h", actor_kind="MODEL"}': wilson(FAILURES, REVIEWED)[1],
        'process:flyback_lag_seconds:max2m{process="sink"} < bool 60': 1,
        'count(ALERTS{alertstate="firing"}) or vector(0)': 0,
    }
    with prometheus.running(ENVIRONMENT, tmp_path, places) as server:

        def found() -> dict[str, float | None]:
            return {expression: server.value(expression) for expression in expected}

        eventually(lambda: found() == pytest.approx(expected), "it says so", SECONDS)
        busy.services["worker"].kill()
        eventually(lambda: server.value('up{job="flyback-worker"}') == 0, "the worker is down", SECONDS)
