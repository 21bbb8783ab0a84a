"""The names and labels of our metrics, as Prometheus has them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from flyback import metrics
from flyback.outgoing import Stats

CLIENT: Any = SimpleNamespace(stats=lambda: Stats(sent=5, failed=1, waiting=2, bytes=300))


def _with_labels() -> dict[str, tuple[str, ...]]:
    found = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            [family] = metric.describe()
            found[family.name + ("_total" if family.type == "counter" else "")] = metric._labelnames
    for family in metrics.ClientMetrics(CLIENT).collect():
        found[family.name + ("_total" if family.type == "counter" else "")] = ()
    return found


OURS = _with_labels()
"""Name (of a histogram without _bucket, _sum, _count) to labels."""
