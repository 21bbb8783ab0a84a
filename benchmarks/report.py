"""What the suite found, as one page: the goals, then each benchmark's table with its machine and command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks import goals, plots
from benchmarks.suite import SUITE, Results

_BEGIN, _END = "<!-- measured: {} -->\n", "<!-- end -->"


def write(results: Results, page: Path) -> None:
    """Replace what stands between the marks of a page; the pictures go to a folder beside it, of the page's name.

    A page that does not exist is made of all that was measured.
    """
    parts = sections(results, page)
    if not page.exists():
        page.write_text(_page(parts), encoding="utf-8")
    fill(page, parts)


def fill(page: Path, parts: Mapping[str, str]) -> None:
    """Replace what stands between the marks of these names, as far as the page has them."""
    text = page.read_text(encoding="utf-8")
    for name, part in parts.items():
        before, mark, rest = text.partition(_BEGIN.format(name))
        if mark:
            text = before + mark + part + rest[rest.index(_END) :]
    page.write_text(text, encoding="utf-8")


def sections(results: Results, page: Path) -> dict[str, str]:
    """By benchmark its table and picture; and the goals."""
    drawn = plots.draw(results, page.with_suffix(""))
    found = {"goals": goals.markdown(results)}
    for benchmark in SUITE:
        if benchmark.name in results:
            result = results[benchmark.name]
            lines = [f"`{result['command']}`, {result['machine']}", "", result["table"]]
            if (picture := f"{benchmark.name}.svg") in drawn:
                lines += [f"![{benchmark.title}]({page.stem}/{picture})", ""]
            found[benchmark.name] = "\n".join(lines)
    return found


def _page(parts: dict[str, str]) -> str:
    titles = {"goals": "Goals", **{benchmark.name: benchmark.title for benchmark in SUITE}}
    return "# Performance\n\n" + "\n".join(f"## {titles[name]}\n\n{_BEGIN.format(name)}{_END}\n" for name in parts)
