"""A real Prometheus with our rules, and promtool; Debian's package has both."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from flyback.local.process import ChildProcess, free_port
from tests import brokers

RULES = Path(__file__).parents[1] / "dashboards" / "prometheus"
Sample = tuple[Mapping[str, str], float]


def find(program: str, environment: Mapping[str, str]) -> str:
    """Its path; where it is not installed the test is skipped, or fails where CI=true."""
    found = shutil.which(program)
    if found is None:
        brokers.not_available(environment, f"there is no {program} on the PATH: apt-get install prometheus")
    return found


def promtool(environment: Mapping[str, str], *arguments: str | Path, given: str = "") -> str:
    """What it prints; fails with that where it finds something wrong."""
    done = subprocess.run(
        [find("promtool", environment), *map(str, arguments)],
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


class Prometheus:
    """A server that scrapes and evaluates every second; ask it by PromQL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[Sample]:
        """The labels and values now."""
        found = self._get("query", query=expression)["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in found]

    def value(self, expression: str) -> float | None:
        """The one value that it has now, None without any."""
        found = self.query(expression)
        assert len(found) < 2, found
        return found[0][1] if found else None

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, with what became of its latest evaluation."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def _get(self, path: str, **parameters: str) -> Any:
        given = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{given}", timeout=10) as answer:
            return json.load(answer)["data"]


@contextmanager
def running(environment: Mapping[str, str], folder: Path, places: Mapping[str, str]) -> Iterator[Prometheus]:
    """With dashboards/prometheus/prometheus.yml, but every second, and with `places` for the addresses in it.

    Jobs without an address among them are left out.
    """
    config = yaml.safe_load((RULES / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES / name) for name in config["rule_files"]]
    for job in config["scrape_configs"]:
        [static] = job["static_configs"]
        static["targets"] = [places[target] for target in static["targets"] if target in places]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [
        find("prometheus", environment),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    path = {"PATH": os.environ["PATH"]}
    with ChildProcess("Prometheus", command, folder / "prometheus.log", env=path, cwd=folder) as process:
        found = Prometheus(f"http://{address}")
        process.wait_ready(found.ready, timeout=60)
        yield found
