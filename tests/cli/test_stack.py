"""The words with which a process ended, and what a child gets to know."""

from __future__ import annotations

import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flyback import stack
from flyback.errors import BrokerError
from flyback.local.process import ChildProcess
from flyback.settings import load
from flyback.stack import ProcessEnded, Stack


def lines(*said: str) -> str:
    return "".join(f"{line}\n" for line in said)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (lines("starting", "error: no lake here"), "no lake here"),
        (
            lines(json.dumps({"level": "error", "event": "fenced"}), json.dumps({"level": "info", "event": "stopped"})),
            "fenced",
        ),
        (lines("Traceback ...", "ValueError: 5"), "it said\nTraceback ...\nValueError: 5"),
        ("", "it said nothing"),
    ],
)
def test_what_a_process_said_last_is_told(tmp_path: Path, log: str, words: str) -> None:
    with Ended(tmp_path, log) as process, pytest.raises(ProcessEnded) as ended:
        process.check()
    assert f"exit code 3: {words}" in str(ended.value)
    assert ended.value.exit_code == 3


def test_what_an_earlier_run_said_is_not(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("error: long ago\n")
    with Ended(tmp_path, "") as process, pytest.raises(ProcessEnded, match="it said nothing"):
        process.check()


def test_a_hopeless_end_is_not_followed_by_another_start(tmp_path: Path) -> None:
    said: list[str] = []
    with Ended(tmp_path, "error: refused\n") as process, pytest.raises(ProcessEnded, match="refused"):
        process.revive(said.append)
    assert said == []


def test_a_child_gets_this_processs_settings_and_not_its_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("swordfish")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD_FILE", str(secret))
    monkeypatch.setenv("FLYBACK_TOPIC_PREFIX", "theirs.")
    environment = stack._child_environment(load(topic_prefix="ours."))
    assert environment["FLYBACK_TOPIC_PREFIX"] == "ours."
    assert environment["KAFKA_SASL_PASSWORD"] == "swordfish"
    assert "KAFKA_SASL_PASSWORD_FILE" not in environment
    assert "PATH" in environment


def test_a_stack_that_cannot_start_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyback.topics._SECONDS", 0.5)
    with pytest.raises(BrokerError, match="no Kafka answers"), Stack(load(bootstrap_servers="127.0.0.1:1"), tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", b"HT"])
def test_a_worker_that_dies_as_it_answers_is_not_well(tmp_path: Path, begun: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = load(bootstrap_servers="127.0.0.1:1", worker_http_port=0)
        dying = Stack(settings, tmp_path)
        dying.settings = dying.settings.model_copy(update={"worker_http_port": server.getsockname()[1]})

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(begun)

        with ThreadPoolExecutor(1) as thread:
            answered = thread.submit(answer)
            assert dying.waiting() is None
            answered.result()


def test_an_interrupt_that_comes_out_of_kafkas_client_as_another_error_is_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), stack.signals_interrupt():
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as interrupt:
            raise SystemError("returned a result with an exception set") from interrupt
    with pytest.raises(SystemError, match="something else"), stack.signals_interrupt():
        raise SystemError("something else")


class Ended(stack.Supervised):
    """A process that writes these words and ends with exit code 3."""

    def __init__(self, folder: Path, words: str) -> None:
        super().__init__("sink", folder / "log", {})
        self._child = ChildProcess("the sink", ["/bin/sh", "-c", 'printf "%s" "$0"; exit 3', words], self.log)

    def __enter__(self) -> Ended:
        self.start()
        self._child.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
