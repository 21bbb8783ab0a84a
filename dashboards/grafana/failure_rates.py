"""Failure rates: how often the models, or the people, are wrong, and where."""

from __future__ import annotations

from flyback.dashboards.grafana.panels import (
    FRACTION,
    Column,
    Json,
    Query,
    Row,
    band,
    choice,
    choice_of_label,
    dashboard,
    graph,
    number,
    table,
)

CHOSEN = 'window="$window", actor_kind="$actor_kind"'
SEGMENTS = f'{CHOSEN}, segment=~"$segment"'
LOW, HIGH = "low", "high"
INTERVAL = "Wilson's 95 % interval of failures / reviewed."


def failure_rates() -> Json:
    return dashboard(
        "flyback-failure-rates",
        "Flyback: failure rates",
        "A prediction counts at its own time, however late it is reviewed, so that a recent window has few reviews. "
        "Rates are of what was reviewed, which is rarely a fair sample of everything.",
        [
            Row("How often is it wrong?", 4, _now()),
            Row("Over time", 9, _over_time()),
            Row("By segment", 12, _by_segment()),
        ],
        [
            choice("window", "Window", ("1m", "5m", "1h", "24h"), "1h"),
            choice("actor_kind", "Actors", ("MODEL", "HUMAN"), "MODEL"),
            choice_of_label("segment", "Segments", "segment:flyback_predictions:sum"),
        ],
    )


def _now() -> list[Json]:
    return [
        number("Predictions", "In the window.", Query(f"kind:flyback_predictions:sum{{{CHOSEN}}}")),
        number("Reviewed", "The denominator of the rate.", Query(f"kind:flyback_reviewed:sum{{{CHOSEN}}}")),
        number("Failures", "Reviewed ones that were wrong.", Query(f"kind:flyback_failures:sum{{{CHOSEN}}}")),
        number(
            "Failure rate", "Failures / reviewed.", Query(f"kind:flyback_failure_rate:ratio{{{CHOSEN}}}"), unit=FRACTION
        ),
        number("At least", INTERVAL, Query(f"kind:flyback_failure_rate:low{{{CHOSEN}}}"), unit=FRACTION),
        number("At most", INTERVAL, Query(f"kind:flyback_failure_rate:high{{{CHOSEN}}}"), unit=FRACTION),
    ]


def _over_time() -> list[Json]:
    return [
        graph(
            "Failure rate",
            f"Over all segments. The band is {INTERVAL}",
            Query(f"kind:flyback_failure_rate:low{{{CHOSEN}}}", LOW),
            Query(f"kind:flyback_failure_rate:ratio{{{CHOSEN}}}", "failure rate"),
            Query(f"kind:flyback_failure_rate:high{{{CHOSEN}}}", HIGH),
            unit=FRACTION,
            most=1,
            overrides=band(LOW, HIGH),
        ),
        graph(
            "Predictions and reviews",
            "In the window. Without reviews there is no rate.",
            Query(f"kind:flyback_predictions:sum{{{CHOSEN}}}", "predictions"),
            Query(f"kind:flyback_reviewed:sum{{{CHOSEN}}}", "reviewed"),
            Query(f"kind:flyback_failures:sum{{{CHOSEN}}}", "failures"),
        ),
    ]


def _by_segment() -> list[Json]:
    return [
        graph(
            "Failure rate of the ten worst segments",
            "Worst by the lower end of the interval: three failures of three say little.",
            Query(
                f"segment:flyback_failure_rate:ratio{{{SEGMENTS}}}"
                f" and topk(10, segment:flyback_failure_rate:low{{{SEGMENTS}}} @ end())",
                "{{segment}}",
            ),
            unit=FRACTION,
            most=1,
        ),
        table(
            "Segments, worst first",
            f"Sorted by the lower end of {INTERVAL}",
            {"segment": "Segment"},
            [
                Column("At least", f"segment:flyback_failure_rate:low{{{SEGMENTS}}}", FRACTION),
                Column("Failure rate", f"segment:flyback_failure_rate:ratio{{{SEGMENTS}}}", FRACTION),
                Column("At most", f"segment:flyback_failure_rate:high{{{SEGMENTS}}}", FRACTION),
                Column("Failures", f"segment:flyback_failures:sum{{{SEGMENTS}}}"),
                Column("Reviewed", f"segment:flyback_reviewed:sum{{{SEGMENTS}}}"),
                Column("Predictions", f"segment:flyback_predictions:sum{{{SEGMENTS}}}"),
            ],
            sort_by="At least",
        ),
    ]
