"""The engine on the embedded broker, which gives the first offset of its last batch plus one as the end of a log."""

from __future__ import annotations

from pathlib import Path

from flyback import topics
from flyback.settings import load
from tests.streams.on_kafka import OnKafka, running
from tests.streams.records import a_correction, a_prediction
from tests.waiting import eventually

SECONDS = 60.0


def test_a_worker_goes_on_where_its_group_stands(embedded_bootstrap: str, topic_prefix: str, tmp_path: Path) -> None:
    settings = load(
        bootstrap_servers=embedded_bootstrap,
        topic_prefix=topic_prefix,
        group=topic_prefix,
        partitions=1,
        session_timeout="2s",
        state_dir=tmp_path,
    )
    topics.create(settings)
    kafka = OnKafka(settings)
    for number in range(3):  # in one batch
        kafka.start_sending(a_prediction(prediction_id=f"p{number}"))
    kafka.flush()
    with running(settings):
        eventually(kafka.is_processed, "the predictions are processed", SECONDS)
    with running(settings):
        kafka.send(a_correction(prediction_id="p2"))
        eventually(kafka.is_processed, "the correction is processed", SECONDS)
    assert len(list(kafka.stored(f"{topic_prefix}examples.v1"))) == 1
