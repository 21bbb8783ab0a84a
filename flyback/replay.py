"""Dead letters go back into the topics that they were refused from, each of them once.

    fence      an earlier run: one transactional id for each prefix, so that what it left open is aborted
    read       the marks: which dead letters were put back already
    for each selected dead letter that has no mark:
        repair     its key or value, where a hook is given
        check      by the rules of today; what would be refused again stays where it is
    write      some hundred messages and their marks in one transaction

Killed at any moment, or fenced by a second run, a run leaves whole transactions behind; the next one goes on.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flyback import deadletters, history
from flyback.deadletters import EVERYTHING, DeadLetter, Selection
from flyback.errors import BrokerError, ConfigurationError, FlybackError, InvalidEvent, UnknownSchema, WorkerFenced
from flyback.schemas import codec, wire
from flyback.schemas.catalog import Catalog, open_catalog
from flyback.schemas.intake import accept
from flyback.settings import Settings
from flyback.streams.clients import KafkaClients
from flyback.streams.outputs import Output
from flyback.streams.topology import Kind, Topology, partition_for
from flyback.streams.transactions import TransactionAborted, Transactions

FROM = "flyback.replayed.from"
"""The header that tells a replayed message: topic/partition/offset of the one that was refused."""

NAMED = 1_000
"""Dead letters that a report names at most."""

_MESSAGES = 500
_BYTES = 16_000_000
_START_SECONDS = 60.0
_LETTER_BYTES = 1_000  # what headers and mark take beside the value
# The engine has seen the event, so the same bytes would be a duplicate or a conflict again.
_SEEN = ("conflict", "pair_too_large")

KeyAndValue = tuple[bytes | None, bytes | None]
Repair = Callable[[DeadLetter], KeyAndValue | None]
"""Gives key and value that the message is put back with, None to leave the dead letter where it is."""


class RepairFailed(FlybackError):
    """The hook raised an error, or gave something else than a key and a value."""


@dataclass(slots=True)
class Report:
    """Numbers of dead letters. `already` were put back before; `left` are those for which the hook gave None.

    `not_replayable` counts by reason; `named` says of the first `NAMED` of them where they stood and why.
    """

    dry_run: bool = False
    replayed: int = 0
    already: int = 0
    left: int = 0
    not_replayable: Counter[str] = field(default_factory=Counter)
    named: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def selected(self) -> int:
        """All of them together."""
        return self.replayed + self.already + self.left + self.not_replayable.total()

    def refuse(self, letter: DeadLetter, error: InvalidEvent) -> None:
        """Count a dead letter that would be refused again."""
        self.not_replayable[error.reason] += 1
        if len(self.named) < NAMED:
            self.named.append((letter.coordinates, error.reason, str(error)))


def replay(
    settings: Settings,
    selection: Selection = EVERYTHING,
    repair: Repair | None = None,
    dry_run: bool = False,
    progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Put the selected dead letters back into their topics; those that are there by the time of the call.

    Doing so again adds nothing. `dry_run` says what would be done and writes nothing. `progress` is called after each
    transaction. Raises WorkerFenced (another run took over), RepairFailed, RegistryUnavailable, BrokerError and as
    `deadletters.read` does; what was put back until then is marked, and a new run goes on with the rest.
    """
    topology = Topology(settings)
    sources = deadletters.dead_letter_topics(settings, selection.topic)
    # What is refused anew while we run is for another run: with a hook that does not help this one would never end.
    ends = history.next_offsets(settings, sources)
    writer = None if dry_run else _Writer(settings, topology)
    workshop = _Workshop(settings, topology, repair)
    marks = deadletters.marks(settings)
    report = Report(dry_run)
    waiting: list[Output] = []
    size = 0
    for letter in deadletters.read(settings, selection, ends):
        mark = deadletters.mark(letter)
        if mark in marks:
            report.already += 1
            continue
        try:
            outputs = workshop.outputs(letter, mark)
        except InvalidEvent as error:
            report.refuse(letter, error)
            continue
        if not outputs:
            report.left += 1
            continue
        marks.add(mark)
        waiting += outputs
        size += len(outputs[0].value or b"") + _LETTER_BYTES
        if len(waiting) >= 2 * _MESSAGES or size >= _BYTES:
            _write(writer, waiting, report, progress)
            waiting, size = [], 0
    _write(writer, waiting, report, progress)
    return report


def load_repair(name: str, settings: Settings) -> Repair:
    """The hook `module:function`, found as `python -m` would find it; or `key`, which sets the key to the task's id.

    Raises ConfigurationError.
    """
    if name == "key":
        return _KeyRepair(settings)
    module, _, function = name.partition(":")
    if not module or not function:
        raise ConfigurationError(f"--repair {name}: give module:function, or key")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever the module does when it is imported
        raise ConfigurationError(
            f"--repair {name}: {type(error).__name__}: {error}. Name a function of a module in this folder, or of one "
            "that is installed"
        ) from error
    if not callable(found):
        raise ConfigurationError(f"--repair {name}: it is no function")
    return found  # type: ignore[no-any-return]


class _KeyRepair:
    """Keys each message by its event's task id, where the value can be decoded at all."""

    def __init__(self, settings: Settings) -> None:
        self._topology = Topology(settings)
        self._catalog = open_catalog(settings)

    def __call__(self, letter: DeadLetter) -> KeyAndValue | None:
        try:
            task_id: str = _decode(self._topology, self._catalog, letter.topic, letter.value)["task_id"]
        except (InvalidEvent, UnknownSchema):
            return None
        return task_id.encode(), letter.value


class _Workshop:
    """Makes of a dead letter the message to put back, and its mark."""

    def __init__(self, settings: Settings, topology: Topology, repair: Repair | None) -> None:
        self._settings = settings
        self._topology = topology
        self._repair = repair
        self._catalog = open_catalog(settings)
        self._partitions: Mapping[str, int] = Counter(
            topic for topic, _ in history.places(settings, topology.of(Kind.RAW) + topology.of(Kind.DERIVED))
        )
        self._alerts = topology.topic_of("Alert")
        self._marks = topology.topic_of("Replay")
        self._id = self._catalog.id_for("Replay", self._marks)

    def outputs(self, letter: DeadLetter, mark: bytes) -> list[Output]:
        """Message and mark; nothing where the hook leaves the dead letter. Raises InvalidEvent where it must stay."""
        if letter.topic == self._alerts:
            raise InvalidEvent(
                "alert",
                "",
                "no event, but an alert that the webhook did not take; it stands in its topic all the same, and is not "
                "sent again: `flyback alerts list` says what became of it",
            )
        arrived_at = letter.arrived_at
        if letter.topic not in self._partitions or arrived_at is None or min(letter.partition, letter.offset) < 0:
            raise InvalidEvent("unknown_origin", "", "its headers do not say which of our messages it was")
        letter = replace(letter, value=deadletters.original(self._settings, letter))
        key, value = letter.key, letter.value
        if self._repair is not None:
            repaired = self._repaired(letter)
            if repaired is None:
                return []
            key, value = repaired
        if letter.reason in _SEEN and value == letter.value:
            text = f"the engine holds an event of this identity already ({letter.reason}): give it an id of its own"
            raise InvalidEvent("seen", "", text)
        partition = self._checked(letter.topic, key, value)
        headers = [(name, content) for name, content in letter.headers if name != FROM]
        record = {
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
            "arrived_at": _micros(arrived_at),
            "to_partition": partition,
            "reason": letter.reason,
            "repaired": (key, value) != (letter.key, letter.value),
            "replayed_at": _micros(datetime.now(UTC)),
        }
        return [
            Output(letter.topic, partition, key, value, [*headers, (FROM, letter.coordinates.encode())]),
            Output(self._marks, 0, mark, codec.encode("Replay", record, self._id)),
        ]

    def _repaired(self, letter: DeadLetter) -> KeyAndValue | None:
        assert self._repair is not None
        try:
            found: Any = self._repair(letter)
        except FlybackError:
            raise
        except Exception as error:
            text = f"the repair of {letter.coordinates} failed: {type(error).__name__}: {error}"
            raise RepairFailed(f"{text}. What was put back before is marked: mend the hook and run it again") from error
        if found is None:
            return None
        if not (isinstance(found, tuple) and len(found) == 2 and all(_is_bytes(part) for part in found)):
            raise RepairFailed(
                f"the repair of {letter.coordinates} gave {type(found).__name__}: it must give a tuple of key and "
                "value, each bytes or None; or None to leave the dead letter"
            )
        key, value = found
        return key, value

    def _checked(self, topic: str, key: bytes | None, value: bytes | None) -> int:
        """The partition that the message belongs into. Raises InvalidEvent where it would be refused again."""
        partitions = self._partitions[topic]
        partition = partition_for(key or b"", partitions)
        try:
            if self._topology[topic].kind is Kind.RAW:
                record, limit = self._topology[topic].record or "", self._settings.max_event_bytes
                accept(record, key, value, partition, partitions, limit, self._catalog)
            elif len(value or b"") > self._topology.derived_max_bytes:
                raise InvalidEvent("oversized", "", f"derived topics take {self._topology.derived_max_bytes} bytes")
            else:
                _decode(self._topology, self._catalog, topic, value)
        except UnknownSchema as error:
            raise InvalidEvent("unknown_schema", "", f"no schema has the id {error.schema_id}") from None
        if not key:
            raise InvalidEvent("missing_key", "key", "the message key must be the task_id")
        return partition


class _Writer:
    """Transactions of the one run that may write. Made, it has fenced every earlier one."""

    def __init__(self, settings: Settings, topology: Topology) -> None:
        name = f"{settings.topic_prefix}replay"
        self._transactions = Transactions(KafkaClients(settings), settings, topology, name, transactional_id=name)
        deadline = time.monotonic() + _START_SECONDS
        if not self._transactions.start(lambda: time.monotonic() > deadline):
            raise BrokerError(
                f"cannot start transactions as {name}: Kafka at {settings.bootstrap_servers} did not answer for "
                f"{_START_SECONDS:g} s. Nothing was put back"
            )

    def write(self, outputs: list[Output]) -> None:
        try:
            self._transactions.commit(outputs)
        except WorkerFenced as error:
            raise WorkerFenced(
                "another `flyback dlq replay` took over: nothing of this one's last transaction was written. "
                "Run it again when the other one has ended: it goes on with what is left"
            ) from error
        except TransactionAborted as error:
            raise FlybackError(f"the last transaction was aborted: {error}. Run it again: it goes on there") from error
        except BrokerError as error:
            raise BrokerError(
                "whether the last transaction was committed cannot be known. Run it again: its messages are marked, "
                "or none of them was put back"
            ) from error


def _write(writer: _Writer | None, outputs: list[Output], report: Report, progress: Callable[[Report], None]) -> None:
    if writer is not None and outputs:
        writer.write(outputs)
    report.replayed += len(outputs) // 2
    progress(report)


def _decode(topology: Topology, catalog: Catalog, topic: str, value: bytes | None) -> codec.Record:
    writer = catalog.schema(wire.schema_id(value))
    return codec.decode(topology[topic].record or "", value or b"", writer)


def _is_bytes(part: object) -> bool:
    return part is None or isinstance(part, bytes)


def _micros(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000)
