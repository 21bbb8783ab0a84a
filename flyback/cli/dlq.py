"""`flyback dlq list|show|replay`."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyback.cli import output
from flyback.cli.options import AsJson, Bootstrap
from flyback.cli.times import moment
from flyback.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flyback.deadletters import DeadLetter, Selection
    from flyback.replay import Report
    from flyback.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Messages that were refused, with the reason and their bytes.")

Topic = Annotated[str | None, typer.Option(metavar="TOPIC", help="Only of this topic, such as corrections.v1.")]
Reason = Annotated[str | None, typer.Option(metavar="REASON", help="Only with this reason, such as truncated.")]


@app.command("list", epilog="Example:  flyback dlq list --topic corrections.v1")
def listing(topic: Topic = None, reason: Reason = None, bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """List the dead letters: where each one stood, when it arrived, why it was refused and whether it was put back."""
    from flyback.deadletters import mark, marks

    settings, found = _read(bootstrap, topic, reason)
    # there may be more than memory holds the bytes of
    letters = _in_order(replace(letter, value=None, headers=()) for letter in found)
    replayed = marks(settings) if letters else set()
    if as_json:
        output.print_json([{**_summary(letter), "replayed": mark(letter) in replayed} for letter in letters])
        return
    rows = [
        (
            letter.coordinates,
            _when(letter),
            letter.reason,
            letter.size,
            "yes" if mark(letter) in replayed else "",
            letter.message,
        )
        for letter in letters
    ]
    if rows:
        output.print_table(("topic/partition/offset", "arrived (UTC)", "reason", "bytes", "replayed", "message"), rows)
    counts = Counter(letter.reason for letter in letters)
    by_reason = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    back = sum(mark(letter) in replayed for letter in letters)
    output.note(
        f"{len(letters)} dead letters"
        + (f": {by_reason}" if by_reason else "")
        + (f"; {back} replayed" if back else "")
    )


@app.command(epilog="Example:  flyback dlq show flyback.corrections.v1/0/42")
def show(
    coordinates: Annotated[
        str | None,
        typer.Argument(metavar="TOPIC/PARTITION/OFFSET", help="One of `dlq list`; none: all of them."),
    ] = None,
    topic: Topic = None,
    reason: Reason = None,
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Show dead letters in full: headers, key, the event where its bytes can be decoded, else the bytes."""
    settings, found = _read(bootstrap, topic, reason, coordinates)
    letters = _in_order(found)
    if coordinates is not None and not letters:
        raise ConfigurationError(f"no dead letter stood at {coordinates}: see `flyback dlq list`")
    if as_json:
        output.print_json([_in_full(settings, letter) for letter in letters])
        return
    for letter in letters:
        for name, content in _in_full(settings, letter).items():
            if content not in (None, {}):
                output.print_line(f"{name}: {content}")
        output.print_line("")
    output.note(f"{len(letters)} dead letters")


@app.command(epilog="Example:  flyback dlq replay --reason missing_key --repair key --dry-run")
def replay(
    coordinates: Annotated[
        str | None,
        typer.Argument(metavar="TOPIC/PARTITION/OFFSET", help="One of `dlq list`; none: all that are selected."),
    ] = None,
    topic: Topic = None,
    reason: Reason = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what arrived at or after this, such as 2026-01-31T12:00.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only what arrived before this; UTC.")] = None,
    repair: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Called with each dead letter; gives (key, value) to put back, or None to leave it. "
            "`key` is built in: it sets the key to the event's task_id.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Put dead letters back into their topics, each of them once: doing so again adds nothing."""
    from flyback import settings
    from flyback.replay import load_repair
    from flyback.replay import replay as put_back

    loaded = settings.load(bootstrap_servers=bootstrap)
    first = None if since is None else moment("--since", since)
    end = None if until is None else moment("--until", until)
    selection = _selection(topic, reason, coordinates, first, end)
    hook = None if repair is None else load_repair(repair, loaded)
    with output.stderr().status("Reading the dead letters") as status:
        report = put_back(loaded, selection, hook, dry_run, lambda so_far: status.update(_counts(so_far)))
    if coordinates is not None and not report.selected:
        raise ConfigurationError(f"no dead letter stood at {coordinates}: see `flyback dlq list`")
    if as_json:
        output.print_json(_reported(report))
        return
    if report.named:
        output.print_table(("topic/partition/offset", "reason", "why it cannot be replayed"), report.named)
    output.note(_counts(report))


def _counts(report: Report) -> str:
    return (
        f"{report.replayed} {'would be ' if report.dry_run else ''}replayed, {report.already} replayed before, "
        f"{report.left} left by the repair, {report.not_replayable.total()} not replayable"
    )


def _reported(report: Report) -> dict[str, Any]:
    return {
        "dry_run": report.dry_run,
        "replayed": report.replayed,
        "already_replayed": report.already,
        "left_by_repair": report.left,
        "not_replayable": report.not_replayable.total(),
        "not_replayable_by_reason": dict(report.not_replayable),
        "named": [
            {"coordinates": where, "reason": reason, "message": message} for where, reason, message in report.named
        ],
    }


def _selection(topic: str | None, reason: str | None, *rest: Any) -> Selection:
    from flyback.deadletters import Selection
    from flyback.schemas.intake import REASONS
    from flyback.streams.dlq import UNDELIVERED

    known = (*REASONS, UNDELIVERED)
    if reason is not None and reason not in known:
        raise ConfigurationError(f"there is no reason {reason}: give one of {', '.join(known)}")
    return Selection(topic, reason, *rest)


def _read(
    bootstrap: str | None, topic: str | None, reason: str | None, coordinates: str | None = None
) -> tuple[Settings, Iterator[DeadLetter]]:
    from flyback import deadletters, settings

    selection = _selection(topic, reason, coordinates)
    loaded = settings.load(bootstrap_servers=bootstrap)
    return loaded, deadletters.read(loaded, selection)


def _in_order(letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    return sorted(letters, key=lambda letter: (letter.topic, letter.partition, letter.offset))


def _summary(letter: DeadLetter) -> dict[str, Any]:
    return {
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "arrived_at": letter.arrived_at,
        "reason": letter.reason,
        "message": letter.message,
        "bytes": letter.size,
    }


def _in_full(settings: Settings, letter: DeadLetter) -> dict[str, Any]:
    event = _event(settings, letter)
    raw = letter.value or b""
    return {
        **_summary(letter),
        "sha256": letter.sha256,
        "key": None if letter.key is None else output.readable(letter.key),
        "headers": {name: output.readable(content) for name, content in letter.headers},
        "event": event,
        "value_base64": base64.b64encode(raw).decode() if raw else None,
    }


def _event(settings: Settings, letter: DeadLetter) -> dict[str, Any] | None:
    """The event in the original bytes, if they can be decoded after all: what was wrong may be elsewhere."""
    from flyback.errors import FlybackError
    from flyback.schemas import codec, wire
    from flyback.schemas.catalog import open_catalog
    from flyback.streams.topology import Topology

    try:
        record = Topology(settings)[letter.topic].record
        if record is None or letter.value is None:
            return None
        writer = open_catalog(settings).schema(wire.schema_id(letter.value))
        return codec.decode(record, letter.value, writer)
    except (FlybackError, KeyError):
        return None


def _when(letter: DeadLetter) -> str:
    return "" if letter.arrived_at is None else f"{letter.arrived_at:%Y-%m-%d %H:%M:%S}"
