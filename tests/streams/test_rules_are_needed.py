"""Each rule of the engine, taken away: then something goes wrong, and `test_stream_equals_batch` would see it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import pytest

from flyback.errors import BrokerError
from flyback.streams import entries, restore
from flyback.streams.assignment import Assignment
from flyback.streams.batch import Batch, Work
from flyback.streams.deliveries import Deliveries
from flyback.streams.engine import Engine
from flyback.streams.matcher import Matcher
from flyback.streams.state import Meta
from flyback.streams.transactions import TransactionAborted, Transactions
from tests.strategies import WINDOW_MS
from tests.streams.kafka_double import MemoryConsumer
from tests.streams.kafka_double_broker import Group
from tests.streams.test_stream_equals_batch import Action, End, Fail, Pass, Play, Send, Stall, Step, a_play

Without = Callable[[Play], AbstractContextManager[Any]]


def _no_barrier(_: Play) -> AbstractContextManager[Any]:
    """A partition goes live before its state is level."""
    return patch.object(restore, "replay_from", lambda number, applied, start, log_start: dict(start))


def _remembers_before_it_commits(_: Play) -> AbstractContextManager[Any]:
    commit = Engine._commit

    def reversed_order(engine: Engine, work: Work, group_metadata: Any) -> None:
        for partition, matched, meta in work.steps:
            engine._write(partition, matched, meta)
        commit(engine, work, group_metadata)

    return patch.object(Engine, "_commit", reversed_order)


def _takes_an_unknown_outcome_for_success(_: Play) -> AbstractContextManager[Any]:
    commit = Transactions.commit

    def hopeful(transactions: Transactions, *given: Any) -> None:
        try:
            commit(transactions, *given)
        except (BrokerError, TransactionAborted):
            return

    return patch.object(Transactions, "commit", hopeful)


def _goes_on_after_an_abort(_: Play) -> AbstractContextManager[Any]:
    """The dropped batch is not read again."""
    return patch.object(Assignment, "rewind", lambda _: None)


def _believes_conclusions(_: Play) -> AbstractContextManager[Any]:
    """An acknowledgement without an offset is taken for one."""
    return patch.object(Deliveries, "reported", lambda *_: None)


def _looks_up_by_prediction_id_alone(_: Play) -> AbstractContextManager[Any]:
    episode_of = entries.episode_of
    return patch.object(entries, "episode_of", lambda task_id, prediction_id: episode_of("", prediction_id))


def _expires_by_the_clock(play: Play) -> AbstractContextManager[Any]:
    def cutoff(matcher: Matcher, meta: Meta) -> int:
        return play.kafka.now - matcher.window_ms

    return patch.object(Matcher, "_cutoff", cutoff)


def _no_fencing(_: Play) -> AbstractContextManager[Any]:
    """The group takes offsets of whoever was a member once."""
    return patch.object(Group, "check", lambda group, metadata: None)


def _does_not_wait_for_open_transactions(_: Play) -> AbstractContextManager[Any]:
    committed = MemoryConsumer.committed

    def impatient(consumer: MemoryConsumer, partitions: Any, timeout: float) -> Any:
        with patch.object(consumer, "_committed_only", False):
            return committed(consumer, partitions, timeout)

    return patch.object(MemoryConsumer, "committed", impatient)


@contextmanager
def _keeps_a_batch_through_a_rebalance(_: Play) -> Iterator[None]:
    """Messages of partitions that were taken away in the midst of gathering a batch."""
    read = Engine._read

    def unfiltered(engine: Engine, assignment: Assignment) -> Batch:
        kept: defaultdict[Any, list[Any]] = defaultdict(list)
        owns = assignment.owns

        def noting(message: Any) -> Any:
            partition = owns(message)
            if partition is not None:
                kept[partition, message.topic()].append(message)
            return partition

        with patch.object(assignment, "owns", noting):
            read(engine, assignment)
        return Batch(kept, assignment.consumer.consumer_group_metadata())

    with patch.object(Engine, "_read", unfiltered):
        yield


P = "Prediction"
C = "Correction"
FOUR_PREDICTIONS: list[Action] = [Send(P, task) for task in range(4)]
FOUR_CORRECTIONS: list[Action] = [Send(C, task) for task in range(4)]
HALF_DONE: list[Action] = [*FOUR_PREDICTIONS, Step("a", 6), *FOUR_CORRECTIONS]

RULES: Mapping[str, tuple[Without, list[Action]]] = {
    "the barrier on restore": (
        _no_barrier,
        [Send(P), Step("a", 6), End("wipe"), Send(C), Step("a", 6)],
    ),
    "commit before remember": (
        _remembers_before_it_commits,
        [Send(P), Step("a", 6), Send(C), Fail("commit_transaction"), Step("a", 6)],
    ),
    "certainty of the outcome": (
        _takes_an_unknown_outcome_for_success,
        [Send(P), Step("a", 6), Send(C), Fail("commit_transaction", how="unknown"), Step("a", 6)],
    ),
    "acknowledgements with offsets": (
        _believes_conclusions,
        [Send(P), Step("a", 6), Send(C), Fail("produce", how="refused"), Step("a", 6)],
    ),
    "going back after an abort": (
        _goes_on_after_an_abort,
        [Send(P), Step("a", 6), Send(C), Fail("commit_transaction", how="abortable"), Step("a", 6)],
    ),
    "the task in the look-up": (
        _looks_up_by_prediction_id_alone,
        [*FOUR_PREDICTIONS, Step("a", 6), *FOUR_CORRECTIONS],
    ),
    "expiry by watermarks": (
        _expires_by_the_clock,
        # arrived in time, but it cannot be read before its producer's transaction ends
        [Send(P), Step("a", 6), Send(C, transaction=True), Pass(WINDOW_MS + 1), Send(P, prediction=1), Step("a", 6)],
    ),
    "fencing": (
        _no_fencing,
        [*HALF_DONE, Stall("send_offsets_to_transaction", steps=12), Step("a", 6)],
    ),
    "waiting for open transactions": (
        _does_not_wait_for_open_transactions,
        [*HALF_DONE, Stall("commit_transaction", steps=12), Step("a", 6)],
    ),
    "dropping what a rebalance took away": (
        _keeps_a_batch_through_a_rebalance,
        [
            *HALF_DONE,
            Stall("consume", when="after", steps=1, session_ends=False),
            Stall("begin_transaction", steps=12, session_ends=False),
            Step("a", 6),
        ],
    ),
}


def play(rule: str, without: bool) -> None:
    taken_away, actions = RULES[rule]
    with a_play(seed=0, batch_events=5) as playing, taken_away(playing) if without else nullcontext():
        for action in actions:
            playing.play(action)
        playing.finish()
        playing.stage.check()


@pytest.mark.parametrize("rule", RULES)
def test_with_the_rule_all_goes_well(rule: str) -> None:
    play(rule, without=False)


@pytest.mark.parametrize("rule", RULES)
def test_without_the_rule_events_are_lost_or_double_or_the_state_is_ahead(rule: str) -> None:
    with pytest.raises(AssertionError):
        play(rule, without=True)
