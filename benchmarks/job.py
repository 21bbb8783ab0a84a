"""What a contender of the engine's benchmark is told: its only argument is a folder, and in it is job.json.

The job is the same for all: read the three raw topics from their start, `events` messages in all, join each feedback
with its prediction in either order, write one derived record for each pair, and end when everything is written.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flyback import settings as configuration
from flyback.schemas.catalog import BundledCatalog
from flyback.schemas.codec import bundled
from flyback.settings import Settings
from flyback.streams.topology import Topology

RECORDS = ("Prediction", "Correction", "Grade", "Example", "GradedExample")
PARTITIONS = 4


@dataclass(frozen=True)
class Job:
    """`topics` and `schemas` are by record: a full name; the id in the wire format, and the Avro schema.

    `rounds`: how often a raw client does it, to be at it long enough; the others do it once. `workers`: how many share
    the partitions.
    """

    bootstrap: str
    prefix: str
    group: str
    events: int
    rounds: int = 1
    workers: int = 1
    partitions: int = PARTITIONS
    topics: dict[str, str] = field(default_factory=dict)
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Into job.json, for whoever is started on this folder."""
        topology, catalog = Topology(self.settings(folder)), BundledCatalog()
        told = asdict(self)
        for record in RECORDS:
            told["topics"][record] = topology.topic_of(record)
            told["schemas"][record] = {
                "id": catalog.id_for(record, ""),
                "schema": json.loads(bundled(record).text),
            }
        (folder / "job.json").write_text(json.dumps(told), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Job:
        """What was written there."""
        return cls(**json.loads((folder / "job.json").read_text(encoding="utf-8")))

    def settings(self, folder: Path) -> Settings:
        """Of an installation of Flyback that does this job, its state in the folder."""
        return configuration.load(
            bootstrap_servers=self.bootstrap,
            topic_prefix=self.prefix,
            group=self.group,
            partitions=self.partitions,
            state_dir=folder / "state",
        )
