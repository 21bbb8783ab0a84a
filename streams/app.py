"""The worker: the engine joins, and Faust, the runtime around it, keeps the rate windows. The only file with Faust.

The join never waits for Faust: the engine starts first, in a thread and with clients of its own. Faust reads only
what the engine wrote (`failure-rates.v1`); where it does not come up, or crashes, that is logged, it is started
again, and the engine goes on. When the engine ends, the process ends (`process.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import warnings
from asyncio import Task
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import faust
from aiokafka.helpers import create_ssl_context  # type: ignore[import-untyped]
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from faust.transport.drivers import aiokafka as driver

from flyback import logs, metrics
from flyback.errors import ConfigurationError, FlybackError, RegistryUnavailable
from flyback.schemas.catalog import Catalog, open_catalog
from flyback.settings import Settings
from flyback.streams import process, rate_cells, windows
from flyback.streams.clients import KafkaClients
from flyback.streams.engine import Engine
from flyback.streams.process import RunnableEngine, backoff
from flyback.streams.topology import EMBEDDED_CLUSTER, Topology

log = logs.get_logger(__name__)

STOP_SECONDS = 2.5
START_SECONDS = 60.0
WINDOW_SECONDS = 5.0
# windows are computed less often where that would take more of a core than this
WINDOW_SHARE = 0.02
# brokers refuse shorter ones by default, and Faust then hangs
LEAST_SESSION_SECONDS = 6.0
# joining a group takes half of it there
EMBEDDED_SESSION_SECONDS = 2.0


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
        engine = build_engine(settings, topology, catalog)
        return process.run(settings, engine, RateWindows(settings, topology, catalog))
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
                cluster = await self._reachable_cluster()
                await self._run_once(build_app(self._settings, self._topology, self._catalog, cluster))
                reason = "it stopped by itself"
            except Exception as error:  # Faust lets everything through, and the engine must not suffer from it
                reason = f"{type(error).__name__}: {error}"
            self.phase = "waiting"
            metrics.WAITS.labels("windows").inc()
            log.error("the rate windows failed; the join goes on", reason=reason, retry_seconds=delay)
            await asyncio.sleep(delay)

    async def _run_once(self, app: faust.App) -> None:
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
                log.info("rate windows run", app=app.conf.id)
                await ended
            if app.crash_reason is not None:
                raise app.crash_reason
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(app.stop(), STOP_SECONDS)
            for task in (started, ended):
                task.cancel()

    async def _reachable_cluster(self) -> Cluster:
        """Waits until brokers answer and the topic is there: Faust itself would crash, or make the topic."""
        topic = self._topology.topic_of(rate_cells.RECORD)
        admin = AdminClient(self._settings.kafka(), logger=logging.getLogger("librdkafka"))
        for delay in backoff():
            with contextlib.suppress(KafkaException):
                # in a thread since it blocks, and briefly since a stop waits for that thread
                found = await asyncio.to_thread(admin.list_topics, topic, timeout=1.0)
                if partitions := len(found.topics[topic].partitions):
                    return Cluster(partitions, embedded=found.cluster_id == EMBEDDED_CLUSTER)
            metrics.WAITS.labels("broker").inc()
            await asyncio.sleep(delay)
        raise AssertionError("backoff never ends")


@dataclass(frozen=True, slots=True)
class Cluster:
    """What Faust has to be told of the brokers: partitions of `failure-rates.v1`, and whose they are."""

    partitions: int
    embedded: bool


def build_app(settings: Settings, topology: Topology, catalog: Catalog, cluster: Cluster) -> faust.App:
    """The Faust app: an agent that keeps the latest counts in a table, and a task that sums them into gauges.

    Its group is `<prefix>app`, the table's changelog `<prefix>app-rates-changelog`, made on first need with the
    partitions of `failure-rates.v1`. The table is in memory, and comes back from the changelog.
    """
    folder = settings.state_dir / "faust"
    folder.mkdir(parents=True, exist_ok=True)
    session = max(LEAST_SESSION_SECONDS, settings.session_timeout.total_seconds())
    if cluster.embedded:
        session = EMBEDDED_SESSION_SECONDS
    app = faust.App(
        topology.app_group,
        broker=[f"kafka://{address}" for address in addresses(settings)],
        broker_credentials=credentials(settings),
        broker_session_timeout=session,
        broker_heartbeat_interval=session / 4,
        broker_request_timeout=max(90.0, session + 10.0),  # Faust refuses one that is below the session's
        # the embedded broker gives the first offset of the last batch as the end of a partition
        producer_max_batch_size=1 if cluster.embedded else 16_384,
        consumer_auto_offset_reset="earliest",
        datadir=str(folder),
        store="memory://",
        table_standby_replicas=0,
        topic_partitions=cluster.partitions,
        topic_replication_factor=settings.replication_factor,
        topic_disable_leader=True,
        stream_wait_empty=False,
        web_enabled=False,
    )
    app.transport = _ReadCommitted(app.conf.broker_consumer, app)
    table = _CellTable(app, name="rates", partitions=cluster.partitions, key_type=bytes)
    app.tables.add(table)
    topic = topology.topic_of(rate_cells.RECORD)
    channel = app.topic(topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(channel, name="rates")
    async def keep_latest(stream: Any) -> None:
        # in batches: the engine writes a busy cell again and again, and only the last value matters
        async for events in stream.take_events(5_000, within=1.0):
            try:
                latest = {event.key: event.message for event in events}
                messages = [(key, message.partition, message.value) for key, message in latest.items()]
                now = _now()
                for key, counts in await _read_patiently(messages, catalog, topic):
                    if not windows.expired(counts.minute, now):
                        table[key] = list(counts)
            except Exception as error:  # what leaves an agent acknowledges the event and ends the agent
                log.error("failure rates were not kept", reason=f"{type(error).__name__}: {error}")

    async def publish_windows() -> None:
        gauges = rate_cells.WindowGauges()
        while not app.should_stop:
            began = time.perf_counter()
            try:
                _drop_expired(table)
                # after a rebalance the table still holds what now belongs to another worker
                owned = {tp.partition for tp in app.consumer.assignment() if tp.topic == topic}
                kept = (windows.MinuteCounts(*counts) for counts in table.data.values())
                rows = windows.totals((counts for counts in kept if counts.partition in owned), _now())
                gauges.show(windows.with_bounded_segments(rows))
            except Exception as error:  # what leaves a task crashes the app
                log.error("rate windows were not computed", reason=f"{type(error).__name__}: {error}")
            await app.sleep(max(WINDOW_SECONDS, (time.perf_counter() - began) / WINDOW_SHARE))

    app.task(publish_windows)
    return app


def addresses(settings: Settings) -> list[str]:
    """`host:port` of each broker, without the protocol that librdkafka allows before it."""
    return [address.rpartition("://")[2].strip() for address in settings.bootstrap_servers.split(",")]


def credentials(settings: Settings) -> Any:
    """The security settings in Faust's terms; None for PLAINTEXT.

    Raises ConfigurationError where one is missing or a file cannot be read.
    """
    config = settings.kafka()
    context = None
    if settings.security_protocol.endswith("SSL"):
        try:
            context = create_ssl_context(
                cafile=config.get("ssl.ca.location"),
                certfile=config.get("ssl.certificate.location"),
                keyfile=config.get("ssl.key.location"),
                password=config.get("ssl.key.password"),
            )
        except OSError as error:  # ssl's own errors are OSErrors too
            raise ConfigurationError(
                f"KAFKA_SSL_CA_LOCATION, KAFKA_SSL_CERTIFICATE_LOCATION, KAFKA_SSL_KEY_LOCATION or "
                f"KAFKA_SSL_KEY_PASSWORD: {error}"
            ) from error
    if settings.security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=config["sasl.username"],
            password=config["sasl.password"],
            mechanism=config["sasl.mechanism"],
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


async def _first_of(one: Task[None], other: Task[None], seconds: float | None) -> set[Task[None]]:
    done, _ = await asyncio.wait({one, other}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    return done


async def _read_patiently(
    messages: Sequence[rate_cells.Message], catalog: Catalog, topic: str
) -> list[tuple[bytes, windows.MinuteCounts]]:
    """`read_cells`, again and again while a registry is down."""
    for delay in backoff():
        try:
            # in a thread, since an unknown schema id asks the registry
            return await asyncio.to_thread(rate_cells.read_cells, messages, catalog, topic)
        except RegistryUnavailable:
            metrics.WAITS.labels("registry").inc()
            await asyncio.sleep(delay)
    raise AssertionError("backoff never ends")


def _drop_expired(table: _CellTable) -> None:
    now = _now()
    minute = windows.MinuteCounts._fields.index("minute")
    for key in [key for key, counts in table.data.items() if windows.expired(counts[minute], now)]:
        del table[key]


def _report_thread(failed: threading.ExceptHookArgs) -> None:
    """One line instead of a traceback: Faust's consumer thread falls over a broker that is lost."""
    name = failed.thread.name if failed.thread is not None else None
    log.warning("a thread ended", thread=name, reason=f"{failed.exc_type.__name__}: {failed.exc_value}")


def _now() -> int:
    return time.time_ns() // 1_000


class _CellTable(faust.Table[bytes, list[Any]]):
    """A table whose keys name their own partition, so that it can be written to a batch at a time."""

    logger = logging.getLogger("faust")

    def partition_for_key(self, key: bytes) -> int:
        return rate_cells.partition_of(key)


class _CommittedThread(driver.AIOKafkaConsumerThread):
    logger = logging.getLogger("faust")

    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> Any:
        consumer = super()._create_consumer(loop)
        # Faust reads uncommitted unless it is itself transactional, and has no setting for it
        consumer._isolation_level = "read_committed"
        return consumer


class _CommittedConsumer(driver.Consumer):
    logger = logging.getLogger("faust")

    def _new_consumer_thread(self) -> _CommittedThread:
        return _CommittedThread(self, loop=self.loop, beacon=self.beacon)


class _ReadCommitted(driver.Transport):
    """Faust's Kafka transport, blind to what aborted transactions wrote."""

    Consumer = _CommittedConsumer
