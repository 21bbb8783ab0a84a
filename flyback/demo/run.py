"""The demo, from the texts to the summary: a stack of its own, all events through the SDK, landed and compared."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

from flyback import settings as all_settings
from flyback.demo import corpus, summary, workload
from flyback.demo.corpus import Text
from flyback.demo.play import Player
from flyback.demo.summary import Summary
from flyback.landing import wait_until_landed
from flyback.settings import Settings
from flyback.stack import Broker, BrokerKind, Stack, own_broker, signals_interrupt
from flyback.verify import compare

FOLDER = Path("flyback-data/demo")
LIVE_SPAN = timedelta(minutes=20)  # of all texts; fewer take their share of it
# So that the live page has something to show at once, an hour is sent in one go.
HOUR_BEFORE = timedelta(hours=1)
_TEXTS_BEFORE = 6_000

Progress = Callable[[str, int, int], None]
"""Called with a step (download, read, start, send, joined, landed, compare), how much is done, and of how much."""


def _new_name() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"


@dataclass(frozen=True, slots=True)
class Options:
    """What a user asked for, and the run's name.

    With `bootstrap` no broker is started; `limit` counts texts, `program` is what to type.
    """

    bootstrap: str | None = None
    broker: BrokerKind = "embedded"
    lake: str | None = None
    limit: int | None = None
    program: str = "flyback"
    name: str = field(default_factory=_new_name)

    @property
    def topic_prefix(self) -> str:
        """Of the run's topics on a Kafka that others use too."""
        return f"demo-{self.name.lower()}."


@dataclass(frozen=True, slots=True)
class Counts:
    """Where the events of a live demo are."""

    sent: int
    joined: int
    derived: int
    rows: int


@dataclass(frozen=True, slots=True)
class _Run:
    """One run: its settings, its folder, its broker (None: somebody else's)."""

    name: str
    folder: Path
    settings: Settings
    broker: Broker | None


def run(options: Options, progress: Progress) -> Summary:
    """Play the demo as fast as it goes and sum it up from its lake.

    Raises FlybackError where something cannot be had or does not get on, KeyboardInterrupt on Ctrl-C or SIGTERM;
    nothing is left running in any case.
    """
    texts = _texts(options, progress)
    with _started(options, progress) as (run, stack):
        settings = stack.settings
        events = workload.Workload(texts, seed=run.name, now=datetime.now(UTC))

        def sent(count: int) -> None:
            progress("send", count, len(events))
            stack.check()

        began = time.monotonic()
        with Player(settings, sent) as player:
            player.play(events)
        wait_until_landed(settings, progress, stack.check)
        seconds = time.monotonic() - began
        stack.stop_processes()
        progress("compare", 0, 1)
        comparison = compare(settings)
        progress("compare", 1, 1)
    if comparison.raw != len(events):
        comparison.differences.append(f"{len(events)} events were sent, {comparison.raw} are in Kafka")
    if run.broker is not None:
        shutil.rmtree(run.folder / "broker" / "data", ignore_errors=True)  # the lake has it all
    return Summary(
        summary.domains(settings.lake),
        summary.count(settings.lake, "examples"),
        summary.count(settings.lake, "coaching"),
        comparison,
        len(events),
        seconds,
        settings.lake,
        summary.next_commands(options.program, settings.lake),
    )


def run_live(
    options: Options,
    progress: Progress,
    show: Callable[[Counts], None],
    say: Callable[[str], None],
    opened: Callable[[str], None],
) -> str | None:
    """Play the demo in real time, with an hour before it, again and again; `opened` is told the dashboard's address.

    `show` gets the counts all along; `say` where a process had to be restarted.
    Gives the lake once Ctrl-C or SIGTERM came, None where that was before there was one. Raises FlybackError as
    `run` does.
    """
    lake: str | None = None
    try:
        texts = _texts(options, progress)
        span = max(timedelta(minutes=1), LIVE_SPAN * len(texts) / sum(d.texts for d in corpus.DOMAINS.values()))
        with _started(options, progress, dashboard=True) as (run, stack):
            lake = stack.settings.lake
            stack.wait_ready()
            opened(stack.dashboard_address)
            score = workload.vader()
            shown = 0.0

            def counted(sent: int) -> None:
                nonlocal shown
                if time.monotonic() - shown >= 0.5:
                    shown = time.monotonic()
                    stack.supervise(say)
                    show(_counts(stack, sent))

            with Player(stack.settings, counted) as player:
                before = workload.first(texts, min(_TEXTS_BEFORE, len(texts)))
                began = datetime.now(UTC)
                player.play(workload.Workload(before, seed=run.name, now=began, span=HOUR_BEFORE, score=score))
                while True:
                    until = datetime.now(UTC) + span
                    events = workload.Workload(texts, seed=f"{run.name}-{until}", now=until, span=span, score=score)
                    player.play_paced(events.paced(), Event())
    except KeyboardInterrupt:
        return lake


def _texts(options: Options, progress: Progress) -> list[Text]:
    texts = corpus.load(progress=progress)
    return texts if options.limit is None else workload.first(texts, options.limit)


@contextmanager
def _started(options: Options, progress: Progress, dashboard: bool = False) -> Iterator[tuple[_Run, Stack]]:
    run = _new_run(options)
    progress("start", 0, 1)
    logs = run.folder / "logs"
    with signals_interrupt(), Stack(run.settings, logs, run.broker, dashboard=dashboard) as stack:
        progress("start", 1, 1)
        yield run, stack


def _new_run(options: Options) -> _Run:
    """A folder that no other run has, and settings that keep this run apart from everything else."""
    name = options.name
    folder = FOLDER / name
    (folder / "logs").mkdir(parents=True)
    changes: dict[str, object] = {
        "lake": options.lake or str(folder / "lake"),
        "state_dir": folder / "state",
        "worker_http_port": 0,
        "sink_http_port": 0,
    }
    broker = None
    if options.bootstrap:
        changes |= {"topic_prefix": options.topic_prefix, "group": f"flyback-demo-{name}"}
    else:
        broker = own_broker(options.broker, folder / "broker", 0)
    settings = all_settings.load(bootstrap_servers=options.bootstrap).model_copy(update=changes)
    return _Run(name, folder, settings, broker)


def _counts(stack: Stack, sent: int) -> Counts:
    worker, sink = stack.status()
    totals, rows = worker.get("totals"), sink.get("rows")
    engine = totals if isinstance(totals, dict) else {}
    return Counts(
        sent,
        joined=engine.get("events", 0),
        derived=engine.get("derived", 0),
        rows=sum(rows.values()) if isinstance(rows, dict) else 0,
    )
