"""Stream equals batch: whatever happens to the workers, the topics hold what one pass over the raw records gives.

`FLYBACK_EXAMPLES=20000` searches longer.
"""

from __future__ import annotations

import logging
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from confluent_kafka import KafkaError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyback.errors import BrokerError, WorkerFenced
from flyback.schemas.codec import Record
from tests.strategies import EPOCH_MS, WINDOW_MS, correction, grade, prediction
from tests.streams.kafka_double_broker import Crash, Place, failure
from tests.streams.records import POISON, Raw, raw
from tests.streams.stage import Stage

EXAMPLES = int(os.environ.get("FLYBACK_EXAMPLES", "150"))
FEW_BYTES = 1_000  # of some events: what they pair with is soon too much for one transaction
OTHER = {"a": "b", "b": "a"}


@dataclass(frozen=True)
class Send:
    """One event. Equal numbers are copies; another `content` is a conflict; `retried` has a time of its own."""

    record: str
    task: int = 0
    prediction: int = 0
    feedback: int = 0
    content: int = 0
    retried: bool = False
    transaction: bool = False

    def event(self) -> Record:
        of = random.Random(f"{self.record} {self.task} {self.prediction} {self.feedback} {self.content}")
        task, prediction_id, own = f"task-{self.task}", f"p{self.prediction}", str(self.feedback)
        minutes = of.choice((-4, -1, 0, 0, 1, 1))
        changed: Record = {"occurred_at": (EPOCH_MS + minutes * 60_000) * 1000}
        if self.record == "Prediction":
            kind = of.choice(("MODEL", "HUMAN"))
            changed |= {"actor": {"kind": kind, "name": "ann", "version": ""}, "segment": of.choice("xy")}
            event = prediction(task, prediction_id, confidence=self.content / 10, **changed)
        else:
            changed["sampling_probability"] = of.choice((None, None, 1.0, 0.5, 0.3))
            if self.record == "Correction":
                changed["authority"] = of.choice((0, 0, 1))
                verdict = of.choice(("CONFIRMED", "CORRECTED", "REJECTED"))
                event = correction(task, prediction_id, own, verdict, reason=str(self.content), **changed)
            else:
                changed["passed"] = of.choice((None, True, False))
                event = grade(task, prediction_id, own, rationale=str(self.content), **changed)
        if self.retried:
            event["occurred_at"] += 1_000_000
        return event


@dataclass(frozen=True)
class Poison:
    kind: str
    task: int = 0


@dataclass(frozen=True)
class EndTransaction:
    """End the transaction of a raw producer."""

    commit: bool


@dataclass(frozen=True)
class Pass:
    milliseconds: int


@dataclass(frozen=True)
class Step:
    worker: str = "a"
    times: int = 1


@dataclass(frozen=True)
class Fail:
    """Let a coming call of any worker fail: the process dies, an error that may or must be dealt with; or a record
    that is produced is refused, and the client takes it for delivered."""

    call: str
    when: str = "before"
    how: str = "crash"
    skip: int = 0


@dataclass(frozen=True)
class Stall:
    """A worker stands still in the midst of a call, meanwhile its session ends, the other one goes on; it wakes up."""

    call: str
    worker: str = "a"
    when: str = "before"
    steps: int = 6
    session_ends: bool = True
    transaction_times_out: bool = False


@dataclass(frozen=True)
class End:
    """End a worker: in good order, killed, killed with its disk lost, or only its session."""

    how: str
    worker: str = "a"


@dataclass(frozen=True)
class LoseOffsets:
    """Nobody works for so long that Kafka forgets the group's offsets."""


Action = Send | Poison | EndTransaction | Pass | Step | Fail | Stall | End | LoseOffsets

_sends = st.builds(
    Send,
    record=st.sampled_from(("Prediction", "Prediction", "Correction", "Correction", "Grade")),
    task=st.integers(0, 2),
    prediction=st.sampled_from((0, 0, 1)),
    feedback=st.integers(0, 2),
    content=st.sampled_from((0, 0, 0, 0, 1)),
    retried=st.booleans(),
    transaction=st.sampled_from((False, False, False, True)),
)
_steps = st.builds(Step, st.sampled_from("aab"), st.integers(1, 6))
_passes = st.builds(
    Pass, st.sampled_from((1, 30_000, WINDOW_MS // 6, WINDOW_MS // 2, WINDOW_MS - 1, WINDOW_MS, WINDOW_MS + 1))
)
_CALLS = ("consume", "begin_transaction", "produce", "send_offsets_to_transaction", "commit_transaction", "write")
_disturbances = st.one_of(
    st.builds(
        Fail,
        st.sampled_from((*_CALLS, "committed", "init_transactions", "abort_transaction")),
        st.sampled_from(("before", "after")),
        st.just("crash"),
        st.integers(0, 3),
    ),
    st.builds(
        Fail,
        st.just("commit_transaction"),
        st.sampled_from(("before", "after")),
        st.sampled_from(("timed out", "abortable", "unknown")),
    ),
    st.builds(Fail, st.sampled_from(("produce", "send_offsets_to_transaction")), how=st.just("abortable")),
    st.builds(Fail, st.just("produce"), how=st.just("refused"), skip=st.integers(0, 3)),
    st.builds(End, st.sampled_from(("stop", "kill", "wipe", "session")), st.sampled_from("ab")),
    st.builds(LoseOffsets),
)
_stalls = st.builds(
    Stall,
    st.sampled_from((*_CALLS, "send_offsets_to_transaction", "commit_transaction")),
    st.sampled_from("ab"),
    st.sampled_from(("before", "after")),
    st.integers(1, 10),
    st.sampled_from((True, True, False)),
    st.booleans(),
)
_others = st.one_of(
    st.builds(Poison, st.sampled_from(sorted(POISON)), st.integers(0, 3)),
    st.builds(EndTransaction, st.booleans()),
)
_WEIGHTS = {_sends: 10, _steps: 4, _passes: 1, _disturbances: 2, _stalls: 2, _others: 1}
_action = st.sampled_from([each for each, weight in _WEIGHTS.items() for _ in range(weight)]).flatmap(lambda each: each)
_actions = st.integers(0, 60).flatmap(lambda n: st.lists(_action, min_size=n, max_size=n))  # not mostly short ones


class Play:
    """Plays actions on a stage, and knows which of them an engine may end of."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.kafka = stage.kafka
        for name in OTHER:
            stage.worker(name)
        self._first_arrivals: dict[tuple[str, ...], int] = {}
        self._raw_producer = self.kafka.producer({"transactional.id": "raw", "client.id": "raw"})
        self._raw_producer.init_transactions(1.0)
        self._raw_producer.begin_transaction()
        self._disturbed = False
        self._committed: dict[Place, int] = {}
        self._stepping: set[str] = set()

    def play(self, action: Action) -> None:
        match action:
            case Send():
                self._send(action)
            case Poison(kind, task):
                self._append(POISON[kind][1](f"task-{task}"))
            case EndTransaction(commit):
                self._end_raw_transaction(commit)
            case Pass(milliseconds):
                self.kafka.now += milliseconds
            case Step(name, times):
                for _ in range(times):
                    self._step(name)
            case Fail():
                self._plan_failure(action)
            case Stall():
                self._plan_stall(action)
            case End():
                self._end(action)
            case LoseOffsets():
                self._lose_offsets()
        self._state_is_never_ahead()

    def finish(self) -> None:
        """No more disturbances; what is dead stays dead as far as Kafka waits for it."""
        self.kafka.planned.clear()
        self._end_raw_transaction(commit=True)
        alive = [worker for worker in self.stage.workers.values() if worker.engine is not None]
        for worker in self.stage.workers.values():
            if worker not in alive:
                self._end_session(worker.name)
                self._time_out(worker.name)
        for _ in range(1_000):
            for worker in alive or [self.stage.workers["a"]]:
                self._step(worker.name)
            if self.stage.is_quiet():
                return
        raise AssertionError("the workers do not come to an end")

    def _send(self, send: Send) -> None:
        event = send.event()
        own = str(event.get("correction_id", event.get("grade_id")))
        identity: tuple[str, ...] = (send.record, event["task_id"], event["prediction_id"], own)
        # no copy later than one window after the first: beyond that a pair may be derived again
        if self.kafka.now <= self._first_arrivals.setdefault(identity, self.kafka.now) + WINDOW_MS:
            self._append(raw(send.record, event), send.transaction)

    def _append(self, message: Raw, in_transaction: bool = False) -> None:
        if in_transaction:
            topic, partition = self.stage.place(message)
            self._raw_producer.produce(topic, message.value, message.key, partition, headers=None)
        else:
            self.stage.send(message)

    def _end_raw_transaction(self, commit: bool) -> None:
        (self._raw_producer.commit_transaction if commit else self._raw_producer.abort_transaction)(1.0)
        self._raw_producer.begin_transaction()

    def _step(self, name: str) -> None:
        if name in self._stepping:  # it stands still
            return
        worker = self.stage.workers[name]
        self._stepping.add(name)
        try:
            worker.step()
        except (Crash, WorkerFenced, BrokerError):
            assert self._disturbed, "nothing happened that may end a worker"
            self._state_is_never_ahead()
            worker.kill()
        finally:
            self._stepping.discard(name)

    def _plan_failure(self, fail: Fail) -> None:
        self._disturbed = True
        if fail.how == "refused":
            self.kafka.interrupt(fail.when, fail.call, self._refuse, tuple(OTHER), fail.skip)
            return
        error: dict[str, BaseException] = {
            "crash": Crash(),
            "timed out": failure(KafkaError._TIMED_OUT, retriable=True),
            "abortable": failure(KafkaError.INVALID_TXN_STATE, txn_requires_abort=True),
            "unknown": failure(KafkaError._STATE),
        }
        self.kafka.fail(fail.when, fail.call, error[fail.how], (*OTHER, ""), fail.skip)

    def _refuse(self) -> None:
        self.kafka.refusals += 1

    def _plan_stall(self, stall: Stall) -> None:
        self._disturbed = True

        def meanwhile() -> None:
            if stall.session_ends:
                self._end_session(stall.worker)
            if stall.transaction_times_out:
                self._time_out(stall.worker)
            for _ in range(stall.steps):
                self._step(OTHER[stall.worker])

        # the state's write has no client id: whoever writes stands still, and the other one is the same
        clients = (stall.worker,) if stall.call != "write" else ()
        self.kafka.interrupt(stall.when, stall.call, meanwhile, clients)

    def _end(self, end: End) -> None:
        worker = self.stage.workers[end.worker]
        if end.how == "session":
            self._disturbed = True
            self._end_session(end.worker)
        elif end.how == "stop":
            worker.stop()
        else:
            worker.kill()
            if end.how == "wipe":
                worker.wipe()

    def _lose_offsets(self) -> None:
        for worker in self.stage.workers.values():
            worker.kill()
            self._end_session(worker.name)
            self._time_out(worker.name)
        self.kafka.groups[self.stage.settings.group].offsets.clear()

    def _end_session(self, name: str) -> None:
        group = self.kafka.groups[self.stage.settings.group]
        if group.of_instance(name) is not None:
            self.kafka.expire(self.stage.settings.group, name)

    def _time_out(self, name: str) -> None:
        transactional_id = f"{self.stage.settings.topic_prefix}{self.stage.settings.group}-{name}"
        if self.kafka.transactions[transactional_id].open:
            self.kafka.expire_transaction(transactional_id)

    def _state_is_never_ahead(self) -> None:
        self._committed |= self.stage.committed()
        for worker in self.stage.workers.values():
            for place, offset in worker.applied().items():
                assert offset <= self._committed.get(place, 0), f"{worker.name}: state of {place} is ahead of Kafka"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of assignments need no log lines."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@contextmanager
def a_play(seed: int, **limits: int) -> Iterator[Play]:
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), random.Random(seed), **limits)
        try:
            with stage.writes_planned():
                yield Play(stage)
        finally:
            stage.close()


def run(actions: Sequence[Action], seed: int, few: int = 64, **limits: int) -> None:
    """`few`: up to so many messages are decoded one by one, and pairs derived; else as columns."""
    with pytest.MonkeyPatch.context() as patch, a_play(seed, **limits) as play:
        patch.setattr("flyback.schemas.certain._FEW", few)
        patch.setattr("flyback.streams.join_columns._FEW", few)
        for action in actions:
            play.play(action)
        play.finish()
        play.stage.check()


@given(
    _actions,
    st.integers(0, 1_000),
    st.sampled_from((1, 2, 3, 5, 1_000)),
    st.sampled_from((FEW_BYTES, 16_000_000)),
    st.sampled_from((1, 64)),
)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
def test_whatever_happens_the_stream_derives_what_one_pass_derives(
    actions: list[Action], seed: int, batch_events: int, batch_bytes: int, few: int
) -> None:
    run(actions, seed, few, batch_events=batch_events, batch_bytes=batch_bytes)
