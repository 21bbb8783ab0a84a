"""The page's files: read once, and sent again only where they are others."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from starlette.requests import Request

from flyback.dashboards import assets
from flyback.dashboards.assets import Assets
from flyback.errors import ConfigurationError


def asked(known: str | None = None) -> Request:
    headers = [] if known is None else [(b"if-none-match", known.encode())]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers})


def test_a_file_is_what_it_was_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "page.css").write_text("a {}")
    files = Assets(tmp_path)
    before = files.answer("page.css", asked())
    (tmp_path / "page.css").unlink()
    assert files.answer("page.css", asked()).body == before.body == b"a {}"
    (tmp_path / "page.css").write_text("b {}")
    after = Assets(tmp_path).answer("page.css", asked())
    assert after.headers["ETag"] != before.headers["ETag"]
    assert Assets(tmp_path).answer("page.css", asked(before.headers["ETag"])).body == b"b {}"


def test_only_files_of_the_web_are_served(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert Assets(tmp_path).answer("notes.txt", asked()).status_code == 404


def test_without_uplot_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(assets, "distribution", missing)
    with pytest.raises(ConfigurationError, match="pip install"):
        Assets(tmp_path)
