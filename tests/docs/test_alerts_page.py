"""docs/alerts.md says what is so: its examples run, its commands are there, its tables have every kind and field."""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from flyback.cli.app import app
from flyback.streams.alerts import rules
from flyback.streams.alerts.rules import Counted, Rule, parse
from tests.streams.test_alert_webhook import RECORD, Receiver, receiver, webhook

__all__ = ["receiver"]  # the fixture

SECRETS = ["a secret", "whsec_" + base64.b64encode(bytes(range(32))).decode()]
PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")

COMMANDS = [line for line in PAGE.splitlines() if line.startswith("flyback ")]


def cells(first: str) -> list[str]:
    """The cells of the row that begins with this name."""
    (row,) = re.findall(rf"^\| `{first}` \|(.*)\|$", PAGE, flags=re.MULTILINE)
    return [cell.strip() for cell in row.split("|")]


def written(kind: type[Rule]) -> set[str]:
    """The fields of a rule of this kind, by the names that people write."""
    return {field.alias or name for name, field in kind.model_fields.items()}


def test_the_example_is_read() -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert [rule.name for rule in parse(example, "alerts.md")] == ["tweets-fail", "gets-worse"]


def test_what_every_rule_has_is_there() -> None:
    for name in written(Rule):
        cells(name)
    for name in written(Counted) - written(Rule) - {"window"}:
        cells(name)


@pytest.mark.parametrize("name", rules.KINDS)
def test_every_field_of_a_kind_is_in_its_row(name: str) -> None:
    kind, fields = rules.KINDS[name], cells(name)[-1]
    own = written(kind) - written(Rule) - ({"by", "where"} if issubclass(kind, Counted) else set())
    assert {field for field in own if f"`{field}`" not in "".join(cells(name))} == set()
    for field in own:
        default = kind.model_fields[field].default
        if isinstance(default, int) and field == "at_least":
            assert f"`at_least` {default}" in fields
        elif isinstance(default, str):
            assert f'`{field}` `"{default}"`' in fields
        elif isinstance(default, int):
            given = re.search(rf'`{field}` `"(\d+[mhd])"`', fields)
            assert given is not None, field
            assert rules._minutes(given[1]) == default


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_is_one_that_there_is(command: str) -> None:
    program, *words = shlex.split(command)
    assert program == "flyback"
    found, name = typer.main.get_command(app), program
    with click.Context(found):
        while isinstance(found, click.Group):
            _, chosen, words = found.resolve_command(click.Context(found), words)
            assert chosen is not None
            found, name = chosen, f"{name} {chosen.name}"
        found.make_context(name, words)


@pytest.mark.parametrize("command", [each for each in COMMANDS if re.match("flyback alerts (check|test)", each)])
def test_what_the_page_asks_of_rules_and_lake_runs(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYBACK_LAKE", str(tmp_path))
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output


def test_there_is_a_command_for_each_of_the_three() -> None:
    alerts = [command.split()[2] for command in COMMANDS if command.startswith("flyback alerts ")]
    assert sorted(alerts) == ["check", "list", "test"]


IsOurs = Callable[[str, dict[str, str], bytes], bool]


@pytest.fixture
def is_ours() -> IsOurs:
    """The check that the page shows."""
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    found: dict[str, IsOurs] = {}
    exec(compile(example, "docs/alerts.md", "exec"), found)
    return found["is_ours"]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_receiver_takes_what_our_webhook_sent(receiver: Receiver, is_ours: IsOurs, secret: str) -> None:
    assert webhook(receiver.url, secret).send(RECORD) is None
    [(headers, body)] = receiver.got
    assert is_ours(secret, headers, body)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("webhook-signature", "v1,AAAA"),
        ("webhook-signature", "v1,\u00e4"),
        ("webhook-signature", ""),
        ("webhook-id", "a-2-FIRING"),
        ("webhook-timestamp", "4000000000"),
        ("webhook-timestamp", "soon"),
    ],
)
def test_a_receiver_refuses_what_was_changed_on_the_way(
    receiver: Receiver, is_ours: IsOurs, secret: str, header: str, value: str
) -> None:
    webhook(receiver.url, secret).send(RECORD)
    [(headers, body)] = receiver.got
    assert not is_ours(secret, headers | {header: value}, body)
    assert not is_ours(secret, headers, body + b" ")
    assert not is_ours(secret.replace("c", "d"), headers, body)


def test_a_receiver_refuses_what_was_sent_long_ago(is_ours: IsOurs) -> None:
    body, headers = webhook("http://localhost/").message(RECORD, 1_700_000_000)
    assert not is_ours("canary-secret-3f1", headers, body)
