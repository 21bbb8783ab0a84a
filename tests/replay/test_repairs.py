"""Dead letters that a hook repairs before they are put back, or leaves."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flyback.deadletters import DeadLetter, Selection
from flyback.errors import ConfigurationError
from flyback.replay import RepairFailed, load_repair, replay
from flyback.settings import Settings, load
from tests.replay.cemetery import Cemetery, put_back
from tests.strategies import correction
from tests.streams.on_kafka import OnKafka, running
from tests.streams.records import Raw, a_correction, a_prediction, raw
from tests.waiting import eventually


def test_the_key_can_be_set_to_the_task_where_the_value_decodes(settings: Settings, cemetery: Cemetery) -> None:
    cemetery.bury(replace(a_correction("without"), key=None), "missing_key")
    cemetery.bury(replace(a_correction("with another"), key=b"x"), "key_mismatch")
    cemetery.bury(Raw("Correction", "t", b"t", b"\x00junk"), "truncated")
    report = replay(settings, repair=load_repair("key", settings))
    assert (report.replayed, report.left) == (2, 1)
    assert {message.key() for message in put_back(settings)} == {b"without", b"with another"}


def test_a_hook_may_change_a_message_or_leave_it(settings: Settings, cemetery: Cemetery) -> None:
    cemetery.bury(raw("Correction", correction("a", output=None)), "missing_output")
    cemetery.bury(a_correction("b"), "wrong_partition")

    def repair(letter: DeadLetter) -> tuple[bytes | None, bytes | None] | None:
        return (letter.key, a_correction("a").value) if letter.key == b"a" else None

    report = replay(settings, repair=repair)
    assert (report.replayed, report.left) == (1, 1)
    assert [message.value() for message in put_back(settings)] == [a_correction("a").value]


@pytest.mark.parametrize("given", ["text", (b"k",), (b"k", "v")])
def test_a_hook_that_gives_something_else_is_told_so(settings: Settings, cemetery: Cemetery, given: Any) -> None:
    where = cemetery.bury(a_correction(), "wrong_partition")
    with pytest.raises(RepairFailed, match=f"{where} gave {type(given).__name__}"):
        replay(settings, repair=lambda letter: given)
    assert put_back(settings) == []


def test_a_hook_that_fails_is_named_with_its_letter(settings: Settings, cemetery: Cemetery) -> None:
    where = cemetery.bury(a_correction(), "wrong_partition")

    def repair(letter: DeadLetter) -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(RepairFailed, match=f"{where} failed: ZeroDivisionError: a bug"):
        replay(settings, repair=repair)


@pytest.mark.parametrize(
    "name",
    ["nothing", "no_such_module:repair", "json:repair", "json:__name__", ":f", ".here:f", "a_typo:f", "a_fault:f"],
)
def test_a_hook_that_is_not_there_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_typo.py").write_text("def f(letter:\n")
    (tmp_path / "a_fault.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    with pytest.raises(ConfigurationError, match=f"--repair {name}: "):
        load_repair(name, load())


def test_a_conflict_that_is_given_an_id_of_its_own_is_derived(settings: Settings) -> None:
    kafka = OnKafka(settings)
    for message in (a_prediction(), a_correction(), a_correction(reason="other content")):
        kafka.send(message)

    def repair(letter: DeadLetter) -> tuple[bytes | None, bytes | None]:
        return letter.key, a_correction(correction_id="of its own", reason="other content").value

    with running(settings):
        eventually(kafka.is_processed, "all is processed", 120)
        assert dict(replay(settings).not_replayable) == {"seen": 1}
        assert replay(settings, Selection(reason="conflict"), repair).replayed == 1
        eventually(lambda: kafka.verdict().derived().total() == 2, "both are derived", 120)
    assert len(kafka.verdict().letters()) == 1
