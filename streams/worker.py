"""The worker: the engine joins; beside it a Faust app keeps the rate windows, and a watch looks at the alert rules.

The join never waits for Faust: the engine starts first, in a thread and with clients of its own, before Faust is even
imported. Faust reads only what the engine wrote (`failure-rates.v1`); where it does not come up, or crashes, that is
logged, it is started again, and the engine goes on. When the engine ends, the process ends (`process.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import warnings
from asyncio import Task
from collections.abc import Callable

import mode
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from flyback import logs, metrics
from flyback.errors import FlybackError
from flyback.schemas.catalog import Catalog, open_catalog
from flyback.settings import Settings
from flyback.streams import process, rate_cells
from flyback.streams.alert_rules import rules_of
from flyback.streams.alert_watch import AlertWatch
from flyback.streams.alert_webhook import webhook_of
from flyback.streams.clients import KafkaClients
from flyback.streams.engine import Engine
from flyback.streams.process import RunnableEngine, backoff
from flyback.streams.topology import EMBEDDED_CLUSTER, Topology

log = logs.get_logger(__name__)

STOP_SECONDS = 2.5
START_SECONDS = 60.0

BuildEngine = Callable[[Settings, Topology, Catalog], RunnableEngine]


def engine_on_kafka(
    settings: Settings, topology: Topology, catalog: Catalog, accept_loss: bool = False
) -> RunnableEngine:
    """The engine with real clients."""
    return Engine(settings, topology, catalog, clients=KafkaClients(settings), accept_loss=accept_loss)


def run(settings: Settings, build_engine: BuildEngine = engine_on_kafka) -> int:
    """Be the worker until SIGTERM or SIGINT, or until the engine ends; gives the exit code (see `process.run`)."""
    logs.configure(settings)
    for chatty in ("faust", "mode", "aiokafka"):
        # what matters we say in a line; they add tracebacks, and say several times a second that a broker is lost
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    # of tasks that are cancelled before they ran
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="mode")
    threading.excepthook = _report_thread
    topology = Topology(settings)
    try:
        catalog = open_catalog(settings)
        rules = rules_of(settings)
        alerts = AlertWatch(settings, topology, catalog, KafkaClients(settings), rules, webhook_of(settings, rules))
        engine = build_engine(settings, topology, catalog)
        windows = RateWindows(settings, topology, catalog)
        return process.run(settings, engine, {"windows": windows, "alerts": alerts})
    except FlybackError as error:
        log.error(str(error), error=type(error).__name__)
        return error.exit_code


class RateWindows:
    """Runs the Faust app, and runs a new one when it crashed. `phase` is starting, running or waiting."""

    def __init__(self, settings: Settings, topology: Topology, catalog: Catalog) -> None:
        self.phase = "starting"
        self._settings = settings
        self._topology = topology
        self._catalog = catalog

    async def run(self) -> None:
        """Until cancelled."""
        for delay in backoff():
            self.phase = "starting"
            try:
                build_app = await asyncio.to_thread(_with_faust)
                partitions, embedded = await self._reachable_topic()
                app = build_app(self._settings, self._topology, self._catalog, partitions, embedded)
                await self._run_once(app)
                reason = "it stopped by itself"
            except Exception as error:  # Faust lets everything through, and the engine must not suffer from it
                reason = f"{type(error).__name__}: {error}"
            self.phase = "waiting"
            metrics.WAITS.labels("windows").inc()
            log.error("the rate windows failed; the join goes on", reason=reason, retry_seconds=delay)
            await asyncio.sleep(delay)

    async def _run_once(self, app: mode.Service) -> None:
        started = asyncio.create_task(app.start())
        ended = asyncio.create_task(app.wait_until_stopped())
        try:
            done = await _first_of(started, ended, START_SECONDS)
            if not done:
                # not ended and begun anew: a long recovery looks just the same
                log.error(
                    "the rate windows are not up yet; the join goes on. If this stays: does the broker allow "
                    "FLYBACK_SESSION_TIMEOUT?",
                    after_seconds=START_SECONDS,
                )
                done = await _first_of(started, ended, None)
            if started in done:
                started.result()
                self.phase = "running"
                log.info("rate windows run", app=self._topology.app_group)
                await ended
            if app.crash_reason is not None:
                raise app.crash_reason
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(app.stop(), STOP_SECONDS)
            for task in (started, ended):
                task.cancel()

    async def _reachable_topic(self) -> tuple[int, bool]:
        """How many partitions `failure-rates.v1` has, and whether the broker is the embedded one.

        Waits until brokers answer and the topic is there: Faust itself would crash, or make the topic.
        """
        topic = self._topology.topic_of(rate_cells.RECORD)
        for delay in backoff():
            # a new one each time: one that lost its only broker may never find it again
            admin = AdminClient(self._settings.kafka(), logger=logging.getLogger("librdkafka"))
            with contextlib.suppress(KafkaException):
                # in a thread since it blocks, and briefly since a stop waits for that thread
                found = await asyncio.to_thread(admin.list_topics, topic, timeout=1.0)
                if partitions := len(found.topics[topic].partitions):
                    return partitions, found.cluster_id == EMBEDDED_CLUSTER
            metrics.WAITS.labels("broker").inc()
            await asyncio.sleep(delay)
        raise AssertionError("backoff never ends")


def _with_faust() -> Callable[..., mode.Service]:
    """What builds the app. To import it takes a quarter of a second, which the engine need not wait for."""
    from flyback.streams.app import build_app

    return build_app


async def _first_of(one: Task[None], other: Task[None], seconds: float | None) -> set[Task[None]]:
    done, _ = await asyncio.wait({one, other}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    return done


def _report_thread(failed: threading.ExceptHookArgs) -> None:
    """One line instead of a traceback: Faust's consumer thread falls over a broker that is lost."""
    name = failed.thread.name if failed.thread is not None else None
    log.warning("a thread ended", thread=name, reason=f"{failed.exc_type.__name__}: {failed.exc_value}")
