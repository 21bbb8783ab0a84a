"""Structured logs: text on a terminal, JSON lines otherwise, always on standard error."""

from __future__ import annotations

import logging
import re
import sys
import time

import structlog

from flyback.settings import Settings

get_logger = structlog.stdlib.get_logger
_REPEAT_SECONDS = 60.0


def configure(settings: Settings) -> None:
    """Send every log line of this process, those of libraries too, through one renderer."""
    text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor
    if text:
        # not the default formatter: where rich is installed that prints local variables, so events and secrets
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    else:
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("flyback").setLevel(settings.log_level.upper())
    logging.getLogger("librdkafka").filters[:] = [_OnceAMinute()]


class _OnceAMinute(logging.Filter):
    """Lets a line through once a minute: librdkafka says the same, with other numbers, at each attempt to connect."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = re.sub(r"\d+", "", record.getMessage())
        now = time.monotonic()
        if now - self._said_at.get(kind, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            return False
        self._said_at[kind] = now
        return True
