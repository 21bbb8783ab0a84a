"""What the page asks of the lake: each question at most every other second, in a thread, for all viewers together."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import duckdb

from flyback.dashboards.lake_queries import Query
from flyback.dashboards.parts import NotYet
from flyback.dashboards.refreshed import Refreshed
from flyback.errors import FlybackError, LakeError
from flyback.logs import get_logger
from flyback.sinks.lake import Lake
from flyback.sinks.storage import is_remote

log = get_logger(__name__)

REFRESH_SECONDS = 1.0
"""How often the views move to what was committed meanwhile, at most."""
_THREADS = 2  # of DuckDB: the lake is read beside a worker and a sink
_REMEMBERED = 200  # answers


class LakeReader:
    """One lake. Where it is not there yet, it is an empty one."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lake: Lake | None = None
        self._refreshed_at = 0.0
        self._opening = threading.Lock()
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, Refreshed[Any]] = OrderedDict()

    def ask(self, query: Query, wait: float = 0.0) -> Any:
        """The latest answer; with `wait`, seconds, one that is new. Raises NotYet, LakeError."""
        with self._lock:
            kept = self._answers.setdefault(query.key, Refreshed(lambda: self._run(query), query.every))
            self._answers.move_to_end(query.key)
            if len(self._answers) > _REMEMBERED:
                self._answers.popitem(last=False)
        try:
            answer = kept.wait(wait) if wait else kept.latest()
        except TimeoutError:
            raise NotYet from None
        if answer is None:
            raise NotYet
        return answer

    def _run(self, query: Query) -> Any:
        try:
            connection = self._connection()
            return query.nothing if connection is None else query.run(connection)
        except FlybackError:
            raise
        except Exception as error:  # its text may hold what stands in the files
            log.warning("the lake was not read", lake=self._path, reason=type(error).__name__)
            self._refreshed_at = 0.0
            raise LakeError(f"the lake at {self._path} cannot be read: {type(error).__name__}") from None

    def _connection(self) -> duckdb.DuckDBPyConnection | None:
        """For one query; None where there is no lake yet."""
        with self._opening:
            if self._lake is None:
                if not is_remote(self._path) and not Path(self._path).is_dir():
                    return None
                self._lake = Lake(self._path)
                self._lake.connection.execute(f"SET threads = {_THREADS}")
            elif time.monotonic() - self._refreshed_at > REFRESH_SECONDS:
                self._lake.refresh()
            self._refreshed_at = time.monotonic()
            return self._lake.connection.cursor()
