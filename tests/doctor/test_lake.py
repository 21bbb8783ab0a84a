"""What `flyback doctor` says of lakes that are written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from flyback.doctor import lake
from flyback.doctor.check import Check
from flyback.settings import load
from flyback.streams.clients import Cluster
from flyback.streams.topology import Topology
from tests.sinks.events import prediction
from tests.sinks.lakes import HandMade

NAMES = Topology(load()).names
CLUSTER = Cluster("cluster", dict.fromkeys(NAMES, "topic"), dict.fromkeys(NAMES, 4))
"""The one that `HandMade` lakes are of."""


def examined(path: str, cluster: Cluster | None = CLUSTER) -> Mapping[str, Check]:
    return {check.name: check for check in lake.examine(load(lake=path), cluster)}


def test_a_lake_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    log = tmp_path / "predictions" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020d}.json").write_text("no JSON")
    found = examined(str(tmp_path), None)
    assert found["lake"].verdict == "failed"
    assert str(tmp_path / "predictions") in found["lake"].found


@pytest.mark.parametrize(
    ("cluster", "says"),
    [
        (replace(CLUSTER, cluster_id="another"), "was in cluster cluster, this is cluster another"),
        (replace(CLUSTER, topic_ids=dict.fromkeys(NAMES, "other")), "was deleted and made again"),
        (replace(CLUSTER, partitions=dict.fromkeys(NAMES, 5)), "had 4 partitions and has 5"),
    ],
)
def test_a_lake_of_something_else_is_told(tmp_path: Path, cluster: Cluster, says: str) -> None:
    made = HandMade(tmp_path / "lake")
    made.add("predictions", prediction("t"))
    found = examined(made.path, cluster)["lake"]
    assert found.verdict == "failed"
    assert says in found.found


def test_a_lake_of_many_small_files_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = HandMade(tmp_path / "lake")
    for number in range(3):
        made.add("predictions", prediction(f"t{number}"))
    assert examined(made.path)["lake files"].found == "3 small ones in 1 tables"
    monkeypatch.setattr(lake, "_MANY", 2)
    found = examined(made.path)
    assert found["lake"].verdict == "ok"
    assert found["lake files"].verdict == "warning"
    assert "predictions 3" in found["lake files"].found
    assert "flyback sink compact" in str(found["lake files"].mend)
