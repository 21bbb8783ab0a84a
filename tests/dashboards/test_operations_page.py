"""The page for operators lists every metric with its labels, and every exit code."""

from __future__ import annotations

import re
from pathlib import Path

from flyback import errors
from tests.dashboards.metric_names import OURS

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


def test_every_metric_is_on_the_page_with_its_labels() -> None:
    listed = dict(re.findall(r"^\| `(flyback_\w+)` \| ([^|]*?) ?\|", PAGE, re.MULTILINE))
    assert listed == {name: ", ".join(labels) for name, labels in OURS.items()}


def test_every_exit_code_is_on_the_page() -> None:
    codes = {
        error.exit_code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.FlybackError)
    }
    listed = {int(code) for code in re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE)}
    assert listed == codes | {0}
