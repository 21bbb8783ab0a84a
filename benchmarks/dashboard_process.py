"""Viewers of the live page, as many as one process can be: python -m benchmarks.dashboard_process URL MANY SECONDS FILE

Makes the FILE when all of them look; in the end it has the seconds between two updates of each, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

VIEWS = ("", "range=24h", "range=7d&by=version", "range=1h&segment=segment-0")
_STATUS = b"event: status"
_LINE = 16_000_000  # bytes: a part is one line


async def look(address: str, path: str, looks: asyncio.Event) -> list[float]:
    """Read one stream until cancelled; gives the seconds between each two of its updates."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=_LINE)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    gaps: list[float] = []
    last = None
    try:
        while line := await reader.readline():
            if line.startswith(_STATUS):
                now = time.monotonic()
                if last is not None:
                    gaps.append(now - last)
                last = now
                looks.set()
        raise ConnectionError("the stream ended")
    except asyncio.CancelledError:
        return gaps
    finally:
        writer.close()


async def main(url: str, many: int, seconds: float, file: Path) -> None:
    """Look so long from the moment in which all do."""
    address = urlsplit(url).netloc
    looks = [asyncio.Event() for _ in range(many)]
    paths = [f"/api/v1/live?{VIEWS[number % len(VIEWS)]}" for number in range(many)]
    viewers = [asyncio.create_task(look(address, path, begun)) for path, begun in zip(paths, looks, strict=True)]
    for begun in looks:
        await begun.wait()
    file.touch()
    _, going_on = await asyncio.wait(viewers, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    assert len(going_on) == many, "a stream ended"
    for viewer in viewers:
        viewer.cancel()
    gaps = [gap for found in await asyncio.gather(*viewers) for gap in found]
    file.write_text(json.dumps(gaps), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])))
