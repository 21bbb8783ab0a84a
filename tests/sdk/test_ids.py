"""UUIDv7: what the library that makes them must keep to."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from uuid import UUID

import pytest

from flyback.ids import new_id


def test_an_id_is_a_uuid_of_version_7_whose_first_48_bits_are_the_time_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    made = UUID(new_id())
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert before <= made.int >> 80 <= after


def test_ids_grow_from_one_call_to_the_next() -> None:
    made = [new_id() for _ in range(50_000)]
    assert made == sorted(set(made))


def test_ids_grow_across_threads() -> None:
    made: list[str] = []
    lock = Lock()

    def make(_: int) -> None:
        for _ in range(5_000):
            with lock:
                made.append(new_id())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, range(4)))
    assert made == sorted(set(made))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_makes_other_ids_than_its_parent() -> None:
    new_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, " ".join(new_id() for _ in range(1_000)).encode())
        os._exit(0)
    os.close(writing)
    ours = {new_id() for _ in range(1_000)}
    with os.fdopen(reading) as pipe:
        theirs = set(pipe.read().split())
    os.waitpid(child, 0)
    assert len(theirs) == 1_000
    assert not ours & theirs
