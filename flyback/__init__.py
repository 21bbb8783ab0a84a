"""Flyback: an event-streaming data flywheel. Importing it is cheap: names are loaded on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_LAZY = {
    "Client": "flyback.client",
    "chat": "flyback.content",
    "human": "flyback.content",
    "model": "flyback.content",
    "lake": "flyback.sinks.lake",
}
__all__ = ["Client", "__version__", "chat", "human", "lake", "model"]

if TYPE_CHECKING:
    from flyback.client import Client
    from flyback.content import chat, human, model
    from flyback.sinks.lake import lake


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'flyback' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
