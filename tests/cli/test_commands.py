"""What holds for all commands: help, version, errors, and that asking is cheap."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from flyback import __version__
from flyback.cli import entry
from flyback.cli.app import app
from tests.cli.conftest import Flyback

HEAVY = ("confluent_kafka", "deltalake", "duckdb", "faust", "fastavro", "pyarrow", "rocksdict", "vaderSentiment")


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


ALL = list(commands(typer.main.get_command(app)))


def test_all_commands_of_the_documentation_are_there() -> None:
    documented = [
        "up",
        "worker",
        "sink",
        "topics",
        "topology",
        "schemas",
        "sql",
        "dlq",
        "reconcile",
        "status",
        "doctor",
        "bench",
        "rates",
        "alerts",
        "dashboard",
        "demo",
    ]
    assert {path[0] for path in ALL if path} == set(documented)
    assert {path for path in ALL if len(path) == 2} == {
        ("sink", "compact"),
        ("sink", "vacuum"),
        ("topics", "create"),
        ("topics", "check"),
        ("topics", "list"),
        ("schemas", "list"),
        ("schemas", "id"),
        ("schemas", "check"),
        ("alerts", "list"),
        ("alerts", "test"),
        ("alerts", "check"),
        ("dlq", "list"),
        ("dlq", "replay"),
        ("dlq", "show"),
    }


@pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(path) or "flyback")
def test_every_command_explains_itself_with_an_example(flyback: Flyback, path: tuple[str, ...]) -> None:
    said = flyback(*path, "--help")
    assert said.code == 0
    words = " ".join(said.out.split())
    assert "Example:" in words or {child[: len(path)] for child in ALL if len(child) > len(path)} & {path}
    assert "Usage: " in words


def test_the_version_is_printed(flyback: Flyback) -> None:
    assert flyback("--version").out == f"flyback {__version__}\n"


def test_asking_for_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom flyback.cli.app import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        f"sys.stderr.write(' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "Usage: " in done.stdout
    assert done.stderr == ""


def test_an_error_of_ours_is_one_line_on_stderr_with_its_exit_code(flyback: Flyback) -> None:
    said = flyback("schemas", "id", "Nonsense")
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("error: there is no record Nonsense")
    assert len(said.err.splitlines()) == 1
    assert "Traceback" not in said.err


def test_a_wrong_setting_names_its_variable(flyback: Flyback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYBACK_PARTITIONS", "none")
    said = flyback("topology")
    assert said.code == 2
    assert "FLYBACK_PARTITIONS" in said.err


def test_an_unknown_option_exits_2(flyback: Flyback) -> None:
    said = flyback("topics", "list", "--nonsense")
    assert said.code == 2
    assert "--nonsense" in said.err


def test_a_broker_that_does_not_answer_is_named_with_what_to_look_at(
    flyback: Flyback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flyback.topics._SECONDS", 0.5)
    said = flyback("topics", "list", "--bootstrap", "127.0.0.1:1")
    assert said.code == 1
    assert "no Kafka answers at 127.0.0.1:1" in said.err
    assert "KAFKA_BOOTSTRAP_SERVERS" in said.err


@pytest.mark.parametrize(
    ("typed", "extra"), [([], "cli"), (["worker"], "worker"), (["sql", "from examples"], "sink"), (["status"], "sink")]
)
def test_without_typer_the_console_script_says_which_extra_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: list[str], extra: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["flyback", *typed])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 2
    assert f"pip install 'flyback[{extra}]'" in capsys.readouterr().err


def test_without_a_commands_package_the_extra_is_named(flyback: Flyback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    monkeypatch.delitem(sys.modules, "flyback.sinks.lake", raising=False)
    said = flyback("sql", "select 1")
    assert said.code == 2
    assert "pip install 'flyback[sink]'" in said.err
