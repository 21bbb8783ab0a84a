"""The broker's side of the Kafka in memory: logs, groups, transactions, and faults that a test plans.

Nothing happens here unless a test asks for it: no session and no transaction ends by itself.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from uuid import UUID

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from flyback.errors import TopicMismatch
from flyback.streams.clients import Cluster, Headers

Place = tuple[str, int]
"""A topic and a partition."""


class Crash(BaseException):
    """The process died here. No `except Exception` of the code under test may see it."""


def failure(code: int, text: str = "", **kind: bool) -> KafkaException:
    """What a client raises; `kind` may be fatal, retriable or txn_requires_abort."""
    return KafkaException(KafkaError(code, text or None, **kind))


@dataclass
class Record:
    """One place in a log. `visible`: None while its transaction is open; control records never are."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None
    timestamp: int
    visible: bool | None = True


class Log:
    """One partition. The offset is the index, since nothing is ever compacted away."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.start = 0
        self._open: dict[str, list[Record]] = {}

    @property
    def end(self) -> int:
        return len(self.records)

    @property
    def stable(self) -> int:
        """The last stable offset: where a read_committed reader has to wait."""
        return min((records[0].offset for records in self._open.values()), default=self.end)

    def append(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        now: int,
        producer: str | None = None,
    ) -> Record:
        record = Record(self.end, key, value, headers, now, True if producer is None else None)
        self.records.append(record)
        if producer is not None:
            self._open.setdefault(producer, []).append(record)
        return record

    def end_transaction(self, producer: str, commit: bool, now: int) -> None:
        """Decide about the producer's records; the control record takes an offset."""
        for record in self._open.pop(producer, ()):
            record.visible = commit
        self.records.append(Record(self.end, None, None, None, now, visible=False))


@dataclass
class Member:
    """One member of a group; `joined`: it takes part in the next generation."""

    id: str
    instance: str | None
    topics: list[str]
    places: list[Place] = field(default_factory=list)
    joined: bool = False


@dataclass(frozen=True)
class GroupMetadata:
    group: str
    generation: int
    member: str


class Group:
    """A consumer group under the classic protocol: eager rebalances, range assignment, static members."""

    def __init__(self, partitions: Callable[[str], int]) -> None:
        self._partitions = partitions
        self._ids = count(1)
        self.members: dict[str, Member] = {}
        self.offsets: dict[Place, int] = {}
        self.notes: dict[Place, str] = {}
        """What was committed as metadata of an offset."""
        self.pending: dict[str, dict[Place, TopicPartition]] = {}
        """Offsets in open transactions, by transactional id."""
        self.generation = 0
        self.rebalancing = False

    def join(self, instance: str | None, topics: list[str]) -> Member:
        """A new member, which takes over what a former one with its static id was assigned."""
        member = Member(f"{instance or 'member'}-{next(self._ids)}", instance, topics)
        former = self.of_instance(instance)
        if former is not None:
            del self.members[former.id]
            member.places = former.places
        self.members[member.id] = member
        if former is None:
            self.rebalance()
        return member

    def of_instance(self, instance: str | None) -> Member | None:
        return next((m for m in self.members.values() if instance and m.instance == instance), None)

    def leave(self, member: Member) -> None:
        del self.members[member.id]
        self.rebalance()

    def rebalance(self) -> None:
        self.rebalancing = bool(self.members)
        for member in self.members.values():
            member.joined = False

    def joined(self, member: Member) -> None:
        """The last one to join again begins the next generation."""
        member.joined = True
        if all(each.joined for each in self.members.values()):
            self.rebalancing = False
            self.generation += 1
            self._assign()

    def check(self, metadata: GroupMetadata) -> None:
        """Raise as a coordinator does for offsets of a member that is no more, or of an older generation."""
        if metadata.member not in self.members:
            instance = metadata.member.rpartition("-")[0]
            code = KafkaError.FENCED_INSTANCE_ID if self.of_instance(instance) else KafkaError.UNKNOWN_MEMBER_ID
            raise failure(code, txn_requires_abort=True)
        if metadata.generation != self.generation:
            raise failure(KafkaError.ILLEGAL_GENERATION, txn_requires_abort=True)

    def _assign(self) -> None:
        for member in self.members.values():
            member.places = []
        for topic in sorted({topic for member in self.members.values() for topic in member.topics}):
            takers = sorted((m for m in self.members.values() if topic in m.topics), key=lambda m: m.instance or m.id)
            n = self._partitions(topic)
            for i, member in enumerate(takers):
                low, high = n * i // len(takers), n * (i + 1) // len(takers)
                member.places += [(topic, partition) for partition in range(low, high)]


@dataclass
class Transaction:
    """What the coordinator knows of a transactional id."""

    epoch: int = 0
    places: set[Place] = field(default_factory=set)
    open: bool = False


@dataclass
class Planned:
    """Something to happen `when` ("before" or "after") a call of a client, once, after `skip` calls of the same.

    `clients`: only of those with such a client.id; () for any.
    """

    when: str
    call: str
    act: Callable[[], None]
    clients: tuple[str, ...] = ()
    skip: int = 0


class MemoryBroker:
    """A cluster. `now` (ms) is the time of the next append.

    `chance` decides which partitions a consumer gets messages of first, and how many; without it everything comes at
    once, partition by partition.
    """

    def __init__(self, now: int = 1_700_000_000_000, chance: random.Random | None = None) -> None:
        self.now = now
        self.chance = chance
        self.cluster_id = "memory"
        self.topic_ids: dict[str, str] = {}
        self.logs: dict[str, list[Log]] = {}
        self.groups: dict[str, Group] = defaultdict(lambda: Group(lambda topic: len(self.logs[topic])))
        self.transactions: dict[str, Transaction] = defaultdict(Transaction)
        self.planned: list[Planned] = []
        self.refusals = 0
        """How many of the records to come are refused though their producer takes them for delivered."""
        self.unreadable: dict[Place, KafkaError | None] = {}
        """Partitions that cannot be read, with the error that a reader is told once; None: nothing ever comes."""
        self.calls: list[tuple[str, str]] = []
        """Every call of a client, as (client.id, name)."""
        self._topics_made = count(1)

    def create(self, topic: str, partitions: int) -> None:
        """A topic with an id of its own, also where one of this name was deleted before."""
        self.topic_ids[topic] = str(UUID(int=next(self._topics_made)))
        self.logs[topic] = [Log() for _ in range(partitions)]

    def delete(self, topic: str) -> None:
        """Delete a topic; the groups' offsets of it go with it."""
        del self.logs[topic], self.topic_ids[topic]
        for group in self.groups.values():
            group.offsets = {place: offset for place, offset in group.offsets.items() if place[0] != topic}

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """What retention does."""
        self.logs[topic][partition].start = before

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers | None = None
    ) -> int:
        """A record of a producer without transactions; its offset."""
        return self.logs[topic][partition].append(key, value, headers, self.now).offset

    def records(self, topic: str) -> list[Record]:
        """All that a read_committed reader may see, partition by partition."""
        return [record for log in self.logs[topic] for record in log.records[log.start : log.stable] if record.visible]

    def expire(self, group: str, instance: str) -> None:
        """End a member's session, as if its heartbeats had stopped."""
        member = self.groups[group].of_instance(instance)
        assert member is not None, f"{instance} is no member of {group}"
        self.groups[group].leave(member)

    def expire_transaction(self, transactional_id: str) -> None:
        """End a transaction that took longer than its time-out; its producer is fenced."""
        self.transactions[transactional_id].epoch += 1
        self.end_transaction(transactional_id, commit=False)

    def end_transaction(self, transactional_id: str, commit: bool) -> None:
        """Write the control records and take or drop the offsets."""
        transaction = self.transactions[transactional_id]
        transaction.open = False
        for topic, partition in sorted(transaction.places):
            if topic in self.logs:
                self.logs[topic][partition].end_transaction(transactional_id, commit, self.now)
        transaction.places = set()
        for group in self.groups.values():
            offsets = group.pending.pop(transactional_id, {})
            if commit:
                group.offsets |= {place: position.offset for place, position in offsets.items()}
                group.notes |= {place: position.metadata or "" for place, position in offsets.items()}

    def append_open(
        self, transactional_id: str, place: Place, key: bytes | None, value: bytes | None, headers: Headers | None
    ) -> int:
        """A record of a transaction, which is open from now on; its offset."""
        self.transactions[transactional_id].open = True
        self.transactions[transactional_id].places.add(place)
        log = self.logs[place[0]][place[1]]
        return log.append(key, value, headers, self.now, transactional_id).offset

    def fail(self, when: str, call: str, error: BaseException, clients: tuple[str, ...] = (), skip: int = 0) -> None:
        """Let a call fail that is still to come."""

        def act() -> None:
            raise error

        self.planned.append(Planned(when, call, act, clients, skip))

    def interrupt(
        self, when: str, call: str, act: Callable[[], None], clients: tuple[str, ...] = (), skip: int = 0
    ) -> None:
        """Let other things happen while a client is in the midst of its work."""
        self.planned.append(Planned(when, call, act, clients, skip))

    def strike(self, when: str, call: str, client: str) -> None:
        """Do what was planned for this moment, if anything."""
        if when == "before":
            self.calls.append((client, call))
        due = None
        for planned in self.planned:
            if (planned.when, planned.call) == (when, call) and client in (planned.clients or (client,)):
                due = due or (planned if planned.skip == 0 else None)
                planned.skip = max(0, planned.skip - 1)
        if due is not None:
            self.planned.remove(due)
            due.act()

    def ask_topic_ids(self, topics: Iterable[str]) -> Callable[[], Mapping[str, str]]:
        names = list(topics)
        return lambda: self._described(names).topic_ids

    def describe(self, topics: Iterable[str]) -> Cluster:
        self.strike("before", "describe", "")
        return self._described(list(topics))

    def _described(self, names: list[str]) -> Cluster:
        for name in names:
            if name not in self.logs:
                raise TopicMismatch(f"topic {name} does not exist: run `flyback topics create`")
        return Cluster(
            self.cluster_id,
            {name: self.topic_ids[name] for name in names},
            {name: len(self.logs[name]) for name in names},
        )
