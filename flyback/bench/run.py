"""One bench, from the first topic to the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flyback.bench import clients, processes
from flyback.bench.events import Events
from flyback.bench.ground import ground
from flyback.bench.measure import Part, Plan, Progress, Sent
from flyback.bench.verdict import Verdict, judge
from flyback.settings import Settings


@dataclass(frozen=True, slots=True)
class Report:
    """What a bench came to; `latency` was measured at a steady rate, the `parts` at the highest."""

    bootstrap: str
    plan: Plan
    partitions: int
    replication_factor: int
    connect_ms: float | None
    sent: Sent
    parts: Mapping[str, Part]
    latency: Part
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        verdict = asdict(self.verdict)
        limits = verdict.pop("limits")
        return {
            "bootstrap": self.bootstrap,
            "topic_prefix": self.plan.topic_prefix,
            "event_bytes": self.plan.event_bytes,
            "partitions": self.partitions,
            "replication_factor": self.replication_factor,
            "connect_ms": self.connect_ms,
            "sent": asdict(self.sent),
            "parts": {name: _plain(part) | {"limit": limits[name]} for name, part in self.parts.items()},
            "latency": _plain(self.latency),
            "verdict": verdict,
        }


def run(settings: Settings, plan: Plan, folder: Path | None, progress: Progress) -> Report:
    """Measure on topics of its own, which are deleted whatever happens. `folder`: for state and lake, else /tmp.

    Raises FlybackError where something is missing or does not get on; KeyboardInterrupt.
    """
    progress("create", 0, 1)
    with ground(settings, plan, folder) as place:
        progress("create", 1, 1)
        own, events, sent = place.settings, Events(plan.event_bytes), Sent()
        parts = [clients.produce(own, plan, events, sent, progress)]
        parts.append(clients.predict(own, plan, events, sent, progress))
        parts.append(clients.consume(own, plan, sent, progress))
        parts.append(processes.bulk(place, plan, sent, progress))
        latency = processes.steady(place, plan, events, sent, processes.steady_rate(parts[-1]), progress)
        parts.append(processes.land(place, plan, sent, progress))
        progress("delete", 0, 1)
    progress("delete", 1, 1)
    named = {part.name: part for part in parts}
    return Report(
        own.bootstrap_servers,
        plan,
        own.partitions,
        own.replication_factor,
        place.connect_ms,
        sent,
        named,
        latency,
        judge(named, own.partitions, place.connect_ms),
    )


def _plain(part: Part) -> dict[str, Any]:
    found = asdict(part)
    details = found.pop("details")
    rates = {"events_per_second": part.events_per_second, "mb_per_second": part.mb_per_second}
    return {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in (found | rates | details).items()
    }
