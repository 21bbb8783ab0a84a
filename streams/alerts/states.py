"""Which alerts begin, fire and end. A fold: what is known, and a step that gives the `Alert` records to write.

What is known is only ever what these records say: read back in order, from the first, they give it again.

- Times are whole minutes, so that two who look at the same within a minute write the same records.
- Alerts are told apart by rule and labels; one that ends can begin anew from the next minute on, under a new id.
- An alert is PENDING while its rule has not held for long enough, then FIRING, then RESOLVED. One that ends before it
  fired is RESOLVED too: whoever tells people passes over an alert that he has not seen FIRING.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from flyback.schemas.codec import Record
from flyback.streams.alerts.evaluate import Evaluation, Evaluations
from flyback.streams.alerts.rules import Rule
from flyback.streams.alerts.table import Labels
from flyback.streams.rates import MINUTE

PENDING, FIRING, RESOLVED = STATES = ("PENDING", "FIRING", "RESOLVED")


class Standing(NamedTuple):
    """How it stands with one alert: its latest record, and when it began (microseconds UTC)."""

    record: Record
    since: int


Key = tuple[str, Labels]
"""The rule's name and the labels."""

Known = Mapping[Key, Standing]
"""The latest alert of each key, whether it is still open or not."""


class Step(NamedTuple):
    """What is known after a look at the rules, and what to write to `alerts.v1`, in this order."""

    known: Known
    records: list[Record]


def open_alerts(known: Known) -> dict[Key, Standing]:
    """Those that are pending or firing."""
    return {key: standing for key, standing in known.items() if standing.record["state"] != RESOLVED}


def fold(known: Known, records: Iterable[Record]) -> Known:
    """What is known after these records too: after a restart `fold({}, records of alerts.v1)`. Copies do not matter."""
    after = dict(known)
    for record in records:
        key = record["rule"], Labels(record["actor"], record["version"], record["segment"])
        before = after.get(key)
        if before is not None and record["alert_id"] == before.record["alert_id"]:
            after[key] = Standing(max(before.record, record, key=_progress), before.since)
        elif before is None or record["occurred_at"] > before.since:
            after[key] = Standing(record, record["occurred_at"])
    return after


def step(known: Known, rules: Iterable[Rule], evaluations: Evaluations, now: int) -> Step:
    """Look once, at `now` (microseconds UTC). A rule that `evaluations` leave out is not judged: its alerts stay."""
    minute = now // MINUTE * MINUTE
    by_name = {rule.name: rule for rule in rules}
    answers = {(name, each.labels): each for name, found in evaluations.items() if name in by_name for each in found}
    gone_on = []
    for (name, labels), standing in sorted(open_alerts(known).items(), key=_order):
        rule = by_name.get(name)
        if rule is None:
            gone_on.append(_ended(standing, minute, "the rule was removed"))
        elif not standing.record["alert_id"].startswith(rule.fingerprint):
            gone_on.append(_ended(standing, minute, "the rule was changed"))
        elif name in evaluations:
            gone_on += _followed(rule, standing, answers.get((name, labels)), minute)
    after = fold(known, gone_on)
    begun = []
    for (name, labels), evaluation in sorted(answers.items(), key=_order):
        if evaluation.holds and _may_begin(after.get((name, labels)), minute):
            begun += _begun(by_name[name], evaluation, minute)
    return Step(fold(after, begun), gone_on + begun)


def alert_id(rule: Rule, labels: Labels, since: int) -> str:
    """The same for whoever finds that this rule holds for these labels since then; begins with its fingerprint."""
    named = json.dumps([rule.name, *labels, since], ensure_ascii=False)
    return f"{rule.fingerprint}-{hashlib.sha256(named.encode()).hexdigest()[:20]}"


def _progress(record: Record) -> int:
    return STATES.index(record["state"])


def _may_begin(before: Standing | None, minute: int) -> bool:
    """Not while one is open, nor twice in a minute; nor before what is known, by a clock that is behind."""
    if before is None:
        return True
    latest = max(before.since + MINUTE, before.record["occurred_at"])
    return before.record["state"] == RESOLVED and bool(minute >= latest)


def _begun(rule: Rule, evaluation: Evaluation, minute: int) -> list[Record]:
    labels = evaluation.labels
    begun = {"alert_id": alert_id(rule, labels, minute), "rule": rule.name, **labels._asdict(), "occurred_at": minute}
    states = (PENDING,) if rule.hold else (PENDING, FIRING)
    return [_record(begun, state, rule, evaluation, minute) for state in states]


def _followed(rule: Rule, standing: Standing, evaluation: Evaluation | None, minute: int) -> list[Record]:
    """The record, if any, with which an open alert goes on."""
    if evaluation is None:
        return [_ended(standing, minute, "nothing of it was counted lately")]
    if standing.record["state"] == FIRING:
        return [_record(standing.record, RESOLVED, rule, evaluation, minute)] if evaluation.clears else []
    if not evaluation.holds:
        return [_record(standing.record, RESOLVED, rule, evaluation, minute)]
    if minute - standing.since >= rule.hold * MINUTE:
        return [_record(standing.record, FIRING, rule, evaluation, minute)]
    return []


def _record(alert: Record, state: str, rule: Rule, evaluation: Evaluation, minute: int) -> Record:
    about = f" ({evaluation.labels})" if any(evaluation.labels) else ""
    return {
        **alert,
        "state": state,
        "value": float(evaluation.value),
        "threshold": float(evaluation.threshold),
        "window_seconds": rule.shown_window * 60,
        "message": f"{rule.summary or rule.name}{about}: {evaluation.said}",
        "occurred_at": max(minute, alert["occurred_at"]),
    }


def _ended(standing: Standing, minute: int, why: str) -> Record:
    return {
        **standing.record,
        "state": RESOLVED,
        "message": f"{standing.record['rule']}: {why}",
        "occurred_at": max(minute, standing.record["occurred_at"]),
    }


def _order(item: tuple[Key, Any]) -> tuple[str, ...]:
    (name, labels), _ = item
    return name, *(label or "" for label in labels)
