"""Every metric of Flyback, once: name, meaning, unit, labels. All are `flyback_*`, in base units.

Labels are bounded: topics, tables, reasons, partitions, at most 200 segments; never a task, an actor or a person.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# Worker
EVENTS = Counter("flyback_events", "Raw events processed in committed transactions.", ["topic"])
DERIVED = Counter("flyback_derived", "Derived events written in committed transactions.", ["topic"])
DUPLICATES = Counter("flyback_duplicates", "Raw events dropped as copies of an earlier one.", ["topic"])
DEAD_LETTERS = Counter("flyback_dead_letters", "Messages dead-lettered in committed transactions.", ["topic", "reason"])
TRANSACTIONS = Counter("flyback_transactions", "Transactions by outcome: committed or aborted.", ["outcome"])
TRANSACTION_SECONDS = Histogram(
    "flyback_transaction_seconds", "Time from the begin of a transaction to its end.", buckets=_LATENCY
)
ASSIGNED = Gauge("flyback_assigned_partitions", "Partitions that this worker owns.")
RESTORING = Gauge("flyback_restoring_partitions", "Owned partitions that are still being restored.")
RESTORED = Counter("flyback_restored_events", "Events replayed to restore state; their output was thrown away.")
EXPIRED = Counter("flyback_expired_entries", "State entries that left the join window.")
WAITS = Counter(
    "flyback_waits",
    "Times a process waited for something outside: registry, unknown_schema, broker, lake, windows.",
    ["cause"],
)
LAST_COMMIT = Gauge("flyback_last_commit_timestamp_seconds", "Unix time of the last commit.", ["process"])

# Rate windows of the worker's app
WINDOW_PREDICTIONS = Gauge(
    "flyback_window_predictions",
    "Predictions in the window, this worker's partitions.",
    ["window", "actor_kind", "segment"],
)
WINDOW_REVIEWED = Gauge(
    "flyback_window_reviewed",
    "Reviewed predictions in the window, this worker's partitions.",
    ["window", "actor_kind", "segment"],
)
WINDOW_FAILURES = Gauge(
    "flyback_window_failures",
    "Failures in the window, this worker's partitions.",
    ["window", "actor_kind", "segment"],
)
APP_SKIPPED = Counter(
    "flyback_app_skipped", "Messages of our own topics that the worker's app cannot read.", ["topic", "reason"]
)

# Sink
SINK_ROWS = Counter("flyback_sink_rows", "Rows committed to the lake.", ["table"])
SINK_COMMITS = Counter("flyback_sink_commits", "Commits to the lake.", ["table"])
SINK_COMMIT_SECONDS = Histogram(
    "flyback_sink_commit_seconds", "Time of one commit to the lake.", ["table"], buckets=_LATENCY
)
SINK_SKIPPED = Counter(
    "flyback_sink_skipped", "Messages that are no row: the engine dead-lettered them.", ["topic", "reason"]
)
