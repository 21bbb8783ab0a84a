"""The Faust app of a worker: it keeps the rate windows, from what the engine wrote. The only file with Faust.

`worker.py` runs it, beside the engine.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import faust
from aiokafka.helpers import create_ssl_context  # type: ignore[import-untyped]
from faust.transport.drivers import aiokafka as driver

from flyback import logs, metrics
from flyback.errors import ConfigurationError, RegistryUnavailable
from flyback.schemas.catalog import Catalog
from flyback.settings import Settings
from flyback.streams import rate_cells, windows
from flyback.streams.process import backoff
from flyback.streams.topology import Topology

log = logs.get_logger(__name__)

WINDOW_SECONDS = 5.0
# windows are computed less often where that would take more of a core than this
WINDOW_SHARE = 0.02
# brokers refuse shorter ones by default, and Faust then hangs
LEAST_SESSION_SECONDS = 6.0
# joining a group takes half of it there
EMBEDDED_SESSION_SECONDS = 2.0


def build_app(
    settings: Settings, topology: Topology, catalog: Catalog, partitions: int, embedded: bool = False
) -> faust.App:
    """The Faust app: an agent that keeps the latest counts in a table, and a task that sums them into gauges.

    `partitions` are those of `failure-rates.v1`; `embedded`: the broker is Flyback's own. The app's group is
    `<prefix>app`, the table's changelog `<prefix>app-rates-changelog`, made on first need with these partitions. The
    table is in memory, and comes back from the changelog.
    """
    folder = settings.state_dir / "faust"
    folder.mkdir(parents=True, exist_ok=True)
    session = max(LEAST_SESSION_SECONDS, settings.session_timeout.total_seconds())
    if embedded:
        session = EMBEDDED_SESSION_SECONDS
    app = faust.App(
        topology.app_group,
        broker=[f"kafka://{address}" for address in addresses(settings)],
        broker_credentials=credentials(settings),
        broker_session_timeout=session,
        broker_heartbeat_interval=session / 4,
        broker_request_timeout=max(90.0, session + 10.0),  # Faust refuses one that is below the session's
        # the embedded broker gives the first offset of the last batch as the end of a partition
        producer_max_batch_size=1 if embedded else 16_384,
        consumer_auto_offset_reset="earliest",
        datadir=str(folder),
        store="memory://",
        table_standby_replicas=0,
        topic_partitions=partitions,
        topic_replication_factor=settings.replication_factor,
        topic_disable_leader=True,
        stream_wait_empty=False,
        web_enabled=False,
    )
    app.transport = _ReadCommitted(app.conf.broker_consumer, app)
    table = _CellTable(app, name="rates", partitions=partitions, key_type=bytes)
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
                gauges.show(windows.totals((counts for counts in kept if counts.partition in owned), _now()))
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
