"""`flyback alerts`: what is open, whether a rules file is right, and when its rules would have fired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyback.cli import output
from flyback.cli.options import AsJson, Bootstrap, Lake
from flyback.cli.times import duration, moment_or_ago
from flyback.errors import ConfigurationError, UnknownSchema

if TYPE_CHECKING:
    from flyback.schemas.codec import Record
    from flyback.settings import Settings
    from flyback.sinks.lake import Lake as OpenLake
    from flyback.streams.alerts.replay import Change
    from flyback.streams.alerts.rules import Rule

app = typer.Typer(no_args_is_help=True, help="Alerts on failure rates, and the rules that they come from.")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
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
    from flyback import settings

    loaded = settings.load(bootstrap_servers=bootstrap)
    begin = moment_or_ago("--since", since, datetime.now(UTC))
    with output.stderr().status(f"Reading alerts from {loaded.bootstrap_servers}"):
        told = [_told(records) for records in _by_alert(loaded)]
    shown = [
        alert
        for alert in told
        if alert["state"] != "RESOLVED" or (alert["fired_at"] is not None and alert["changed_at"] >= begin)
    ]
    shown.sort(key=lambda alert: (alert["state"] != "RESOLVED", alert["changed_at"]), reverse=True)
    if as_json:
        output.print_json(shown)
        return
    columns = ("state", "rule", *_LABELS, "since", "changed_at", "message")
    output.print_table(
        ("state", "rule", *_LABELS, "since", "last change", "message"),
        [[_cell(alert[column]) for column in columns] for alert in shown],
    )
    if not shown:
        output.note(f"no alert is open, and none fired since {begin:%Y-%m-%d %H:%M}")


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
    from flyback.sinks.lake import lake as open_lake
    from flyback.streams.alerts.replay import replay
    from flyback.streams.alerts.rules import horizon

    loaded = settings.load(lake=lake)
    chosen = _chosen(loaded, rules, rule)
    now = datetime.now(UTC)
    begin = moment_or_ago("--since", since, now)
    end = moment_or_ago("--until", until, now) if until else now
    if begin >= end:
        raise ConfigurationError(f"no time lies between --since {since} and --until {until or 'now'}")
    minutes, rest = divmod(duration("--every", every), timedelta(minutes=1))
    if rest or not minutes:
        raise ConfigurationError(f"--every {every}: write whole minutes, such as 5m")
    with open_lake(loaded.lake) as opened, output.stderr().status(f"Replaying {loaded.lake}"):
        history = changes(opened, begin - timedelta(minutes=horizon(chosen)), end)
        records = list(replay(chosen, history, _micros(begin), _micros(end), minutes))
    if as_json:
        output.print_json([{**record, "occurred_at": _time(record["occurred_at"])} for record in records])
        return
    columns = ("occurred_at", "state", "rule", *_LABELS, "message")
    lines = [[_cell({**record, "occurred_at": _time(record["occurred_at"])}[name]) for name in columns]
             for record in records]  # fmt: skip
    output.print_table(("when", *columns[1:]), lines)
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


def changes(lake: OpenLake, begin: datetime, end: datetime) -> Iterator[Change]:
    """What was added to the counts of minutes from `begin` on, and the whole minute by which it was known.

    From every count that the stream wrote, by the time it wrote it; `end` is the last such time.
    """
    from flyback.streams.alerts.replay import Change
    from flyback.streams.rates import Cell, Counts

    labels = '"minute", actor_kind, actor, "version", segment'
    latest = ", ".join(f"arg_max({name}, _offset) AS {name}" for name in Counts._fields)
    added = ", ".join(f"{name} - lag({name}, 1, 0) OVER of_key" for name in Counts._fields)
    found = lake.connection.execute(
        f"""
        WITH by_minute AS (
            SELECT
                "partition", {labels}, {latest},
                date_trunc('minute', _arrived_at - INTERVAL 1 microsecond) + INTERVAL 1 minute AS known_at
            FROM raw.failure_rates
            WHERE "minute" >= ? AND _arrived_at <= ?
            GROUP BY "partition", {labels}, known_at
        )
        SELECT epoch_us(known_at), epoch_us("minute"), actor_kind, actor, "version", segment, {added}
        FROM by_minute
        WINDOW of_key AS (PARTITION BY "partition", {labels} ORDER BY known_at)
        ORDER BY known_at
        """,
        [begin, end],
    )
    split = 1 + len(Cell._fields)
    while rows := found.fetchmany(10_000):
        for row in rows:
            yield Change(row[0], Cell(*row[1:split]), Counts(*row[split:]))


def _rules(settings: Settings, file: Path | None) -> Sequence[Rule]:
    from flyback.streams.alert_rules import read_rules, rules_of

    return rules_of(settings) if file is None else read_rules(file)


def _chosen(settings: Settings, file: Path | None, name: str | None) -> Sequence[Rule]:
    from flyback.streams.alerts.rules import Counted

    every = _rules(settings, file)
    if name is None:
        return [rule for rule in every if isinstance(rule, Counted)]
    found = [rule for rule in every if rule.name == name]
    if not found:
        raise ConfigurationError(f"there is no rule {name}: give one of {', '.join(rule.name for rule in every)}")
    if not isinstance(found[0], Counted):
        raise ConfigurationError(
            f"{name} is of the kind {found[0].kind}, which the lake knows nothing of: only rules on counts can be "
            "replayed"
        )
    return found


def _by_alert(settings: Settings) -> list[list[Record]]:
    """The records of each alert, in order."""
    from flyback import history
    from flyback.errors import InvalidEvent
    from flyback.schemas import codec, wire
    from flyback.schemas.catalog import open_catalog
    from flyback.streams.topology import Topology

    catalog = open_catalog(settings)
    found: dict[str, list[Record]] = {}
    for message in history.read(settings, [Topology(settings).topic_of("Alert")]):
        value: Any = message.value() or b""
        try:
            record = codec.decode("Alert", value, catalog.schema(wire.schema_id(value)))
        except (InvalidEvent, UnknownSchema) as error:
            output.note(f"alerts.v1/{message.partition()}/{message.offset()} is passed over: {error}")
            continue
        found.setdefault(record["alert_id"], []).append(record)
    return list(found.values())


def _told(records: Sequence[Record]) -> dict[str, Any]:
    """An alert by its latest state, with when it began, when it fired (None: never), and when that state began."""
    latest = records[-1]
    fired = next((record["occurred_at"] for record in records if record["state"] == "FIRING"), None)
    return {
        **{name: value for name, value in latest.items() if name != "occurred_at"},
        "since": _time(records[0]["occurred_at"]),
        "fired_at": None if fired is None else _time(fired),
        "changed_at": _time(latest["occurred_at"]),
    }


def _cell(value: object) -> object:
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else value


def _time(micros: int) -> datetime:
    return _EPOCH + micros * _MICROSECOND


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
