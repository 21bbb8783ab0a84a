"""The rules of restoring and of foreign or lost bookkeeping: each test fails without its rule."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from confluent_kafka import KafkaError

from flyback.errors import BrokerError, RefusedToStart, TopicMismatch
from flyback.streams.restore import Replay
from flyback.streams.topology import Kind
from tests.strategies import WINDOW_MS
from tests.streams.kafka_double import MemoryConsumer, MemoryKafka
from tests.streams.kafka_double_broker import Crash, Log, failure
from tests.streams.records import a_correction, a_grade, a_prediction
from tests.streams.stage import Stage, Worker


def group(stage: Stage) -> Any:
    return stage.kafka.groups[stage.settings.group]


def make_again(stage: Stage, topic: str) -> None:
    stage.kafka.delete(topic)
    stage.kafka.create(topic, 2)


def leave(stage: Stage, worker: Worker) -> None:
    """The worker is gone, and its session has ended."""
    worker.kill()
    stage.kafka.expire(stage.settings.group, worker.name)


# The restore rule


def test_nothing_is_processed_live_before_the_lost_state_is_there_again(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction())
    stage.settle(worker)
    worker.kill()
    worker.wipe()
    stage.send(a_correction())

    stage.settle(worker)

    assert stage.derived().total() == 1
    stage.check()


def test_offsets_that_a_predecessor_still_may_commit_are_waited_for(stage: Stage) -> None:
    first, second = stage.worker("a"), stage.worker("b")
    stage.send(a_prediction(), a_correction())
    stage.kafka.fail("before", "commit_transaction", Crash(), ("a",), skip=2)  # after the claims
    with pytest.raises(Crash):
        first.step(20)
    leave(stage, first)

    second.step(20)
    assert second.engine is not None
    assert second.engine.status()["restoring"], "the offsets of an open transaction are not known yet"

    stage.kafka.expire_transaction(f"t.{stage.settings.group}-a")
    stage.settle(second)
    stage.check()


def test_a_state_that_is_older_than_the_log_is_rebuilt(stage: Stage) -> None:
    first, second = stage.worker("a"), stage.worker("b")
    stage.send(*(a_prediction(prediction_id=name) for name in ("p1", "p2")))
    stage.settle(first)
    leave(stage, first)
    stage.send(*(a_prediction(prediction_id=name) for name in ("p3", "p4")))
    stage.settle(second)
    leave(stage, second)
    topic, partition = stage.place(a_prediction())
    stage.kafka.delete_records(topic, partition, 3)

    stage.send(a_correction(prediction_id="p1"), a_correction(prediction_id="p4"))
    stage.settle(first)

    assert stage.derived().total() == 1, "of p1, which retention deleted, nothing may be left in the state"


def test_a_topic_without_an_offset_starts_at_its_log_start_where_the_group_has_others(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction(), a_correction())
    stage.settle(worker)
    leave(stage, worker)
    worker.wipe()
    place = stage.place(a_grade())
    stage.send(a_grade(grade_id="deleted"), a_grade())
    stage.kafka.delete_records(*place, before=1)
    del group(stage).offsets[place]
    stage.kafka.create(stage.topology.topic_of("Progress"), 1)

    stage.settle(worker)

    assert stage.derived().total() == 2
    assert stage.committed()[place] == 2


def test_a_partition_that_is_new_to_the_group_is_claimed_before_anything_is_processed(stage: Stage) -> None:
    worker = stage.worker()
    worker.step(10)
    assert stage.committed() == {(topic, partition): 0 for topic in stage.topology.raw for partition in (0, 1)}


# Foreign or lost bookkeeping


def test_the_state_of_another_cluster_is_discarded(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction())
    stage.settle(worker)
    worker.kill()
    stage.kafka = MemoryKafka(stage.kafka.now)
    stage.kafka.cluster_id = "another"
    for name in stage.topology.names:
        stage.kafka.create(name, stage.topology.partitions(name))

    stage.send(a_correction())
    stage.settle(worker)

    assert not stage.derived(), "this cluster never saw the prediction"


def test_the_state_of_a_topic_that_was_made_again_is_discarded(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction())
    stage.settle(worker)
    worker.stop()
    make_again(stage, stage.topology.topic_of("Prediction"))

    stage.send(a_correction())
    stage.settle(worker)

    assert not stage.derived(), "the new topic never held the prediction"


def test_the_state_of_another_partition_is_discarded(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(*(a_prediction(task=f"t{i}") for i in range(8)))
    stage.settle(worker)
    worker.stop()
    one, other, aside = (worker.folder / name for name in ("partition-0", "partition-1", "aside"))
    one.rename(aside)
    other.rename(one)
    aside.rename(other)

    stage.send(*(a_correction(task=f"t{i}") for i in range(8)))
    stage.settle(worker)

    assert stage.derived().total() == 8
    stage.check()


def test_offsets_of_a_former_topic_are_refused(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction(), a_prediction(prediction_id="q"))
    stage.settle(worker)
    leave(stage, worker)
    topic, partition = place = stage.place(a_prediction())
    make_again(stage, topic)
    stage.send(a_prediction(), a_prediction(prediction_id="q"), a_prediction(prediction_id="r"))
    group(stage).offsets[place] = 2
    with pytest.raises(RefusedToStart, match=f"{topic}/{partition}: the group's offset 2 is of a former topic") as no:
        worker.step(10)
    assert f"--topic {topic} --delete-offsets" in str(no.value)

    worker.kill()
    del group(stage).offsets[place]
    stage.settle(worker)
    assert stage.committed()[place] == 3


def test_a_topic_that_is_made_again_under_a_running_worker_ends_it_and_then_starts_at_its_beginning(
    stage: Stage,
) -> None:
    worker = stage.worker()
    stage.send(a_prediction())
    stage.settle(worker)
    worker.step(200)
    make_again(stage, stage.topology.topic_of("Prediction"))
    stage.send(a_prediction(prediction_id="q"))  # so that the old position is within the new log
    with pytest.raises(TopicMismatch, match=r"was deleted and made again while this worker ran.*Start this worker"):
        worker.step(300)
    leave(stage, worker)

    stage.send(a_correction(prediction_id="q"))
    stage.settle(worker)

    assert stage.derived().total() == 1


def test_raw_topics_that_were_all_made_again_start_at_their_beginning_though_something_was_derived(
    stage: Stage,
) -> None:
    worker = stage.worker()
    stage.send(a_prediction(), a_correction())
    stage.settle(worker)
    leave(stage, worker)
    for topic in stage.topology.raw:
        make_again(stage, topic)

    stage.send(a_prediction(prediction_id="q"), a_correction(prediction_id="q"))
    stage.settle(worker)

    assert stage.derived().total() == 2


def test_the_state_of_another_window_is_rebuilt(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction())
    stage.settle(worker)
    worker.stop()
    longer = stage.settings.model_copy(update={"join_window": 2 * stage.settings.join_window})
    stage.settings = longer
    stage.kafka.now += WINDOW_MS + 1

    stage.send(a_correction())
    stage.settle(worker)

    assert stage.derived().total() == 1
    stage.check()


def test_a_changed_number_of_partitions_is_refused(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction())
    stage.settle(worker)
    leave(stage, worker)
    for topic in stage.topology.raw:
        stage.kafka.logs[topic].append(Log())
    with pytest.raises(RefusedToStart, match="have 3 partitions, this state was built over 2"):
        worker.step(10)


def test_offsets_that_the_group_lost_are_taken_from_the_progress_topic(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction(), a_correction())
    stage.settle(worker)
    leave(stage, worker)
    offsets = stage.committed()
    group(stage).offsets.clear()
    worker.wipe()

    stage.send(a_grade())
    stage.settle(worker)

    stage.check()
    assert stage.committed() == offsets | {stage.place(a_grade()): 1}


def test_one_topics_offset_that_the_group_lost_is_taken_from_the_progress_topic(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction(), a_correction())
    stage.settle(worker)
    leave(stage, worker)
    worker.wipe()
    del group(stage).offsets[stage.place(a_correction())]

    stage.settle(worker)

    stage.check()
    assert stage.derived().total() == 1


def test_progress_of_a_topic_that_was_made_again_does_not_count(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction(prediction_id="x"), a_correction(prediction_id="y"))
    stage.settle(worker)
    leave(stage, worker)
    group(stage).offsets.clear()
    for topic in stage.topology.raw:
        stage.kafka.delete(topic)
        stage.kafka.create(topic, 2)
    stage.send(a_prediction(), a_correction())
    stage.settle(worker)
    stage.check()


def test_without_offsets_and_progress_a_worker_refuses_where_something_was_derived(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction(), a_correction())
    stage.settle(worker)
    leave(stage, worker)
    group(stage).offsets.clear()
    stage.kafka.create(stage.topology.topic_of("Progress"), 1)
    with pytest.raises(RefusedToStart, match="has no committed offsets"):
        worker.step(10)
    assert stage.derived().total() == 1


def test_derived_records_of_aborted_transactions_do_not_count_as_derived(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction(), a_correction())
    stage.kafka.fail("before", "commit_transaction", Crash(), skip=2)  # after the claims
    with pytest.raises(Crash):
        worker.step(20)
    leave(stage, worker)
    assert any(log.records for topic in stage.topology.of(Kind.DERIVED) for log in stage.kafka.logs[topic])
    group(stage).offsets.clear()
    stage.kafka.create(stage.topology.topic_of("Progress"), 1)

    stage.settle(worker)

    stage.check()


def test_progress_that_stands_behind_an_open_transaction_is_waited_for(stage: Stage) -> None:
    worker = stage.worker()
    worker.step(10)
    other = stage.kafka.producer({"transactional.id": "another worker"})
    other.init_transactions(1)
    other.begin_transaction()
    other.produce(stage.topology.topic_of("Progress"), b"", b"", 0, headers=None)
    stage.send(a_prediction(), a_correction())
    stage.settle(worker)
    leave(stage, worker)
    group(stage).offsets.clear()
    worker.wipe()
    worker.step(10)
    assert worker.engine is not None
    assert worker.engine.status()["restoring"]

    other.abort_transaction(1)
    stage.settle(worker)

    stage.check()


def test_looking_for_lost_offsets_is_tried_again_where_the_broker_does_not_answer(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction(), a_correction())
    stage.settle(worker)
    leave(stage, worker)
    group(stage).offsets.clear()
    for skip, call in enumerate(("committed", "committed", "committed", "get_watermark_offsets"), start=1):
        stage.kafka.fail("before", call, failure(KafkaError._TIMED_OUT), skip=skip)

    stage.send(a_grade())
    stage.settle(worker)

    stage.check()


def test_a_state_ahead_of_the_group_is_refused(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction(), a_prediction(prediction_id="q"))
    stage.settle(worker)
    leave(stage, worker)
    topic, partition = place = stage.place(a_prediction())
    group(stage).offsets[place] = 1
    with pytest.raises(RefusedToStart, match=f"{topic}/{partition}: the state is at offset 2, the group only at 1"):
        worker.step(10)


def test_an_offset_past_the_end_of_the_log_is_refused(stage: Stage) -> None:
    worker = stage.worker()
    stage.send(a_prediction())
    stage.settle(worker)
    leave(stage, worker)
    topic, partition = place = stage.place(a_prediction())
    group(stage).offsets[place] = 7
    with pytest.raises(RefusedToStart, match=f"{topic}/{partition}: the group's offset 7 is past the log's end 1"):
        worker.step(10)


# Retention


def cut_unprocessed(stage: Stage) -> Worker:
    """A stopped worker, and a topic of which retention deleted the offsets 1 and 2 before it processed them."""
    worker = stage.worker()
    stage.send(a_prediction())
    stage.settle(worker)
    worker.stop()
    stage.send(*(a_prediction(prediction_id=name) for name in "qrs"))
    topic, partition = stage.place(a_prediction())
    stage.kafka.delete_records(topic, partition, 3)
    return worker


def test_events_that_retention_deleted_unprocessed_are_not_skipped_silently(stage: Stage) -> None:
    worker = cut_unprocessed(stage)
    topic, partition = stage.place(a_prediction())
    with pytest.raises(RefusedToStart, match=f"{topic}/{partition}: .* offset 1 is below the log start 3") as caught:
        worker.step(10)
    assert "deleted offsets 1 to 2, 2 events that were never processed" in str(caught.value)
    assert "`flyback worker --accept-loss`" in str(caught.value)


def test_a_loss_that_is_accepted_is_told_of_and_accepted_for_good(stage: Stage) -> None:
    worker = cut_unprocessed(stage)
    place = stage.place(a_prediction())
    worker.accepts_loss = True
    with patch("flyback.streams.restore.log") as log:
        worker.step(10)
    assert "deleted offsets 1 to 2" in str(log.mock_calls)
    worker.stop()
    assert stage.committed()[place] >= 3, "claimed, though nothing may have been processed"

    worker.accepts_loss = False
    stage.send(*(a_correction(prediction_id=name) for name in "qrs"))
    stage.settle(worker)
    assert stage.derived().total() == 1, "s is what was left of the predictions"


def test_a_replay_that_retention_overtakes_ends_the_worker(stage: Stage) -> None:
    stage.send(*(a_prediction(prediction_id=name) for name in "pqr"))
    topic, partition = stage.place(a_prediction())
    replay = Replay(stage.kafka, partition, {topic: 0}, {topic: 3})
    stage.kafka.delete_records(topic, partition, 2)
    with pytest.raises(BrokerError, match=f"{topic}/{partition}: retention deleted events while .* Start this worker"):
        replay.read(10, timeout=0)
    replay.close()


@pytest.mark.parametrize(("cut", "passed", "said"), [(2, 0, True), (2, WINDOW_MS + 1, False), (0, 0, False)])
def test_a_state_built_from_a_log_that_was_cut_within_the_window_is_told_of(
    stage: Stage, cut: int, passed: int, said: bool
) -> None:
    worker = stage.worker()
    stage.send(*(a_prediction(prediction_id=name) for name in "pqr"))
    stage.kafka.now += passed
    stage.send(a_prediction(prediction_id="s"))
    stage.settle(worker)
    leave(stage, worker)
    worker.wipe()
    stage.kafka.delete_records(*stage.place(a_prediction()), before=cut)

    with patch("flyback.streams.assignment.log") as log:
        stage.settle(worker)

    assert ("starts within the join window" in str(log.mock_calls)) == said


def test_a_replay_takes_what_was_fetched_and_waits_for_no_more(stage: Stage) -> None:
    stage.send(*(a_prediction(prediction_id=name) for name in "pqr"))
    topic, partition = stage.place(a_prediction())
    replay = Replay(stage.kafka, partition, {topic: 0}, {topic: 3})
    asked: list[tuple[int, float]] = []
    consume = MemoryConsumer.consume

    def noted(consumer: MemoryConsumer, many: int, timeout: float) -> Any:
        asked.append((many, timeout))
        return consume(consumer, many, timeout)

    with patch.object(MemoryConsumer, "consume", noted):
        found = [message.offset() for message in replay.read(10, timeout=5.0)[topic]]
    replay.close()
    assert found == [0, 1, 2]
    assert all(many == 1 for many, timeout in asked if timeout), "Kafka's would wait for as many"
