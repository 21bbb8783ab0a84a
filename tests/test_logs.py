"""Logs: one line an event, JSON or text, ours and those of libraries; never a local variable."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CANARY = "canary-s3cret"


def logged(program: str, **environment: str) -> str:
    """What a process of its own writes to standard error; its standard output must stay empty."""
    done = run(program, environment, subprocess.PIPE)
    assert done.stdout == b""
    return done.stderr.decode()


def logged_on_a_terminal(program: str, **environment: str) -> str:
    """The same where standard error is a terminal."""
    ours, theirs = pty.openpty()
    try:
        run(program, environment, theirs)
    finally:
        os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # that is how a terminal whose other side is closed ends
        while part := os.read(ours, 65_536):
            written += part
    os.close(ours)
    return written.decode()


def run(program: str, environment: dict[str, str], stderr: int) -> subprocess.CompletedProcess[bytes]:
    start = "import logging; from flyback import logs; from flyback.settings import load; logs.configure(load())\n"
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", start + program],
        env={**env, "PYTHONPATH": str(ROOT), "TERM": "xterm", **environment},
        stdout=subprocess.PIPE,
        stderr=stderr,
        check=True,
        timeout=60,
        cwd="/",
    )


def lines(program: str, **environment: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged(program, **environment).splitlines()]


def test_a_line_is_json_where_nobody_watches() -> None:
    (line,) = lines("logs.get_logger('flyback.x').info('worker starts', partition=3, path=load().state_dir)")
    assert datetime.fromisoformat(line.pop("timestamp")).tzinfo is not None
    assert line == {
        "event": "worker starts",
        "level": "info",
        "logger": "flyback.x",
        "partition": 3,
        "path": "PosixPath('flyback-data/state')",
    }


def test_a_line_is_text_on_a_terminal() -> None:
    text = logged_on_a_terminal("logs.get_logger('flyback.x').info('worker starts', partition=3)")
    assert "worker starts" in text
    assert not text.lstrip().startswith("{")
    assert "\x1b[" in text  # colours


def test_the_format_can_be_chosen() -> None:
    program = "logs.get_logger('flyback.x').info('worker starts', partition=3)"
    text = logged(program, FLYBACK_LOG_FORMAT="text")
    assert "partition=3" in text
    assert "\x1b[" not in text
    assert json.loads(logged_on_a_terminal(program, FLYBACK_LOG_FORMAT="json"))["partition"] == 3


def test_every_event_is_one_line_whatever_is_in_it() -> None:
    (line,) = lines("logs.get_logger('flyback.x').info('one\\ntwo', note='a\\nb \\u2603')")
    assert (line["event"], line["note"]) == ("one\ntwo", "a\nb \u2603")


FAILURE = """
def work(password):
    raise ValueError('the cause')
try:
    work('{canary}'[:])
except ValueError:
    {log}
"""


@pytest.mark.parametrize(
    "log",
    [
        "logs.get_logger('flyback.x').exception('it failed')",
        "logs.get_logger('flyback.x').error('it failed', exc_info=True)",
        "logging.getLogger('faust').exception('it failed')",
    ],
)
def test_an_exception_is_part_of_its_line_in_json(log: str) -> None:
    (line,) = lines(FAILURE.format(canary=CANARY, log=log))
    assert (line["event"], line["level"]) == ("it failed", "error")
    assert line["exception"].endswith("ValueError: the cause")


@pytest.mark.parametrize("log", ["logs.get_logger('flyback.x')", "logging.getLogger('faust')"])
@pytest.mark.parametrize("chosen", ["text", "json"])
def test_a_traceback_shows_no_local_variables(log: str, chosen: str) -> None:
    program = f"password = '{CANARY[:6]}' + '{CANARY[6:]}'\n" + FAILURE.format(
        canary="", log=f"{log}.exception('it failed')"
    ).replace("work(''[:])", "work(password)")
    written = logged(program, FLYBACK_LOG_FORMAT=chosen)
    assert "the cause" in written
    assert CANARY not in written
    assert CANARY not in logged_on_a_terminal(program, FLYBACK_LOG_FORMAT=chosen)


def test_a_library_s_lines_look_like_ours() -> None:
    (line,) = lines("logging.getLogger('aiokafka').warning('lost %s after %d s', 'broker', 3)")
    assert (line["event"], line["logger"], line["level"]) == ("lost broker after 3 s", "aiokafka", "warning")


def test_a_library_s_chatter_is_left_out_and_ours_is_not() -> None:
    program = "for name in ('aiokafka', 'flyback.x'): logging.getLogger(name).info('chatter')"
    assert [line["logger"] for line in lines(program)] == ["flyback.x"]


@pytest.mark.parametrize(("level", "expected"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_chosen_for_our_own_lines(level: str, expected: int) -> None:
    program = (
        "log = logs.get_logger('flyback.x')\n"
        "for severity in (log.debug, log.info, log.warning, log.error): severity('said')"
    )
    assert len(lines(program, FLYBACK_LOG_LEVEL=level)) == expected


def test_configuring_again_does_not_double_the_lines() -> None:
    assert len(lines("logs.configure(load()); logs.get_logger('flyback.x').warning('once')")) == 1


def test_a_logger_made_before_the_configuration_follows_it() -> None:
    program = "import flyback.streams.state as state; logs.configure(load()); state.log.warning('said', partition=1)"
    (line,) = lines(program)
    assert (line["logger"], line["partition"]) == ("flyback.streams.state", 1)


def test_settings_in_a_line_hide_their_secrets() -> None:
    assert CANARY not in logged(
        "logs.get_logger('flyback.x').warning('settings', settings=load(), password=load().sasl_password)",
        KAFKA_SASL_PASSWORD=CANARY,
    )


def test_importing_changes_nothing_about_logging() -> None:
    program = "import logging, flyback.logs, flyback; assert not logging.getLogger().handlers"
    subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, check=True, timeout=60, cwd="/")


def test_what_librdkafka_repeats_at_every_attempt_is_logged_once() -> None:
    program = """
for number in range(5):
    logging.getLogger("librdkafka").error("FAIL connect to 127.0.0.1:9092 failed (after %dms)", number)
logging.getLogger("librdkafka").error("another line")
"""
    assert [line["event"] for line in lines(program)] == [
        "FAIL connect to 127.0.0.1:9092 failed (after 0ms)",
        "another line",
    ]
