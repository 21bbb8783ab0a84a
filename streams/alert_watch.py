"""The watch over the alert rules: one worker of the group looks at them every minute, beside its engine.

    join        the group on the one partition of `alerts.v1`: whoever is given it, watches
    fence       the one who watched before
    read        what he wrote, to its end; then the counts, to theirs
    each minute counts, rules, what follows from them: in one transaction
    meanwhile   the webhook is told, and the group's offset says how far

Whatever goes wrong, all that is known is dropped, and it begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from confluent_kafka import OFFSET_END, TopicPartition

from flyback import logs, metrics
from flyback.errors import BrokerError
from flyback.schemas.catalog import Catalog
from flyback.settings import Settings
from flyback.streams import restore
from flyback.streams.alert_log import RECORD, AlertLog, Stopped
from flyback.streams.alert_signals import Signals
from flyback.streams.alert_table import RateTable
from flyback.streams.alert_webhook import Teller, Webhook
from flyback.streams.alerts import states
from flyback.streams.alerts.evaluate import Observed, evaluate
from flyback.streams.alerts.rules import Rule
from flyback.streams.clients import Clients, Consumer
from flyback.streams.process import backoff
from flyback.streams.rates import MINUTE
from flyback.streams.topology import Kind, Topology

log = logs.get_logger(__name__)

T = TypeVar("T")

STOP_SECONDS = 2.5
_POLL_SECONDS = 0.5
_SETTLE = 2_000_000
"""Microseconds after a minute began: until then, what was written before it has reached the broker."""


_End = tuple[BaseException | None, bool]
"""What a watch ended with, and whether it had come up before."""


class AlertWatch:
    """Runs the watch in a thread, and runs a new one when it failed.

    `phase` is starting, standing by (another worker watches), taking over, watching or waiting.
    """

    def __init__(
        self,
        settings: Settings,
        topology: Topology,
        catalog: Catalog,
        clients: Clients,
        rules: Sequence[Rule],
        webhook: Webhook | None = None,
    ) -> None:
        self._parts = settings, topology, catalog, clients, rules, webhook
        self._phase = "starting"
        self._watch: Watch | None = None
        self._stopping = threading.Event()

    @property
    def phase(self) -> str:
        watch = self._watch
        return self._phase if watch is None else watch.phase

    async def run(self) -> None:
        """Until cancelled."""
        delays = backoff()
        while True:
            ended: asyncio.Future[_End] = asyncio.get_running_loop().create_future()
            # a daemon: a thread that hangs in a client's call must not keep the process
            threading.Thread(target=self._work, args=(ended,), name="alert-watch", daemon=True).start()
            try:
                error, watched = await asyncio.shield(ended)
            except asyncio.CancelledError:
                self._stopping.set()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended, STOP_SECONDS)
                raise
            delays = backoff() if watched else delays
            delay = next(delays)
            metrics.WAITS.labels("alerts").inc()
            log.error(
                "the alert watch failed; the join goes on",
                reason=f"{type(error).__name__}: {error}",
                retry_seconds=delay,
            )
            await asyncio.sleep(delay)

    def _work(self, ended: asyncio.Future[_End]) -> None:
        error: BaseException | None = None
        watched = False
        try:
            self._watch = Watch(*self._parts, stopping=self._stopping.is_set)
            while not self._stopping.is_set():
                self._watch.step()
                watched = watched or self._watch.phase in ("standing by", "watching")
        except Stopped:
            pass
        except BaseException as raised:  # the join must not suffer from it
            error = raised
        finally:
            watch, self._watch = self._watch, None
            self._phase = "waiting"
            with contextlib.suppress(Exception):
                if watch is not None:
                    watch.close()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                ended.get_loop().call_soon_threadsafe(_settle, ended, (error, watched))


def _settle(ended: asyncio.Future[T], result: T) -> None:
    if not ended.done():  # nobody waits any more
        ended.set_result(result)


class _NotOurs(Exception):
    """Another worker was given the partition."""


class Watch:
    """One membership of the group. `step` serves it, and watches while the partition is ours."""

    def __init__(
        self,
        settings: Settings,
        topology: Topology,
        catalog: Catalog,
        clients: Clients,
        rules: Sequence[Rule],
        webhook: Webhook | None,
        clock: Callable[[], float] = time.time,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.phase = "starting"
        self._clock = clock
        self._stopping = stopping
        self._ours = False
        self._tenure: Tenure | None = None
        self._place = TopicPartition(topology.topic_of(RECORD), 0, OFFSET_END)
        self._asked_at = clock()
        session = round(settings.session_timeout.total_seconds() * 1000)
        self._group: Consumer = clients.consumer(
            {
                "group.id": topology.alert_group,
                "client.id": "flyback-alerts",
                "partition.assignment.strategy": "range",
                "session.timeout.ms": session,
                "heartbeat.interval.ms": max(200, min(3_000, session // 4)),
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "latest",
            }
        )
        self._make: Callable[[], Tenure] = lambda: Tenure(
            settings, topology, catalog, clients, rules, webhook, self._group, stopping
        )
        topics = [self._place.topic]
        self._group.subscribe(topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    def step(self) -> None:
        """Raises whatever ends this watch: then close it, and make another."""
        try:
            self._serve(_POLL_SECONDS)
            if self._ours:
                self._watch_on()
            else:
                self._ask_now_and_then()
        except _NotOurs:
            pass
        if self.phase == "standing by":
            self._end_tenure()

    def close(self) -> None:
        """Leave the group, so that another takes over at once."""
        self._end_tenure()
        self._group.close()

    def _watch_on(self) -> None:
        now = round(self._clock() * 1_000_000)
        if self._tenure is None:
            self._tenure = self._make()
            log.info("alerts are watched here")
        self._tenure.settle()
        minute = now // MINUTE * MINUTE
        if minute > self._tenure.judged and now - minute >= _SETTLE:
            self._tenure.judge(minute, self._serve_and_check)
            self.phase = "watching"

    def _serve(self, seconds: float) -> None:
        """What the group says is heard in here. Nothing is read: its partition is paused."""
        for message in self._group.consume(1, seconds):
            if (error := message.error()) is not None:
                raise BrokerError(f"the group that watches the alerts does not work: {error.str()}")

    def _serve_and_check(self) -> None:
        self._serve(0)
        if self._stopping():
            raise Stopped
        if not self._ours:
            raise _NotOurs

    def _ask_now_and_then(self) -> None:
        """A client that lost all brokers may never find them again, and who stands by would not notice."""
        if self._clock() - self._asked_at > 60:
            self._group.get_watermark_offsets(self._place, timeout=restore.LOOK_UP)
            self._asked_at = self._clock()

    def _assigned(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        self._ours = bool(partitions)
        self.phase = "taking over" if partitions else "standing by"
        consumer.assign([self._place] if partitions else [])
        if partitions:
            consumer.pause([self._place])

    def _revoked(self, consumer: Any, _: list[TopicPartition]) -> None:
        """Mostly it is given back a moment later: what is known is kept, since whoever else watches fences it."""
        self._ours = False
        consumer.unassign()

    def _end_tenure(self) -> None:
        if self._tenure is not None:
            self._tenure.close()
            self._tenure = None


class Tenure:
    """While the partition is ours: made, it has fenced the one before, and knows all that he wrote."""

    def __init__(
        self,
        settings: Settings,
        topology: Topology,
        catalog: Catalog,
        clients: Clients,
        rules: Sequence[Rule],
        webhook: Webhook | None,
        group: Consumer,
        stopping: Callable[[], bool],
    ) -> None:
        self.judged = 0
        """The minute that was looked at last, microseconds UTC."""
        self._rules = rules
        counts = topology.topic_of("FailureRate")
        with contextlib.ExitStack() as opened:
            cluster = clients.describe([*topology.raw, counts, *topology.of(Kind.DEAD_LETTERS)])
            self._log = AlertLog(clients, settings, topology, catalog, cluster, group, stopping)
            opened.callback(self._log.close)
            self._table = RateTable(clients, counts, catalog, rules, cluster)
            opened.callback(self._table.close)
            self._signals = Signals(clients, settings, topology, cluster, rules)
            opened.callback(self._signals.close)
            self._teller = Teller(None if webhook is None else webhook.send)
            opened.callback(self._teller.close)
            opened.callback(metrics.ALERTS_OPEN.clear)
            self._opened = opened.pop_all()
        for written in self._log.before:
            (self._teller.passed if written.offset < self._log.told else self._teller.tell)(written)

    def settle(self) -> None:
        """Remember what the webhook was told since."""
        if settled := self._teller.told():
            undelivered = [(told.written, told.undelivered) for told in settled if told.undelivered is not None]
            self._log.tell(settled[-1].written.offset + 1, undelivered)
            for written, why in undelivered:
                metrics.ALERT_DELIVERIES.labels("dead_lettered").inc()
                log.error(
                    "the alert webhook could not be told: the message is in the dead letters",
                    alert=written.record["alert_id"],
                    state=written.record["state"],
                    reason=why,
                )

    def judge(self, minute: int, between: Callable[[], None]) -> None:
        """Look at all rules as things stood when this minute began. `between` is called now and then meanwhile."""
        if minute // (60 * MINUTE) != self.judged // (60 * MINUTE):
            self._table.forget(minute)
        for _ in self._table.read(minute):
            between()
        observed = Observed(self._table.table, self._signals.dead_letters(minute), self._signals.lag())
        answers = evaluate(self._rules, observed, minute)
        between()
        for written in self._log.write(states.step(self._log.known, self._rules, answers, minute)):
            self._teller.tell(written)
        self.judged = minute
        self._show()

    def close(self) -> None:
        self._opened.close()

    def _show(self) -> None:
        many = Counter((key[0], open_.record["state"]) for key, open_ in states.open_alerts(self._log.known).items())
        for rule in self._rules:
            for state in (states.PENDING, states.FIRING):
                metrics.ALERTS_OPEN.labels(rule.name, state).set(many[rule.name, state])
        metrics.ALERT_EVALUATIONS.inc()
        metrics.ALERT_LAST_EVALUATION.set(self.judged / 1_000_000)
