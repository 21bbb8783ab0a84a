"""`flyback topology` in its three forms."""

from __future__ import annotations

import re

import pytest

from flyback.streams.topology import TOPICS
from tests.cli.conftest import Flyback


def test_the_text_has_a_line_for_every_topic(flyback: Flyback) -> None:
    lines = flyback("topology").out.splitlines()
    assert lines[0].split() == ["topic", "kind", "record", "key", "writers", "readers"]
    assert [line.split()[0] for line in lines[1:]] == [f"flyback.{topic.name}" for topic in TOPICS]


def test_the_prefix_of_the_settings_is_used(flyback: Flyback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYBACK_TOPIC_PREFIX", "other.")
    assert "other.predictions.v1" in flyback("topology").out


def test_the_mermaid_graph_connects_writers_topics_and_readers(flyback: Flyback) -> None:
    graph = flyback("topology", "--format", "mermaid").out
    assert graph.splitlines()[0] == "flowchart LR"
    assert "services --> flyback_predictions_v1" in graph
    assert "flyback_predictions_v1 --> engine" in graph
    assert "engine -.-> flyback_corrections_v1_dlq" in graph
    assert "flyback_reconcile --> flyback_examples_v1" in graph
    nodes = re.findall(r"^    (\w+)\[", graph, re.MULTILINE)
    used = {name for edge in re.findall(r"^    (\w+) -\.?->? ?(?:-> )?(\w+)$", graph, re.MULTILINE) for name in edge}
    assert len(nodes) == len(set(nodes))
    assert used <= set(nodes)


def test_the_asyncapi_document_has_a_channel_and_a_schema_for_every_topic(flyback: Flyback) -> None:
    document = flyback("topology", "--format", "asyncapi").json
    assert document["asyncapi"] == "3.0.0"
    assert list(document["channels"]) == [topic.name for topic in TOPICS]
    messages = document["components"]["messages"]
    assert messages["Prediction"]["payload"]["schema"]["name"] == "Prediction"
    for channel in document["channels"].values():
        for message in channel["messages"].values():
            assert message["$ref"].removeprefix("#/components/messages/") in messages
    for operation in document["operations"].values():
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in document["channels"]


def test_an_unknown_format_exits_2_and_names_the_known_ones(flyback: Flyback) -> None:
    said = flyback("topology", "--format", "svg")
    assert said.code == 2
    assert "mermaid" in said.err
