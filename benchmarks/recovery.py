"""How long the join stands still when a worker is killed, taken over from, or stopped.

    python -m benchmarks.recovery --times 5

Workers with the default settings over a real Kafka under a steady load. A figure is the time from the signal until
everything that had arrived by then, in the partitions of the worker that was hit, is committed.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import contest
from flyback import Client, history, human, model, settings, topics
from flyback.cli import output
from flyback.local.kafka import KafkaBroker
from flyback.local.process import ChildProcess
from flyback.settings import Settings
from flyback.streams.topology import Topology

RATE = 500  # predictions a second
PARTITIONS = 4
PATIENCE = 120.0


@dataclass(frozen=True)
class Stall:
    """Seconds without progress in one case."""

    case: str
    seconds: float


class Workers:
    """Worker processes by name, each with a state folder of its own."""

    def __init__(self, found: Settings, folder: Path) -> None:
        self.settings = found
        self._folder = folder
        self._running: dict[str, ChildProcess] = {}
        raw = Topology(found).raw
        self._places = [(topic, number) for topic in raw for number in range(PARTITIONS)]

    def start(self, name: str) -> None:
        own = {"state_dir": self._folder / name, "worker_http_port": 0, "log_level": "warning"}
        process = ChildProcess(
            name,
            [sys.executable, "-m", "flyback", "worker"],
            self._folder / f"{name}.log",
            env={**os.environ, **self.settings.model_copy(update=own).environment()},
            cwd=self._folder,
        )
        process.start()
        self._running[name] = process

    def kill(self, name: str) -> None:
        self._running.pop(name).kill()

    def stop(self, name: str) -> None:
        self._running.pop(name).stop()

    def lose_state_of(self, name: str) -> None:
        """All but its identity, as when a disk was lost and the supervisor names its workers."""
        for store in (self._folder / name).glob("partition-*"):
            shutil.rmtree(store)

    def until_level(self) -> float:
        """Seconds until everything that has arrived by now is committed."""
        began = time.monotonic()
        arrived = history.next_offsets(self.settings, Topology(self.settings).raw)
        while True:
            reached = history.committed(self.settings, self.settings.group, self._places)
            if all(reached[place] >= offset for place, offset in arrived.items()):
                return time.monotonic() - began
            if time.monotonic() - began > PATIENCE:
                raise SystemExit(f"nothing was committed for {PATIENCE:g} s: see the logs in {self._folder}")
            time.sleep(0.02)

    def close(self) -> None:
        for process in self._running.values():
            process.kill()


def killed(workers: Workers) -> float:
    """SIGKILL, and the same worker is started again at once."""
    workers.kill("a")
    workers.start("a")
    return workers.until_level()


def stopped(workers: Workers) -> float:
    """SIGTERM, and the same worker is started again: the time of both."""
    began = time.monotonic()
    workers.stop("a")
    workers.start("a")
    workers.until_level()
    return time.monotonic() - began


def disk_lost(workers: Workers) -> float:
    """SIGKILL, the state is gone, and the same worker is started again."""
    workers.kill("a")
    workers.lose_state_of("a")
    workers.start("a")
    return workers.until_level()


def taken_over(workers: Workers) -> float:
    """SIGKILL of one of two workers, which is not started again: the other one takes over."""
    workers.kill("a")
    seconds = workers.until_level()
    workers.start("a")
    return seconds


CASES: dict[Callable[[Workers], float], tuple[str, ...]] = {
    killed: ("a",),
    stopped: ("a",),
    disk_lost: ("a",),
    taken_over: ("a", "b"),
}


@contextmanager
def load(found: Settings) -> Iterator[threading.Thread]:
    """Predictions at a steady rate, a tenth of them corrected, sent by a thread that lives as long as it does."""
    done = threading.Event()

    def send() -> None:
        with Client(found) as client:
            began, sent = time.monotonic(), 0
            while not done.wait(0.01):
                while sent < (time.monotonic() - began) * RATE:
                    about = client.predict(
                        task_id=f"order-{sent}",
                        actor=model("triage", "7"),
                        input=f"Where is order {sent}?",
                        output="refund",
                    )
                    if sent % 10 == 0:
                        client.correct(about, output="tracking", author=human("ann"))
                    sent += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield thread
    finally:
        done.set()
        thread.join()


def main(
    times: Annotated[int, typer.Option(help="How often each case is measured.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    stalls: list[Stall] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flyback-recovery-")))
        broker = KafkaBroker(folder / "kafka")
        stack.callback(broker.stop)
        broker.start()
        for case, names in CASES.items():
            prefix = f"{case.__name__}."
            found = settings.load(
                bootstrap_servers=broker.bootstrap, topic_prefix=prefix, group=prefix, partitions=PARTITIONS
            )
            topics.create(found)
            workers = Workers(found, folder / case.__name__)
            with load(found) as sender, ExitStack() as running:
                running.callback(workers.close)
                for name in names:
                    workers.start(name)
                for attempt in range(times):
                    time.sleep(3)  # whoever came back takes its partitions again
                    workers.until_level()
                    seconds = case(workers)
                    if not sender.is_alive():
                        raise SystemExit("the load has ended: nothing was measured")
                    stalls.append(Stall(case.__name__.replace("_", " "), seconds))
                    output.note(f"{stalls[-1].case} {attempt + 1}/{times}: {seconds:.2f} s")
    contest.report("recovery", stalls, markdown(stalls), as_json)


def markdown(stalls: Sequence[Stall]) -> str:
    """One line a case."""
    rows = []
    for case in dict.fromkeys(stall.case for stall in stalls):
        found = [stall.seconds for stall in stalls if stall.case == case]
        rows.append((case, str(len(found)), f"{statistics.median(found):.1f}", f"{max(found):.1f}"))
    return contest.table(("case", "times", "median s", "worst s"), rows)


if __name__ == "__main__":
    typer.run(main)
