"""The fixtures' own rules: an address that is given is used, and in CI a missing broker fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyback.local import process
from flyback.local.process import free_port
from tests import brokers
from tests.conftest import take_own_ports


def test_a_given_address_is_used_as_it_is(embedded_bootstrap: str, tmp_path: Path) -> None:
    with brokers.real_kafka({"KAFKA_BOOTSTRAP_SERVERS": embedded_bootstrap}, tmp_path) as bootstrap:
        assert bootstrap == embedded_bootstrap


def test_a_given_address_where_nothing_answers_is_a_failure_not_a_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brokers, "GIVEN_SECONDS", 0.5)
    nobody = f"127.0.0.1:{free_port()}"
    with (
        pytest.raises(pytest.fail.Exception, match=nobody),
        brokers.real_kafka({"KAFKA_BOOTSTRAP_SERVERS": nobody}, tmp_path),
    ):
        pass


def test_without_java_tests_are_skipped_but_fail_in_ci(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyback.local.java._candidates", lambda: iter(()))
    monkeypatch.setattr(brokers, "docker_answers", lambda: False)
    with pytest.raises(pytest.skip.Exception, match="Java 17"), brokers.real_kafka({}, tmp_path):
        pass
    with pytest.raises(pytest.fail.Exception, match="Java 17"), brokers.real_kafka({"CI": "true"}, tmp_path):
        pass


def test_what_cannot_be_fetched_beforehand_is_left_to_the_tests_that_miss_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    brokers.fetch()
    assert list(tmp_path.glob("flyback/*")) == []


def test_tests_that_run_side_by_side_share_all_ports_and_have_none_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = process.PORTS
    taken: list[int] = []
    for number in range(3):
        monkeypatch.setattr(process, "PORTS", whole)
        take_own_ports(number, 3)
        taken += process.PORTS
    assert sorted(taken) == list(whole)


@pytest.mark.parametrize("name", ["FLYBACK_LAKE", "KAFKA_BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL"])
def test_the_developers_settings_do_not_reach_a_test(name: str) -> None:
    assert name not in os.environ
