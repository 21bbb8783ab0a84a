"""docs/alerts.md says what is so: its example is read, and its tables have every kind and field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flyback.streams.alerts import rules
from flyback.streams.alerts.rules import Counted, Rule, parse

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")


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
