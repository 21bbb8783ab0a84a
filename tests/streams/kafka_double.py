"""Kafka in memory, for the engine's tests: confluent-kafka's methods, types and errors as far as the engine uses them.

One thread and no waiting. `test_kafka_contract.py` holds it to what a real Kafka does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    TIMESTAMP_LOG_APPEND_TIME,
    KafkaError,
    Message,
    TopicPartition,
)

from flyback.streams.clients import Consumer, Headers, OnPartitions, Producer
from flyback.streams.clients import Message as Consumed
from tests.streams.kafka_double_broker import (
    Group,
    GroupMetadata,
    Log,
    MemoryBroker,
    Place,
    Record,
    Transaction,
    failure,
)

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound="_Client")


class _Client:
    def __init__(self, kafka: MemoryBroker, config: Mapping[str, Any]) -> None:
        self.kafka = kafka
        self.config = config
        self.id = str(config.get("client.id", ""))


def _faulty(method: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], R]:
    """A call that a test may let fail, before it has done anything or after it has done all."""
    name = method.__name__

    @wraps(method)
    def call(self: C, *args: P.args, **kwargs: P.kwargs) -> R:
        self.kafka.strike("before", name, self.id)
        result = method(self, *args, **kwargs)
        self.kafka.strike("after", name, self.id)
        return result

    return cast(Callable[Concatenate[C, P], R], call)


class MemoryConsumer(_Client):
    """A member of a group once it has subscribed; rebalances are served in `consume` alone."""

    def __init__(self, kafka: MemoryBroker, config: Mapping[str, Any]) -> None:
        super().__init__(kafka, config)
        self._group: Group = kafka.groups[config["group.id"]]
        self._instance: str | None = config.get("group.instance.id")
        self._committed_only = config.get("isolation.level", "read_committed") == "read_committed"
        self._topics: list[str] = []
        self._member = ""
        self._generation = -1
        self._assigned = False
        self._fenced = False
        self._positions: dict[Place, int] = {}
        self._paused: set[Place] = set()
        self._at_end: dict[Place, int] = {}

    def subscribe(
        self, topics: list[str], *, on_assign: OnPartitions, on_revoke: OnPartitions, on_lost: OnPartitions
    ) -> None:
        self._topics = list(topics)
        self._on_assign, self._on_revoke, self._on_lost = on_assign, on_revoke, on_lost

    def assign(self, partitions: list[TopicPartition]) -> None:
        self._positions = {_place(p): self._resolve(p) for p in partitions}
        self._paused.clear()
        self._at_end.clear()

    def unassign(self) -> None:
        self.assign([])

    def pause(self, partitions: list[TopicPartition]) -> None:
        self._paused |= {_place(p) for p in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        self._paused -= {_place(p) for p in partitions}

    @_faulty
    def seek(self, partition: TopicPartition) -> None:
        if _place(partition) not in self._positions:
            raise failure(KafkaError._STATE)
        self._positions[_place(partition)] = self._resolve(partition)
        self._at_end.pop(_place(partition), None)

    @_faulty
    def consume(self, num_messages: int, timeout: float) -> Sequence[Consumed]:
        if (fatal := self._serve_group()) is not None:
            return [fatal]
        found = [message for place in self._order() for message in self._fetch(place)]
        wanted = found[:num_messages]
        for message in wanted:
            self._advance(message)
        return cast(Sequence[Consumed], wanted)

    @_faulty
    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        pending = {place for offsets in self._group.pending.values() for place in offsets}
        if self._committed_only and pending & {_place(p) for p in partitions}:
            raise failure(KafkaError._TIMED_OUT)
        group = self._group
        return [
            TopicPartition(
                p.topic, p.partition, group.offsets.get(_place(p), -1001), metadata=group.notes.get(_place(p), "")
            )
            for p in partitions
        ]

    def consumer_group_metadata(self) -> GroupMetadata:
        return GroupMetadata(self.config["group.id"], self._generation, self._member)

    @_faulty
    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]:
        log = self._log(_place(partition))
        return log.start, self._readable_end(log)

    @_faulty
    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        found = []
        for asked in partitions:
            log = self._log(_place(asked))
            later = (r.offset for r in log.records[log.start :] if r.timestamp >= asked.offset)
            found.append(TopicPartition(asked.topic, asked.partition, next(later, OFFSET_END)))
        return found

    def close(self) -> None:
        """A static member keeps its membership."""
        member = self._group.members.get(self._member)
        if self._assigned:
            self._on_revoke(self, self._partitions())
        if member is not None and self._instance is None:
            self._group.leave(member)
        self._topics = []

    def _serve_group(self) -> Consumed | None:
        """What the background thread and the rebalance callbacks do: leave, join and take partitions."""
        group, member = self._group, self._group.members.get(self._member)
        if not self._topics:
            return None
        if self._member and member is None:
            if not self._fenced and group.of_instance(self._instance) is not None:
                self._fenced = True
                text = "Fatal error: Broker: Static consumer fenced by other consumer with same group.instance.id"
                return cast(Consumed, Message(error=KafkaError(KafkaError._FATAL, text)))
            if self._fenced:
                return None
            self._give_up(self._on_lost)
            self._member = ""
        if member is None:
            member = group.join(self._instance, self._topics)
            self._member = member.id
        if group.rebalancing and not member.joined:
            self._give_up(self._on_revoke)
            group.joined(member)
        if not group.rebalancing and not self._assigned:
            self._generation = group.generation
            self._assigned = True
            self._on_assign(self, [TopicPartition(*place) for place in member.places])
        return None

    def _give_up(self, callback: OnPartitions) -> None:
        if self._assigned:
            self._assigned = False
            callback(self, self._partitions())

    def _order(self) -> list[Place]:
        places = [place for place in self._positions if place not in self._paused]
        if self.kafka.chance is not None:
            self.kafka.chance.shuffle(places)
        return places

    def _fetch(self, place: Place) -> Iterator[Message]:
        if place in self.kafka.unreadable:
            if (refused := self.kafka.unreadable[place]) is not None:
                yield self._event(place, self._positions[place], refused)
            return
        log, position = self._log(place), self._positions[place]
        if not log.start <= position <= log.end:
            if self.config.get("auto.offset.reset") != "earliest":
                error = KafkaError(KafkaError._AUTO_OFFSET_RESET, "fetch failed due to requested offset not available")
                yield self._event(place, position, error)
                return
            position = log.start
        end = self._readable_end(log)
        found = [r for r in log.records[position:end] if r.visible or (r.visible is None and not self._committed_only)]
        chance = self.kafka.chance
        taken = found if chance is None else found[: chance.randint(0, len(found))]
        for record in taken:
            yield self._message(place, record)
        if self.config.get("enable.partition.eof") and taken == found and self._at_end.get(place) != end:
            yield self._event(place, end, KafkaError(KafkaError._PARTITION_EOF))

    def _message(self, place: Place, record: Record) -> Message:
        return Message(
            topic=place[0],
            partition=place[1],
            offset=record.offset,
            key=record.key,
            value=record.value,
            headers=cast(Any, record.headers),
            timestamp=(TIMESTAMP_LOG_APPEND_TIME, record.timestamp),
        )

    def _event(self, place: Place, offset: int, error: KafkaError) -> Message:
        return Message(topic=place[0], partition=place[1], offset=offset, error=error)

    def _advance(self, message: Message) -> None:
        place, offset = (str(message.topic()), int(message.partition() or 0)), int(message.offset() or 0)
        error = message.error()
        if error is None:
            self._positions[place] = offset + 1
            self._at_end.pop(place, None)
        elif error.code() == KafkaError._PARTITION_EOF:
            self._positions[place] = offset
            self._at_end[place] = offset
        else:
            self._paused.add(place)

    def _readable_end(self, log: Log) -> int:
        return log.stable if self._committed_only else log.end

    def _resolve(self, partition: TopicPartition) -> int:
        log = self._log(_place(partition))
        special = {OFFSET_END: self._readable_end(log), OFFSET_BEGINNING: log.start}
        return special.get(partition.offset, partition.offset)

    def _log(self, place: Place) -> Log:
        return self.kafka.logs[place[0]][place[1]]

    def _partitions(self) -> list[TopicPartition]:
        return [TopicPartition(*place) for place in self._positions]


class Delivered(NamedTuple):
    """What a report says of a message; no offset where the client only concluded that it arrived."""

    at: int | None

    def offset(self) -> int | None:
        return self.at


class MemoryProducer(_Client):
    """A transactional producer. What it produces stands in the log at once, open until its transaction ends."""

    def __init__(self, kafka: MemoryBroker, config: Mapping[str, Any]) -> None:
        super().__init__(kafka, config)
        self._name = str(config["transactional.id"])
        self._epoch = -1
        self._state = "new"  # ready, open, failed (must be aborted), committing (asked for, not confirmed)
        self._reports: list[Callable[[], None]] = []

    @_faulty
    def init_transactions(self, timeout: float) -> None:
        transaction = self.kafka.transactions[self._name]
        transaction.epoch += 1
        self._epoch = transaction.epoch
        if transaction.open:
            self.kafka.end_transaction(self._name, commit=False)
        self._state = "ready"

    @_faulty
    def begin_transaction(self) -> None:
        self._expect("ready")
        self._state = "open"

    @_faulty
    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        on_delivery: Callable[[Any, Any], None] = lambda error, message: None,
        headers: Headers | None = None,
    ) -> None:
        self._expect("open")
        if len(key or b"") + len(value or b"") > self.config.get("message.max.bytes", 1_000_000):
            raise failure(KafkaError.MSG_SIZE_TOO_LARGE)
        offset = None
        if self.kafka.refusals:
            self.kafka.refusals -= 1
        elif self._is_current():  # a fenced one learns it later
            offset = self.kafka.append_open(self._name, (topic, partition), key, value, headers)
        self._reports.append(partial(on_delivery, None, Delivered(offset)))

    def __len__(self) -> int:
        return len(self._reports)

    def poll(self, timeout: float) -> int:
        reports, self._reports = self._reports, []
        for report in reports:
            report()
        return len(reports)

    @_faulty
    def send_offsets_to_transaction(
        self, positions: list[TopicPartition], group_metadata: GroupMetadata, timeout: float
    ) -> None:
        self._expect("open")
        self._check_epoch()
        group = self.kafka.groups[group_metadata.group]
        try:
            group.check(group_metadata)
        except BaseException:
            self._state = "failed"
            raise
        self._transaction.open = True
        group.pending.setdefault(self._name, {}).update({_place(p): p for p in positions})

    def commit_transaction(self, timeout: float) -> None:
        self.kafka.strike("before", "commit_transaction", self.id)
        self._expect("open", "committing")
        if self._state == "open":
            self._check_epoch()
            self._state = "committing"
            self.kafka.end_transaction(self._name, commit=True)
        self.kafka.strike("after", "commit_transaction", self.id)
        self._state = "ready"

    @_faulty
    def abort_transaction(self, timeout: float) -> None:
        self._expect("open", "failed")
        self._check_epoch()
        self.kafka.end_transaction(self._name, commit=False)
        self._state = "ready"

    @property
    def _transaction(self) -> Transaction:
        return self.kafka.transactions[self._name]

    def _is_current(self) -> bool:
        return self._transaction.epoch == self._epoch

    def _check_epoch(self) -> None:
        if not self._is_current():
            raise failure(KafkaError._FENCED, fatal=True)

    def _expect(self, *states: str) -> None:
        if self._state not in states:
            if not self._is_current():
                self._check_epoch()
            raise failure(KafkaError._STATE, f"Operation not valid in state {self._state}")


class MemoryKafka(MemoryBroker):
    """A cluster in memory and its clients: a `flyback.streams.clients.Clients`."""

    def consumer(self, config: Mapping[str, Any]) -> Consumer:
        return MemoryConsumer(self, config)

    def producer(self, config: Mapping[str, Any]) -> Producer:
        return MemoryProducer(self, config)


def _place(partition: TopicPartition) -> Place:
    return partition.topic, partition.partition
