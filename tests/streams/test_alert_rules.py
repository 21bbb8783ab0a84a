"""Which alert rules hold: those of the file that the settings name, else the built-in ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyback import settings
from flyback.errors import ConfigurationError
from flyback.streams.alert_rules import read_rules, rules_of
from flyback.streams.alerts.rules import defaults

LATE = '[[rule]]\nname = "late"\nkind = "lag"\nabove = "60s"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "alerts.toml"


def test_without_a_file_the_built_in_rules_hold() -> None:
    assert rules_of(settings.load()) == defaults()


def test_the_file_of_the_settings_takes_the_place_of_the_built_in_rules(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(LATE + 'summary = "Später"\n', encoding="utf-8")
    monkeypatch.setenv("FLYBACK_ALERT_RULES", str(file))
    [rule] = rules_of(settings.load())
    assert (rule.name, rule.kind, rule.summary) == ("late", "lag", "Später")


def test_an_empty_file_is_a_file_without_rules(file: Path) -> None:
    file.touch()
    assert rules_of(settings.load(alert_rules=file)) == ()


def test_a_file_that_is_missing_is_named_with_its_setting(file: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        rules_of(settings.load(alert_rules=file))
    assert str(caught.value) == (
        f"the alert rules {file} cannot be read: No such file or directory; is the path, or FLYBACK_ALERT_RULES, right?"
    )


def test_a_folder_in_its_place_is_told_of_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        read_rules(tmp_path)


def test_a_file_that_is_no_utf_8_is_named(file: Path) -> None:
    file.write_bytes(LATE.encode() + 'summary = "Später"\n'.encode("latin-1"))
    with pytest.raises(ConfigurationError) as caught:
        read_rules(file)
    assert str(caught.value) == f"the alert rules {file} are no UTF-8 text"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[rule\n", "is no TOML: .* docs/alerts.md has examples"),
        ("[rule]\nname = 'r'\n", r"rule: write \[\[rule\]\], in double brackets"),
        (LATE.replace("60s", "often"), 'rule "late", above: is "often"; write a duration'),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_the_file(file: Path, text: str, complaint: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        read_rules(file)
    assert str(caught.value).startswith(str(file))
