"""The worker's state folder, and where its group stands: what a worker would say at its start."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rocksdict import AccessType, Options, Rdict

from flyback import history
from flyback.doctor.check import Check, failed, ok, skipped, warning, worst
from flyback.doctor.machine import space, unwritable
from flyback.errors import RefusedToStart
from flyback.history import Place
from flyback.settings import Settings
from flyback.streams import restore
from flyback.streams.clients import Cluster
from flyback.streams.state import META, Meta, Origin
from flyback.streams.topology import Kind, Topology

_LOCKS = Path("/proc/locks")


@dataclass(frozen=True)
class Standing:
    """Where the group stands in the raw topics: committed, log start and log end by topic and partition."""

    cluster: Cluster
    committed: Mapping[Place, int | None]
    bounds: Mapping[Place, tuple[int, int]]

    def start(self, partition: int) -> dict[str, int]:
        """Where a worker goes on. Raises RefusedToStart where it would."""
        topics = [topic for topic, number in self.bounds if number == partition]
        return restore.starting_offsets(
            partition,
            {topic: self.committed[topic, partition] for topic in topics},
            self.log_start(partition),
            {topic: self.bounds[topic, partition][1] for topic in topics} if self.cluster.tells_log_ends else {},
        )

    def log_start(self, partition: int) -> dict[str, int]:
        return {topic: first for (topic, number), (first, _) in self.bounds.items() if number == partition}


def standing(settings: Settings, cluster: Cluster) -> Standing:
    """As Kafka has it now. Raises BrokerError, TopicMismatch."""
    bounds = history.bounds(settings, Topology(settings).raw)
    return Standing(cluster, history.committed_or_none(settings, settings.group, bounds), bounds)


def offsets(settings: Settings, group: Standing) -> Check:
    """Whether the group can go on where it stands."""
    wrong = []
    for partition in sorted({number for _, number in group.bounds}):
        try:
            group.start(partition)
        except RefusedToStart as error:
            wrong.append(failed("offsets", str(error), "see docs/operations.md before any worker is started"))
    known = sum(offset is not None for offset in group.committed.values())
    if not known and _anything_derived(settings):
        wrong.append(
            warning(
                "offsets",
                f"group {settings.group} has no committed offsets, though the derived topics hold events",
                f"is FLYBACK_GROUP right? Else start a worker: it takes them from {settings.topic_prefix}progress.v1, "
                "or refuses and says what to do",
            )
        )
    fine = f"group {settings.group} has committed {known} of {len(group.committed)} offsets, and may go on at them"
    return worst("offsets", wrong, fine if known else f"group {settings.group} has not begun yet")


def _anything_derived(settings: Settings) -> bool:
    derived = Topology(settings).of(Kind.DERIVED)
    return any(first < end for first, end in history.bounds(settings, derived).values())


def folder(settings: Settings, group: Standing | None) -> Iterator[Check]:
    """The folder itself, and each state in it; `group`: what they must fit, None where that is not known."""
    path = settings.state_dir
    if why := unwritable(path):
        mend = "start the worker as another user, or set FLYBACK_STATE_DIR to a folder of its own"
        yield failed("state folder", why, mend)
        return
    known = path / "worker_id"
    worker = known.read_text(encoding="utf-8").strip() if known.is_file() else None
    holder = held_by(path / "lock")
    if holder is not None:
        yield ok("state folder", f"{path}: in use by worker {worker} (process {holder})")
    else:
        yield ok("state folder", f"{path}: of worker {worker}, which does not run here" if worker else f"{path}: new")
    yield space("state space", path, "FLYBACK_STATE_DIR")
    if holder is not None:
        yield skipped("state", "the worker that runs has checked it, and changes it")
    elif group is None:
        yield skipped("state", "what it must fit is not known, without Kafka and the raw topics")
    else:
        yield _states(settings, path, group)


def _states(settings: Settings, path: Path, group: Standing) -> Check:
    wrong: list[Check] = []
    stores = sorted(path.glob("partition-*"))
    for store in stores:
        number = store.name.removeprefix("partition-")
        if number.isdigit():
            wrong += _state(settings, store, int(number), group)
    return worst("state", wrong, f"of {len(stores)} partitions, all of this Kafka" if stores else "none yet")


def _state(settings: Settings, store: Path, number: int, group: Standing) -> Iterator[Check]:
    rebuilt = "nothing: the worker throws it away and restores it from Kafka, which takes a while"
    try:
        meta = peek(store)
    except Exception as error:  # rocksdict raises plain Exception
        yield warning("state", f"{store} cannot be read: {error}", rebuilt)
        return
    if meta is None:
        return
    raw = Topology(settings).raw
    count = group.cluster.partitions[raw[0]]
    ids = {topic: group.cluster.topic_ids[topic] for topic in raw}
    origin = Origin(group.cluster.cluster_id, ids, number, settings.join_window // timedelta(milliseconds=1))
    if meta.origin.topic_ids == ids and meta.partitions != count:
        yield failed(
            "state",
            f"{store}: the raw topics have {count} partitions, it was built over {meta.partitions}",
            "adding partitions moves keys away from their history: make new topics under another FLYBACK_TOPIC_PREFIX",
        )
    elif meta.origin != origin:
        yield warning("state", f"{store}: {_difference(meta.origin, origin)}", rebuilt)
    elif number < count:
        try:
            start = group.start(number)
        except RefusedToStart:  # the check of the offsets says so
            return
        try:
            if restore.replay_from(number, meta.applied, start, group.log_start(number)) is None:
                yield warning("state", f"{store}: older than what Kafka still has", rebuilt)
        except RefusedToStart as error:
            yield failed("state", str(error), "see docs/operations.md before this worker is started")


def _difference(found: Origin, expected: Origin) -> str:
    if found.cluster_id != expected.cluster_id:
        return f"of cluster {found.cluster_id}, this is cluster {expected.cluster_id}"
    if found.topic_ids != expected.topic_ids:
        return "of other raw topics: these were deleted and made again, or FLYBACK_TOPIC_PREFIX has changed"
    if found.window_ms != expected.window_ms:
        window = timedelta(milliseconds=found.window_ms)
        return f"built with FLYBACK_JOIN_WINDOW={window}, which is now {timedelta(milliseconds=expected.window_ms)}"
    return "built by another version of Flyback, or of another partition"


def peek(store: Path) -> Meta | None:
    """How far a partition's state is, None for an empty one. Raises what RocksDB raises; changes nothing.

    Even a database that is opened for reading writes beside its files: so it is opened among links to them.
    """
    with tempfile.TemporaryDirectory() as shadow:
        for file in store.iterdir():
            if file.name not in ("LOCK", "LOG", "rocksdict-config.json"):
                (Path(shadow) / file.name).symlink_to(file.absolute())
        database = Rdict(shadow, Options(raw_mode=True), access_type=AccessType.read_only())
        try:
            stored = database.get(META)
        finally:
            database.close()
    return None if stored is None else Meta.unpack(stored)


def held_by(lock: Path) -> str | None:
    """The process that holds a state folder's lock; None where nobody does, or where the system does not tell.

    Asked of the system: to try the lock would keep out, for that moment, a worker that starts.
    """
    try:
        found = lock.stat()
        listed = _LOCKS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for line in listed:
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == file:
            return words[4]
    return None
