"""Alerts that begin, fire and end: by hand, and for any course of events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyback.schemas import codec
from flyback.schemas.codec import Record
from flyback.streams.alerts import states
from flyback.streams.alerts.evaluate import Evaluation
from flyback.streams.alerts.rules import Rule
from flyback.streams.alerts.states import FIRING, PENDING, RESOLVED, Known, fold, step
from flyback.streams.alerts.table import Labels
from flyback.streams.rates import MINUTE
from tests.streams.alerts.counted import NOW, RUNNING, rule

ALL = Labels()
AT_ONCE = rule("lag", 'above = "5m"', "once")
PATIENT = rule("lag", 'above = "5m"\nfor = "3m"\nsummary = "Flyback is behind"', "patient")
CHANGED = rule("lag", 'above = "6m"\nfor = "1m"', "patient")


def said(holds: bool, clears: bool | None = None, labels: Labels = ALL, value: float = 400) -> Evaluation:
    return Evaluation(labels, value, 300, holds, not holds if clears is None else clears, "the sink is 400 s behind")


class Course:
    """One evaluator, asked minute for minute."""

    def __init__(self, asked: Rule = PATIENT) -> None:
        self.rules: list[Rule] = [asked]
        self.known: Known = {}
        self.records: list[Record] = []

    def at(self, minute: int, *evaluations: Evaluation, second: int = 0) -> list[str]:
        """The states that a look gives."""
        found = {each.name: list(evaluations) for each in self.rules}
        self.known, records = step(self.known, self.rules, found, (RUNNING + minute) * MINUTE + second * 1_000_000)
        self.records += records
        return [record["state"] for record in records]


def test_an_alert_is_pending_then_firing_then_resolved_once_each() -> None:
    course = Course()
    found = [course.at(minute, said(holds=minute < 6)) for minute in range(8)]
    assert found == [[PENDING], [], [], [FIRING], [], [], [RESOLVED], []]
    assert len({record["alert_id"] for record in course.records}) == 1
    assert [record["occurred_at"] for record in course.records] == [(RUNNING + m) * MINUTE for m in (0, 3, 6)]


def test_a_record_says_what_held() -> None:
    course = Course(rule("rate", 'above = 0.2\nwindow = "1h"\nby = "segment"', "high"))
    course.at(0, Evaluation(Labels(segment="a"), 0.3, 0.2, True, False, "30.0% failed"))
    assert {**course.records[0], "alert_id": ""} == {
        "alert_id": "",
        "rule": "high",
        "state": PENDING,
        "actor": None,
        "version": None,
        "segment": "a",
        "value": 0.3,
        "threshold": 0.2,
        "window_seconds": 3_600,
        "message": "high (segment a): 30.0% failed",
        "occurred_at": RUNNING * MINUTE,
    }


def test_without_a_time_to_hold_it_fires_at_once() -> None:
    course = Course(AT_ONCE)
    assert course.at(0, said(True)) == [PENDING, FIRING]


def test_a_condition_that_comes_and_goes_never_fires() -> None:
    course = Course()
    for minute in range(20):
        course.at(minute, said(holds=minute % 3 != 2))
    assert {record["state"] for record in course.records} == {PENDING, RESOLVED}


def test_a_firing_alert_ends_only_when_it_clears() -> None:
    course = Course(AT_ONCE)
    course.at(0, said(True))
    assert course.at(1, said(False, clears=False)) == []
    assert course.at(2, said(False, clears=True)) == [RESOLVED]


def test_a_pending_alert_ends_when_it_does_not_hold() -> None:
    course = Course()
    course.at(0, said(True))
    assert course.at(1, said(False, clears=False)) == [RESOLVED]


def test_within_one_minute_an_alert_begins_once() -> None:
    course = Course(AT_ONCE)
    assert course.at(0, said(True)) == [PENDING, FIRING]
    assert course.at(0, said(False), second=20) == [RESOLVED]
    assert course.at(0, said(True), second=40) == []
    assert course.at(1, said(True)) == [PENDING, FIRING]
    assert len({record["alert_id"] for record in course.records}) == 2


@pytest.mark.parametrize(("rules", "why"), [([], "patient: the rule was removed"), ([CHANGED], "the rule was changed")])
def test_an_alert_ends_with_its_rule(rules: list[Rule], why: str) -> None:
    course = Course()
    course.at(0, said(True))
    course.rules = rules
    assert course.at(1, said(True))[0] == RESOLVED
    assert why in course.records[1]["message"]
    assert [record["state"] for record in course.records[2:]] == [PENDING] * len(rules)


def test_severity_and_summary_may_change_under_an_alert() -> None:
    course = Course()
    course.at(0, said(True))
    course.rules = [rule("lag", 'above = "5m"\nfor = "3m"\nseverity = "info"', "patient")]
    assert course.at(1, said(True)) == []


def test_labels_that_are_counted_no_longer_end_their_alert() -> None:
    course = Course()
    course.at(0, said(True, labels=Labels(segment="a")), said(True, labels=Labels(segment="b")))
    assert course.at(1, said(True, labels=Labels(segment="b"))) == [RESOLVED]
    assert course.records[-1]["segment"] == "a"
    assert "nothing of it was counted lately" in course.records[-1]["message"]


def test_a_rule_that_cannot_be_judged_leaves_its_alerts_alone() -> None:
    course = Course()
    course.at(0, said(True))
    assert step(course.known, [PATIENT], {}, NOW + MINUTE) == (course.known, [])


class Look(NamedTuple):
    """One look: how far the clock moved, the rules then, and what was found."""

    moved: int
    rules: tuple[Rule, ...]
    found: Mapping[str, list[Evaluation]]


def _found(drawn: Mapping[str, Mapping[str, tuple[bool, bool]]]) -> dict[str, list[Evaluation]]:
    return {
        name: [said(holds, clears and not holds, Labels(segment=segment)) for segment, (holds, clears) in each.items()]
        for name, each in drawn.items()
    }


answers = st.dictionaries(st.sampled_from(["a", "b"]), st.tuples(st.booleans(), st.booleans()))
looks = st.lists(
    st.builds(
        Look,
        st.sampled_from([0, 20_000_000, MINUTE, MINUTE, 2 * MINUTE, 7 * MINUTE, -90_000_000]),
        st.sampled_from([(AT_ONCE, PATIENT), (AT_ONCE, PATIENT), (AT_ONCE, CHANGED), (PATIENT,)]),
        st.dictionaries(st.sampled_from(["once", "patient"]), answers).map(_found),
    ),
    max_size=20,
)


def gone_through(course: list[Look], late: int = 0) -> tuple[Known, list[Record]]:
    known: Known = {}
    records: list[Record] = []
    now = RUNNING * MINUTE
    for look in course:
        now += look.moved
        known, written = step(known, look.rules, look.found, now // MINUTE * MINUTE + (now + late) % MINUTE)
        records += written
    return known, records


@settings(deadline=None)
@given(looks)
def test_after_a_restart_what_is_known_is_what_was_known(course: list[Look]) -> None:
    known, records = gone_through(course)
    for record in records:
        body = codec.encode("Alert", record, 1)
        assert codec.decode("Alert", body, codec.bundled("Alert")) == record
    assert fold({}, records) == known


@settings(deadline=None)
@given(looks, st.data())
def test_a_record_that_comes_again_changes_nothing(course: list[Look], data: Any) -> None:
    known, records = gone_through(course)
    copied = list(records)
    for place in data.draw(st.lists(st.integers(0, max(0, len(records) - 1)), max_size=5)) if records else []:
        first = copied.index(records[place])
        copied.insert(data.draw(st.integers(first + 1, len(copied))), records[place])
    assert fold({}, copied) == known
    assert fold(known, records) == known


@settings(deadline=None)
@given(looks, st.integers(0, MINUTE - 1))
def test_two_who_look_within_the_same_minutes_write_the_same(course: list[Look], late: int) -> None:
    assert gone_through(course) == gone_through(course, late)


@settings(deadline=None)
@given(looks)
def test_every_alert_goes_through_its_states_once_and_one_at_a_time(course: list[Look]) -> None:
    _, records = gone_through(course)
    by_key: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        by_key.setdefault((record["rule"], record["segment"]), []).append(record)
    for of_one in by_key.values():
        ids = list(dict.fromkeys(record["alert_id"] for record in of_one))
        for number, each in enumerate(ids, 1):
            found = [record["state"] for record in of_one if record["alert_id"] == each]
            assert found in ([PENDING, FIRING, RESOLVED], [PENDING, RESOLVED], [PENDING, FIRING][: len(found)])
            assert number == len(ids) or found[-1] == RESOLVED
        assert [record["alert_id"] for record in of_one] == sorted(
            (record["alert_id"] for record in of_one), key=ids.index
        )


@settings(deadline=None)
@given(looks)
def test_nothing_fires_before_it_has_held_for_long_enough(course: list[Look]) -> None:
    _, records = gone_through(course)
    begun = {record["alert_id"]: record["occurred_at"] for record in records if record["state"] == PENDING}
    for record in records:
        if record["state"] == FIRING and record["alert_id"].startswith(PATIENT.fingerprint):
            assert record["occurred_at"] - begun[record["alert_id"]] >= PATIENT.hold * MINUTE


def test_an_alert_whose_beginning_is_no_longer_kept_still_ends() -> None:
    course = Course()
    for minute in range(4):
        course.at(minute, said(True))
    known = fold({}, course.records[1:])
    (record,) = step(known, [PATIENT], {"patient": [said(False)]}, NOW + 9 * MINUTE).records
    assert (record["state"], record["alert_id"]) == (RESOLVED, course.records[0]["alert_id"])


def test_open_alerts_are_those_that_have_not_ended() -> None:
    course = Course()
    course.at(0, said(True, labels=Labels(segment="a")), said(True, labels=Labels(segment="b")))
    course.at(1, said(True, labels=Labels(segment="a")), said(False, labels=Labels(segment="b")))
    assert list(states.open_alerts(course.known)) == [("patient", Labels(segment="a"))]
