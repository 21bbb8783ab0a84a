"""`python -m flyback.dashboards.grafana` writes the dashboards beside itself, from where Grafana is provisioned."""

from __future__ import annotations

import json
from pathlib import Path

from flyback.dashboards.grafana.failure_rates import failure_rates
from flyback.dashboards.grafana.operations import operations

FOLDER = Path(__file__).parent / "dashboards"


def files() -> dict[str, str]:
    """The text of each file, by its name."""
    found = {"operations.json": operations(), "failure-rates.json": failure_rates()}
    return {name: json.dumps(each, indent=2, ensure_ascii=False) + "\n" for name, each in found.items()}


def write() -> None:
    """Write all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
