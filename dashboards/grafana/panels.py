"""What dashboards are made of: Grafana's JSON for a few kinds of panels, all of them over Prometheus.

tests/dashboards/test_grafana.py checks it against Grafana's own types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]

COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
FRACTION = "percentunit"
RED, GREEN = "red", "green"


class Query(NamedTuple):
    """PromQL, and how its series are named: `{{label}}` is a label's value."""

    expression: str
    legend: str = ""


class Row(NamedTuple):
    """Panels side by side, equally wide, under a heading; `height` is in units of 30 pixels."""

    heading: str
    height: int
    panels: Sequence[Json]


def graph(
    title: str,
    about: str,
    *queries: Query,
    unit: str = "short",
    most: float | None = None,
    overrides: Sequence[Json] = (),
) -> Json:
    """Lines over time, from 0 up."""
    custom = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 0, "showPoints": "never", "spanNulls": False}
    defaults: Json = {"unit": unit, "min": 0, "custom": custom}
    if most is not None:
        defaults["max"] = most
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return _panel("timeseries", title, about, queries, options, defaults, overrides)


def number(title: str, about: str, query: Query, unit: str = "short", bad_above: float | None = None) -> Json:
    """The value now, large; red above `bad_above`."""
    steps: list[Json] = [{"color": "text" if bad_above is None else GREEN, "value": None}]
    if bad_above is not None:
        steps.append({"color": RED, "value": bad_above})
    options = {
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "textMode": "value",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    defaults = {"unit": unit, "noValue": "–", "thresholds": {"mode": "absolute", "steps": steps}}
    return _panel("stat", title, about, [query], options, defaults, instant=True)


class Column(NamedTuple):
    """One column of a table: the value of a query, which has the labels that name the line."""

    name: str
    expression: str
    unit: str = "short"


def table(title: str, about: str, labels: dict[str, str], columns: Sequence[Column], sort_by: str) -> Json:
    """A line for each set of `labels` (by label the heading), largest value of `sort_by` first."""
    # so Grafana names the values of several queries, and of one
    values = ["Value"] if len(columns) == 1 else [f"Value #{_ref(i)}" for i in range(len(columns))]
    shown = {**labels, **{value: column.name for value, column in zip(values, columns, strict=True)}}
    transformations = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "renameByName": shown,
                "indexByName": {name: i for i, name in enumerate(shown)},
                "includeByName": dict.fromkeys(shown, True),
                "excludeByName": {},
            },
        },
    ]
    sorting = [{"displayName": sort_by, "desc": True}]
    options = {"showHeader": True, "frameIndex": 0, "cellHeight": "sm", "sortBy": sorting}
    overrides = [_override(column.name, unit=column.unit) for column in columns]
    # lines are merged where they agree in everything else, and the names of the metrics would be a part of that
    by = ", ".join(labels)
    queries = [Query(f"sum by ({by}) ({column.expression})") for column in columns]
    panel = _panel("table", title, about, queries, options, {"custom": {}}, overrides, instant=True)
    return {**panel, "transformations": transformations}


def band(low: str, high: str) -> list[Json]:
    """Overrides of a graph that fill the space between two of its lines."""
    return [
        _override(high, **{"custom.fillBelowTo": low, "custom.fillOpacity": 15, "custom.lineWidth": 0}),
        _override(low, **{"custom.lineWidth": 0}),
    ]


def choice(name: str, label: str, values: Sequence[str], chosen: str) -> Json:
    """A variable with these values."""
    options = [{"text": value, "value": value, "selected": value == chosen} for value in values]
    current = {"text": chosen, "value": chosen}
    return {
        "type": "custom",
        "name": name,
        "label": label,
        "query": ",".join(values),
        "options": options,
        "current": current,
    }


def choice_of_label(name: str, label: str, metric: str) -> Json:
    """A variable with any of the values that a label of a metric has, all of them by default."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": f"label_values({metric}, {name})", "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard(uid: str, title: str, about: str, rows: Sequence[Row], variables: Sequence[Json] = ()) -> Json:
    """The whole JSON; `uid` is its address in Grafana, for ever."""
    datasource = {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"}
    link = {
        "type": "dashboards",
        "title": "Flyback",
        "tags": ["flyback"],
        "asDropdown": False,
        "icon": "",
        "tooltip": "",
        "url": "",
        "targetBlank": False,
        "includeVars": True,
        "keepTime": True,
    }
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["flyback"],
        "schemaVersion": 41,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [datasource, *variables]},
        "annotations": {"list": []},
        "links": [link],
        "panels": _laid_out(rows),
    }


def _panel(
    kind: str,
    title: str,
    about: str,
    queries: Sequence[Query],
    options: Json,
    defaults: Json,
    overrides: Sequence[Json] = (),
    instant: bool = False,
) -> Json:
    targets = [
        {
            "refId": _ref(i),
            "datasource": DATASOURCE,
            "expr": query.expression,
            "legendFormat": query.legend,
            "instant": instant,
            "range": not instant,
            **({"format": "table"} if kind == "table" else {}),
        }
        for i, query in enumerate(queries)
    ]
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": DATASOURCE,
        "targets": targets,
        "options": options,
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
    }


def _ref(i: int) -> str:
    return chr(ord("A") + i)


def _override(field: str, **properties: object) -> Json:
    return {
        "matcher": {"id": "byName", "options": field},
        "properties": [{"id": name, "value": value} for name, value in properties.items()],
    }


def _laid_out(rows: Sequence[Row]) -> list[Json]:
    panels: list[Json] = []
    y = 0
    for row in rows:
        panels.append(
            {"type": "row", "title": row.heading, "collapsed": False, "panels": [], "gridPos": _place(0, y, COLUMNS, 1)}
        )
        width = COLUMNS // len(row.panels)
        panels += [
            {**panel, "gridPos": _place(i * width, y + 1, width, row.height)} for i, panel in enumerate(row.panels)
        ]
        y += 1 + row.height
    return [{"id": i, **panel} for i, panel in enumerate(panels, start=1)]


def _place(x: int, y: int, width: int, height: int) -> Json:
    return {"x": x, "y": y, "w": width, "h": height}
