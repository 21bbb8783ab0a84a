"""The rules as Prometheus's own, as far as the metrics of a worker hold what they ask for (`flyback/metrics.py`)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from flyback.streams.alerts.rules import Counted, DeadLetters, Lag, NoPredictions, NoReviews, Rate, Rise, Rule
from flyback.streams.rates import Z95

_WINDOWS = {1: "1m", 5: "5m", 60: "1h", 1_440: "24h"}
_LABELS = {"actor_kind", "segment"}


class Written(NamedTuple):
    """A Prometheus rule file (YAML), and by name why the other rules are not in it."""

    text: str
    left_out: Mapping[str, str]


def rule_file(rules: Iterable[Rule], topic_prefix: str = "flyback.") -> Written:
    """All rules in one group; those that cannot be said are named in a comment.

    Prometheus knows the windows of the running and the last minutes as they were when it asked: what late feedback adds
    to times that are over is only in Flyback's own alerts. Rules fire and clear at the same line, without hysteresis.
    """
    found, left_out = [], {}
    for rule in rules:
        try:
            found.append(_written(rule, _EXPRESSIONS[type(rule)](rule, topic_prefix)))
        except _NotThere as error:
            left_out[rule.name] = str(error)
    comments = [f"# Not here: {name} ({why})." for name, why in left_out.items()]
    body = ["groups:", "  - name: flyback", "    rules:", *found] if found else ["groups: []"]
    return Written("\n".join(["# Made from Flyback's alert rules.", *comments, *body, ""]), left_out)


class _NotThere(Exception):
    """Prometheus does not have what the rule asks for."""


def _written(rule: Rule, expression: str) -> str:
    title = "FlybackRule" + "".join(map(str.capitalize, re.split(r"[-_]", rule.name)))
    lines = [f"- alert: {title}", "  expr: |", *(f"    {line}" for line in expression.splitlines())]
    if rule.hold:
        lines.append(f"  for: {rule.hold}m")
    lines += ["  labels:", f"    severity: {rule.severity}", f"    rule: {rule.name}"]
    # Prometheus would take braces for a template
    summary = (rule.summary or rule.name).replace("{{", "{ {")
    lines += ["  annotations:", f"    summary: {_quoted(summary)}", '    description: "The value is {{ $value }}."']
    return "\n".join(f"      {line}" for line in lines)


def _rate(rule: Rate, prefix: str) -> str:
    if rule.rate == "weighted":
        raise _NotThere("the metrics have no weights")
    k, n = _windowed(rule, "failures"), _windowed(rule, "reviewed")
    value = f"{k} / {n}"
    if rule.bound == "lower":
        z2 = Z95 * Z95
        # Wilson's lower end, times n/n
        value = f"({k} + {z2 / 2:.6f} - {Z95:.6f} * sqrt({k} * ({n} - {k}) / {n} + {z2 / 4:.6f})) / ({n} + {z2:.6f})"
    return f"{value} > {rule.above:g}\nand {n} >= {rule.at_least}"


def _rise(rule: Rise, prefix: str) -> str:
    raise _NotThere("the sequential test needs the counts of single minutes")


def _no_predictions(rule: NoPredictions, prefix: str) -> str:
    # a segment leaves the metrics after a day without any
    return f"{_windowed(rule, 'predictions')} == 0"


def _no_reviews(rule: NoReviews, prefix: str) -> str:
    return f"{_windowed(rule, 'reviewed')} == 0\nand {_windowed(rule, 'predictions')} >= {rule.at_least}"


def _dead_letters(rule: DeadLetters, prefix: str) -> str:
    topics = _matcher("topic", [prefix + topic for topic in rule.topics])
    return f"sum(increase(flyback_dead_letters_total{topics}[{rule.window}m])) > {rule.above}"


def _lag(rule: Lag, prefix: str) -> str:
    reader = _matcher("process", [rule.reader] if rule.reader else [])
    return f"max(flyback_lag_seconds{reader}) > {rule.above:g}"


_EXPRESSIONS: Mapping[type[Rule], Callable[[Any, str], str]] = {
    Rate: _rate,
    Rise: _rise,
    NoPredictions: _no_predictions,
    NoReviews: _no_reviews,
    DeadLetters: _dead_letters,
    Lag: _lag,
}


def _windowed(rule: Counted, what: str) -> str:
    """The sum over all workers of one gauge."""
    if rule.window not in _WINDOWS:
        raise _NotThere(f"the metrics have the windows {', '.join(_WINDOWS.values())} only")
    asked = {name for name, values in rule.where if values} | set(rule.by)
    if asked - _LABELS:
        raise _NotThere(f"the metrics do not tell {' and '.join(sorted(asked - _LABELS))} apart")
    by = f" by ({', '.join(rule.by)})" if rule.by else ""
    where = [_inner("actor_kind", rule.where.actor_kind), _inner("segment", rule.where.segment)]
    matchers = ", ".join(filter(None, [f'window="{_WINDOWS[rule.window]}"', *where]))
    return f"sum{by} (flyback_window_{what}{{{matchers}}})"


def _matcher(label: str, values: Iterable[str]) -> str:
    inner = _inner(label, values)
    return f"{{{inner}}}" if inner else ""


def _inner(label: str, values: Iterable[str]) -> str:
    several = list(values)
    if len(several) == 1:
        return f"{label}={_quoted(several[0])}"
    return f"{label}=~{_quoted('|'.join(map(re.escape, several)))}" if several else ""


def _quoted(text: str) -> str:
    """As PromQL and YAML both read it: what cannot be printed as an escape."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in quoted)
