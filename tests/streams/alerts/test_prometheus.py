"""Rules as Prometheus's own: what they say, and what cannot be said."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from flyback import metrics
from flyback.streams.alerts.prometheus import rule_file
from flyback.streams.alerts.rules import Rule, Where, defaults
from flyback.streams.rates import wilson
from tests.streams.alerts.counted import rule

WINDOWED = 'above = 0.2\nwindow = "1h"\n'


def written(*rules: Rule) -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(rule_file(rules).text)["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def expression(asked: Rule) -> str:
    (found,) = written(asked)
    return str(found["expr"])


def test_the_default_rules_are_written_as_far_as_metrics_go() -> None:
    found = rule_file(defaults())
    assert {each["labels"]["rule"] for each in written(*defaults())} == {
        "more-wrong-than-right",
        "no-predictions",
        "no-reviews",
        "dead-letters",
        "lag",
    }
    assert set(found.left_out) == {"failure-rate-rises"}
    for name, why in found.left_out.items():
        assert f"# Not here: {name} ({why})." in found.text


def test_only_metrics_that_there_are_are_asked_for() -> None:
    asked = set(re.findall(r"flyback_\w+", rule_file(defaults()).text))
    assert asked <= {name for names in metrics.REGISTRY._collector_to_names.values() for name in names}


def test_the_lower_end_of_the_interval_is_wilsons() -> None:
    expr = expression(rule("rate", WINDOWED)).split(" > ")[0]
    for failures, reviewed in ((0, 20), (3, 20), (20, 20), (500, 1_000)):
        filled = re.sub(r"sum \(flyback_window_failures\{.*?\}\)", str(failures), expr)
        filled = re.sub(r"sum \(flyback_window_reviewed\{.*?\}\)", str(reviewed), filled)
        value = eval(filled, {"sqrt": math.sqrt})
        assert value == pytest.approx(wilson(failures, reviewed)[0], abs=1e-6)


def test_the_rate_itself_may_be_compared() -> None:
    found = expression(rule("rate", WINDOWED + 'bound = "rate"\nby = "segment"\nwhere = { actor_kind = "MODEL" }'))
    by, inside = "sum by (segment)", '{window="1h", actor_kind="MODEL"}'
    assert found.splitlines() == [
        f"{by} (flyback_window_failures{inside}) / {by} (flyback_window_reviewed{inside}) > 0.2",
        f"and {by} (flyback_window_reviewed{inside}) >= 20",
    ]


def test_a_rule_keeps_its_time_severity_and_summary() -> None:
    asked = rule("no-predictions", 'window = "5m"\nfor = "7m"\nseverity = "critical"\nsummary = "No {{ \\"more\\" }}"')
    (found,) = written(asked.model_copy(update={"name": "none-left"}))
    assert found["alert"] == "FlybackRuleNoneLeft"
    assert (found["for"], found["labels"]) == ("7m", {"severity": "critical", "rule": "none-left"})
    assert found["annotations"]["summary"] == 'No { { "more" }}'


def test_dead_letters_are_those_of_the_topics() -> None:
    asked = rule("dead-letters", 'above = 3\nwindow = "10m"\ntopics = ["predictions.v1", "grades.v1"]')
    assert expression(asked).strip() == (
        "sum(increase(flyback_dead_letters_total"
        r'{topic=~"flyback\\.predictions\\.v1|flyback\\.grades\\.v1"}[10m])) > 3'
    )


def test_lag_is_that_of_the_slowest_process_of_its_kind() -> None:
    assert expression(rule("lag", 'above = "1m"')).strip() == "max(flyback_lag_seconds) > 60"
    assert '{process="sink"}' in expression(rule("lag", 'above = "1m"\nreader = "sink"'))


@pytest.mark.parametrize(
    ("kind", "more", "why"),
    [
        ("rate", 'above = 0.2\nwindow = "15m"', "the windows 1m, 5m, 1h, 24h only"),
        ("rate", WINDOWED + 'by = ["version", "segment"]', "do not tell version apart"),
        ("rate", WINDOWED + 'where = { actor = "m" }', "do not tell actor apart"),
        ("rate", WINDOWED + 'rate = "weighted"', "no weights"),
        ("rise", "", "single minutes"),
    ],
)
def test_what_cannot_be_said_is_named(kind: str, more: str, why: str) -> None:
    found = rule_file([rule(kind, more)])
    assert why in found.left_out["r"]
    assert yaml.safe_load(found.text) == {"groups": []}


@settings(deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=3))
def test_any_segment_can_be_named(segments: list[str]) -> None:
    asked = rule("no-predictions", 'window = "1h"')
    where = Where(segment=tuple(segments))
    assert "flyback_window_predictions" in expression(asked.model_copy(update={"where": where}))


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed")
    file = tmp_path / "rules.yml"
    hostile = rule(
        "no-predictions",
        """window = "1h"\nwhere = { segment = ["a.b \\\\ \\"c\\"", "d\\te{{ }}", "é \\u007f \\U0001f600"] }""",
    )
    file.write_text(rule_file([*defaults(), hostile]).text, encoding="utf-8")
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
