"""What the pages are made of: nothing that turns text into markup, nothing inline, nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "dashboards" / "web"
FILES = sorted(WEB.iterdir())
AS_MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|createContextualFragment|DOMParser|srcdoc"
    r"|\beval\(|new Function|javascript:"
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_text_is_never_read_as_markup_or_code(file: Path) -> None:
    assert AS_MARKUP.findall(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_is_loaded_from_elsewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s'\")]+", text)) <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("file", sorted(WEB.glob("*.html")), ids=lambda file: file.name)
def test_a_page_has_no_script_style_or_handler_of_its_own(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*\ssrc=)[^>]*>|<style|\sstyle=|\son\w+=", text) == []


@pytest.mark.parametrize("file", sorted(WEB.glob("*.html")), ids=lambda file: file.name)
def test_a_page_has_an_element_for_every_id_that_it_names(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    there = re.findall(r'\sid="([^"]+)"', text)
    named = re.findall(r'(?:aria-labelledby|for|href)="#?([\w-]+)"', text)
    assert len(there) == len(set(there))
    assert {name for name in named if f'"#{name}"' in text or f'labelledby="{name}"' in text} <= set(there)


@pytest.mark.parametrize("file", sorted(WEB.glob("*.js")), ids=lambda file: file.name)
def test_what_a_module_imports_is_there(file: Path) -> None:
    for names, source in re.findall(r'import (?:\* as \w+|\{([^}]*)\}) from "\./([^"]+)"', file.read_text("utf-8")):
        offered = (WEB / source).read_text("utf-8")
        exported = set(re.findall(r"export (?:async )?(?:function|const|class) (\w+)", offered))
        assert {name.strip() for name in names.split(",") if name.strip()} <= exported
