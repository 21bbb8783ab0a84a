"""`flyback alerts`: what is open, whether a rules file is right, and when its rules would have fired."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyback.cli import output
from flyback.cli.options import AsJson, Bootstrap, Lake
from flyback.cli.times import duration, moment_or_ago
from flyback.errors import ConfigurationError, FlybackError

if TYPE_CHECKING:
    from confluent_kafka import Message

    from flyback.settings import Settings
    from flyback.streams.alerts.rules import Rule

app = typer.Typer(no_args_is_help=True, help="Alerts on failure rates, and the rules that they come from.")

_MINUTE = timedelta(minutes=1)
_LABELS = ("segment", "actor", "version")

RulesFile = Annotated[
    Path | None,
    typer.Option("--rules", metavar="FILE", help="The rules, in TOML.", show_default="FLYBACK_ALERT_RULES or built-in"),
]


@app.command("list", epilog="Example:  flyback alerts list --since 30d --json")
def list_(
    since: Annotated[str, typer.Option(metavar="TIME", help="With those over since then, or in so long.")] = "7d",
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Show the alerts that are open, and those that fired and were resolved lately; the newest first."""
    from flyback import history, settings
    from flyback.alert_history import alerts
    from flyback.schemas.catalog import open_catalog
    from flyback.streams.topology import Topology

    loaded = settings.load(bootstrap_servers=bootstrap)
    begin = moment_or_ago("--since", since, datetime.now(UTC))
    topic = Topology(loaded).topic_of("Alert")
    with output.stderr().status(f"Reading alerts from {loaded.bootstrap_servers}"):
        found = alerts(history.read(loaded, [topic]), open_catalog(loaded), _passed_over)
    shown = [
        alert
        for alert in found
        if alert["state"] != "RESOLVED" or (alert["fired_at"] is not None and alert["changed_at"] >= begin)
    ]
    if as_json:
        output.print_json(shown)
        return
    _print_table(("state", "rule", *_LABELS, "since", "changed_at", "message"), shown)
    if not shown:
        output.note(f"no alert is open, and none that fired was resolved since {begin:%Y-%m-%d %H:%M} UTC")


@app.command(epilog="Example:  flyback alerts test --rule failure-rate-rises --since 30d --rules alerts.toml")
def test(
    rule: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this rule only.", show_default="all that can be replayed")
    ] = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="From then, or so long ago, on.")] = "7d",
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Until then.", show_default="now")] = None,
    rules: RulesFile = None,
    every: Annotated[str, typer.Option(metavar="DURATION", help="Look so often; the worker does every minute.")] = "1m",
    lake: Lake = None,
    as_json: AsJson = False,
) -> None:
    """Say when rules would have fired, from the counts in the lake as they were known at each minute.

    Nothing is written and nobody is told. Rules on dead letters and lag cannot
    be replayed: the lake does not know what they look at.
    """
    from flyback import settings
    from flyback.alert_history import changes, micros_of, time_of
    from flyback.sinks.lake import lake as open_lake
    from flyback.streams.alerts.replay import replay
    from flyback.streams.alerts.rules import horizon

    loaded = settings.load(lake=lake)
    chosen = _chosen(_rules(loaded, rules), rule)
    begin, end = _range(since, until, datetime.now(UTC))
    minutes, rest = divmod(duration("--every", every), _MINUTE)
    if rest or not minutes:
        raise ConfigurationError(f"--every {every}: write whole minutes, such as 5m")
    with open_lake(loaded.lake) as opened, output.stderr().status(f"Replaying {loaded.lake}"):
        # what lies so far back that no count can be there need not be asked for
        reach = min(timedelta(minutes=horizon(chosen)), begin - time_of(0))
        history = changes(opened, begin - reach, end)
        records = list(replay(chosen, history, micros_of(begin), micros_of(end), minutes))
    found = [{**record, "occurred_at": time_of(record["occurred_at"])} for record in records]
    if as_json:
        output.print_json(found)
        return
    _print_table(("occurred_at", "state", "rule", *_LABELS, "message"), found)
    fired = sum(record["state"] == "FIRING" for record in records)
    times = "once" if fired == 1 else f"{fired:,} times"
    output.note(f"from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC it would have fired {times}")


@app.command(epilog="Example:  flyback alerts check alerts.toml")
def check(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="The rules, in TOML.", show_default="FLYBACK_ALERT_RULES or built-in"),
    ] = None,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Print the rules as a rule file for Prometheus, as far as it can.")
    ] = False,
) -> None:
    """Say all that is wrong in a rules file (exit code 2), or what its rules are."""
    from flyback import settings
    from flyback.streams.alerts.prometheus import rule_file

    loaded = settings.load()
    found = _rules(loaded, file)
    if prometheus:
        output.print_line(rule_file(found, loaded.topic_prefix).text.rstrip())
        return
    output.print_table(
        ("rule", "kind", "severity", "for", "summary"),
        [(each.name, each.kind, each.severity, f"{each.hold}m", each.summary) for each in found],
    )


def _range(since: str, until: str | None, now: datetime) -> tuple[datetime, datetime]:
    """From a whole minute on, until now at the latest: what is not known yet is not replayed."""
    from flyback.alert_history import time_of

    begin = max(time_of(0), moment_or_ago("--since", since, now)).replace(second=0, microsecond=0)
    end = min(now, moment_or_ago("--until", until, now)) if until else now
    if begin >= end:
        raise ConfigurationError(f"no time lies between --since {since} and --until {until or 'now'}")
    return begin, end


def _rules(settings: Settings, file: Path | None) -> Sequence[Rule]:
    from flyback.streams.alert_rules import read_rules, rules_of

    return rules_of(settings) if file is None else read_rules(file)


def _chosen(rules: Sequence[Rule], name: str | None) -> Sequence[Rule]:
    """The rules to replay."""
    from flyback.streams.alerts.rules import Counted

    if name is None:
        counted = [rule for rule in rules if isinstance(rule, Counted)]
        if not counted:
            raise ConfigurationError("none of the rules can be replayed: only those on counts can")
        return counted
    found = [rule for rule in rules if rule.name == name]
    if not found:
        raise ConfigurationError(f"there is no rule {name}: give one of {', '.join(rule.name for rule in rules)}")
    if not isinstance(found[0], Counted):
        raise ConfigurationError(
            f"{name} is of the kind {found[0].kind}, which the lake knows nothing of: only rules on counts can be "
            "replayed"
        )
    return found


def _print_table(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    titles = {"occurred_at": "when", "changed_at": "last change"}
    output.print_table(
        [titles.get(column, column) for column in columns], [[_cell(row[column]) for column in columns] for row in rows]
    )


def _cell(value: object) -> object:
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else value


def _passed_over(message: Message, error: FlybackError) -> None:
    output.note(f"{message.topic()}/{message.partition()}/{message.offset()} is passed over: {error}")
