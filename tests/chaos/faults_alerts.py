"""The worker that watches the alerts is killed, stopped and frozen; another takes over.

What stands in `alerts.v1` in the end is what a replay of the lake gives, minute for minute: each alert once.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from flyback import history
from flyback.alert_history import changes
from flyback.schemas import codec
from flyback.schemas.codec import Record
from flyback.sinks.lake import lake
from flyback.streams.alert_rules import read_rules
from flyback.streams.alerts import states
from flyback.streams.alerts.replay import replay
from flyback.streams.rates import MINUTE
from flyback.streams.topology import Topology
from tests.chaos.fault import Fault, Inject
from tests.chaos.patience import SECONDS
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.chaos.service import Service
    from tests.chaos.site import Site

RULES = Path(__file__).with_name("alerts.toml")
_JUDGED = "flyback_alert_last_evaluation_timestamp_seconds"


def at_rest(site: Site) -> None:
    """Compare, once nothing is counted any more and every alert is over. Raises AssertionError where they differ."""
    until = _minute_of(time.time()) + 2 * MINUTE
    eventually(lambda: _judged(site) >= until, "the watch has looked at what is over", SECONDS)
    site.until_landed()
    with lake(site.settings.lake) as opened:
        known = changes(opened, datetime.fromtimestamp(0, UTC), datetime.now(UTC))
        replayed = list(replay(read_rules(RULES), known, 0, until))
    assert {record["state"] for record in replayed} == set(states.STATES), "there was nothing to compare"
    written = [record for record in _written(site) if record["occurred_at"] <= until]
    expected, found = (Counter(json.dumps(record, sort_keys=True) for record in each) for each in (replayed, written))
    assert expected == found, f"not written: {expected - found}; not replayed: {found - expected}"


def _kill(site: Site, rng: random.Random) -> None:
    _another_takes_over(site, _watching(site), lambda worker: worker.kill(), rng)


def _stop(site: Site, rng: random.Random) -> None:
    _another_takes_over(site, _watching(site), lambda worker: worker.stop(), rng)


def _freeze(site: Site, rng: random.Random) -> None:
    """It wakes up with all that it knew, and must not write any more."""
    frozen = _watching(site)
    _another_takes_over(site, frozen, lambda worker: worker.pause(), rng)
    frozen.resume()
    site.until_progress()


def _another_takes_over(site: Site, before: Service, end: Callable[[Service], None], rng: random.Random) -> None:
    time.sleep(rng.uniform(0, 20))  # at any moment of a minute: it looks a few seconds after that began
    end(before)
    others = [worker for worker in site.workers.values() if worker is not before]
    eventually(lambda: any(_watches(worker) for worker in others), f"another watches after {before.name}", SECONDS)


def _watching(site: Site) -> Service:
    found: list[Service] = []

    def one_watches() -> bool:
        found[:] = [worker for worker in site.workers.values() if _watches(worker)]
        return bool(found)

    eventually(one_watches, "a worker watches the alerts", SECONDS)
    return found[0]


def _watches(worker: Service) -> bool:
    return worker.health().get("alerts") == "watching"


def _judged(site: Site) -> int:
    """The minute that was looked at last, microseconds UTC; 0 where nobody says."""
    said = re.search(rf"^{_JUDGED} (\S+)$", _watching(site).get("metrics"), flags=re.MULTILINE)
    return round(float(said[1]) * 1_000_000) if said else 0


def _written(site: Site) -> list[Record]:
    schema = codec.bundled("Alert")
    messages = history.read(site.settings, [Topology(site.settings).topic_of("Alert")])
    return [codec.decode("Alert", cast(bytes, message.value()), schema) for message in messages]


def _minute_of(seconds: float) -> int:
    return int(seconds * 1_000_000) // MINUTE * MINUTE


def _fault(name: str, inject: Inject) -> Fault:
    return Fault(name, inject, (0, 20), environment={"FLYBACK_ALERT_RULES": str(RULES)}, mixed=False, at_rest=at_rest)


FAULTS = (
    _fault("worker that watches the alerts killed (SIGKILL)", _kill),
    _fault("worker that watches the alerts stopped (SIGTERM)", _stop),
    _fault("worker that watches the alerts frozen past the session timeout", _freeze),
)
