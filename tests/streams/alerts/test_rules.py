"""Rules in TOML: what they become, and what is said of wrong ones."""

from __future__ import annotations

import pytest

from flyback.errors import ConfigurationError
from flyback.streams.alerts import rules
from flyback.streams.alerts.rules import Lag, Rate, Rise, parse
from tests.streams.alerts.counted import rule

RATE = """
[[rule]]
name = "high"
kind = "rate"
above = 0.2
window = "1h"
"""


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        parse(text, "alerts.toml")
    return str(raised.value)


def test_a_rule_has_its_fields_in_minutes() -> None:
    (found,) = parse(RATE + 'for = "5m"\nby = "segment"\nwhere = { actor_kind = "MODEL", segment = ["a", "b"] }', "f")
    assert isinstance(found, Rate)
    assert (found.window, found.hold, found.by, found.above) == (60, 5, ("segment",), 0.2)
    assert (found.where.actor_kind, found.where.segment, found.where.actor) == (("MODEL",), ("a", "b"), ())
    assert (found.bound, found.rate, found.at_least, found.severity) == ("lower", "plain", 20, "warning")


def test_lag_is_in_seconds() -> None:
    found = rule("lag", 'above = "1.5m"')
    assert isinstance(found, Lag)
    assert found.above == 90


@pytest.mark.parametrize(("written", "minutes"), [("1.1h", 66), ("120s", 2), (" 3 m ", 3), ("7d", 10_080)])
def test_a_time_is_any_number_that_makes_whole_minutes(written: str, minutes: int) -> None:
    (found,) = parse(RATE.replace("1h", written), "alerts.toml")
    assert isinstance(found, Rate)
    assert found.window == minutes


def test_a_limit_may_be_a_whole_number_but_no_truth_value() -> None:
    assert parse(RATE.replace("0.2", "0"), "alerts.toml")
    assert "above: is true; write a rate" in refusal(RATE.replace("0.2", "true"))


def test_there_may_be_no_rules() -> None:
    assert parse("", "alerts.toml") == ()


def test_the_default_rules_are_good_as_they_are() -> None:
    found = rules.defaults()
    assert {type(each) for each in found} == set(rules.KINDS.values())
    assert all(each.summary for each in found)
    assert rules.horizon(found) == 8 * 1440 + 60


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            RATE.replace("0.2", "20"),
            'alerts.toml: rule "high", above: is 20; write a rate from 0 to below 1, such as 0.2 for 20 %',
        ),
        (RATE.replace("0.2", "nan"), "above: is NaN; write a rate"),
        (RATE.replace("0.2", "'0.2'"), 'above: is "0.2"; write a rate'),
        (RATE.replace("above = 0.2", ""), "above: is missing; write a rate"),
        (RATE.replace("above", "abvoe"), "abvoe: there is no such field here; write above"),
        (RATE + "xyzzy = 1", "xyzzy: there is no such field here; write name, kind,"),
        (RATE.replace('"1h"', '"90s"'), 'window: is "90s"; write whole minutes, such as'),
        (RATE.replace('"1h"', "60"), "window: is 60; write whole minutes"),
        (RATE.replace('"1h"', '"0m"'), 'window: is "0m"; write whole minutes'),
        (RATE + 'for = "soon"', 'for: is "soon"; write how long it must hold'),
        (RATE + 'by = ["sgement"]', 'by.0: is "sgement"; write a list of "segment"'),
        (RATE + "where = { actors = 'm' }", "where.actors: there is no such field here; write actor"),
        (RATE + "where = { actor = 7 }", "where.actor: is 7; write a table of actor_kind"),
        (RATE + "where = { actor_kind = 'model' }", 'where.actor_kind.0: is "model"; write a table of actor_kind'),
        (RATE + "severity = 'bad'", 'severity: is "bad"; write "info", "warning" or "critical"'),
        (RATE.replace('"high"', '"High rate"'), 'rule "High rate", name: is "High rate"; write a name of small'),
        (RATE.replace('name = "high"', ""), "alerts.toml: rule 1, name: is missing; write a name"),
        (RATE.replace('"rate"', '"rates"'), 'kind: there is no "rates"; write rate, rise, no-predictions, no-reviews'),
        (RATE.replace('kind = "rate"', ""), "kind: is missing; write rate, rise"),
        (RATE + RATE, 'rule "high", name: rule 1 has it too; write another one'),
        (RATE.replace("[[rule]]", "[[rules]]"), "alerts.toml: rules: there is no such table; write [[rule]]"),
        (RATE.replace("[[rule]]", "[rule]"), "rule: write [[rule]], in double brackets"),
        (RATE + "by = [", "alerts.toml is no TOML: "),
        (RATE.replace('kind = "rate"\nabove = 0.2', 'kind = "rise"\nsettle = "1h"'), "settle must be shorter than"),
        (RATE.replace('kind = "rate"\nabove = 0.2', 'kind = "rise"\nbaseline = "90m"'), "write whole hours"),
        (
            RATE.replace('kind = "rate"\nabove = 0.2', 'kind = "no-reviews"\nwithin = "1h"'),
            "within must be longer than window",
        ),
    ],
)
def test_a_wrong_rule_is_refused_with_what_to_write_instead(changed: str, said: str) -> None:
    assert said in refusal(changed)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    wrong = refusal(RATE.replace("0.2", "2").replace("1h", "1x") + RATE.replace("high", "other").replace("0.2", "3"))
    assert [line.split(";")[0] for line in wrong.splitlines()] == [
        'alerts.toml: rule "high", window: is "1x"',
        'alerts.toml: rule "high", above: is 2',
        'alerts.toml: rule "other", above: is 3',
    ]


def test_every_field_says_what_to_write_there() -> None:
    for kind in rules.KINDS.values():
        assert all(field.description for name, field in kind.model_fields.items() if name != "kind")


def test_a_fingerprint_changes_with_what_is_asked_for_only() -> None:
    before = rule("rise", 'window = "6h"')
    assert isinstance(before, Rise)
    assert rule("rise", 'window = "360m"\nseverity = "info"\nsummary = "s"').fingerprint == before.fingerprint
    assert rule("rise", 'window = "5h"').fingerprint != before.fingerprint
    assert rule("rise", 'window = "6h"\nfor = "1m"').fingerprint != before.fingerprint
