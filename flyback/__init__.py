"""Flyback: an event-streaming data flywheel. Importing it is cheap: names are loaded on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_LAZY = {
    "Actor": "flyback.content",
    "BufferFull": "flyback.errors",
    "Client": "flyback.client",
    "Content": "flyback.content",
    "DeliveryFailed": "flyback.errors",
    "FlybackError": "flyback.errors",
    "InvalidEvent": "flyback.errors",
    "PredictionRef": "flyback.client",
    "chat": "flyback.content",
    "human": "flyback.content",
    "lake": "flyback.sinks.lake",
    "model": "flyback.content",
}
__all__ = [
    "Actor",
    "BufferFull",
    "Client",
    "Content",
    "DeliveryFailed",
    "FlybackError",
    "InvalidEvent",
    "PredictionRef",
    "__version__",
    "chat",
    "human",
    "lake",
    "model",
]

if TYPE_CHECKING:
    from flyback.client import Client, PredictionRef
    from flyback.content import Actor, Content, chat, human, model
    from flyback.errors import BufferFull, DeliveryFailed, FlybackError, InvalidEvent
    from flyback.sinks.lake import lake


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'flyback' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_LAZY[name]), name)
    except ModuleNotFoundError as error:
        if name != "lake" or (error.name or "").startswith("flyback"):
            raise
        message = f"flyback.lake needs {error.name}: type `pip install 'flyback[sink]'`"
        raise ModuleNotFoundError(message, name=error.name) from None
