"""Operations: are all processes at work, and what do they do."""

from __future__ import annotations

from flyback.dashboards.grafana.panels import FRACTION, Column, Json, Query, Row, dashboard, graph, number, table

PER_SECOND = "cps"
OURS = 'job=~"flyback-.+"'


def operations() -> Json:
    return dashboard(
        "flyback-operations",
        "Flyback: operations",
        "Are all processes at work, and what do they do? docs/monitoring.md says what to do about an alert.",
        [
            Row("How is it going?", 4, _now()),
            Row("Alerts", 6, [_alerts()]),
            Row("The join", 8, _join()),
            Row("Transactions and partitions", 8, _transactions()),
            Row("The lake", 8, _lake()),
            Row("What went wrong", 8, _trouble()),
            Row("Who tells people", 8, _telling()),
            Row("Services that send", 8, _services()),
            Row("Processes", 8, _processes()),
        ],
    )


def _now() -> list[Json]:
    return [
        number("Processes up", "Workers and sinks that answer.", Query(f"count(up{{{OURS}}} == 1) or vector(0)")),
        number(
            "Alerts",
            "Alerts of Flyback that fire.",
            Query('count(ALERTS{alertname=~"Flyback.+", alertstate="firing"}) or vector(0)'),
            bad_above=1,
        ),
        number(
            "Lag",
            "How long the oldest event has waited that a worker or the sink has in hand.",
            Query("max(process:flyback_lag_seconds:max2m)"),
            unit="s",
            bad_above=60,
        ),
        number(
            "Restoring",
            "Partitions that are not joined live yet.",
            Query("sum(flyback_restoring_partitions)"),
            bad_above=1,
        ),
        number("Dead letters", "Since the processes started.", Query("sum(flyback_dead_letters_total) or vector(0)")),
        number(
            "Segments",
            "With predictions in 24 hours, of the worker that has most. At most 200 are shown.",
            Query("max(flyback_window_segments)"),
            bad_above=201,
        ),
    ]


def _alerts() -> Json:
    alerts, since = (f'{name}{{alertname=~"Flyback.+"}}' for name in ("ALERTS", "ALERTS_FOR_STATE"))
    return table(
        "Alerts",
        "Pending ones have not lasted long enough to fire.",
        {
            "alertname": "Alert",
            "alertstate": "State",
            "severity": "Severity",
            "instance": "Instance",
            "process": "Process",
            "topic": "Topic",
            "reason": "Reason",
            "cause": "Cause",
        },
        [Column("For", f"{alerts} * ignoring (alertstate) group_left () (time() - {since})", "s")],
        sort_by="For",
    )


def _join() -> list[Json]:
    return [
        graph(
            "Events",
            "Raw events in committed transactions, by topic.",
            Query("topic:flyback_events:rate5m", "{{topic}}"),
            unit=PER_SECOND,
        ),
        graph(
            "Derived",
            "Derived events in committed transactions, by topic.",
            Query("topic:flyback_derived:rate5m", "{{topic}}"),
            unit=PER_SECOND,
        ),
        graph(
            "Lag",
            "How long the oldest event in hand has been in Kafka.",
            Query("process:flyback_lag_seconds:max2m", "{{process}}"),
            unit="s",
        ),
    ]


def _transactions() -> list[Json]:
    bucket = "sum by (le) (rate(flyback_transaction_seconds_bucket[5m]))"
    return [
        graph(
            "Duration of transactions",
            "From begin to end.",
            *(Query(f"histogram_quantile({q}, {bucket})", f"p{round(q * 100)}") for q in (0.5, 0.99)),
            unit="s",
        ),
        graph(
            "Transactions",
            "By outcome. Aborted ones are read again.",
            Query("outcome:flyback_transactions:rate5m", "{{outcome}}"),
            unit=PER_SECOND,
        ),
        graph(
            "Partitions",
            "Owned by each worker, and those of them that it still restores.",
            Query('flyback_assigned_partitions{job="flyback-worker"}', "{{instance}}"),
            Query("flyback_restoring_partitions > 0", "{{instance}} restores"),
        ),
        graph(
            "Restored and expired",
            "Events that were replayed to restore state; entries that left the join window.",
            Query("sum(rate(flyback_restored_events_total[5m]))", "restored"),
            Query("sum(rate(flyback_expired_entries_total[5m]))", "expired"),
            unit=PER_SECOND,
        ),
    ]


def _lake() -> list[Json]:
    bucket = "sum by (le, table) (rate(flyback_sink_commit_seconds_bucket[5m]))"
    return [
        graph(
            "Rows",
            "Committed to the lake, by table.",
            Query("table:flyback_sink_rows:rate5m", "{{table}}"),
            unit=PER_SECOND,
        ),
        graph(
            "Commits",
            "By table.",
            Query("sum by (table) (rate(flyback_sink_commits_total[5m]))", "{{table}}"),
            unit=PER_SECOND,
        ),
        graph(
            "Duration of commits",
            "99th percentile, by table.",
            Query(f"histogram_quantile(0.99, {bucket})", "{{table}}"),
            unit="s",
        ),
        graph(
            "Since the last commit",
            "It grows while nothing comes, too.",
            Query("time() - flyback_last_commit_timestamp_seconds", "{{process}} {{instance}}"),
            unit="s",
        ),
    ]


def _trouble() -> list[Json]:
    return [
        graph(
            "Dead letters",
            "Since the processes started, by topic and reason.",
            Query("sum by (topic, reason) (flyback_dead_letters_total)", "{{topic}} {{reason}}"),
        ),
        graph(
            "Waits",
            "Times a process waited for something outside.",
            Query("instance_cause:flyback_waits:rate5m", "{{instance}} {{cause}}"),
            unit=PER_SECOND,
        ),
        graph(
            "Duplicates",
            "Raw events that were copies of an earlier one.",
            Query("topic:flyback_duplicates:rate5m", "{{topic}}"),
            unit=PER_SECOND,
        ),
        graph(
            "Skipped",
            "What the sink and the rate windows could not read, since the processes started.",
            Query("sum by (topic, reason) (flyback_sink_skipped_total)", "sink {{topic}} {{reason}}"),
            Query("sum by (topic, reason) (flyback_app_skipped_total)", "windows {{topic}} {{reason}}"),
        ),
    ]


def _telling() -> list[Json]:
    return [
        graph(
            "Alert rules",
            "Alerts of Flyback's own rules that are pending or firing.",
            Query("sum by (rule, state) (flyback_alerts_open)", "{{rule}} {{state}}"),
        ),
        graph(
            "Looks at the rules",
            "Since the last one, and how often: one worker of the group looks once a minute.",
            Query("time() - max(flyback_alert_last_evaluation_timestamp_seconds)", "age in seconds"),
            Query("60 * sum(rate(flyback_alert_evaluations_total[5m]))", "a minute"),
        ),
        graph(
            "Webhook",
            "Attempts to tell it, by outcome, since the processes started.",
            Query("sum by (outcome) (flyback_alert_deliveries_total)", "{{outcome}}"),
        ),
        graph(
            "Live pages",
            "Pages that are open, and the different views that they show.",
            Query("sum(flyback_dashboard_viewers)", "pages"),
            Query("sum(flyback_dashboard_views)", "views"),
        ),
        graph(
            "Views computed in",
            "95 % of the times that all views took together.",
            Query("histogram_quantile(0.95, sum by (le) (rate(flyback_dashboard_tick_seconds_bucket[5m])))", "p95"),
            unit="s",
        ),
    ]


def _services() -> list[Json]:
    return [
        graph(
            "Sent",
            "Events that Kafka acknowledged, of the services that Prometheus scrapes.",
            Query("rate(flyback_client_sent_total[5m])", "{{job}} {{instance}}"),
            unit=PER_SECOND,
        ),
        graph(
            "Lost",
            "Events that could not be delivered in time.",
            Query("flyback_client_failed_total", "{{job}} {{instance}}"),
        ),
        graph("Waiting", "For delivery.", Query("flyback_client_waiting_events", "{{job}} {{instance}}")),
        graph(
            "Waiting, bytes",
            "For delivery.",
            Query("flyback_client_waiting_bytes", "{{job}} {{instance}}"),
            unit="bytes",
        ),
    ]


def _processes() -> list[Json]:
    return [
        graph(
            "CPU",
            "Share of one core.",
            Query(f"rate(process_cpu_seconds_total{{{OURS}}}[5m])", "{{job}} {{instance}}"),
            unit=FRACTION,
        ),
        graph(
            "Memory",
            "Resident.",
            Query(f"process_resident_memory_bytes{{{OURS}}}", "{{job}} {{instance}}"),
            unit="bytes",
        ),
        graph(
            "Age",
            "Since the process started.",
            Query(f"time() - process_start_time_seconds{{{OURS}}}", "{{job}} {{instance}}"),
            unit="s",
        ),
    ]
