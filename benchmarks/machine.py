"""What a benchmark ran on: figures mean little without it."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def description() -> str:
    """Processor, cores, memory and Python, in one line."""
    processor = _first("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    kilobytes = _first("/proc/meminfo", "MemTotal").partition(" ")[0]
    memory = f", {int(kilobytes) // 1_000_000} GB" if kilobytes else ""
    return f"{processor}, {os.cpu_count()} cores{memory}, {platform.system()}, Python {platform.python_version()}"


def _first(file: str, field: str) -> str:
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
