"""What workers and sinks rely on is lost, damaged, old or another's: restored, or refused with a clear error."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from flyback import topics
from flyback.errors import RefusedToStart
from flyback.streams import entries, state
from flyback.streams.state import StateFolder
from flyback.streams.topology import Topology
from tests.chaos import beside
from tests.chaos.fault import Fault, in_turn
from tests.chaos.patience import SECONDS
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.chaos.service import Service
    from tests.chaos.site import Site


@contextmanager
def down(*services: Service, kill: bool = True) -> Iterator[None]:
    """They are ended, and started again afterwards."""
    for service in services:
        service.held = True
        service.kill() if kill else service.stop()
    yield
    for service in services:
        service.start()
        service.held = False


def delete_state(site: Site, rng: random.Random) -> None:
    worker = _any_worker(site, rng)
    with down(worker):
        shutil.rmtree(worker.state_dir)
    site.until_progress()


def lose_worker_id(site: Site, rng: random.Random) -> None:
    """Gone, empty, or no text."""
    worker = _any_worker(site, rng)
    with down(worker):
        file = worker.state_dir / "worker_id"
        content = rng.choice((None, b"", rng.randbytes(20)))
        file.unlink(missing_ok=True) if content is None else file.write_bytes(content)
    site.until_progress()


def damage_state(site: Site, rng: random.Random) -> None:
    """Of each partition some file of RocksDB is gone, cut, or has garbage in it."""
    worker = _any_worker(site, rng)
    with down(worker):
        for partition in _partitions(worker.state_dir):
            _damage(rng.choice([file for file in sorted(partition.iterdir()) if file.is_file()]), rng)
    site.until_progress()


def bring_back_older_state(site: Site, rng: random.Random) -> None:
    """A copy that was made while the worker wrote to it, so that its files do not even fit together."""
    worker = _any_worker(site, rng)
    older = site.folder / "older-state"
    shutil.rmtree(older, ignore_errors=True)
    with suppress(shutil.Error, FileNotFoundError):  # RocksDB deletes files meanwhile
        shutil.copytree(worker.state_dir, older)
    site.until_progress()
    with down(worker):
        shutil.rmtree(worker.state_dir)
        older.rename(worker.state_dir)
    site.until_progress()


def swap_states_of_workers(site: Site, rng: random.Random) -> None:
    one, other = map(_with_state, rng.sample(list(site.workers.values()), 2))
    with down(one, other):
        _swap(one.state_dir, other.state_dir)
    site.until_progress()


def swap_states_of_partitions(site: Site, rng: random.Random) -> None:
    worker = _any_worker(site, rng)
    with down(worker):
        partitions = _partitions(worker.state_dir)
        if len(partitions) > 1:
            _swap(*rng.sample(partitions, 2))
    site.until_progress()


def bring_foreign_state(site: Site, rng: random.Random) -> None:
    """Of another cluster, or of topics with other ids: nothing in it is true here."""
    worker = _any_worker(site, rng)
    with down(worker):
        folder = StateFolder(worker.state_dir)
        for number in (int(path.name.rpartition("-")[2]) for path in _partitions(worker.state_dir)):
            store = folder.store(number)
            if (meta := store.meta()) is not None:
                ids = dict.fromkeys(meta.origin.topic_ids, "another")
                origin = replace(meta.origin, **rng.choice(({"cluster_id": "another"}, {"topic_ids": ids})))
                forgotten = dict.fromkeys(key for key, _ in store.scan(entries.PREDICTION))
                store.write({**forgotten, state.META: replace(meta, origin=origin).pack()})
        folder.close()
    site.until_progress()


def lose_group_offsets(site: Site, rng: random.Random) -> None:
    """Deleted while all workers are down, some of them without their state: taken from `progress.v1`."""
    workers = list(site.workers.values())
    with down(*workers, kill=False):
        beside.delete_group(site.settings)
        for worker in workers:
            if rng.random() < 0.5:
                shutil.rmtree(worker.state_dir)
    site.until_progress()


def lose_group_offsets_and_progress(site: Site, _: random.Random) -> None:
    """Refused, since nobody knows any more how far the group was; here the test does, and puts it right."""
    workers = list(site.workers.values())
    admin = AdminClient(site.settings.kafka())
    progress = Topology(site.settings).topic_of("Progress")
    with down(*workers, kill=False):
        known = _group_offsets(site, admin)
        beside.delete_group(site.settings)
        admin.delete_topics([progress], operation_timeout=SECONDS)[progress].result()
        eventually(lambda: progress not in admin.list_topics(timeout=10).topics, "progress.v1 is gone", SECONDS)
        topics.create(site.settings)
        for worker in workers:
            worker.start()
            eventually(lambda worker=worker: not worker.running, f"{worker.name} refuses to start", SECONDS)  # type: ignore[misc]
            assert worker.exit_code == RefusedToStart.exit_code, worker.status()
            assert "has no committed offsets" in worker.process.log_tail()
        beside.until_empty(lambda: _alter(site, admin, known))
    site.until_progress()


def _any_worker(site: Site, rng: random.Random) -> Service:
    return _with_state(rng.choice(list(site.workers.values())))


def _with_state(worker: Service) -> Service:
    """The worker, once it has made its state again if it had lost it before."""
    eventually(lambda: _partitions(worker.state_dir), f"{worker.name} has a state", SECONDS)
    return worker


def _partitions(folder: Path) -> list[Path]:
    return sorted(folder.glob("partition-*"))


def _damage(file: Path, rng: random.Random) -> None:
    size = file.stat().st_size
    how = rng.choice(("gone", "cut", "garbage", "zeros"))
    if how == "gone":
        file.unlink()
    elif how == "cut":
        os.truncate(file, rng.randint(0, size))
    else:
        with file.open("r+b") as opened:
            opened.seek(rng.randint(0, size))
            opened.write(rng.randbytes(2_000) if how == "garbage" else bytes(2_000))


def _swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def _group_offsets(site: Site, admin: AdminClient) -> list[TopicPartition]:
    asked = ConsumerGroupTopicPartitions(site.settings.group)
    [found] = admin.list_consumer_group_offsets([asked]).values()
    return [TopicPartition(p.topic, p.partition, p.offset) for p in found.result().topic_partitions or []]


def _alter(site: Site, admin: AdminClient, offsets: list[TopicPartition]) -> None:
    [done] = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(site.settings.group, offsets)]).values()
    for place in done.result().topic_partitions or []:
        if place.error is not None:
            raise KafkaException(place.error)


_STATES = (
    delete_state,
    damage_state,
    bring_back_older_state,
    swap_states_of_workers,
    swap_states_of_partitions,
    bring_foreign_state,
    lose_worker_id,
)

FAULTS: tuple[Fault, ...] = (
    Fault("state folder lost, damaged, old, swapped or foreign", in_turn(*_STATES), (len(_STATES), 0)),
    Fault("state folder deleted", delete_state, (0, 20)),
    Fault("state folder half-written: files gone, cut, garbage", damage_state, (0, 20)),
    Fault("state folder of an older day, copied while in use", bring_back_older_state, (0, 20)),
    Fault("state folders of two workers swapped", swap_states_of_workers, (0, 20)),
    Fault("states of two partitions swapped", swap_states_of_partitions, (0, 20)),
    Fault("state of another cluster or of former topics", bring_foreign_state, (0, 20)),
    Fault("worker_id lost or unreadable", lose_worker_id, (0, 20)),
    Fault("group's offsets gone: taken from progress.v1", lose_group_offsets, (1, 20), mixed=False),
    Fault("group's offsets and progress.v1 gone: refused", lose_group_offsets_and_progress, (1, 20), mixed=False),
    Fault("topics made again: refused or begun anew", beside.make_topics_again, (1, 20), mixed=False),
    Fault("retention cut unread events: refused, accepted", beside.cut_by_retention, (1, 20), mixed=False),
)
