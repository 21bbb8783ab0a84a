"""The names and labels of our metrics, as Prometheus has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import yaml
from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase

from flyback import metrics
from flyback.outgoing import Stats
from tests.prometheus import RULES

CLIENT: Any = SimpleNamespace(stats=lambda: Stats(sent=5, failed=1, waiting=2, bytes=300))


def _families() -> Iterator[tuple[Metric, tuple[str, ...]]]:
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            [family] = metric.describe()
            yield family, metric._labelnames
    for family in metrics.ClientMetrics(CLIENT).collect():
        yield family, ()


def _name(family: Metric) -> str:
    return family.name + ("_total" if family.type == "counter" else "")


OURS = {_name(family): labels for family, labels in _families()}
"""Our metrics and their labels; of a histogram the name without _bucket, _sum, _count."""
SERIES = {
    _name(family) + part
    for family, _ in _families()
    for part in (("_bucket", "_sum", "_count") if family.type == "histogram" else ("",))
}
"""What can be asked for: ours, what every process has, and what Prometheus makes by itself."""
SERIES |= {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"}
SERIES |= {"up", "ALERTS", "ALERTS_FOR_STATE"}
RECORDING, ALERTS = (
    [rule for group in yaml.safe_load((RULES / name).read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
    for name in ("recording.yml", "alerts.yml")
)
RECORDED = {rule["record"] for rule in RECORDING}
_WORDS = re.compile(r"by|on|ignoring|unless|or|and|offset|without|bool|group_left|group_right")


def named_in(expression: str) -> set[str]:
    """The metrics that PromQL asks for: names that are no function, label, keyword, or Grafana variable."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\"[^\"]*\"|\$\w+", "", expression)
    bare = re.sub(r"\b(by|on|ignoring|without|group_left|group_right) ?\([^)]*\)", "", bare)
    names = re.findall(r"(?<![\w:.])[a-zA-Z_][\w:]*(?![\w:]|\s*\()", bare)
    return {name for name in names if not _WORDS.fullmatch(name)}
