"""Flyback's engine in a process of its own, until it has nothing more to restore and has joined all events of its job.

python -m benchmarks.engine_process FOLDER      (which holds job.json)

What it took from the assignment of its partitions on goes to found.json.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.job import Job
from flyback.schemas.catalog import BundledCatalog
from flyback.streams.clients import KafkaClients
from flyback.streams.engine import Engine
from flyback.streams.garbage import collect_rarely
from flyback.streams.topology import Topology


def main(folder: Path) -> None:
    """As a worker runs it, but without the app beside it."""
    job = Job.read(folder)
    settings = job.settings(folder)
    collect_rarely()
    engine = Engine(settings, Topology(settings), BundledCatalog(), KafkaClients(settings))
    engine.start()
    began, cpu = time.perf_counter(), time.process_time()
    while not (status := engine.status())["assigned"]:
        began, cpu = time.perf_counter(), time.process_time()
        engine.step()
    while status["restoring"] or status["totals"].get("events", 0) < job.events:
        engine.step()
        status = engine.status()
    found = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    engine.close()
    (folder / "found.json").write_text(json.dumps({**found, **status["totals"]}), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
