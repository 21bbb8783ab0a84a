"""All benchmarks one after another, and one page of what they found.

    python -m benchmarks                  some minutes, each in small: does it run, and about how fast
    python -m benchmarks --full           hours, for the figures that are quoted; nothing beside it
    python -m benchmarks --only lake      this one again, beside what the others found before

The results are in benchmarks/results/: a JSON file a benchmark, and the page performance.md with its pictures.
`--page docs/performance.md` puts them into that page instead, between its marks; `--no-run` only writes the page.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import suite
from flyback.cli import output
from flyback.errors import FlybackError


def main() -> int:
    """Gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [benchmark.name for benchmark in suite.SUITE]
    parser.add_argument("--full", action="store_true", help="in the sizes that are quoted")
    parser.add_argument("--only", action="append", choices=names, help="this benchmark; may be given again")
    parser.add_argument("--no-run", action="store_true", help="only write the page")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"), help="where results are")
    parser.add_argument("--page", type=Path, help="the page to write (default: performance.md beside the results)")
    given = parser.parse_args()
    page = given.page or given.results / "performance.md"
    try:
        if not given.no_run:
            chosen = [benchmark for benchmark in suite.SUITE if benchmark.name in (given.only or names)]
            suite.run(chosen, given.full, given.results)
    except FlybackError as error:
        output.complain(str(error))
        return error.exit_code
    from benchmarks import goals, report  # which need a library to draw

    results = suite.results(given.results)
    report.write(results, page)
    output.print_line(f"{goals.markdown(results)}\n{page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
