"""`flyback up`, `flyback worker`, `flyback sink`: what runs until it is stopped."""

from __future__ import annotations

import itertools
import shlex
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flyback.cli import output
from flyback.cli.options import AsJson, Bootstrap, Lake
from flyback.errors import ConfigurationError

if TYPE_CHECKING:
    from flyback.settings import Settings
    from flyback.stack import Broker, Stack

KAFKA_PORT = 9092
SNIPPET = """\
from flyback import Client, human, model
with Client(bootstrap_servers="{bootstrap}"{prefix}) as fb:
    p = fb.predict(task_id="t-1", actor=model("vader", "3.3.2"), input="great phone, dead in a week",
                   output={{"label": "positive"}}, segment="amazon")
    fb.correct(p, output={{"label": "negative"}}, author=human("ann"), reason="sarcasm")"""


class BrokerChoice(StrEnum):
    """A broker that Flyback starts itself."""

    embedded = "embedded"
    kafka = "kafka"


sink_app = typer.Typer(
    invoke_without_command=True,
    help="Write the topics to the lake, or tidy the lake up.",
    epilog="Example:  flyback sink",
)


AcceptLoss = Annotated[
    bool,
    typer.Option(
        "--accept-loss", help="Once, after a loss: go on at the log start where Kafka deleted what was not read yet."
    ),
]


def worker(bootstrap: Bootstrap = None, accept_loss: AcceptLoss = False) -> None:
    """Join predictions with their feedback, exactly once, until SIGTERM or Ctrl-C."""
    from functools import partial

    from flyback import allocator, settings, topics
    from flyback.streams.worker import engine_on_kafka, run

    allocator.give_back()
    loaded = settings.load(bootstrap_servers=bootstrap)
    topics.require(loaded)
    raise typer.Exit(run(loaded, partial(engine_on_kafka, accept_loss=accept_loss)))


@sink_app.callback()
def sink(
    context: typer.Context, bootstrap: Bootstrap = None, lake: Lake = None, accept_loss: AcceptLoss = False
) -> None:
    """Write the topics to the lake until SIGTERM or Ctrl-C, or tidy the lake up (see the commands)."""
    if context.invoked_subcommand is not None:
        return
    from flyback import allocator, logs, settings, topics
    from flyback.sinks.sink import run
    from flyback.streams.garbage import collect_rarely

    allocator.give_back()
    loaded = settings.load(bootstrap_servers=bootstrap, lake=lake)
    logs.configure(loaded)
    topics.require(loaded)
    collect_rarely()
    run(loaded, accept_loss)


def up(
    bootstrap: Bootstrap = None,
    broker: Annotated[
        BrokerChoice | None, typer.Option(help="Start a broker of this kind.", show_default="embedded")
    ] = None,
    lake: Lake = None,
    no_dashboard: Annotated[bool, typer.Option("--no-dashboard", help="Leave the live page out.")] = False,
) -> None:
    """Run a broker, a worker, a sink and the dashboard in this terminal until Ctrl-C.

    With --bootstrap (or KAFKA_BOOTSTRAP_SERVERS) that Kafka is used and no broker is started.
    """
    from flyback import settings as all_settings
    from flyback.stack import Stack, signals_interrupt

    if bootstrap and broker:
        raise ConfigurationError("--bootstrap and --broker exclude each other: give one")
    settings = all_settings.load(bootstrap_servers=bootstrap, lake=lake)
    if broker is None and "bootstrap_servers" not in settings.model_fields_set:
        broker = BrokerChoice.embedded
    settings, folder, own = _placed(settings, broker)
    try:
        with signals_interrupt(), Stack(settings, folder / "logs", own, dashboard=not no_dashboard) as stack:
            output.note("starting, which takes some seconds")
            stack.wait_ready()
            _say_what_runs(stack, broker, folder)
            said: object = None
            for round_number in itertools.count():
                stack.supervise(output.note)
                if round_number % 5 == 0 and (waiting := stack.waiting()) not in (None, said):
                    output.note(f"the worker waits: {waiting}")
                    said = waiting
                time.sleep(0.2)
    except KeyboardInterrupt:
        output.note("stopped")


def _placed(settings: Settings, broker: BrokerChoice | None) -> tuple[Settings, Path, Broker | None]:
    """The settings with their folders, the folder of this run, and the broker to start."""
    from flyback.stack import own_broker, port_or_free

    folder = Path("flyback-data")
    if broker is None:
        return settings, folder, None
    port = port_or_free(KAFKA_PORT)
    if broker is BrokerChoice.kafka:
        return settings, folder, own_broker("kafka", folder / "kafka", port)
    # What an in-memory broker held is gone, so state and lake of an earlier one would be refused.
    folder = folder / "up" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    places = {"lake": str(folder / "lake"), "state_dir": folder / "state"}
    chosen = {name: value for name, value in places.items() if name not in settings.model_fields_set}
    return settings.model_copy(update=chosen), folder, own_broker("embedded", folder / "broker", port)


def _say_what_runs(stack: Stack, broker: BrokerChoice | None, folder: Path) -> None:
    from flyback.settings import Settings

    settings = stack.settings
    kind = {
        BrokerChoice.embedded: " (embedded, IN MEMORY: what is not in the lake yet when this stops is lost)",
        BrokerChoice.kafka: " (Apache Kafka, started here)",
        None: "",
    }[broker]
    prefix = settings.topic_prefix
    usual = Settings.model_fields["topic_prefix"].default
    snippet = SNIPPET.format(
        bootstrap=settings.bootstrap_servers,
        prefix="" if prefix == usual else f', topic_prefix="{prefix}"',
    )
    output.print_line(f"Kafka    {settings.bootstrap_servers}{kind}")
    if stack.dashboard is not None:
        output.print_line(f"page     {stack.dashboard_address}")
    output.print_line(f"worker   {stack.worker_endpoint}/metrics")
    output.print_line(f"sink     {stack.sink_endpoint}/metrics")
    output.print_line(f"lake     {settings.lake}")
    output.print_line(f"logs     {folder / 'logs'}")
    output.print_line(f"\nSend a prediction and a correction:\n\n{snippet}\n")
    query = "select input.body as input, output.body as answered, truth.body as truth from examples_resolved"
    output.print_line(f'Then ask:\n\n{output.program()} sql --lake {shlex.quote(settings.lake)} "{query}"\n')
    worker, sink = (where.removeprefix("http://") for where in (stack.worker_endpoint, stack.sink_endpoint))
    options = f"--bootstrap {settings.bootstrap_servers} --worker {worker} --sink {sink}"
    output.print_line(f"See how far worker and sink are:\n\n{output.program()} status {options}\n")
    output.print_line("Ctrl-C stops everything.")


@sink_app.command(epilog="Example:  flyback sink compact")
def compact(lake: Lake = None, as_json: AsJson = False) -> None:
    """Merge the lake's many small files into few large ones. Readers and the sink may go on meanwhile."""
    from flyback import settings
    from flyback.sinks import maintenance
    from flyback.sinks.tables import TABLES

    where = _existing(settings.load(lake=lake)).lake
    done = [maintenance.compact(where, table) for table in TABLES]
    if as_json:
        output.print_json({item.table: {"merged": item.merged, "written": item.written} for item in done})
    else:
        output.print_table(
            ("table", "files merged", "into"), [(item.table, item.merged, item.written) for item in done]
        )


def _existing(settings: Settings) -> Settings:
    """The settings, if their lake is there: a mistyped folder must not look like a tidy lake."""
    from flyback.errors import LakeError
    from flyback.sinks.storage import is_remote

    if not is_remote(settings.lake) and not Path(settings.lake).is_dir():
        raise LakeError(f"no lake at {settings.lake}: give --lake, or set FLYBACK_LAKE to where it is")
    return settings


@sink_app.command(epilog="Example:  flyback sink vacuum")
def vacuum(lake: Lake = None, as_json: AsJson = False) -> None:
    """Delete files that no version younger than FLYBACK_VACUUM_RETENTION needs; older ones are then unreadable."""
    from flyback import settings
    from flyback.sinks import maintenance
    from flyback.sinks.tables import TABLES

    loaded = _existing(settings.load(lake=lake))
    done = [maintenance.vacuum(loaded.lake, table, loaded.vacuum_retention) for table in TABLES]
    if as_json:
        output.print_json({item.table: {"deleted": item.deleted} for item in done})
    else:
        output.print_table(("table", "files deleted"), [(item.table, item.deleted) for item in done])
