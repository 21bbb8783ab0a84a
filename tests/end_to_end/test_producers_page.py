"""docs/producers.md is run as it stands: producers that know the schemas and nothing else of Flyback."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from flyback import deadletters
from flyback.sinks.lake import lake
from flyback.verify import compare
from tests.end_to_end.conftest import StartSite
from tests.end_to_end.site import SECONDS, Site

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "producers.md").read_text(encoding="utf-8")
WITHOUT_REGISTRY, WITH_REGISTRY = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
# whatever the program imports by itself or by others: not a line of ours; and where it hangs is told in time
RUN = """
import faulthandler, runpy, sys
faulthandler.dump_traceback_later(150, exit=True)
sys.modules["flyback"] = None
runpy.run_path("producer.py", run_name="__main__")
"""


def run_as_a_stranger(program: str, site: Site) -> None:
    folder = site.folder / "stranger"
    (folder / "schemas").mkdir(parents=True)
    for record in ("prediction", "correction", "grade"):
        shutil.copy(ROOT / "schemas" / f"{record}.avsc", folder / "schemas")
    (folder / "producer.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=folder,
        env=site.environment(),
        capture_output=True,
        text=True,
        timeout=3 * SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def assert_all_was_taken(site: Site, raw: int) -> None:
    found = compare(site.settings)
    assert found.differences == []
    assert (found.raw, found.refused) == (raw, 0)
    assert list(deadletters.read(site.settings)) == []


def test_a_producer_that_computes_the_schema_id_gets_its_events_joined(site: Site) -> None:
    run_as_a_stranger(WITHOUT_REGISTRY, site)
    site.start_worker()
    site.start_sink()
    site.until_landed()
    with lake(site.settings.lake) as found:
        assert found.sql(
            "select task_id, segment, input.body, output.body, truth.body, verdict from examples"
        ).fetchall() == [
            ("ticket-4711", "fr", "Où est ma commande ?", '{"queue":"billing"}', '{"queue":"shipping"}', "CORRECTED")
        ]
        assert found.sql("select rubric, passed from graded_examples").fetchall() == [("routing", False)]
    assert_all_was_taken(site, raw=3)


def test_a_producer_with_a_registrys_own_serializer_gets_its_events_joined(
    start_site: StartSite, registry_url: str
) -> None:
    site = start_site(registry_url=registry_url)
    run_as_a_stranger(WITH_REGISTRY, site)
    site.start_worker()
    site.start_sink()
    site.until_landed()
    with lake(site.settings.lake) as found:
        assert found.sql("select task_id, verdict from coaching").fetchall() == [("ticket-4712", "CONFIRMED")]
    assert_all_was_taken(site, raw=2)
