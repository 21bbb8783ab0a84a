"""All that is shown, put together: of each view its parts as JSON, from the counts, the lake and the health check."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from flyback.dashboards import parts
from flyback.dashboards.feed import Following
from flyback.dashboards.lake_queries import Alerts, Counted, Cursor, DeadLetters, Episode, Failures, Latency, Query
from flyback.dashboards.lake_reader import LakeReader
from flyback.dashboards.parts import Mark, NotYet, Part
from flyback.dashboards.questions import Course, Question, Row
from flyback.dashboards.rate_store import KEPT, RateStore
from flyback.dashboards.refreshed import Refreshed
from flyback.dashboards.view import View
from flyback.errors import FlybackError

HealthCheck = Callable[[], Part]
"""How workers and sinks are: verdict, problems, lags, last_commit, restoring. May take seconds, raises FlybackError."""

HEALTH_SECONDS = 5.0
PATIENCE = 10.0
"""Seconds that a request waits for what is slow."""
_REMEMBERED = 100  # views whose parts are kept: in most seconds nothing changes


class Board:
    """What everybody is shown. `live` never waits; the others do, for up to `patience` seconds."""

    def __init__(
        self,
        store: RateStore,
        lake: LakeReader,
        following: Callable[[], Following],
        health: HealthCheck | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._store = store
        self._lake = lake
        self._following = following
        self._patience = patience
        self._health = Refreshed(health, HEALTH_SECONDS) if health is not None else None
        self._kept: OrderedDict[View, tuple[object, dict[str, Part]]] = OrderedDict()
        self._written: dict[View, dict[str, tuple[Part, bytes]]] = {}
        self._lock = threading.Lock()

    def status(self, now: datetime) -> Part:
        """How far the counts are read, and the server's clock."""
        return {"now": now.isoformat(), **self._following().plain(time.monotonic())}

    def live(self, view: View, now: datetime) -> Mapping[str, bytes]:
        """The parts of a view as JSON, those left out that are still looked for. For one thread."""
        written = self._written.pop(view, {})
        found = self._parts(view, now, 0.0)
        # most are the very object that was written out a second ago
        self._written[view] = {
            name: written[name] if name in written and written[name][0] is part else (part, encode(part))
            for name, part in found.items()
        }
        if len(self._written) > _REMEMBERED:
            del self._written[next(iter(self._written))]
        return {name: text for name, (_, text) in self._written[view].items()}

    def parts(self, view: View, now: datetime) -> dict[str, Part]:
        """The parts of a view, those left out that are not there in time."""
        return self._parts(view, now, self._patience)

    def rates(self, view: View, now: datetime) -> Part:
        """What `flyback rates --json` says. Raises NotYet, LakeError."""
        return parts.rates(view, now, _Answers(self._store, self._lake, now, self._patience))

    def failures(self, query: Failures) -> Part:
        """Raises NotYet."""
        return self._of_lake(query, self._patience)

    def episode(self, task_id: str) -> Part:
        """{} where there is none. Raises NotYet, LakeError."""
        found: Part = self._lake.ask(Episode(task_id), self._patience)
        return found

    def alerts(self) -> Part:
        """Raises NotYet."""
        return self._alerts(self._patience)

    def health(self) -> Part:
        """Raises NotYet."""
        return self._of_health(self._patience)

    def _parts(self, view: View, now: datetime, wait: float) -> dict[str, Part]:
        makers: dict[str, Callable[[], Part]] = {
            "failures": lambda: self._of_lake(failures_of(view, now), wait),
            "alerts": lambda: self._alerts(wait),
            "health": lambda: self._of_health(wait),
        }
        found = self._of_counts(view, now, wait)
        for name, make in makers.items():
            with contextlib.suppress(NotYet):
                found[name] = make()
        return found

    def _alerts(self, wait: float) -> Part:
        found = self._of_lake(Alerts(), wait)
        return {name: value for name, value in found.items() if name != "fired"}

    def _of_health(self, wait: float) -> Part:
        said: Part = {"problems": [], "lags": [], "last_commit": {"worker": None, "sink": None}, "restoring": []}
        try:
            if self._health is None:
                said["verdict"] = "unknown"
            elif found := self._health.wait(wait) if wait else self._health.latest():
                said |= found
            else:
                raise NotYet
        except TimeoutError:
            raise NotYet from None
        except NotYet:
            raise
        except Exception as error:  # whatever it is, the rest of the page is well
            text = str(error) if isinstance(error, FlybackError) else type(error).__name__
            said |= {"verdict": "unknown", "problems": [text]}
        return said | self._of_lake(DeadLetters(), wait)

    def _of_lake(self, query: Query, wait: float) -> Part:
        """An error of the lake is a part of the answer: the rest of the page is well."""
        try:
            found: Part = self._lake.ask(query, wait)
        except FlybackError as error:
            return {**query.nothing, "error": str(error)}
        return found

    def _of_counts(self, view: View, now: datetime, wait: float) -> dict[str, Part]:
        """Headline, chart and table. Computed once for each change of the counts, the alerts, and the minute."""
        answers = _Answers(self._store, self._lake, now, wait)
        fired = self._or(Alerts(), wait, {"fired": []})["fired"]
        state = (self._store.changes, now.replace(second=0, microsecond=0), len(fired))
        with self._lock:
            kept, found = self._kept.get(view, (None, {}))
        if kept != state or answers.of_lake(view.question(now)):
            before, found = _step_of(found), {}
            marks = [*parts.version_marks(view, self._store.appearances()), *map(_mark, fired)]
            makers: dict[str, Callable[[], Part]] = {
                "headline": lambda: parts.headline(view, now, answers),
                "chart": lambda: parts.chart(view, now, answers, marks, before),
                "table": lambda: parts.table(view, now, answers, _step_of(found) or timedelta(0)),
            }
            for name, make in makers.items():
                try:
                    with contextlib.suppress(NotYet):
                        found[name] = make()
                except FlybackError as error:
                    found[name] = {"error": str(error)}
            self._keep(view, state, found)
        with_latency = {**found}
        if "headline" in found:
            with_latency["headline"] = {**found["headline"], **self._or(Latency(), wait, Latency.nothing)}
        return with_latency

    def _keep(self, view: View, state: object, found: dict[str, Part]) -> None:
        waits = found.get("headline", {}).get("before", {}) is None
        with self._lock:
            self._kept[view] = (None if waits else state), found
            self._kept.move_to_end(view)
            if len(self._kept) > _REMEMBERED:
                self._kept.popitem(last=False)

    def _or(self, query: Query, wait: float, otherwise: Part) -> Part:
        try:
            found: Part = self._lake.ask(query, wait)
        except (NotYet, FlybackError):
            return otherwise
        return found


class _Answers:
    """The counts in memory, and for what is older than those the lake."""

    def __init__(self, store: RateStore, lake: LakeReader, now: datetime, wait: float) -> None:
        self._store = store
        self._lake = lake
        self._oldest = now - KEPT
        self._wait = wait

    def of_lake(self, question: Question) -> bool:
        return question.since < self._oldest

    def ask(self, question: Question) -> list[Row]:
        if not self.of_lake(question):
            return self._store.ask(question)
        found: list[Row] = self._lake.ask(Counted(question), self._wait)
        return found

    def courses(self, question: Question) -> list[Course]:
        if not self.of_lake(question):
            return self._store.courses(question)
        found: list[Course] = self._lake.ask(Counted(question, courses=True), self._wait)
        return found


def failures_of(view: View, now: datetime, limit: int = 20, before: Cursor | None = None) -> Failures:
    """The newest ones of a view, or those that follow."""
    asked = view.question(now)
    return Failures(asked.since, asked.until, view.where, view.find, limit, before)


def _step_of(found: Mapping[str, Part]) -> timedelta | None:
    """How far the points of the chart are apart, if that is known."""
    seconds = found.get("chart", {}).get("step")
    return None if seconds is None else timedelta(seconds=seconds)


def encode(part: Any) -> bytes:
    """As JSON. Not for what could be put into HTML."""
    return json.dumps(part, ensure_ascii=False, separators=(",", ":"), default=_plain).encode()


def _plain(value: object) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


def _mark(fired: Part) -> Mark:
    return Mark(datetime.fromisoformat(fired["at"]), "alert", fired["text"])
