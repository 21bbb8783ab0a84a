"""The worker process: the engine joins, and Faust, the runtime around it, keeps the rate windows.

The join never waits for Faust: the engine starts first, in a thread of its own, with clients of its own. Faust
reads only what the engine wrote (`failure-rates.v1`); if it does not come up or crashes, that is logged, it is
started again, and the engine goes on. If the engine ends, the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import faust
import mode
from aiokafka.helpers import create_ssl_context
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from faust.transport.drivers import aiokafka as driver

from flyback import logs, metrics
from flyback.dashboards.endpoint import serve
from flyback.errors import FlybackError, InvalidEvent, RegistryUnavailable, UnknownSchema
from flyback.schemas import codec, wire
from flyback.schemas.catalog import Catalog, open_catalog
from flyback.settings import Settings
from flyback.streams import windows
from flyback.streams.topology import TOPICS, Topology

log = logs.get_logger(__name__)

EXIT_SECONDS = 4.5
APP_STOP_SECONDS = 2.5
APP_START_SECONDS = 60.0
REPORT_SECONDS = 60.0
WINDOW_SECONDS = 5.0
# windows are computed less often where that would take more of a core than this
WINDOW_SHARE = 0.02
EMBEDDED_CLUSTER = "tansu_cluster"
COUNTERS = ("events", "derived", "duplicates", "dead_letters", "transactions")


class RunnableEngine(Protocol):
    """What this file needs of `flyback.streams.engine.Engine`."""

    def run(self) -> None:
        """Block until stopped; returns at once if `stop` came first. Raises what a supervisor has to know."""
        ...

    def stop(self) -> None:
        """Finish the transaction under way, close everything, let `run` return. From any thread, also before `run`."""
        ...

    def status(self) -> dict[str, object]:
        """Numbers for people and probes: COUNTERS since the start, and the present state. From any thread."""
        ...


BuildEngine = Callable[[Settings, Topology, Catalog], RunnableEngine]
_Message = tuple[bytes, int, bytes | None]  # key, partition, value
_Keyed = tuple[bytes, windows.MinuteCounts]


def real_engine(settings: Settings, topology: Topology, catalog: Catalog) -> RunnableEngine:
    """The engine on a real Kafka."""
    from flyback.streams.clients import KafkaClients
    from flyback.streams.engine import Engine

    return Engine(settings, topology, catalog, clients=KafkaClients(settings))


def run(settings: Settings, build: BuildEngine = real_engine) -> int:
    """Be the worker until SIGTERM or SIGINT, or until the engine ends; gives the exit code.

    For the main thread of a process of its own: it takes over signals and logs, and `EXIT_SECONDS` after it began
    to stop it ends the process, whatever still hangs. 0 after a signal, `FlybackError.exit_code` after an error of
    ours, 1 after any other.
    """
    logs.configure(settings)
    for chatty in ("faust", "mode", "aiokafka"):
        # they report with tracebacks what we say in a line, and a lost broker several times a second
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    try:
        return asyncio.run(_Worker(settings, build).run())
    except FlybackError as error:
        log.error(str(error))
        return error.exit_code


class _Worker:
    """The process's parts and the order in which they start and stop."""

    def __init__(self, settings: Settings, build: BuildEngine) -> None:
        self._settings = settings
        self._topology = Topology(settings)
        self._engine = EngineService(settings, self._topology, build)
        self._windows = RateWindows(settings, self._topology)

    async def run(self) -> int:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        with serve(self._settings, self._settings.worker_http_port, self.health) as endpoint:
            self._say_what_started(endpoint.port)
            await self._engine.start()
            beside = [asyncio.create_task(self._windows.run()), asyncio.create_task(self._report())]
            await _first(stop.wait(), self._engine.finished.wait())
            code = self._exit_code()
            _end_process_after(EXIT_SECONDS, code)
            for task in beside:
                task.cancel()
            await asyncio.gather(self._engine.stop(), *beside, return_exceptions=True)
            code = code or self._exit_code()
        log.info("worker stopped", exit_code=code)
        return code

    def health(self) -> dict[str, object]:
        """`ok` while the engine's loop runs. The windows are reported but do not count: the join works without."""
        return {
            **self._engine.status(),
            "ok": self._engine.phase == "running",
            "engine": self._engine.phase,
            "error": str(self._engine.error) if self._engine.error else None,
            "windows": self._windows.phase,
        }

    def _exit_code(self) -> int:
        error = self._engine.error
        if error is None:
            return 0
        if isinstance(error, FlybackError):
            log.error(str(error), error=type(error).__name__)
            return error.exit_code
        log.error("the engine failed", exc_info=error)
        return 1

    def _say_what_started(self, port: int) -> None:
        settings = self._settings
        registry = urlsplit(settings.registry_url or "")
        log.info(
            "worker starts",
            bootstrap=settings.bootstrap_servers,
            security=settings.security_protocol,
            # an address may carry a password
            registry=registry._replace(netloc=registry.netloc.rpartition("@")[2]).geturl() or "none",
            group=settings.group,
            prefix=settings.topic_prefix,
            state_dir=str(settings.state_dir),
            http=f"{settings.http_host}:{port}",
        )

    async def _report(self) -> None:
        """Once a minute, what the last minute brought."""
        before = dict.fromkeys(COUNTERS, 0)
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            status = self._engine.status()
            now = {name: value for name in COUNTERS if isinstance(value := status.get(name), int)}
            state = {name: value for name, value in status.items() if name not in COUNTERS}
            log.info("last minute", **{name: now[name] - before[name] for name in now}, **state)
            before |= now


class EngineService(mode.Service):  # type: ignore[misc]  # mode is untyped
    """The engine's blocking loop in a thread of its own, as a service of Faust's world.

    `phase` is starting, running, stopped or failed; `error` is what the engine raised; `finished` is set at the end.
    """

    mundane_level = "debug"

    def __init__(self, settings: Settings, topology: Topology, build: BuildEngine) -> None:
        super().__init__()
        self.phase = "starting"
        self.error: BaseException | None = None
        self.finished = asyncio.Event()
        self._settings = settings
        self._topology = topology
        self._build = build
        self._engine: RunnableEngine | None = None
        self._stopping = threading.Event()

    async def on_start(self) -> None:
        loop = asyncio.get_running_loop()
        # a daemon: a thread that hangs in a client's call must not keep the process
        threading.Thread(target=self._work, args=(loop,), name="engine", daemon=True).start()

    async def on_stop(self) -> None:
        self._stopping.set()
        if self._engine is not None:
            self._engine.stop()
        await self.finished.wait()

    def status(self) -> dict[str, object]:
        """The engine's own, empty before there is one."""
        return self._engine.status() if self._engine is not None else {}

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            catalog = _registered_catalog(self._settings, self._topology, self._stopping)
            if catalog is not None:
                self._engine = self._build(self._settings, self._topology, catalog)
                # `on_stop` sets the event before it looks for the engine, so one of the two sees the other
                if not self._stopping.is_set():
                    self.phase = "running"
                    self._engine.run()
            self.phase = "stopped"
        except BaseException as error:  # it is the main thread that knows what to do about it
            self.error = error
            self.phase = "failed"
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self.finished.set)


def _registered_catalog(settings: Settings, topology: Topology, stopping: threading.Event) -> Catalog | None:
    """The catalog, once it has ids for all that the engine writes; None if we were stopped before that."""
    catalog = open_catalog(settings)
    records = [topic.record for topic in TOPICS if topic.record and topic.writer == "engine"]
    for delay in _backoff():
        try:
            for record in records:
                catalog.id_for(record, topology.topic_of(record))
            return catalog
        except RegistryUnavailable as error:
            metrics.WAITS.labels("registry").inc()
            log.warning("waiting for the schema registry", error=str(error), retry_seconds=delay)
        if stopping.wait(delay):
            break
    return None


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What Faust has to be told about the brokers."""

    partitions: int
    embedded: bool


class RateWindows:
    """Runs the Faust app, and runs a new one when it crashed. `phase` is starting, running or waiting."""

    def __init__(self, settings: Settings, topology: Topology) -> None:
        self.phase = "starting"
        self._settings = settings
        self._topology = topology
        self._catalog = open_catalog(settings)

    async def run(self) -> None:
        """Until cancelled."""
        for delay in _backoff():
            self.phase = "starting"
            try:
                cluster = await self._reachable_cluster()
                await self._run_once(build_app(self._settings, self._topology, self._catalog, cluster))
                reason = "it stopped by itself"
            except (
                Exception
            ) as error:  # Faust lets everything through, and the engine must not suffer from it
                reason = f"{type(error).__name__}: {error}"
            self.phase = "waiting"
            metrics.WAITS.labels("windows").inc()
            log.error("the rate windows failed; the join goes on", error=reason, retry_seconds=delay)
            await asyncio.sleep(delay)

    async def _run_once(self, app: faust.App) -> None:
        started = asyncio.create_task(app.start())
        ended = asyncio.create_task(app.wait_until_stopped())
        try:
            await asyncio.wait(
                {started, ended}, timeout=APP_START_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if not started.done() and not ended.done():
                # not ended and begun anew: a long recovery looks just the same
                log.error(
                    f"the rate windows are not up after {APP_START_SECONDS:g} s; the join goes on. If this stays: "
                    "the broker may refuse Faust's session timeout (FLYBACK_SESSION_TIMEOUT)"
                )
                await asyncio.wait({started, ended}, return_when=asyncio.FIRST_COMPLETED)
            if started.done() and started.exception() is None and not ended.done():
                self.phase = "running"
                log.info("rate windows run", app=app.conf.id)
                await ended
            if started.done():
                started.result()
            if app.crash_reason is not None:
                raise app.crash_reason
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(app.stop(), APP_STOP_SECONDS)
            for task in (started, ended):
                task.cancel()

    async def _reachable_cluster(self) -> _Cluster:
        """Waits until brokers answer and the topic is there: Faust itself would hang, or make its own guess."""
        topic = self._topology.topic_of("FailureRate")
        admin = AdminClient(self._settings.kafka(), logger=logging.getLogger("librdkafka"))
        for delay in _backoff():
            with contextlib.suppress(KafkaException):
                # in a thread since it blocks, and briefly since a stop waits for that thread
                found = await asyncio.to_thread(admin.list_topics, topic, timeout=1.0)
                if partitions := len(found.topics[topic].partitions):
                    return _Cluster(partitions, embedded=found.cluster_id == EMBEDDED_CLUSTER)
            metrics.WAITS.labels("broker").inc()
            await asyncio.sleep(delay)
        raise AssertionError("unreachable")


def build_app(settings: Settings, topology: Topology, catalog: Catalog, cluster: _Cluster) -> faust.App:
    """The Faust app: an agent that keeps the latest counts in a table, and a task that sums them into gauges."""
    folder = settings.state_dir / "faust"
    folder.mkdir(parents=True, exist_ok=True)
    session = 2.0 if cluster.embedded else max(6.0, settings.session_timeout.total_seconds())
    app = faust.App(
        f"{settings.topic_prefix}app",
        broker=[
            f"kafka://{address.rpartition('://')[2].strip()}"
            for address in settings.bootstrap_servers.split(",")
        ],
        broker_credentials=_credentials(settings),
        broker_session_timeout=session,
        broker_heartbeat_interval=session / 4,
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
    rates = topology.topic_of("FailureRate")
    table = app.tables.add(
        _CellTable(app, name="rates", partitions=cluster.partitions, key_type=bytes)
    )
    channel = app.topic(rates, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(channel, name="rates")
    async def keep_latest(stream: faust.StreamT) -> None:
        # in batches: the engine writes a busy cell again and again, and only the last value matters
        async for events in stream.take_events(5_000, within=1.0):
            try:
                latest = {event.key: event for event in events}
                messages = [(key, event.message.partition, event.value) for key, event in latest.items()]
                cells = await _read_patiently(messages, catalog, rates)
                now = time.time_ns() // 1_000
                for key, cell in cells:
                    if not windows.expired(cell.minute, now):
                        table[key] = list(cell)
            except Exception as error:  # what leaves an agent acknowledges the event and ends the agent
                log.error("could not keep failure rates", error=f"{type(error).__name__}: {error}")

    @app.task
    async def publish_windows() -> None:
        gauges = WindowGauges()
        while not app.should_stop:
            began = time.perf_counter()
            try:
                now = time.time_ns() // 1_000
                for key in [key for key, cell in table.data.items() if windows.expired(cell[1], now)]:
                    del table[key]
                # after a rebalance the table still holds what now belongs to another worker
                owned = {tp.partition for tp in app.consumer.assignment() if tp.topic == rates}
                cells = (windows.MinuteCounts(*cell) for cell in table.data.values() if cell[0] in owned)
                gauges.show(windows.with_bounded_segments(windows.totals(cells, now)))
            except Exception as error:  # a crash would take the whole app with it
                log.error("could not compute rate windows", error=f"{type(error).__name__}: {error}")
            await app.sleep(max(WINDOW_SECONDS, (time.perf_counter() - began) / WINDOW_SHARE))

    return app


class WindowGauges:
    """The gauges of the windows; rows that are gone are removed from the exposition."""

    def __init__(self) -> None:
        self._shown: set[windows.Row] = set()
        self._gauges = (metrics.WINDOW_PREDICTIONS, metrics.WINDOW_REVIEWED, metrics.WINDOW_FAILURES)
        for gauge in self._gauges:
            gauge.clear()  # of an earlier app in this process

    def show(self, rows: dict[windows.Row, windows.Counts]) -> None:
        for row, counts in rows.items():
            for gauge, value in zip(self._gauges, counts, strict=True):
                gauge.labels(*row).set(value)
        for row in self._shown - rows.keys():
            for gauge in self._gauges:
                gauge.remove(*row)
        self._shown = set(rows)


class _CellTable(faust.Table):  # type: ignore[misc]  # Faust is untyped
    """A table whose keys name their own partition, so that it can be written to a batch at a time."""

    logger = logging.getLogger("faust")

    def partition_for_key(self, key: bytes) -> int:
        return int(json.loads(key)[0])


class _CommittedThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    logger = logging.getLogger("faust")

    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> Any:
        consumer = super()._create_consumer(loop)
        # Faust reads uncommitted unless it is itself transactional, and has no setting for it
        consumer._isolation_level = "read_committed"
        return consumer


class _CommittedConsumer(driver.Consumer):  # type: ignore[misc]
    logger = logging.getLogger("faust")

    def _new_consumer_thread(self) -> _CommittedThread:
        return _CommittedThread(self, loop=self.loop, beacon=self.beacon)


class _ReadCommitted(driver.Transport):  # type: ignore[misc]
    """Faust's Kafka transport, blind to what aborted transactions wrote."""

    Consumer = _CommittedConsumer


async def _read_patiently(messages: Sequence[_Message], catalog: Catalog, topic: str) -> list[_Keyed]:
    """`_read_cells`, again and again while a registry is down."""
    for delay in _backoff():
        try:
            # in a thread, since an unknown schema id asks the registry
            return await asyncio.to_thread(_read_cells, messages, catalog, topic)
        except RegistryUnavailable:
            metrics.WAITS.labels("registry").inc()
            await asyncio.sleep(delay)
    raise AssertionError("unreachable")


def _read_cells(messages: Sequence[_Message], catalog: Catalog, topic: str) -> list[_Keyed]:
    """Keys with their counts; what cannot be read is skipped and counted. Raises RegistryUnavailable."""
    found = []
    for key, partition, value in messages:
        try:
            schema = catalog.schema(wire.schema_id(value))
            record = codec.decode("FailureRate", value or b"", schema)
            if record["partition"] != partition or json.loads(key)[0] != partition:
                raise InvalidEvent(
                    "wrong_partition", "partition", f"{record['partition']}, found in {partition}"
                )
        except (InvalidEvent, UnknownSchema, ValueError) as error:
            metrics.APP_SKIPPED.labels(topic, getattr(error, "reason", "unknown_schema")).inc()
            continue
        found.append((key, windows.MinuteCounts(*(record[name] for name in windows.MinuteCounts._fields))))
    return found


def _credentials(settings: Settings) -> Any:
    """The security settings in aiokafka's terms; None for PLAINTEXT. Raises ConfigurationError as `kafka()` does."""
    config = settings.kafka()  # checks that they are complete
    context = None
    if settings.security_protocol.endswith("SSL"):
        context = create_ssl_context(
            cafile=config.get("ssl.ca.location"),
            certfile=config.get("ssl.certificate.location"),
            keyfile=config.get("ssl.key.location"),
            password=config.get("ssl.key.password"),
        )
    if settings.security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=config["sasl.username"],
            password=config["sasl.password"],
            mechanism=config["sasl.mechanism"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context is not None else None


def _backoff(first: float = 0.5, most: float = 30.0) -> Iterator[float]:
    """Seconds to wait before each next try, without end."""
    while True:
        yield first
        first = min(2 * first, most)


async def _first(*awaitables: Any) -> None:
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def _end_process_after(seconds: float, code: int) -> None:
    """From a thread, so that nothing that hangs can hold it up."""

    def end() -> None:
        log.warning("worker ended without waiting any longer", after_seconds=seconds, exit_code=code)
        sys.stderr.flush()
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
