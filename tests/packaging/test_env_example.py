"""`.env.example` against the settings."""

from __future__ import annotations

import re
from pathlib import Path

from flyback import settings
from flyback.settings import Settings
from tests.packaging import env_example

EXAMPLE = Path(__file__).parents[2] / ".env.example"


def test_it_says_all_settings_in_their_order() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == env_example.text(), "type `make env-example`"


def test_every_variable_is_in_it_once() -> None:
    named = re.findall(r"^# ([A-Z_]+)=", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert named == list(settings.variables())


def test_what_it_shows_are_the_defaults(tmp_path: Path) -> None:
    uncommented = re.sub(r"^# ([A-Z_]+=)", r"\1", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (tmp_path / "env").write_text(uncommented, encoding="utf-8")
    loaded = Settings(_env_file=tmp_path / "env")
    assert loaded.model_dump() == Settings(_env_file=None).model_dump()
    assert loaded.model_fields_set, "nothing was read"
