"""The sink: Kafka to the lake, each message once.

    open every table and take the next offsets from it
    read Kafka from there:
        put each message into its table's buffer
        for each table whose buffer is old or large enough:
            decode the messages; what is invalid is counted, or dead-lettered
            commit rows and offsets at once

A crash anywhere loses what was in memory and nothing else: the offsets in the tables say where to go on.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import TypeVar

import pyarrow as pa

from flyback import history, metrics
from flyback.errors import BrokerError, LakeError, RegistryUnavailable, UnknownSchema
from flyback.logs import get_logger
from flyback.schemas import wire
from flyback.schemas.catalog import Catalog, open_catalog
from flyback.schemas.rules import MAX_MICROS
from flyback.settings import Settings
from flyback.sinks import dead_letters
from flyback.sinks.buffer import Buffer
from flyback.sinks.columns import PROVENANCE
from flyback.sinks.dead_letter_producer import DeadLetterProducer
from flyback.sinks.decode import Decoder, Rejected
from flyback.sinks.maintenance import Maintenance
from flyback.sinks.message import Message, Messages, Place
from flyback.sinks.reader import Reader, Sources
from flyback.sinks.standstill import Standstill
from flyback.sinks.storage import prepare
from flyback.sinks.tables import TABLES, Source, Table, TableWriter
from flyback.streams import dlq
from flyback.streams.topology import Topology

_log = get_logger(__name__)
_POLL = 0.1  # seconds that one read may wait
_REPORT = 60.0  # seconds between two log lines
_PATIENCE = 5.0  # seconds between two attempts, at most
_GRACE = 4.5  # seconds from a signal to the end, whatever hangs
_T = TypeVar("_T")


class _Stopped(Exception):
    """`stop()` was called while the sink waited for something outside."""


class Sink:
    """Fills one lake from one Kafka until it is stopped. `run` may be called once."""

    def __init__(self, settings: Settings, topology: Topology, catalog: Catalog, accept_loss: bool = False) -> None:
        """`accept_loss`: start at the log start where Kafka deleted messages before they reached the lake."""
        self._accept_loss = accept_loss
        self._kafka = Sources(settings)
        self._settings = settings
        self._topology = topology
        self._catalog = catalog
        self._stopping = threading.Event()
        self._waiting: str | None = None
        self._last_commit: float | None = None
        self._tables = {topic: table.name for table in TABLES for topic in table.topics(topology)}
        self._buffers: dict[str, Buffer] = {}
        self._writers: dict[str, TableWriter] = {}
        self._sources: dict[str, Source] = {}
        self._rows: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._dead_letters = DeadLetterProducer(settings, topology)
        self._letters = dlq.Limit(settings.max_dead_letters)
        metrics.LAG.labels("sink").set_function(self.lag)

    def run(self) -> None:
        """Fill the lake until `stop()`. Then what is buffered is committed, if Kafka and the lake let us.

        Raises RefusedToStart (the lake is another cluster's, or Kafka lost messages), WorkerFenced (another sink
        writes), TopicMismatch, DeadLetterRateExceeded, UnknownSchema (after FLYBACK_UNKNOWN_SCHEMA_TIMEOUT),
        BrokerError. In all cases nothing is lost: a new run goes on where the tables end.
        """
        try:
            reader = self._open()
        except _Stopped:
            return
        maintenance = Maintenance(self._settings)
        maintenance.start()
        standstill = Standstill(self._settings)
        reported = time.monotonic()
        try:
            while not self._stopping.is_set():
                took = self._take(reader)
                self._commit_due()
                standstill.check(self._positions, ran_dry=not took)
                if time.monotonic() - reported >= _REPORT:
                    self._report()
                    reported = time.monotonic()
            self._commit_all()
        except _Stopped:
            _log.warning("stopped while waiting; the rest is read again at the next start", cause=self._waiting)
        finally:
            maintenance.stop()
            self._dead_letters.close()
            reader.close()
        self._report()

    def stop(self) -> None:
        """Let `run` commit what it has and return. May be called from any thread, or from a signal handler."""
        self._stopping.set()

    def status(self) -> dict[str, object]:
        """For health checks: what the sink waits for (None: nothing), rows so far, the Unix time of its last commit.

        `cluster_id`, and the next `offsets` by topic/partition, are None until all tables are open.
        """
        opened = len(self._buffers) == len(TABLES)
        offsets = self.offsets() if opened else {}
        return {
            "ok": self._waiting is None,
            "waiting_for": self._waiting,
            "lake": self._settings.lake,
            "cluster_id": next(iter(self._sources.values())).cluster_id if opened else None,
            "rows": dict(self._rows),
            "skipped": dict(self._skipped),
            "last_commit": self._last_commit,
            "offsets": {f"{topic}/{p}": offset for (topic, p), offset in offsets.items()} if opened else None,
        }

    def lag(self) -> float:
        """Seconds since the oldest message arrived in Kafka that was read and is not committed; 0 without any."""
        oldest = [buffer.oldest for buffer in list(self._buffers.values()) if buffer.oldest is not None]
        return max(0.0, time.time() - min(oldest)) if oldest else 0.0

    def offsets(self) -> dict[Place, int]:
        """The next offset of each (topic, partition), as committed to the lake."""
        return {place: offset for buffer in self._buffers.values() for place, offset in buffer.committed.copy().items()}

    def _open(self) -> Reader:
        settings, topology = self._settings, self._topology
        self._patiently("lake", lambda: prepare(settings.lake))
        self._sources = self._patiently("broker", lambda: self._kafka.describe(self._tables))
        for table in TABLES:
            sources = {topic: self._sources[topic] for topic in table.topics(topology)}
            writer = TableWriter(settings.lake, table, sources)
            self._writers[table.name] = writer
            self._buffers[table.name] = Buffer(committed=self._patiently("lake", writer.open))
        known = self.offsets()
        start = {place: known.get(place) for place in self._places()}
        reader = self._patiently("broker", lambda: Reader(settings, topology, start, self._accept_loss))
        _log.info(
            "sink started",
            bootstrap_servers=settings.bootstrap_servers,
            registry=settings.registry_url,
            lake=settings.lake,
            topics=len(self._sources),
            partitions=len(start),
            continued=len(known),
        )
        return reader

    def _places(self) -> list[Place]:
        return [(topic, p) for topic, source in self._sources.items() for p in range(source.partitions)]

    def _positions(self) -> dict[Place, int]:
        return {place: self._buffers[self._tables[place[0]]].next_offset(place) for place in self._places()}

    def _take(self, reader: Reader) -> int:
        """Read once, into the buffers; how many messages."""
        read = reader.read(_POLL)
        now = time.monotonic()
        for topic, messages in read.messages.items():
            self._buffers[self._tables[topic]].add(messages, now)
        for place, offset in read.ends.items():
            self._buffers[self._tables[place[0]]].reach(place, offset, now)
        return sum(map(len, read.messages.values()))

    def _commit_due(self) -> None:
        """Commit the tables whose time has come, and the fullest ones while all together hold too much."""
        settings, now = self._settings, time.monotonic()
        interval = settings.commit_interval.total_seconds()
        for name, buffer in self._buffers.items():
            if buffer.is_due(now, interval, settings.commit_rows, settings.commit_bytes):
                self._commit(name)
        while sum(buffer.size for buffer in self._buffers.values()) >= settings.commit_bytes:
            self._commit(max(self._buffers, key=lambda name: self._buffers[name].size))

    def _commit_all(self) -> None:
        for name, buffer in self._buffers.items():
            if buffer.since is not None:
                self._commit(name)

    def _commit(self, name: str) -> None:
        """Buffer to rows, rows and offsets to the table."""
        buffer, writer = self._buffers[name], self._writers[name]
        began = time.monotonic()
        rows = self._rows_of(writer.table, buffer.messages)
        buffer.messages = Messages()  # from here on it is these rows or the end of this run
        self._letters.check(self._dead_letters.waiting())
        self._letters.written(self._patiently("broker", self._dead_letters.flush))
        # after they were read: a consumer goes on in a topic that is made again as if nothing had happened
        writer.fill_from(self._patiently("broker", lambda: self._kafka.describe(writer.table.topics(self._topology))))
        self._patiently("lake", lambda: writer.commit(rows, buffer.committed, buffer.reached))
        buffer.clear()
        self._rows[name] += rows.num_rows
        metrics.SINK_ROWS.labels(name).inc(rows.num_rows)
        metrics.SINK_COMMITS.labels(name).inc()
        metrics.SINK_COMMIT_SECONDS.labels(name).observe(time.monotonic() - began)
        self._last_commit = time.time()
        metrics.LAST_COMMIT.labels("sink").set(self._last_commit)

    def _rows_of(self, table: Table, messages: Messages) -> pa.Table:
        """All columns of the valid messages; the others are counted, those on derived topics dead-lettered."""
        if table.record is None:
            return with_provenance(dead_letters.rows(messages), messages)
        (topic,) = table.topics(self._topology)
        decoder = Decoder(table.record, self._sources[topic].partitions, self._settings.max_event_bytes, self._catalog)
        decoded = self._when_schemas_are_known(messages, lambda given_up: decoder.decode(messages, given_up))
        for rejected in decoded.rejected:
            self._reject(messages[rejected.index], rejected)
        return with_provenance(decoded.columns, messages.only(decoded.kept))

    def _reject(self, message: Message, rejected: Rejected) -> None:
        self._skipped[message.topic] += 1
        metrics.SINK_SKIPPED.labels(message.topic, rejected.reason).inc()
        self._dead_letters.send(message, rejected.reason, rejected.message)

    def _when_schemas_are_known(self, messages: Messages, decode: Callable[[frozenset[int]], _T]) -> _T:
        """An unknown schema id is no poison at once: a newer producer may be ahead of the registry or of us."""
        deadlines: dict[int, float] = {}
        given_up: frozenset[int] = frozenset()
        while True:
            try:
                return self._patiently("registry", partial(decode, given_up))
            except UnknownSchema as error:
                timeout = self._settings.unknown_schema_timeout.total_seconds()
                deadline = deadlines.setdefault(error.schema_id, time.monotonic() + timeout)
                if time.monotonic() >= deadline and self._settings.unknown_schema == "stop":
                    raise
                if time.monotonic() >= deadline and self._passed_by_worker(messages, error.schema_id):
                    given_up |= {error.schema_id}
                else:
                    self._wait("unknown_schema", str(error), max(0.25, min(1.0, timeout / 10)))
            finally:
                self._waiting = None

    def _passed_by_worker(self, messages: Messages, schema_id: int) -> bool:
        """Whether the worker is past all raw messages of this schema: if it knew it, so does the registry by then.

        Else it could join what the lake has no row of.
        """
        header = wire.frame(schema_id, b"")
        last = {
            (message.topic, message.partition): message.offset
            for message in messages
            if message.topic in self._topology.raw and (message.value or b"").startswith(header)
        }
        if not last:
            return True
        found = self._patiently("broker", lambda: history.committed(self._settings, self._settings.group, last))
        return all(found[place] > offset for place, offset in last.items())

    def _patiently(self, cause: str, attempt: Callable[[], _T]) -> _T:
        """Try until it works: what is outside may be down for a while. Raises _Stopped once `stop()` was called."""
        pause = 0.1
        while True:
            try:
                result = attempt()
            except (BrokerError, LakeError, RegistryUnavailable) as error:
                self._wait(cause, str(error), pause)
                pause = min(2 * pause, _PATIENCE)
            else:
                self._waiting = None
                return result

    def _wait(self, cause: str, problem: str, seconds: float) -> None:
        metrics.WAITS.labels(cause).inc()
        if self._waiting != cause:
            _log.warning("waiting", cause=cause, problem=problem)
        self._waiting = cause
        if self._stopping.wait(seconds):
            raise _Stopped

    def _report(self) -> None:
        _log.info("sink", rows=dict(self._rows), skipped=dict(self._skipped))


def with_provenance(columns: pa.Table, messages: Messages) -> pa.Table:
    """The columns, and for each row the message that it came from."""
    now = int(datetime.now(UTC).timestamp() * 1_000_000)
    latest = MAX_MICROS // 1000
    values = [
        messages.topics,
        messages.partitions,
        messages.offsets,
        [arrival * 1000 if 0 <= arrival <= latest else None for arrival in messages.arrivals],
        [now] * len(messages),
    ]
    for column, content in zip(PROVENANCE, values, strict=True):
        columns = columns.append_column(column, pa.array(content, column.type))
    return columns


def run(settings: Settings, accept_loss: bool = False) -> None:
    """Fill the lake until SIGTERM or SIGINT. `accept_loss`, and what is raised: see `Sink`."""
    from flyback.dashboards.endpoint import serve

    sink = Sink(settings, Topology(settings), open_catalog(settings), accept_loss)

    def stop(number: int, frame: FrameType | None) -> None:
        sink.stop()
        deadline = threading.Timer(_GRACE, _leave)
        deadline.daemon = True
        deadline.start()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    endpoint = serve(settings, settings.sink_http_port, sink.status)
    _log.info("endpoint", host=settings.http_host, port=endpoint.port)
    try:
        sink.run()
    finally:
        endpoint.close()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _leave() -> None:
    """Safe at any moment: a commit is whole or not there, and the next start goes on at the tables' offsets."""
    _log.warning("Kafka or the lake do not answer, leaving all the same")
    os._exit(0)
