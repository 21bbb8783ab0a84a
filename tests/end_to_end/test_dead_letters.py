"""Dead letters as people meet them: limits that stop the processes, messages too large to keep, and the way back."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from confluent_kafka import Producer

from flyback import deadletters, history
from flyback.errors import DeadLetterRateExceeded
from flyback.sinks.lake import lake
from flyback.streams.topology import Topology
from flyback.verify import compare
from tests.end_to_end.conftest import StartSite
from tests.end_to_end.site import SECONDS, Site
from tests.streams.on_kafka import OnKafka
from tests.streams.records import POISON, a_correction, a_prediction
from tests.waiting import eventually

LIMIT = {"FLYBACK_MAX_DEAD_LETTERS": "3"}


def letters(site: Site) -> int:
    return len(list(deadletters.read(site.settings)))


def test_a_correction_under_the_wrong_key_is_repaired_derived_and_in_the_lake(site: Site) -> None:
    kafka = OnKafka(site.settings)
    kafka.send(a_prediction("order-1"))
    kafka.send(replace(a_correction("order-1"), key=b"order-2"))
    site.start_worker()
    site.start_sink()
    eventually(lambda: letters(site) == 1, "the correction is dead-lettered", SECONDS)

    said = site.run("dlq", "replay", "--reason", "key_mismatch", "--repair", "key")

    assert said.returncode == 0, said.stderr
    assert "1 replayed" in said.stderr
    site.until_landed()
    assert compare(site.settings).differences == []
    with lake(site.settings.lake) as tables:
        assert tables.sql("select task_id from examples").fetchall() == [("order-1",)]
    assert "0 replayed, 1 replayed before" in site.run("dlq", "replay", "--repair", "key").stderr


def test_a_worker_stops_before_it_drains_a_topic_into_the_dead_letters(site: Site) -> None:
    kafka = OnKafka(site.settings)
    for message in (a_prediction(), *[POISON["cut in its body"][1]("t") for _ in range(5)], a_correction()):
        kafka.send(message)

    stopped = site.run("worker", **LIMIT, FLYBACK_TRANSACTION_INTERVAL="2s")

    assert stopped.returncode == DeadLetterRateExceeded.exit_code == 4
    assert "5 dead letters within a minute, the latest 5 of " in stopped.stderr
    assert "raise FLYBACK_MAX_DEAD_LETTERS to let them pass" in stopped.stderr
    assert (letters(site), kafka.committed("Correction")) == (0, 0)

    site.start_worker()
    site.start_sink()
    site.until_landed()
    assert letters(site) == 5
    assert compare(site.settings).derived["Example"] == 1
    assert compare(site.settings).differences == []


def test_a_sink_stops_before_it_drains_a_topic_into_the_dead_letters(site: Site) -> None:
    topic = Topology(site.settings).topic_of("Example")
    producer = Producer(site.settings.kafka())
    for _ in range(5):
        producer.produce(topic, b"junk", b"t", 0)
    assert producer.flush(60) == 0

    stopped = site.run("sink", **LIMIT)

    assert stopped.returncode == DeadLetterRateExceeded.exit_code
    assert f"5 dead letters within a minute, the latest 5 of {topic} for no_magic_byte" in stopped.stderr
    assert letters(site) == 0

    site.start_sink()
    eventually(lambda: letters(site) == 5, "they pass where the limit allows it", SECONDS)


def test_a_message_over_the_size_limit_is_dead_lettered_by_reference(start_site: StartSite) -> None:
    site = start_site(max_event_bytes=50_000)
    kafka = OnKafka(site.settings)
    large = a_correction("t", correction_id="large", reason="x" * 60_000)
    kafka.send(a_prediction("t"))
    coordinates = "/".join(map(str, kafka.send(large)))
    kafka.send(a_correction("t"))
    site.start_worker()
    site.start_sink()
    site.until_landed()
    assert large.value is not None
    [letter] = deadletters.read(site.settings)
    sha256 = hashlib.sha256(large.value).hexdigest()
    assert (letter.coordinates, letter.reason, letter.value) == (coordinates, "oversized", None)
    assert (letter.size, letter.sha256) == (len(large.value), sha256)
    with lake(site.settings.lake) as tables:
        stored = tables.sql("select reason, value, value_size, value_sha256 from dead_letters").fetchall()
        assert stored == [("oversized", None, len(large.value), sha256)]
        assert tables.sql("select count(*) from corrections").fetchall() == [(1,)]
    assert compare(site.settings).derived["Example"] == 1
    # the bytes stay in the raw topic, for `flyback dlq replay` after the limit was raised
    assert history.message_at(site.settings, letter.topic, letter.partition, letter.offset) is not None
