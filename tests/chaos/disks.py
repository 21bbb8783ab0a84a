"""A small disk of its own: filled to the last byte, made read-only, and well again. Only root can have one (tmpfs)."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BLOCK = 64 * 1024
_PAGE = 4 * 1024
_BUSY_SECONDS = 20.0


class CannotMount(Exception):
    """This user may not mount, or this system has no tmpfs: what needs a small disk cannot be tried here."""


class SmallDisk:
    """What is mounted at `path`. Use `small_disk`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Take every block that is left; what is written from now on fails with ENOSPC."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (_BLOCK, _PAGE, 1):
                try:
                    while file.write(bytes(size)):
                        continue
                except OSError:
                    continue

    def leave(self, size: int) -> None:
        """Give `size` bytes of a filled disk back, so that a commit may begin and not end."""
        os.truncate(self._filler, max(0, self._filler.stat().st_size - size))

    def clear(self) -> None:
        """Give everything back that `fill` took."""
        self._filler.unlink(missing_ok=True)

    def refuse_writes(self) -> None:
        """Make it read-only, as a file system does by itself after an error of its disk."""
        self._remount("ro")

    def allow_writes(self) -> None:
        self._remount("rw")

    def _remount(self, how: str) -> None:
        """Read-only is refused while a file is open for writing, so it is asked for again."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while (refusal := _mount("-o", f"remount,{how}", str(self.path))) and time.monotonic() < deadline:
            time.sleep(0.01)
        if refusal:
            raise AssertionError(f"{self.path} cannot be made {how}: {refusal}")


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[SmallDisk]:
    """An empty disk of this size at `path`, which is made. Raises CannotMount."""
    path.mkdir(parents=True, exist_ok=True)
    if refusal := _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)):
        raise CannotMount(f"no disk of our own at {path}, for which one has to be root: {refusal}")
    try:
        yield SmallDisk(path)
    finally:
        # lazily: a process that was killed a moment ago may still hold it
        subprocess.run(["umount", "--lazy", str(path)], check=True, capture_output=True)


def _mount(*arguments: str) -> str:
    """Why it was refused, "" where it was not."""
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "there is no mount command"
    return (done.stderr.strip() or f"mount ended with {done.returncode}") if done.returncode else ""
