"""`python -m tests.dashboards.sample_server [PORT]`: the dashboard over numbers made up here, without Kafka.

A week of four segments, two versions of a model and a person; every second some more. Some of the texts are hostile.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flyback.dashboards.access import Access
from flyback.dashboards.app import build
from flyback.dashboards.board import Board
from flyback.dashboards.feed import Following
from flyback.dashboards.lake_reader import LakeReader
from flyback.dashboards.rate_store import RateStore
from flyback.dashboards.server import Server, address, listen
from flyback.sinks.columns import from_records
from flyback.sinks.message import Message, Messages
from flyback.sinks.sink import with_provenance
from flyback.streams.join import Arrived, derive
from flyback.streams.rates import MILLIONTHS, Counts
from tests.sinks.events import as_read, correction, grade, prediction, text
from tests.sinks.lakes import TOPOLOGY, HandMade

MINUTE = timedelta(minutes=1)
WEEK = 7 * 24 * 60
RATES = {"tweets": 0.17, "movies": 0.45, "amazon": 0.4, "nyt": 0.44}
HOSTILE = '<img src=x onerror="document.title=`owned`"><script>document.title="owned"</script>'
Key = tuple[datetime, str, str, str, str]
"""Minute, kind of actor, actor, version and segment."""


class Sample:
    """Counts that grow."""

    def __init__(self, now: datetime, minutes: int = WEEK, segments: Mapping[str, float] = RATES) -> None:
        self.store = RateStore()
        self._segments = segments
        self._counts: dict[Key, Counts] = defaultdict(Counts)
        self._chance = random.Random(7)
        changed: set[Key] = set()
        for back in range(minutes, 0, -1):
            minute = now.replace(second=0, microsecond=0) - back * MINUTE
            changed |= self._made(minute, 1.0, back < 40)
        self._put(changed)

    def more(self, now: datetime) -> None:
        """Some predictions of the running minute, some reviews of late ones."""
        self._put(self._made(now.replace(second=0, microsecond=0), 0.2, True))

    def _made(self, minute: datetime, share: float, renewed: bool) -> set[Key]:
        changed = set()
        for segment, rate in self._segments.items():
            who = [("MODEL", "vader", "3.3.2"), ("HUMAN", "rater", "")]
            who += [("MODEL", "vader", "3.4.0")] if renewed else []
            for kind, actor, version in who:
                predictions = sum(self._chance.random() < share for _ in range(self._chance.randrange(6)))
                if not predictions:
                    continue
                reviewed = sum(self._chance.random() < 0.8 for _ in range(predictions))
                true = rate * (0.7 if version == "3.4.0" else 0.5 if kind == "HUMAN" else 1.0)
                failures = sum(self._chance.random() < true for _ in range(reviewed))
                key = minute, kind, actor, version, segment
                weights = [part * 2 * MILLIONTHS for part in (reviewed, failures)]
                squares = [2 * weight for weight in weights]
                added = Counts(predictions, reviewed, failures, reviewed, *weights, *squares)
                self._counts[key] = self._counts[key].plus(added)
                changed.add(key)
        return changed

    def _put(self, keys: Iterable[Key]) -> None:
        if records := [_record(key, self._counts[key]) for key in sorted(keys)]:
            self.store.put(from_records("FailureRate", records))


def _record(key: Key, counts: Counts) -> dict[str, Any]:
    minute, kind, actor, version, segment = key
    labels = {"actor_kind": kind, "actor": actor, "version": version, "segment": segment}
    micros = int(minute.timestamp()) * 1_000_000
    return {"partition": 0, "minute": micros, **labels, **counts._asdict(), "derive_version": 1}


def lake_of(path: Path, now: datetime) -> HandMade:
    """Some failures of the last hour, one of them hostile, and alerts."""
    made = HandMade(path)
    examples: list[tuple[int, dict[str, Any]]] = []
    for i in range(30):
        at = int((now - timedelta(minutes=i, seconds=7)).timestamp() * 1_000_000)
        hostile = i % 7 == 3
        answer = prediction(
            f"amazon/{i}",
            input=text(HOSTILE if hostile else f"Text {i}: great phone, dead in a week. " * (1 + i % 3 * 40)),
            output={"content_type": "application/json", "body": '{"label": "positive", "score": 0.6249}'},
            segment=HOSTILE if hostile else list(RATES)[i % 4],
            actor={"kind": "MODEL", "name": "vader", "version": "3.4.0" if i % 2 else "3.3.2"},
            occurred_at=at,
        )
        made.add("predictions", answer)
        given = correction(
            answer["task_id"],
            output={"content_type": "application/json", "body": '{"label": "negative", "score": -1.9}'},
            reason=HOSTILE if hostile else "sarcasm: the second half takes the first back",
            error_category="polarity_flipped",
            occurred_at=at + 5_000_000,
        )
        if i % 5 == 4:
            made.add("grades", grade(answer["task_id"], passed=False, rationale="rude", occurred_at=at + 6_000_000))
        else:
            made.add("corrections", given)
            arrived = at // 1_000 + 5_000
            examples.append((arrived + 40 + 7 * i, _example(answer, given, arrived)))
    topic = TOPOLOGY.topic_of("Example")
    messages = [Message(topic, 0, offset, arrived, None, None, []) for offset, (arrived, _) in enumerate(examples)]
    rows = from_records("Example", [example for _, example in examples])
    made.add_rows("examples", with_provenance(rows, Messages.of(messages)), (topic, 0))
    alert: dict[str, Any] = {
        "alert_id": "a-1",
        "rule": "gets-worse",
        "actor": None,
        "version": None,
        "segment": "tweets",
        "value": 0.4,
        "threshold": 0.2,
        "window_seconds": 3600,
        "message": "Failures have risen (tweets): 40 % of the last hour, 17 % before",
    }
    for alert_id, segment, states in (("a-1", "tweets", 2), ("a-2", "movies", 3), ("a-3", "nyt", 1)):
        for state, back in [("PENDING", 50), ("FIRING", 45), ("RESOLVED", 12)][:states]:
            at = int((now - back * MINUTE).timestamp()) * 1_000_000
            made.add("alerts", alert | {"alert_id": alert_id, "segment": segment, "state": state, "occurred_at": at})
    return made


def _example(answer: dict[str, Any], given: dict[str, Any], arrived: int) -> dict[str, Any]:
    """What the engine derives of a correction that arrives then, ms, five seconds after its prediction."""
    of = Arrived("Prediction", answer, TOPOLOGY.topic_of("Prediction"), 0, 0, arrived - 5_000)
    found = derive(of, Arrived("Correction", given, TOPOLOGY.topic_of("Correction"), 0, 0, arrived))
    return as_read(found.record, found.event)


def health() -> dict[str, Any]:
    """One worker that is a little behind."""
    now = datetime.now(UTC).isoformat()
    return {
        "verdict": "well",
        "problems": [],
        "lags": [{"process": "worker", "topic": "flyback.predictions.v1", "events": 3, "seconds": 0.2}],
        "last_commit": {"worker": now, "sink": now},
        "restoring": [{"partition": 2, "restored": 400, "to_restore": 1_000}],
    }


def main(port: int) -> None:
    started = datetime.now(UTC)
    sample = Sample(started)
    with tempfile.TemporaryDirectory() as folder, listen("127.0.0.1", port) as at:
        lake_of(Path(folder) / "lake", started)
        board = Board(
            sample.store,
            LakeReader(f"{folder}/lake"),
            lambda: Following("live", 1_000, 1_000, at=time.monotonic()),
            health,
        )

        def grow() -> None:
            while True:
                time.sleep(1.0)
                sample.more(datetime.now(UTC))

        threading.Thread(target=grow, daemon=True).start()
        sys.stderr.write(f"{address(at)}\n")
        asyncio.run(Server(build(board), Access()).serve([at]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9466)
