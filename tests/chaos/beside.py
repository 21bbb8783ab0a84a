"""Faults after which raw topics no longer hold what was sent, on a small site of their own beside the round's.

They have their own verdict, since the round's reads the raw topics: what is still to be derived is derived once, and
what is lost is told of.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from flyback import Client, history, human, model, topics
from flyback.errors import RefusedToStart, TopicMismatch
from flyback.schemas import codec, wire
from flyback.schemas.catalog import BundledCatalog
from flyback.sinks.tables import landed
from flyback.streams.topology import Topology
from tests.chaos.patience import SECONDS
from tests.end_to_end import site as end_to_end
from tests.waiting import eventually

if TYPE_CHECKING:
    from flyback.settings import Settings
    from tests.chaos.site import Site


@contextmanager
def beside(site: Site) -> Iterator[end_to_end.Site]:
    """A site on the same broker, without any services yet."""
    prefix = f"c{uuid4().hex[:8]}."
    folder = site.folder / prefix
    folder.mkdir()
    settings = site.settings.model_copy(update={"topic_prefix": prefix, "group": prefix, "lake": str(folder / "lake")})
    topics.create(settings)
    other = end_to_end.Site(settings, folder)
    try:
        yield other
    finally:
        other.close()


def make_topics_again(site: Site, rng: random.Random) -> None:
    """Deleted and made under a running worker and a running sink.

    The worker ends, and begins anew with the new topics. The sink refuses the lake, which holds the former ones.
    """
    with beside(site) as other:
        worker, sink = other.start_worker(), other.start_sink()
        send(other, "former", rng.randint(5, 40))
        other.until_landed()
        raw = Topology(other.settings).raw
        admin = AdminClient(other.settings.kafka())
        for done in admin.delete_topics(raw, operation_timeout=SECONDS).values():
            done.result()
        eventually(lambda: not set(raw) & set(admin.list_topics(timeout=10).topics), "the topics are gone", SECONDS)
        topics.create(other.settings)
        n = rng.randint(1, 80)
        send(other, "new", n)
        eventually(lambda: not (worker.process.running or sink.process.running), "both end", SECONDS)
        assert worker.process.exit_code == TopicMismatch.exit_code, worker.said()
        if sink.process.exit_code == TopicMismatch.exit_code:  # it saw them missing
            sink.start()
            eventually(lambda: not sink.process.running, "the sink refuses", SECONDS)
        assert sink.process.exit_code == RefusedToStart.exit_code, sink.said()
        assert "made again" in sink.said()
        del other.services["sink"]
        worker.start()
        eventually(lambda: not worker.process.running or _is_live(worker), "it goes on or refuses", SECONDS)
        if not worker.process.running:  # it had committed once more in the former topics
            assert worker.process.exit_code == RefusedToStart.exit_code, worker.said()
            assert "former topic of this name" in worker.said()
            delete_group(other.settings)
            worker.start()
            until_derived(other, "new", n, again=True)
        else:
            until_derived(other, "new", n)


def cut_by_retention(site: Site, rng: random.Random) -> None:
    """Events that neither worker nor sink had read: both refuse and name them, and go on where that is accepted."""
    with beside(site) as other:
        worker, sink = other.start_worker(), other.start_sink()
        send(other, "before", rng.randint(5, 40))
        other.until_landed()
        worker.stop()
        sink.stop()
        send(other, "cut", rng.randint(20, 60))
        raw = Topology(other.settings).raw
        ends = end_offsets(other, raw)
        admin = AdminClient(other.settings.kafka())
        for done in admin.delete_records([TopicPartition(*place, end) for place, end in ends.items()]).values():
            done.result()
        n = rng.randint(5, 40)
        send(other, "after", n)
        state = {"FLYBACK_STATE_DIR": str(other.folder / "state-worker")}
        for command in ("worker", "sink"):
            refused = other.run(command, **state)
            assert refused.returncode == RefusedToStart.exit_code, refused.stderr
            assert "deleted offsets" in refused.stderr, refused.stderr
            assert f"`flyback {command} --accept-loss`" in refused.stderr, refused.stderr
        for service in (worker, sink):
            service.process.command.append("--accept-loss")
            service.start()
        until_derived(other, "after", n)
        other.until_landed()

        def passed() -> bool:
            there = landed(other.settings.lake)
            return all(there.get(place, 0) >= end for place, end in ends.items())

        eventually(passed, "the lake is past what was cut", SECONDS)
        for service in (worker, sink):
            service.stop()
        for service in (other.start_worker(), other.start_sink("again")):
            service.wait_ready()


def _is_live(worker: end_to_end.Service) -> bool:
    partitions = worker.health().get("partitions")
    return bool(partitions) and all(partition["live"] for partition in partitions.values())


def delete_group(settings: Settings) -> None:
    """With its offsets."""
    admin = AdminClient(settings.kafka())
    until_empty(lambda: admin.delete_consumer_groups([settings.group])[settings.group].result())


def until_empty(change: Callable[[], object]) -> None:
    """Static members stay in their group until their session has ended; until then it cannot be changed."""

    def changed() -> bool:
        try:
            change()
        except KafkaException:
            return False
        return True

    eventually(changed, "the group takes the change", SECONDS)


def send(other: end_to_end.Site, name: str, n: int) -> None:
    """So many predictions with their corrections."""
    with Client(other.settings) as client:
        for i in range(n):
            made = client.predict(task_id=f"{name}-{i}", actor=model("m", "1"), input="x", output="a")
            client.correct(made, output="b", author=human("ann"))
        assert client.flush(SECONDS) == 0


def until_derived(other: end_to_end.Site, name: str, n: int, again: bool = False) -> None:
    """Each of them is derived once, and stays so; `again`: twice where a worker had begun before it noticed."""

    def derived() -> Counter[str]:
        topic = Topology(other.settings).topic_of("Example")
        catalog = BundledCatalog()
        values = [message.value() or b"" for message in history.read(other.settings, [topic])]
        tasks = [codec.decode("Example", value, catalog.schema(wire.schema_id(value)))["task_id"] for value in values]
        return Counter(task for task in tasks if task.startswith(f"{name}-"))

    expected = Counter(f"{name}-{i}" for i in range(n))
    eventually(lambda: derived() >= expected, f"{n} examples of {name} in {other.settings.topic_prefix}", SECONDS)
    found = derived()
    assert found <= expected + expected if again else found == expected, f"derived: {found}"


def end_offsets(other: end_to_end.Site, names: list[str]) -> dict[tuple[str, int], int]:
    places = [TopicPartition(topic, p) for topic in names for p in range(other.settings.partitions)]
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    admin = AdminClient(other.settings.kafka())  # kept until the answers are there
    asked = admin.list_offsets(dict.fromkeys(places, latest))
    return {(place.topic, place.partition): future.result().offset for place, future in asked.items()}
