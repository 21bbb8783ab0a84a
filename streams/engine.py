"""The engine: one loop over one consumer group on the three raw topics.

    read       a batch, and the group metadata it was read under
    work       decode, check, look up, derive; nothing is written yet
    commit     derived events, counts, dead letters, progress and input offsets in one Kafka transaction
    remember   only then what was seen goes to the state, in one write for each partition

So the state is behind Kafka or level with it, never ahead. After anything but a successful commit the batch is dropped
and every partition goes through the restore rule (`restore.py`). One thread does all of this; rebalances are served
between batches, inside `consume`.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from flyback import metrics
from flyback.errors import (
    BrokenState,
    BrokerError,
    InvalidEvent,
    RegistryUnavailable,
    UnknownSchema,
    WorkerFenced,
)
from flyback.logs import get_logger
from flyback.schemas.catalog import Catalog
from flyback.settings import Settings
from flyback.streams import dlq
from flyback.streams.admission import Admission
from flyback.streams.assignment import Assignment
from flyback.streams.batch import Batch, Work
from flyback.streams.clients import Clients, Message
from flyback.streams.matcher import Matched, TooMuch
from flyback.streams.messages import Message as ValidMessage
from flyback.streams.messages import Predictions
from flyback.streams.outputs import Output, Outputs
from flyback.streams.partition import Partition
from flyback.streams.state import MEND, Meta, StateFolder
from flyback.streams.topology import Topology
from flyback.streams.transactions import TransactionAborted, Transactions

log = get_logger(__name__)
T = TypeVar("T")

_CHUNK = 1_000
_MAX_ABORTS = 20
_SHORTEST_WAIT, _LONGEST_WAIT = 0.25, 5.0
_LONGEST_STEP = 9  # transaction time-outs; acknowledgements, offsets, commit and abort take 8 at most
_AT_ONCE = 1.0  # seconds of restoring partitions one after another; then the consumer has to be asked


class Engine:
    """Joins until `stop`. One instance a process; `run` belongs to one thread, `stop` and `status` to any."""

    def __init__(
        self,
        settings: Settings,
        topology: Topology,
        catalog: Catalog,
        clients: Clients,
        clock: Callable[[], float] = time.monotonic,
        accept_loss: bool = False,
    ) -> None:
        """`accept_loss`: go on at the log start where retention deleted events that were never processed."""
        self._settings = settings
        self._topology = topology
        self._catalog = catalog
        self._clients = clients
        self._clock = clock
        self._interval = settings.transaction_interval.total_seconds()
        self._stopping = threading.Event()
        self._not_before = 0.0
        self._gathered = 0.0  # when the latest batch had been
        self._message_bytes = 1_000_000  # of the last messages, on average
        self._aborts = 0
        self._waits = 0
        self._letters = dlq.Limit(settings.max_dead_letters, clock)
        self._accept_loss = accept_loss
        self._totals: Counter[str] = Counter()
        self._last_commit: float | None = None
        self._oldest: float | None = None  # arrival, Unix time, of what was read last
        self._step_began: float | None = None
        self._waiting: str | None = None
        self._failed = False
        self._folder: StateFolder | None = None
        self._assignment: Assignment | None = None
        metrics.LAG.labels("worker").set_function(self.lag)

    def run(self) -> None:
        """Start, step until stopped, close. Raises FlybackError where a supervisor or a person has to act."""
        try:
            if self.start():
                while not self._stopping.is_set():
                    self.step()
        except BaseException:
            self._failed = True
            raise
        finally:
            self.close()

    def start(self) -> bool:
        """Lock the state, fence an earlier process of this worker, join the group. False: stopped before that."""
        self._folder = StateFolder(self._settings.state_dir)
        cluster = self._wait_for(lambda: self._clients.describe(self._topology.names))
        outputs = self._wait_for(lambda: Outputs(self._settings, self._topology, self._catalog))
        if cluster is None or outputs is None:
            return False
        self._cluster, self._outputs = cluster, outputs
        records = {name: self._topology[name].record or "" for name in self._topology.raw}
        self._admission = Admission(self._settings, records, cluster.partitions, self._catalog, self._clock)
        self._transactions = Transactions(self._clients, self._settings, self._topology, self._folder.worker_id)
        if not self._transactions.start(self._stopping.is_set):
            return False
        self._assignment = Assignment(
            self._settings,
            self._topology,
            self._catalog,
            self._clients,
            cluster,
            self._folder,
            self._clock,
            self._accept_loss,
        )
        return True

    def stop(self) -> None:
        """Let `run` return after the transaction in hand."""
        self._stopping.set()

    def close(self) -> None:
        """Close the consumer, then the databases."""
        if self._assignment is not None:
            self._assignment.close()
            self._assignment = None
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def status(self) -> dict[str, Any]:
        """What health checks and the log want to know."""
        assignment = self._assignment
        partitions = dict(assignment.partitions) if assignment is not None else {}
        return {
            "ok": assignment is not None and not self._failed,
            "worker_id": self._folder.worker_id if self._folder is not None else None,
            "assigned": sorted(partitions),
            "restoring": sorted(number for number, partition in partitions.items() if not partition.live),
            "partitions": {str(number): partition.status() for number, partition in sorted(partitions.items())},
            "last_commit": self._last_commit,
            "waiting": self._waiting,
            "totals": dict(self._totals),
        }

    def lag(self) -> float:
        """Seconds since the oldest event in hand arrived in Kafka; 0 where all has been read that is there."""
        return 0.0 if self._oldest is None else max(0.0, time.time() - self._oldest)

    def hangs(self) -> bool:
        """Whether the present step, or a call of the transaction in it, takes longer than it ever may."""
        if self._step_began is None:
            return False
        longest = _LONGEST_STEP * self._settings.transaction_timeout.total_seconds()
        return self._transactions.overdue() or time.monotonic() - self._step_began > longest

    def step(self) -> None:
        """One round: a slice of restoring where something is behind, then a batch of what is live."""
        assert self._assignment is not None, "start() first"
        self._step_began = time.monotonic()
        try:
            self._restore(self._assignment)
            batch = self._read(self._assignment)
            # what was dropped is still in hand until its partition is live again
            if batch.messages or all(partition.live for partition in self._assignment.partitions.values()):
                self._oldest = batch.oldest()
            for work in self._fitting(batch, self._work):
                self._check_dead_letters(work)
                self._commit(work, batch.group_metadata)
                self._remember(work)
                if self._stopping.is_set():
                    break
        except (UnknownSchema, RegistryUnavailable, TransactionAborted) as cause:
            self._drop(self._assignment, cause)

    def _fitting(self, batch: Batch, work_of: Callable[[Batch], Work]) -> Iterator[Work]:
        """What the batch comes to; in parts, where what its messages pair with is too much to be held at once.

        A part is made when the one before has been remembered. None of an empty batch.
        """
        if not batch.messages:
            return
        self._step_began = time.monotonic()
        try:
            work = work_of(batch)
        except TooMuch:
            for half in batch.halves():
                yield from self._fitting(half, work_of)
        else:
            yield work

    def _restore(self, assignment: Assignment) -> None:
        enough = time.monotonic() + _AT_ONCE
        while self._clock() >= self._not_before and not assignment.restored() and not self._stopping.is_set():
            self._step_began = time.monotonic()
            partition = assignment.restore(self._replay)
            if partition is None:
                return
            if partition.unclaimed:
                self._claim(partition, assignment)
            if not assignment.go_live(partition) or time.monotonic() > enough:
                return

    def _replay(self, partition: Partition, messages: dict[str, list[Message]]) -> None:
        """Take replayed messages into the state; what they derive was written long ago."""
        batch = Batch({(partition, topic): found for topic, found in messages.items()}, None)
        for work in self._fitting(batch, self._match):
            for _, matched, meta in work.steps:
                self._write(partition, matched, meta)

    def _claim(self, partition: Partition, assignment: Assignment) -> None:
        """Commit where a partition starts, so that it starts there again even if nothing is processed."""
        work = Work(offsets={(topic, partition.number): offset for topic, offset in partition.start.items()})
        self._commit(work, assignment.consumer.consumer_group_metadata())
        partition.unclaimed = False

    def _read(self, assignment: Assignment) -> Batch:
        """Gather for one transaction interval, or until the batch is large enough by count or by bytes."""
        messages: defaultdict[tuple[Partition, str], list[Message]] = defaultdict(list)
        found: Sequence[Message] = ()
        many = size = 0
        now = self._clock()
        # Work and commit are a part of the interval. A tenth is left at least: asked without any time to answer, a
        # consumer gives nothing.
        deadline = now if assignment.replaying else max(now + self._interval / 10, self._gathered + self._interval)
        while many < self._settings.batch_events and size < self._settings.batch_bytes:
            # one call gives whatever waits in the client, so large messages are asked for in smaller numbers
            fitting = 1 + (self._settings.batch_bytes - size) // self._message_bytes
            room = min(_CHUNK, fitting, self._settings.batch_events - many)
            found = assignment.consumer.consume(room, timeout=max(0.0, deadline - self._clock()))
            if found:
                self._message_bytes = 1 + sum(len(message.value() or b"") for message in found) // len(found)
            for message in found:
                if (error := message.error()) is not None:
                    _raise_fatal(error)
                elif (partition := assignment.owns(message)) is not None:
                    messages[partition, message.topic()].append(message)
                    many += 1
                    size += len(message.value() or b"")
            if not found or self._stopping.is_set():
                break
        self._gathered = min(deadline, self._clock())
        assignment.look_around(ran_dry=not found)
        # a rebalance inside the loop may have taken partitions away that messages were read for before
        current = assignment.partitions
        kept = {(p, topic): found for (p, topic), found in messages.items() if current.get(p.number) is p and p.live}
        return Batch(kept, assignment.consumer.consumer_group_metadata() if kept else None)

    def _work(self, batch: Batch) -> Work:
        """Match, and encode what is to be written: everything about a batch that writes nothing."""
        work = self._match(batch)
        work.outputs += self._outputs.pairs([pair for _, matched, _ in work.steps for pair in matched.pairs])
        for partition, matched, _ in work.steps:
            work.outputs += self._results(partition.number, matched)
        return work

    def _match(self, batch: Batch) -> Work:
        """Decode, check and match; of the outputs only the dead letters are there yet."""
        work = Work()
        shares: dict[Partition, tuple[Meta, list[ValidMessage], list[Predictions]]] = {
            partition: (partition.meta.copy(), [], []) for partition, _ in batch.messages
        }
        for (partition, topic), messages in batch.messages.items():
            meta, valid, predictions = shares[partition]
            admitted = self._admission.admit(topic, messages)
            valid += admitted.messages
            predictions += admitted.predictions
            work.outputs += [self._outputs.refused(message, error) for message, error in admitted.refused]
            meta.applied[topic] = work.offsets[topic, partition.number] = messages[-1].offset() + 1
            meta.watermarks[topic] = max(admitted.latest, meta.watermarks.get(topic, 0))
            work.events[topic] += len(messages)
        most = left = self._settings.batch_bytes if sum(map(len, batch.messages.values())) > 1 else math.inf
        for partition, (meta, valid, predictions) in shares.items():
            matched = partition.matcher.match(valid, meta, predictions, most)
            left -= matched.paired_bytes
            if left < 0:
                raise TooMuch
            work.steps.append((partition, matched, meta))
        return work

    def _results(self, partition: int, matched: Matched) -> Iterable[Output]:
        for message in matched.conflicts:
            text = "an earlier event of the same identity has other content; the earlier one counts"
            yield self._outputs.rejected(message, InvalidEvent("conflict", "", text))
        for cell, counts in matched.counts.items():
            yield self._outputs.rate(partition, cell, counts)

    def _commit(self, work: Work, group_metadata: Any) -> None:
        outputs = list(work.outputs)
        offsets = []
        for (topic, number), offset in work.offsets.items():
            offsets.append(TopicPartition(topic, number, offset, metadata=self._cluster.topic_ids[topic]))
            outputs.append(self._outputs.progress(self._cluster, topic, number, offset))
        self._transactions.commit(outputs, offsets, group_metadata)

    def _remember(self, work: Work) -> None:
        """Only after the commit: what the batch means for the state, and the figures."""
        for partition, matched, meta in work.steps:
            self._write(partition, matched, meta)
            for topic, count in matched.duplicates.items():
                metrics.DUPLICATES.labels(topic).inc(count)
                self._totals["duplicates"] += count
        for topic, count in work.events.items():
            metrics.EVENTS.labels(topic).inc(count)
            self._totals["events"] += count
        letters = 0
        for output in work.outputs:
            if output.reason:
                letters += 1
                metrics.DEAD_LETTERS.labels(output.source, output.reason).inc()
            elif output.source:
                metrics.DERIVED.labels(output.topic).inc()
                self._totals["derived"] += 1
        self._totals["dead_letters"] += letters
        self._letters.written(letters)
        self._aborts = 0
        self._waits = 0
        self._waiting = None
        self._last_commit = time.time()
        metrics.LAST_COMMIT.labels("worker").set(self._last_commit)

    def _write(self, partition: Partition, matched: Matched, meta: Meta) -> None:
        try:
            partition.store.write(matched.writes)
        except Exception as error:  # rocksdict raises plain Exception
            raise BrokenState(f"partition {partition.number}: the state cannot be written: {error}. {MEND}") from error
        partition.meta = meta
        metrics.EXPIRED.inc(matched.expired)

    def _drop(self, assignment: Assignment, cause: Exception) -> None:
        """Forget the batch, put everything behind the barrier, and try again after a while."""
        if isinstance(cause, UnknownSchema):
            if self._settings.unknown_schema == "stop" and self._admission.gave_up(cause.schema_id):
                raise cause
            self._wait("unknown_schema", cause, self._settings.unknown_schema_timeout.total_seconds() / 10)
        elif isinstance(cause, RegistryUnavailable):
            self._wait("registry", cause)
        else:
            self._aborts += 1
            if self._aborts > _MAX_ABORTS:
                raise BrokerError(
                    f"{self._aborts} transactions in a row were aborted, the last one: {cause}"
                ) from cause
            log.warning("transaction aborted, its batch will be read again", cause=str(cause))
            self._not_before = self._clock() + min(5.0, 0.05 * 2**self._aborts)
        assignment.rewind()

    def _wait(self, what: str, cause: Exception, most: float = _LONGEST_WAIT) -> float:
        """Try nothing for a while, twice as long each time until something succeeds; how many seconds."""
        metrics.WAITS.labels(what).inc()
        self._waiting = str(cause)
        seconds: float = min(most, _LONGEST_WAIT, _SHORTEST_WAIT * 2 ** min(self._waits, 10))
        log.warning("waiting", cause=self._waiting, retry_seconds=round(seconds, 2))
        self._waits += 1
        self._not_before = self._clock() + seconds
        return seconds

    def _check_dead_letters(self, work: Work) -> None:
        self._letters.check(Counter((output.source, output.reason) for output in work.outputs if output.reason))

    def _wait_for(self, ask: Callable[[], T]) -> T | None:
        """What `ask` gives, asked until broker and registry are there; None: stopped before."""
        while not self._stopping.is_set():
            try:
                found = ask()
                self._waiting, self._waits = None, 0
                return found
            except RegistryUnavailable as error:
                self._stopping.wait(self._wait("registry", error))
            except KafkaException as error:
                self._stopping.wait(self._wait("broker", error))
        return None


def _raise_fatal(error: KafkaError) -> None:
    """Errors that a consumer recovers from by itself pass; others end the worker."""
    if error.code() == KafkaError._FATAL and "fenced" in error.str():  # its text alone says what the error is
        raise WorkerFenced("a worker with the same id joined the group: give each worker a state folder of its own")
    if error.code() in (KafkaError._FATAL, KafkaError._AUTO_OFFSET_RESET) or error.fatal():
        raise BrokerError(f"the consumer failed: {error.str()}. Start this worker again")
