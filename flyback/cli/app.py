"""All commands, put together. Each imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flyback.cli import (
    alerts,
    bench,
    dashboard,
    demo,
    dlq,
    doctor,
    output,
    rates,
    reconcile,
    schemas,
    services,
    sql,
    status,
    topics,
    topology,
)
from flyback.errors import FlybackError

# Where a missing package comes from.
_EXTRA_OF = {
    "avro": "registry",
    "deltalake": "sink",
    "duckdb": "sink",
    "fastapi": "dashboard",
    "faust": "worker",
    "mode": "worker",
    "prometheus_client": "worker",
    "pyarrow": "sink",
    "pyruhvro": "sink",
    "rocksdict": "worker",
    "starlette": "dashboard",
    "uvicorn": "dashboard",
    "vaderSentiment": "demo",
}


class Commands(TyperGroup):
    """Shows our own errors as one line and ends with their exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except FlybackError as error:
            output.complain(str(error))
            raise typer.Exit(error.exit_code) from None
        except ModuleNotFoundError as error:
            extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            output.complain(f"this command needs {error.name}: type `pip install 'flyback[{extra}]'`")
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Flyback: predictions and corrections, joined exactly once into training data.",
    epilog="Example:  flyback demo",
)
app.command("up", epilog="Example:  flyback up")(services.up)
app.command("worker", epilog="Example:  flyback worker --bootstrap kafka:9092")(services.worker)
app.add_typer(services.sink_app, name="sink")
app.command("dashboard", epilog="Example:  flyback dashboard --bootstrap kafka:9092 --port 8000")(dashboard.dashboard)
app.add_typer(topics.app, name="topics")
app.command("doctor", epilog="Example:  flyback doctor --bootstrap kafka:9092")(doctor.doctor)
app.command("status", epilog="Example:  flyback status --worker 10.0.0.7:9464 --worker 10.0.0.8:9464 --watch")(
    status.status
)
app.command("topology", epilog="Example:  flyback topology --format mermaid > topology.mmd")(topology.topology)
app.add_typer(schemas.app, name="schemas")
app.command("sql", epilog='Example:  flyback sql "select segment, count(*) from examples group by all"')(sql.sql)
app.command("rates", epilog="Example:  flyback rates --by segment,version --since 24h --watch")(rates.rates)
app.add_typer(alerts.app, name="alerts")
app.add_typer(dlq.app, name="dlq")
app.command("reconcile", epilog="Example:  flyback reconcile --dry-run")(reconcile.reconcile)
app.command("bench", epilog="Example:  flyback bench --bootstrap kafka:9092 --folder /srv/flyback")(bench.bench)
app.command("demo", epilog="Example:  flyback demo --limit 1000")(demo.demo)


def _version(wanted: bool) -> None:
    if wanted:
        from flyback import __version__

        output.print_line(f"flyback {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Flyback: predictions and corrections, joined exactly once into training data."""
