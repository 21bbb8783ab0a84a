"""Every metric of Flyback, once: name, meaning, unit, labels. All are `flyback_*`, in base units.

Labels are bounded: topics, tables, reasons, causes, rules, at most 200 segments; never a task, an actor or a person.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import prometheus_client
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from flyback.client import Client

REGISTRY = CollectorRegistry()
"""What workers and sinks serve. Not Python's default one: that belongs to the service which imports us for `expose`."""
ProcessCollector(registry=REGISTRY)

_counter = partial(prometheus_client.Counter, registry=REGISTRY)
_gauge = partial(prometheus_client.Gauge, registry=REGISTRY)
_histogram = partial(prometheus_client.Histogram, registry=REGISTRY)
_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# Worker and sink
LAST_COMMIT = _gauge("flyback_last_commit_timestamp_seconds", "Unix time of the last commit.", ["process"])
LAG = _gauge(
    "flyback_lag_seconds", "How long the oldest event that is in hand has been in Kafka, 0 without any.", ["process"]
)
WAITS = _counter(
    "flyback_waits",
    "Times a process waited for something outside: registry, unknown_schema, broker, lake, windows, alerts.",
    ["cause"],
)
DEAD_LETTERS = _counter(
    "flyback_dead_letters", "Messages dead-lettered in committed transactions.", ["topic", "reason"]
)

# Worker
EVENTS = _counter("flyback_events", "Raw events processed in committed transactions.", ["topic"])
DERIVED = _counter("flyback_derived", "Derived events written in committed transactions.", ["topic"])
DUPLICATES = _counter("flyback_duplicates", "Raw events dropped as copies of an earlier one.", ["topic"])
TRANSACTIONS = _counter("flyback_transactions", "Transactions by outcome: committed or aborted.", ["outcome"])
TRANSACTION_SECONDS = _histogram(
    "flyback_transaction_seconds", "Time from the begin of a transaction to its end.", buckets=_LATENCY
)
ASSIGNED = _gauge("flyback_assigned_partitions", "Partitions that this worker owns.")
RESTORING = _gauge("flyback_restoring_partitions", "Owned partitions that are still being restored.")
RESTORED = _counter("flyback_restored_events", "Events replayed to restore state; their output was thrown away.")
EXPIRED = _counter("flyback_expired_entries", "State entries that left the join window.")

# Rate windows of the worker's app
WINDOW_PREDICTIONS = _gauge(
    "flyback_window_predictions",
    "Predictions in the window, this worker's partitions.",
    ["window", "actor_kind", "segment"],
)
WINDOW_REVIEWED = _gauge(
    "flyback_window_reviewed",
    "Reviewed predictions in the window, this worker's partitions.",
    ["window", "actor_kind", "segment"],
)
WINDOW_FAILURES = _gauge(
    "flyback_window_failures",
    "Failures in the window, this worker's partitions.",
    ["window", "actor_kind", "segment"],
)
WINDOW_SEGMENTS = _gauge(
    "flyback_window_segments",
    "Segments with predictions in the longest window, this worker's partitions; 200 are shown, the rest as `other`.",
)
APP_SKIPPED = _counter(
    "flyback_app_skipped", "Messages of our own topics that the worker's app cannot read.", ["topic", "reason"]
)

# The watch over the alert rules, in one worker of the group
ALERTS_OPEN = _gauge(
    "flyback_alerts_open",
    "Alerts that are pending or firing, of the one worker that watches.",
    [
        "rule",
        "state",
    ],
)
ALERT_EVALUATIONS = _counter("flyback_alert_evaluations", "Times all alert rules were looked at.")
ALERT_LAST_EVALUATION = _gauge(
    "flyback_alert_last_evaluation_timestamp_seconds", "Unix time of the minute that was looked at last."
)
ALERT_DELIVERIES = _counter(
    "flyback_alert_deliveries",
    "Attempts to tell the webhook by outcome: delivered, failed or dead_lettered.",
    ["outcome"],
)

# Sink
SINK_ROWS = _counter("flyback_sink_rows", "Rows committed to the lake.", ["table"])
SINK_COMMITS = _counter("flyback_sink_commits", "Commits to the lake.", ["table"])
SINK_COMMIT_SECONDS = _histogram(
    "flyback_sink_commit_seconds", "Time of one commit to the lake.", ["table"], buckets=_LATENCY
)
SINK_SKIPPED = _counter(
    "flyback_sink_skipped", "Messages that are no row: the engine dead-lettered them.", ["topic", "reason"]
)

# Dashboard
DASHBOARD_VIEWERS = _gauge("flyback_dashboard_viewers", "Live pages that are open.")
DASHBOARD_VIEWS = _gauge("flyback_dashboard_views", "Different views that they show.")
DASHBOARD_TICK_SECONDS = _histogram(
    "flyback_dashboard_tick_seconds", "Time to compute all views that are looked at once.", buckets=_LATENCY
)


# SDK
class ClientMetrics(Collector):
    """What one Client counts anyway, read when somebody asks: sending costs nothing more."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def describe(self) -> Iterator[Metric]:
        """The names, so that a registry refuses a second one."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        stats = self._client.stats()
        yield CounterMetricFamily("flyback_client_sent", "Events that Kafka acknowledged.", stats.sent)
        yield CounterMetricFamily("flyback_client_failed", "Events that were given up: they are lost.", stats.failed)
        yield GaugeMetricFamily("flyback_client_waiting_events", "Events that wait for delivery.", stats.waiting)
        yield GaugeMetricFamily("flyback_client_waiting_bytes", "Bytes of the events that wait.", stats.bytes)


def expose(client: Client, registry: CollectorRegistry = prometheus_client.REGISTRY) -> None:
    """Add the metrics of a service's Client to those that the service itself shows, by default prometheus_client's.

    One Client a registry: raises ValueError for a second one.
    """
    registry.register(ClientMetrics(client))
