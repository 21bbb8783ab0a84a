"""`flyback status`: is all well, and how far behind is it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyback.cli import output
from flyback.cli.options import AsJson, Bootstrap, Lake, Sinks, Workers
from flyback.errors import FlybackError

if TYPE_CHECKING:
    from flyback.settings import Settings
    from flyback.status import Joined, Landed, Status
    from flyback.status.groups import Group
    from flyback.status.lag import Lag, Total

WATCH_SECONDS = 2.0
_NAMED = 5  # partitions of a topic that are named
_RAW = ("predictions", "corrections", "grades")


def status(
    bootstrap: Bootstrap = None,
    lake: Lake = None,
    worker: Workers = None,
    sink: Sinks = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how far workers and sinks are behind, partition by partition. Exits 1 if something is not well.

    From Kafka, and from what the endpoints answer; where those are down, it says what is unknown.
    """
    from flyback import settings

    loaded = settings.load(bootstrap_servers=bootstrap, lake=lake)
    if watch:
        _watch(loaded, worker or [], sink or [], lake is not None, as_json)
        return
    from flyback.status import examine

    with output.stderr().status(f"Asking Kafka at {loaded.bootstrap_servers}"):
        found = examine(loaded, worker or [], sink or [], lake is not None)
    if as_json:
        output.print_json(as_document(found))
    else:
        _print(found, loaded.topic_prefix)
    if found.verdict == "not well":
        raise typer.Exit(1)


def _watch(settings: Settings, workers: list[str], sinks: list[str], read_lake: bool, as_json: bool) -> None:
    from flyback.status import examine

    try:
        while True:
            try:
                found = examine(settings, workers, sinks, read_lake)
            except FlybackError as error:  # a broker that restarts is what one watches for
                output.complain(str(error))
            else:
                if as_json:
                    output.print_line(json.dumps(as_document(found)))
                else:
                    output.stdout().clear()  # nothing where it is no terminal
                    _print(found, settings.topic_prefix)
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        return


def as_document(found: Status) -> dict[str, Any]:
    """The status as JSON has it: as `flyback.status.Status`, with the verdict's sums."""
    whole = asdict(found)
    return {
        "ok": found.verdict != "not well",
        "summary": summary(found),
        **whole,
        "joining": asdict(found.joining),
        "landing": asdict(found.landing),
    }


def summary(found: Status) -> str:
    """One line: is all well, and how far behind."""
    parts = [f"{found.verdict}: workers {_behind(found.joining)}"]
    parts += [f"lake {_behind(found.landing)}"] if found.sinks else []
    if found.restoring:
        named = [f"{p.partition} ({_percent(p.restored, p.to_restore)})" for p in found.restoring[:_NAMED]]
        more = len(found.restoring) - len(named)
        parts.append(f"restoring partition {', '.join(named)}" + (f" and {more} more" if more else ""))
    if letters := sum(topic.letters for topic in found.dead_letters):
        parts.append(f"{letters:,} dead letters")
    return ", ".join(parts)


def _print(found: Status, prefix: str) -> None:
    output.print_line(summary(found))
    for problem in found.problems:
        output.print_line(f"problem: {problem}")
    for unknown in found.unknown:
        output.print_line(f"unknown: {unknown}")
    group = found.streams
    output.print_line(f"\nstreams: {_group(group)}")
    output.print_table(
        ("", "worker", *_RAW, "oldest", "state", "commit ago", "restored"),
        [_partition_row(partition, found.at) for partition in found.partitions],
    )
    for sink in found.sinks:
        committed = "" if sink.last_commit is None else f", committed {_age(max(0.0, found.at - sink.last_commit))} ago"
        output.print_line(f"\nlake: {sink.lake}, by {sink.source}{committed}")
        if rows := _topic_rows(sink, prefix):
            output.print_table(("topic", "behind", "oldest", "by partition"), rows)
        else:
            output.print_line("every topic is landed to its end")
    windows = found.windows
    total = _behind(_total(found.windows_lags))
    output.print_line(f"\nrate windows: {_group(windows)}, {total}")
    letters = [topic for topic in found.dead_letters if topic.letters]
    if letters:
        output.print_line("\ndead letters (`flyback dlq list`)")
        rows = [
            (
                topic.topic.removeprefix(prefix),
                _count(topic.letters, topic.exact),
                ", ".join(f"{count} {reason}" for reason, count in topic.reasons.items()),
            )
            for topic in letters
        ]
        output.print_table(("topic", "letters", "reasons, of the newest"), rows)


def _group(group: Group) -> str:
    state = "not there yet" if group.state == "dead" else group.state
    return f"group {group.name}, {state}, members: {len(group.members)}"


def _partition_row(partition: Joined, now: float) -> tuple[object, ...]:
    total = _total(partition.lags)
    return (
        partition.partition,
        partition.worker or "nobody",
        *(_count(lag.events, lag.exact) for lag in partition.lags),
        _age(total.seconds),
        "?" if partition.state_bytes is None else _size(partition.state_bytes),
        "?" if partition.last_commit is None else _age(max(0.0, now - partition.last_commit)),
        {None: "?", True: "live", False: _percent(partition.restored, partition.to_restore)}[partition.live],
    )


def _topic_rows(sink: Landed, prefix: str) -> list[tuple[object, ...]]:
    by_topic: dict[str, list[Lag]] = {}
    for lag in sink.lags:
        by_topic.setdefault(lag.topic, []).append(lag)
    rows: list[tuple[object, ...]] = []
    for topic, lags in by_topic.items():
        total = _total(lags)
        if not total.events:
            continue
        late = [f"{lag.partition}: {_count(lag.events, lag.exact)}" for lag in lags if lag.events]
        more = f" and {len(late) - _NAMED} more" if len(late) > _NAMED else ""
        rows.append(
            (
                topic.removeprefix(prefix),
                _count(total.events, total.exact),
                _age(total.seconds),
                ", ".join(late[:_NAMED]) + more,
            )
        )
    return rows


def _total(lags: list[Lag]) -> Total:
    from flyback.status.lag import Total

    return Total.of(lags)


def _behind(total: Total) -> str:
    if not total.events:
        return "at the end"
    oldest = "" if total.seconds is None else f" (oldest {_age(total.seconds)})"
    return f"{_count(total.events, total.exact)} events behind{oldest}"


def _count(number: int, exact: bool) -> str:
    return f"{number:,}" if exact else f"~{number:,}"


def _percent(done: int | None, total: int | None) -> str:
    return "waits" if done is None or not total else f"{100 * done // total} %"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    days, rest = divmod(timedelta(seconds=round(seconds)), timedelta(days=1))
    return f"{days} d {rest.seconds // 3600} h" if days else str(rest)


def _size(number: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if number >= 100 or unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
