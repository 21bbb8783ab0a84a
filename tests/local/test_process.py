"""`ChildProcess`: ready or a clear error, stopped for certain, and never outliving its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flyback.errors import BrokerError
from flyback.local import process
from flyback.local.process import ChildProcess, free_port, listens
from tests.waiting import eventually

LISTEN = "import socket, time; s = socket.create_server(('127.0.0.1', {port})); print('up', flush=True); "
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def listener(port: int, folder: Path, before: str = "") -> ChildProcess:
    code = before + LISTEN.format(port=port) + "time.sleep(600)"
    return ChildProcess("the listener", python(code), folder / "listener.log", advice="Try another one.")


def test_a_child_is_started_waited_for_and_stopped(tmp_path: Path) -> None:
    port = free_port()
    with listener(port, tmp_path) as child:
        child.wait_ready(lambda: listens(port))
        assert child.running
        assert child in process.running()
        assert child.log_tail() == "up"
    assert not child.running
    assert child not in process.running()
    assert child.exit_code == 128 + signal.SIGTERM
    assert not listens(port)


def test_a_child_that_dies_before_it_is_ready_is_reported_with_its_log(tmp_path: Path) -> None:
    child = ChildProcess(
        "the broker",
        python("print('port taken'); raise SystemExit(7)"),
        tmp_path / "b.log",
        advice="Free it.",
    )
    child.start()
    with pytest.raises(BrokerError) as error:
        child.wait_ready(lambda: False)
    for part in ("the broker ended with exit code 7", str(tmp_path / "b.log"), "port taken", "Free it."):
        assert part in str(error.value)


def test_a_child_that_is_never_ready_is_reported_and_killed(tmp_path: Path) -> None:
    child = listener(free_port(), tmp_path)
    child.start()
    with pytest.raises(BrokerError, match=r"the listener was not ready after 0\.2 s"):
        child.wait_ready(lambda: False, timeout=0.2)
    assert not child.running


def test_an_interrupt_while_waiting_kills_the_child(tmp_path: Path) -> None:
    def interrupted() -> bool:
        raise KeyboardInterrupt

    child = listener(free_port(), tmp_path)
    child.start()
    with pytest.raises(KeyboardInterrupt):
        child.wait_ready(interrupted)
    assert not child.running


def test_a_command_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    child = ChildProcess("the broker", [tmp_path / "missing"], tmp_path / "b.log")
    child.start()
    with pytest.raises(BrokerError, match=r"cannot run .*missing"):
        child.wait_ready(lambda: False)


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    port = free_port()
    child = listener(port, tmp_path, before=STUBBORN)
    child.start()
    child.wait_ready(lambda: listens(port))
    assert child.stop(timeout=0.2) == 128 + signal.SIGKILL
    assert not listens(port)


def test_a_child_can_be_started_again_but_not_twice(tmp_path: Path) -> None:
    port = free_port()
    with listener(port, tmp_path) as child:
        child.wait_ready(lambda: listens(port))
        with pytest.raises(BrokerError, match="already running"):
            child.start()
        child.kill()
        child.start()
        child.wait_ready(lambda: listens(port))


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    port = free_port()
    child = listener(port, tmp_path)
    starter = threading.Thread(target=child.start)
    starter.start()
    starter.join()
    try:
        child.wait_ready(lambda: listens(port))
        assert child.running
    finally:
        child.stop()


def test_a_child_is_not_in_the_terminals_process_group(tmp_path: Path) -> None:
    port = free_port()
    with listener(port, tmp_path) as child:
        child.wait_ready(lambda: listens(port))
        assert child.pid is not None
        assert os.getsid(child.pid) != os.getsid(0)


@pytest.mark.parametrize("before", ["", STUBBORN], ids=["polite", "ignores SIGTERM"])
def test_a_child_dies_with_a_parent_that_was_killed(tmp_path: Path, before: str) -> None:
    port = free_port()
    command = python(before + LISTEN.format(port=port) + "time.sleep(600)")
    script = (
        "import sys, time; from pathlib import Path; from flyback.local import process;"
        "process.ORPHAN_GRACE_SECONDS = 0.2;"
        f"child = process.ChildProcess('it', {command!r}, Path({str(tmp_path / 'it.log')!r}));"
        f"child.start(); child.wait_ready(lambda: process.listens({port})); print('ready', flush=True);"
        "time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        assert listens(port)
    finally:
        parent.kill()
        parent.communicate()
    eventually(lambda: not listens(port), "the child has ended")


def test_a_child_dies_with_its_guard(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process of its parent's death")
    port = free_port()
    with listener(port, tmp_path) as child:
        child.wait_ready(lambda: listens(port))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        eventually(lambda: not listens(port), "the child has ended")


def test_free_ports_are_outside_the_range_of_outgoing_connections() -> None:
    assert all(20_000 <= free_port() < 32_768 for _ in range(50))


def test_a_port_is_not_given_again_before_somebody_can_listen_on_it() -> None:
    assert len({free_port() for _ in range(400)}) == 400
