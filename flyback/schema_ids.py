"""Which schema ids events are written with, learned without making anybody wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from flyback.errors import FlybackError
from flyback.schemas import wire

if TYPE_CHECKING:
    from flyback.schemas.catalog import Catalog
    from flyback.settings import Settings

_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 0.25, 10.0
_log = logging.getLogger("flyback.client")  # not structlog: see flyback.delivery


class SchemaIds:
    """`frames`: what stands before a body, by record, as far as its schema id is known; `error`: why one is not yet."""

    def __init__(self, settings: Settings, topics: Mapping[str, str]) -> None:
        self.frames: dict[str, bytes] = {}
        self.error: FlybackError | None = None
        self._settings = settings
        self._topics = topics

    def learn(self, stop: threading.Event) -> None:
        """Look the ids up where there is no registry; else let a thread ask for them, until `stop` is set."""
        from flyback.schemas.catalog import open_catalog

        self.error = None
        if not self._missing():
            return
        catalog = open_catalog(self._settings)
        if self._settings.registry_url is None:
            for record in self._topics:
                self._ask(catalog, record)
        else:
            threading.Thread(target=self._run, args=(catalog, stop), name="flyback-schemas", daemon=True).start()

    def _run(self, catalog: Catalog, stop: threading.Event) -> None:
        delay = _FIRST_RETRY_SECONDS
        while missing := self._missing():
            for record in missing:
                try:
                    self._ask(catalog, record)
                except FlybackError as error:
                    if self.error is None and not stop.is_set():
                        _log.warning("no schema id for %s yet, events wait: %s", record, error)
                    self.error = error
            if stop.wait(delay):
                return
            delay = min(2 * delay, _LAST_RETRY_SECONDS)

    def _missing(self) -> list[str]:
        return sorted(self._topics.keys() - self.frames.keys())

    def _ask(self, catalog: Catalog, record: str) -> None:
        self.frames[record] = wire.frame(catalog.id_for(record, self._topics[record]), b"")
