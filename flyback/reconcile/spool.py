"""Outputs kept in a temporary file, so that no transaction is open while the lake is compared."""

from __future__ import annotations

import pickle
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

from flyback.errors import FlybackError
from flyback.streams.outputs import Output


class Spool:
    """Outputs in the order in which they were added; `topics` counts them. A context manager."""

    def __init__(self) -> None:
        self.topics: Counter[str] = Counter()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with suppress(OSError):  # closing writes what is buffered, to a disk that may be full
            self._file.close()

    def __len__(self) -> int:
        return self.topics.total()

    def add(self, output: Output) -> None:
        """Raises FlybackError where the disk is full, as iterating does."""
        with _disk_errors():
            pickle.dump(output, self._file)
        self.topics[output.topic] += 1

    def __iter__(self) -> Iterator[Output]:
        with _disk_errors():
            self._file.seek(0)  # writes what is buffered
        for _ in range(len(self)):
            yield pickle.load(self._file)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FlybackError(
            f"the missing pairs cannot be kept in {tempfile.gettempdir()}: {error.strerror}. Make room, or let "
            "TMPDIR name a larger disk, and run again: nothing was written"
        ) from error
