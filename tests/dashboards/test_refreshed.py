"""What is slow is asked in a thread, seldom, and by nobody twice at a time."""

from __future__ import annotations

import threading

import pytest

from flyback.dashboards.refreshed import Refreshed
from flyback.errors import LakeError
from tests.waiting import eventually


class Slow:
    def __init__(self) -> None:
        self.calls = 0
        self.gate = threading.Event()
        self.error: Exception | None = None

    def __call__(self) -> int:
        self.calls += 1
        assert self.gate.wait(20)
        if self.error:
            raise self.error
        return self.calls


def test_the_latest_answer_is_there_at_once() -> None:
    slow = Slow()
    answer = Refreshed(slow, every=0)
    assert answer.latest() is None
    assert answer.latest() is None
    assert slow.calls == 1, "not again while it is asked"
    slow.gate.set()
    eventually(lambda: answer.latest() is not None, "the first answer")
    eventually(lambda: (answer.latest() or 0) > 1, "a newer one")


def test_it_is_not_asked_before_its_time() -> None:
    slow = Slow()
    slow.gate.set()
    answer = Refreshed(slow, every=1_000)
    assert [answer.wait(20), answer.wait(20), answer.latest()] == [1, 1, 1]


def test_who_waits_gets_what_was_asked_by_another() -> None:
    slow = Slow()
    answer = Refreshed(slow, every=1_000)
    assert answer.latest() is None
    threading.Timer(0.01, slow.gate.set).start()
    assert answer.wait(20) == 1


def test_patience_ends() -> None:
    slow = Slow()
    with pytest.raises(TimeoutError):
        Refreshed(slow, every=0).wait(0.01)
    slow.gate.set()


def test_an_error_is_for_everybody_who_asks_until_it_is_over() -> None:
    slow = Slow()
    slow.gate.set()
    slow.error = LakeError("no such folder")
    answer = Refreshed(slow, every=0)
    with pytest.raises(LakeError, match="no such folder"):
        answer.wait(20)
    slow.error = None

    def well() -> bool:
        try:
            return answer.latest() is not None
        except LakeError:
            return False

    eventually(well, "it is well again")
