"""What the documents tell a reader to type, import and open."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import flyback
from tests.packaging.command_line import refusal

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def typed(document: Path) -> Iterator[list[str]]:
    """The words of each command in an indented or `sh` block."""
    shell = [block for kind, block in FENCE.findall(text_of(document)) if kind in ("sh", "bash", "console")]
    indented = re.findall(r"^    (\S.*)$", FENCE.sub("", text_of(document)), flags=re.MULTILINE)
    for line in "\n".join([*shell, *indented]).replace("\\\n", " ").splitlines():
        if re.match(r"\s*(\$ )?(flyback|make) ", line):
            yield shlex.split(re.split(r" [>|] ", line.strip().removeprefix("$ "))[0], comments=True)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_its_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", text_of(document))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_its_commands_are_ours(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for program, *arguments in typed(document):
        if program == "flyback":
            assert not refusal(arguments), f"flyback {shlex.join(arguments)}"
        else:
            assert re.search(rf"^{arguments[0]}:", makefile, flags=re.MULTILINE), f"make {arguments[0]}"


def test_the_readme_has_commands_to_check() -> None:
    assert {words[1] for words in typed(ROOT / "README.md")} >= {"demo", "test", "up", "sql"}


def test_the_names_in_the_readme_can_be_imported() -> None:
    blocks = [block for kind, block in FENCE.findall(text_of(ROOT / "README.md")) if kind == "python"]
    assert len(blocks) == 2
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "flyback":
                assert {name.name for name in node.names} <= set(flyback.__all__)


def test_the_queries_in_the_readme_run(tmp_path: Path) -> None:
    readme = text_of(ROOT / "README.md")
    queries = re.findall(r"(?:flyback sql|lake\.sql\() ?\"([^\"]+)\"", readme)
    assert len(queries) == 2
    with flyback.lake(tmp_path) as lake:
        for query in queries:
            lake.sql(query).fetchall()


def test_no_document_names_a_folder_of_somebodys_machine() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    private = re.compile(r"/(home|Users|root|work)/\w")
    for name in filter(None, tracked.split("\0")):
        path = ROOT / name
        if path.is_file() and not path.is_symlink() and path != Path(__file__):
            assert not private.search(path.read_text(encoding="utf-8", errors="replace")), name
