"""With a registry: its ids are used, and one that is down delays events instead of the service."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from flyback import BufferFull, Client, DeliveryFailed, human, model, topics
from flyback.settings import load
from tests.sdk.conftest import MakeClient
from tests.sdk.forwarding import Forwarding
from tests.sdk.reading import read
from tests.waiting import eventually


def predict(client: Client) -> None:
    p = client.predict(task_id="t", actor=model("m"), input="in", output="out")
    client.confirm(p, author=human("ann"))


def test_events_wait_for_a_registry_that_comes_up_later_and_carry_its_ids(
    kafka_bootstrap: str, topic_prefix: str, registry_url: str, make_client: MakeClient
) -> None:
    topics.create(load(bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix))
    with Forwarding(registry_url) as registry:
        client = make_client(bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix, registry_url=registry.url)
        predict(client)
        assert client.flush(timeout=1) == 2
        assert (client.stats().waiting, client.stats().sent) == (2, 0)
        registry.open()
        assert client.flush(timeout=60) == 0
        assert client.stats().sent == 2
    [found] = read(kafka_bootstrap, topic_prefix, "predictions", 1)
    registered = SchemaRegistryClient({"url": registry_url}).get_latest_version(f"{topic_prefix}predictions.v1-value")
    assert found.schema_id == registered.schema_id
    assert found.event["task_id"] == "t"


def test_events_that_no_registry_gave_an_id_fail_at_the_delivery_timeout(
    make_client: MakeClient, dead_address: str
) -> None:
    told: list[Any] = []
    client = make_client(
        registry_url=f"http://{dead_address}", delivery_timeout="500ms", on_error=lambda *given: told.append(given)
    )
    predict(client)
    assert client.flush(timeout=30) == 0
    assert sorted(kind for kind, _, _ in told) == ["correction", "prediction"]
    for _, _, error in told:
        assert isinstance(error, DeliveryFailed)
        assert error.code == "no_schema_id"
        assert "SCHEMA_REGISTRY_URL" in str(error)
    assert client.stats().failed == 2


def test_the_buffer_is_bounded_while_events_wait_for_a_registry(make_client: MakeClient, dead_address: str) -> None:
    client = make_client(registry_url=f"http://{dead_address}", buffer_events=2)
    predict(client)
    with pytest.raises(BufferFull):
        predict(client)
    assert client.close(timeout=0) == 2
    eventually(lambda: client.stats().waiting == 0, "the waiting events are failed")
