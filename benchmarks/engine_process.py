"""Flyback's engine in a process of its own, until it has nothing more to restore and has joined all events of its job.

python -m benchmarks.engine_process FOLDER...      (each of which holds job.json, and gets an engine)

What it took from the assignment of its partitions on goes to found.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.job import Job
from flyback.schemas.catalog import BundledCatalog
from flyback.streams.clients import KafkaClients
from flyback.streams.engine import Engine
from flyback.streams.garbage import collect_rarely
from flyback.streams.topology import Topology


def join(folder: Path) -> None:
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
    share = job.partitions // job.workers
    while len(status["assigned"]) != share or status["restoring"] or status["totals"].get("events", 0) < job.events:
        engine.step()
        status = engine.status()
    found = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    engine.close()
    told = {**found, "assigned": status["assigned"], **status["totals"]}
    (folder / "found.json").write_text(json.dumps(told), encoding="utf-8")


def main(folders: Sequence[str]) -> int:
    """The largest exit code of all."""
    if len(folders) == 1:
        join(Path(folders[0]))
        return 0
    running = [subprocess.Popen([sys.executable, "-m", "benchmarks.engine_process", folder]) for folder in folders]
    return max(process.wait() for process in running)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
