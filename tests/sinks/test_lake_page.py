"""Every query of `docs/lake.md` runs, and gives rows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import flyback
from flyback.sinks.dead_letters import rows as dead_letter_rows
from flyback.sinks.lake import VIEWS, lake
from flyback.sinks.message import Message, Messages
from flyback.sinks.sink import with_provenance
from flyback.streams import dlq
from tests.sinks.events import HUMAN, correction, derived, grade, prediction
from tests.sinks.lakes import TOPOLOGY, HandMade

PAGE = (Path(flyback.__file__).parent.parent / "docs" / "lake.md").read_text(encoding="utf-8")
LABEL = {"content_type": "application/json", "body": '{"label": "positive"}'}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> HandMade:
    """A lake in which every query finds something, in the default folder of a project."""
    made = HandMade(tmp_path_factory.mktemp("project") / "flyback-data" / "lake")
    answer = prediction("t1", output=LABEL, attributes={"customer": "acme"})
    person = prediction("t2", actor=HUMAN)
    truth = {**LABEL, "body": '{"label": "negative"}'}
    first = correction("t1", "c1", output=truth, sampling_probability=0.5)
    second = correction("t1", "c2", "CONFIRMED", author={**HUMAN, "name": "bob"})
    made.add("predictions", answer, person, answer, prediction("t4"))
    made.add("corrections", first, second, correction("t3"), correction("t4", sampling_probability=0.1))
    made.add("grades", grade("t1"))
    made.add("examples", derived(answer, first), derived(answer, second))
    made.add("examples", derived(prediction("t4"), correction("t4")))
    made.add("coaching", derived(person, correction("t2")))
    place = (TOPOLOGY.dead_letters_of(TOPOLOGY.topic_of("Grade")), 0)
    value, headers = dlq.letter("flyback.grades.v1", 0, 7, 1, b"bad", [], "truncated", "why", 99)
    letters = [Message(*place, 0, 1, b"k", value, list(headers))]
    made.add_rows("dead_letters", with_provenance(dead_letter_rows(letters), Messages.of(letters)), place)
    return made


@pytest.mark.parametrize("query", blocks("sql"))
def test_a_query_of_the_page_runs_and_finds_something(made: HandMade, query: str) -> None:
    with lake(made.path) as connection:
        assert connection.sql(query).fetchall()


@pytest.mark.parametrize("code", blocks("python"))
def test_an_example_of_the_page_runs(
    made: HandMade, code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(made.path).parent.parent)
    exec(compile(code, "docs/lake.md", "exec"), {})
    assert "count_star()" in capsys.readouterr().out


def test_the_page_names_every_view() -> None:
    assert [view for view in VIEWS if f"`{view}`" not in PAGE] == []
