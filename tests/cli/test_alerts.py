"""`flyback alerts`: over a lake that the sink's code wrote, and over alerts that a watch wrote to a Kafka in memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flyback.alert_history import micros_of, time_of
from flyback.schemas.codec import Record
from flyback.sinks.decode import Decoder
from flyback.sinks.message import Message, Messages
from flyback.sinks.sink import with_provenance
from flyback.streams.alerts.replay import Change, replay
from flyback.streams.alerts.rules import Rule, parse
from flyback.streams.rates import MINUTE, Cell, Counts
from tests.cli.conftest import Flyback
from tests.sinks.lakes import TOPOLOGY, HandMade
from tests.streams.alert_stage import CATALOG, SINCE, AlertStage
from tests.streams.alerts.counted import RUNNING, cell, reviewed

RULES = """
[[rule]]
name = "high"
kind = "rate"
above = 0.2
window = "5m"
for = "2m"
by = "segment"

[[rule]]
name = "at-once"
kind = "rate"
above = 0.4
window = "10m"
where = { segment = "a" }

[[rule]]
name = "rises"
kind = "rise"
window = "20m"
baseline = "1h"
by = "segment"

[[rule]]
name = "silent"
kind = "no-predictions"
window = "3m"
within = "20m"
by = "segment"

[[rule]]
name = "unseen"
kind = "no-reviews"
window = "4m"
within = "30m"

[[rule]]
name = "refused"
kind = "dead-letters"
above = 10
window = "10m"

[[rule]]
name = "behind"
kind = "lag"
above = "60s"
"""


def rules(*names: str) -> tuple[Rule, ...]:
    """Those of these names, else all on counts."""
    wanted = names or ("high", "at-once", "rises", "silent", "unseen")
    return tuple(rule for rule in parse(RULES, "alerts.toml") if rule.name in wanted)


def minute(number: int, seconds: int = 0) -> str:
    """A time so many minutes after the stage's first one, as it is typed."""
    return time_of(SINCE + number * MINUTE + seconds * 1_000_000).isoformat()


def filled(stage: AlertStage, folder: Path) -> HandMade:
    """What stands in the stage's `failure-rates.v1`, as the sink brings it into a lake, in several commits."""
    made = HandMade(folder)
    [topic] = [TOPOLOGY.topic_of("FailureRate")]
    decoder = Decoder("FailureRate", 2, 1_000_000, CATALOG)
    for partition, log in enumerate(stage.kafka.logs[stage.topology.topic_of("FailureRate")]):
        found = [
            Message(topic, partition, each.offset, each.timestamp, each.key, each.value, []) for each in log.records
        ]
        for batch in (found[: len(found) // 3], found[len(found) // 3 :]):
            messages = Messages.of(batch)
            decoded = decoder.decode(messages)
            assert not decoded.rejected
            made.add_rows("failure_rates", with_provenance(decoded.columns, messages), (topic, partition))
    return made


def plain(records: Sequence[Record]) -> list[dict[str, Any]]:
    """As JSON has them."""
    return [{**record, "occurred_at": time_of(record["occurred_at"]).isoformat()} for record in records]


@pytest.fixture
def stage() -> AlertStage:
    return AlertStage(rules())


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The rules in a file, which the environment names."""
    file = tmp_path / "alerts.toml"
    file.write_text(RULES, encoding="utf-8")
    monkeypatch.setenv("FLYBACK_ALERT_RULES", str(file))
    return file


@pytest.fixture
def replayed(flyback: Flyback, tmp_path: Path, toml: Path) -> Callable[..., Any]:
    """`flyback alerts test --json` over a lake with all that a stage has counted by the first call."""
    lakes: dict[AlertStage, str] = {}

    def run(stage: AlertStage, *options: str) -> Any:
        if stage not in lakes:
            lakes[stage] = filled(stage, tmp_path / f"lake {len(lakes)}").path
        said = flyback("alerts", "test", "--lake", lakes[stage], "--json", *options)
        assert said.code == 0, said.err
        return said.json

    return run


def lived(stage: AlertStage, minutes: int, seed: int, each_minute: Callable[[], None] = lambda: None) -> None:
    """Minutes of predictions, most of them reviewed later: what is known of a minute changes long after it is over."""
    chance = random.Random(seed)
    waiting: list[tuple[int, Cell, int]] = []
    for now in range(minutes):
        running = stage.kafka.now // 60_000
        quiet = 45 <= now < 52
        for segment in () if quiet else "ab":
            many = chance.randint(5, 40)
            made = cell(0, segment, running=running)
            stage.count(made, Counts(predictions=many), chance.randint(0, 1))
            waiting += [(now + chance.choice([0, 1, 2, 4, 9]), made, many)]
        worse = 0.75 if 20 <= now % 80 < 30 else 0.05
        stage.kafka.now += chance.randint(0, 25_000)  # within the minute
        for due, made, many in [each for each in waiting if each[0] <= now]:
            failures = sum(chance.random() < worse for _ in range(many))
            stage.count(made, Counts(reviewed=many, failures=failures), chance.randint(0, 1))
            waiting.remove((due, made, many))
        stage.next_minute()
        each_minute()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("begin", "end", "every"),
    [((0, 0), (200, 0), 1), ((40, 0), (90, 0), 1), ((23, 47), (61, 13), 1), ((7, 30), (199, 59), 5)],
)
def test_rules_would_have_fired_when_a_replay_by_hand_of_all_that_was_known_says_so(
    stage: AlertStage,
    replayed: Callable[..., Any],
    seed: int,
    begin: tuple[int, int],
    end: tuple[int, int],
    every: int,
) -> None:
    lived(stage, 150, seed)
    since, until = (micros_of(datetime.fromisoformat(minute(*each))) for each in (begin, end))
    expected = plain(list(replay(rules(), stage.history, since, until, every)))
    found = replayed(stage, "--since", minute(*begin), "--until", minute(*end), "--every", f"{every}m")
    assert found == expected
    assert {record["state"] for record in found} == {"PENDING", "FIRING", "RESOLVED"}


def test_they_are_the_alerts_that_the_watch_wrote_when_it_looked(
    stage: AlertStage, replayed: Callable[..., Any]
) -> None:
    watch = stage.watch()
    stage.step(watch)
    lived(stage, 60, 1, lambda: stage.step(watch))
    found = replayed(stage, "--since", minute(0), "--until", minute(60))
    assert {record["rule"] for record in found} >= {"high", "silent"}
    assert found == plain(stage.written())


@pytest.fixture
def late(stage: AlertStage) -> AlertStage:
    """A minute's predictions, of which six minutes later 90 of 100 are found to have failed."""
    stage.count(cell(0, "a"), Counts(predictions=100))
    stage.kafka.now += 6 * 60_000
    stage.count(cell(0, "a"), Counts(reviewed=100, failures=90))
    stage.kafka.now += 60_000
    return stage


def test_late_reviews_count_for_their_minute_from_when_they_were_known(
    late: AlertStage, flyback: Flyback, tmp_path: Path, toml: Path
) -> None:
    toml.write_text(RULES.replace('window = "5m"', 'window = "10m"'), encoding="utf-8")
    asked = ["--rule", "high", "--since", minute(0), "--until", minute(30)]
    said = flyback("alerts", "test", *asked, "--lake", filled(late, tmp_path / "lake").path)
    assert said.code == 0
    heading, *lines = said.out.splitlines()
    assert heading.split() == ["when", "state", "rule", "segment", "actor", "version", "message"]
    assert [line.split()[1:4] for line in lines] == [
        [f"{time_of(SINCE + m * MINUTE):%H:%M}", state, "high"]
        for m, state in [(7, "PENDING"), (9, "FIRING"), (11, "RESOLVED")]
    ]
    assert "90.0% failed" in lines[0]
    begin, end = (time_of(SINCE + m * MINUTE) for m in (0, 30))
    assert said.err.strip().splitlines()[-1] == (
        f"from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC it would have fired once"
    )


def test_what_was_known_by_the_end_only_is_looked_at(late: AlertStage, replayed: Callable[..., Any]) -> None:
    asked = ["--rule", "at-once", "--since", minute(0)]
    assert replayed(late, *asked, "--until", minute(6, 59)) == []
    assert [record["occurred_at"] for record in replayed(late, *asked, "--until", minute(7))] == [minute(7)] * 2


def test_the_first_look_has_the_whole_window_where_the_time_is_no_whole_minute(
    stage: AlertStage, replayed: Callable[..., Any]
) -> None:
    stage.count(cell(0, "a"), reviewed(100, 90))
    found = replayed(stage, "--rule", "at-once", "--since", minute(10, 30), "--until", minute(12))
    assert [(record["occurred_at"], record["state"]) for record in found] == [
        (minute(10), "PENDING"), (minute(10), "FIRING"), (minute(11), "RESOLVED")
    ]  # fmt: skip


def test_one_may_look_more_seldom(late: AlertStage, replayed: Callable[..., Any]) -> None:
    found = replayed(late, "--rule", "at-once", "--since", minute(0), "--until", minute(30), "--every", "4m")
    assert [record["occurred_at"] for record in found] == [minute(8), minute(8), minute(12)]


def test_an_older_count_by_a_clock_that_is_ahead_does_not_come_after_a_newer_one(
    stage: AlertStage, replayed: Callable[..., Any]
) -> None:
    stage.kafka.now += 5 * 60_000
    stage.count(cell(0, "a"), reviewed(100, 90))
    stage.kafka.now -= 3 * 60_000
    stage.count(cell(0, "a"), reviewed(100, 0))
    found = replayed(stage, "--rule", "at-once", "--since", minute(0), "--until", minute(20))
    stage.history[1] = Change(stage.history[0].known_at, *stage.history[1][1:])
    assert found == plain(list(replay(rules("at-once"), stage.history, SINCE, SINCE + 20 * MINUTE)))
    assert found == [], "the lower end of 90 of 200 is below 40 %"


def test_times_may_be_given_in_any_zone_and_are_shown_in_utc(
    late: AlertStage, flyback: Flyback, tmp_path: Path, toml: Path
) -> None:
    lake = filled(late, tmp_path / "lake").path
    begin = datetime.fromisoformat(minute(0)).astimezone(datetime.strptime("+0530", "%z").tzinfo)
    said = flyback("alerts", "test", "--lake", lake, "--since", begin.isoformat(), "--until", minute(20))
    assert f"from {begin.astimezone(UTC):%Y-%m-%d %H:%M} to" in said.err


def test_a_time_before_everything_is_replayed_at_once_and_one_to_come_not_at_all(
    late: AlertStage, replayed: Callable[..., Any]
) -> None:
    known = replayed(late, "--rule", "unseen", "--since", minute(0), "--until", minute(30))
    assert known
    assert replayed(late, "--rule", "unseen", "--since", "0001-01-01", "--until", minute(30)) == known
    recent = AlertStage(rules())
    recent.kafka.now = micros_of(datetime.now(UTC) - timedelta(minutes=2)) // 1000
    recent.count(cell(0, running=recent.kafka.now // 60_000), Counts(predictions=5))
    assert replayed(recent, "--rule", "silent", "--since", "1h", "--until", "9999-12-31") == []


def test_a_lake_without_counts_gives_no_alerts(flyback: Flyback, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = flyback("alerts", "test", "--lake", "empty")
    assert (said.code, said.err.strip().endswith("it would have fired 0 times")) == (0, True)


def test_a_lake_that_is_not_there_is_told_of(flyback: Flyback) -> None:
    said = flyback("alerts", "test", "--lake", "nowhere")
    assert said.code == 1
    assert "no lake at nowhere" in said.err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--rule", "hihg"], "there is no rule hihg: give one of high, at-once, rises"),
        (["--rule", "behind"], "behind is of the kind lag, which the lake knows nothing of: only rules on counts"),
        (["--rule", "refused"], "refused is of the kind dead-letters, which the lake knows nothing of"),
        (["--rules", "lag.toml"], "none of the rules can be replayed: only those on counts can"),
        (["--rules", "nowhere.toml"], "the alert rules nowhere.toml cannot be read: No such file or directory"),
        (["--since", "1h", "--until", "2h"], "no time lies between --since 1h and --until 2h"),
        (["--since", "2999-01-01"], "no time lies between --since 2999-01-01 and --until now"),
        (["--since", "lately"], "--since lately: write how long ago (1h, 7d), or a time as 2026-01-31T12:00"),
        (["--since", "999999d"], "--since 999999d: it is longer ago than times can be written"),
        (["--since", "0001-01-01T00:00+05:00"], "--since 0001-01-01T00:00+05:00: write how long ago"),
        (["--until", "soon"], "--until soon: write how long ago"),
        (["--every", "often"], "--every often: write a number and its unit"),
        (["--every", "90s"], "--every 90s: write whole minutes, such as 5m"),
        (["--every", "0m"], "--every 0m: write whole minutes, such as 5m"),
    ],
)
def test_what_cannot_be_replayed_is_told(
    flyback: Flyback, toml: Path, tmp_path: Path, options: list[str], complaint: str
) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lag.toml").write_text(RULES[RULES.index('[[rule]]\nname = "behind"') :], encoding="utf-8")
    said = flyback("alerts", "test", "--lake", "lake", *options)
    assert said.code == 2
    assert complaint in said.err
    assert said.out == ""


def test_check_lists_the_rules_of_a_file_or_of_the_settings_or_the_built_in_ones(
    flyback: Flyback, toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = flyback("alerts", "check", "alerts.toml")
    assert said.code == 0
    heading, first, *_ = said.out.splitlines()
    assert heading.split() == ["rule", "kind", "severity", "for", "summary"]
    assert first.split() == ["high", "rate", "warning", "2m"]
    assert flyback("alerts", "check").out == said.out
    monkeypatch.delenv("FLYBACK_ALERT_RULES")
    assert "more-wrong-than-right" in flyback("alerts", "check").out


def test_check_says_all_that_is_wrong_in_a_file(flyback: Flyback, toml: Path) -> None:
    toml.write_text(RULES.replace('"2m"', '"soon"').replace('kind = "lag"', 'kind = "lags"'), encoding="utf-8")
    said = flyback("alerts", "check", "alerts.toml")
    assert said.code == 2
    assert 'alerts.toml: rule "high", for: is "soon"; write how long it must hold' in said.err
    assert 'alerts.toml: rule "behind", kind: there is no "lags"; write rate, rise,' in said.err
    assert said.out == ""


def test_check_prints_the_rules_for_prometheus(flyback: Flyback, toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYBACK_TOPIC_PREFIX", "mine.")
    said = flyback("alerts", "check", "--prometheus")
    assert said.code == 0
    assert "- alert: FlybackRuleHigh\n" in said.out
    assert "# Not here: rises (the sequential test needs the counts of single minutes)." in said.out


@pytest.fixture
def written(stage: AlertStage, read_by_commands: Callable[[AlertStage], AlertStage]) -> AlertStage:
    """Four alerts: one is over, one ended before it fired, one is pending and one fires."""
    stage.rules = rules("high")
    watch = stage.watch()
    stage.step(watch)
    story = [(0, "over", 90), (8, "brief", 90), (9, "brief", 0), (11, "fires", 90), (12, "pending", 90)]
    for now in range(14):
        for at, segment, failures in story:
            if at == now:
                stage.count(cell(0, segment, running=RUNNING + now), reviewed(100 if failures else 900, failures))
        stage.next_minute()
        stage.step(watch)
    assert [record["segment"] for record in stage.written()] == [
        "over", "over", "over", "brief", "brief", "fires", "pending", "fires"
    ]  # fmt: skip

    return read_by_commands(stage)


def test_list_shows_what_is_open_and_what_fired_and_was_resolved_since(flyback: Flyback, written: AlertStage) -> None:
    found = flyback("alerts", "list", "--since", minute(0), "--json").json
    assert [(alert["segment"], alert["state"]) for alert in found] == [
        ("fires", "FIRING"), ("pending", "PENDING"), ("over", "RESOLVED")
    ]  # fmt: skip
    fires, pending, over = found
    assert (fires["since"], fires["fired_at"], fires["changed_at"]) == (minute(12), minute(14), minute(14))
    assert (pending["since"], pending["fired_at"], pending["changed_at"]) == (minute(13), None, minute(13))
    assert (over["since"], over["fired_at"], over["changed_at"]) == (minute(1), minute(3), minute(6))
    latest = {record["segment"]: record for record in written.written()}
    for alert in found:
        record = dict(latest[alert["segment"]])
        del record["occurred_at"]
        assert record.items() <= alert.items()


def test_list_leaves_out_what_was_resolved_before(flyback: Flyback, written: AlertStage) -> None:
    assert len(flyback("alerts", "list", "--since", minute(6), "--json").json) == 3
    found = flyback("alerts", "list", "--since", minute(6, 1), "--json").json
    assert [alert["segment"] for alert in found] == ["fires", "pending"]


def test_list_is_a_table_for_people(flyback: Flyback, written: AlertStage) -> None:
    said = flyback("alerts", "list")
    heading, first, second = said.out.splitlines()
    assert heading.split("  ")[0] == "state"
    assert "last change" in heading
    assert first.split()[:3] == ["FIRING", "high", "fires"]
    assert second.split()[:3] == ["PENDING", "high", "pending"]
    assert "90.0% failed" in first


def test_list_passes_over_what_it_cannot_read_and_says_so(flyback: Flyback, written: AlertStage) -> None:
    for value in (b"nothing of ours", None, b"\x00\x00\x00\x00\x01x"):
        written.kafka.append(written.alerts, 0, b"key", value)
    said = flyback("alerts", "list", "--json")
    assert said.code == 0
    assert len(said.json) == 2
    notes = [line for line in said.err.splitlines() if "is passed over" in line]
    assert [note.split(" ")[0].rpartition("/")[0] for note in notes] == [f"{written.alerts}/0"] * 3
    assert "the first byte is 0x6e" in notes[0]
    assert "unknown schema id 1" in notes[2]


def test_list_says_where_there_is_nothing_to_show(flyback: Flyback, written: AlertStage) -> None:
    written.kafka.delete(written.alerts)
    written.kafka.create(written.alerts, 1)
    said = flyback("alerts", "list", "--since", "2026-01-31T12:00+02:00")
    assert said.code == 0
    assert said.err.strip().endswith("no alert is open, and none that fired was resolved since 2026-01-31 10:00 UTC")


def test_list_refuses_a_time_that_it_cannot_understand(flyback: Flyback) -> None:
    said = flyback("alerts", "list", "--since", "lately")
    assert said.code == 2
    assert "--since lately: write how long ago" in said.err
