"""The locked packages against pyproject.toml."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
GROUPS: dict[str, list[Any]] = PROJECT["dependency-groups"]
LOCKS = {"requirements.lock": ("all", "dev"), "requirements-demo.lock": ("demo", "build")}


def wanted(extra: str, group: str) -> set[Requirement]:
    """What Flyback with this extra and this group ask for, extras and groups that they include with them."""
    found = set(map(Requirement, PROJECT["project"]["dependencies"]))
    to_read: list[Any] = [*EXTRAS[extra], *GROUPS[group]]
    while to_read:
        entry = to_read.pop()
        if isinstance(entry, dict):
            to_read += GROUPS[entry["include-group"]]
        elif entry.startswith("flyback["):
            to_read += [line for name in Requirement(entry).extras for line in EXTRAS[name]]
        else:
            found.add(Requirement(entry))
    return found


def locked(name: str) -> dict[str, str]:
    """The versions by package; the last one where it depends on the Python."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line.rstrip("\\ ")) for line in lines if line[:1].isalnum()]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}


@pytest.mark.parametrize("lock", LOCKS)
def test_what_the_project_asks_for_is_locked(lock: str) -> None:
    versions = locked(lock)
    unmet = [
        str(requirement)
        for requirement in wanted(*LOCKS[lock])
        if not requirement.specifier.contains(versions.get(canonicalize_name(requirement.name), ""), prereleases=True)
    ]
    assert not unmet, "type `make lock`"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_hashes_and_no_address(lock: str) -> None:
    content = (ROOT / lock).read_text(encoding="utf-8")
    packages = re.split(r"\n(?=[a-z0-9])", content, flags=re.IGNORECASE)[1:]
    assert packages
    assert [package.splitlines()[0] for package in packages if "--hash=sha256:" not in package] == []
    assert not re.search(r"https?:|^\s*-[-if]|@ ", content.replace("    --hash=", ""), flags=re.MULTILINE)


def test_the_demo_has_the_same_versions_as_the_tests() -> None:
    everything = locked("requirements.lock")
    assert {name: everything.get(name) for name in locked("requirements-demo.lock")} == locked("requirements-demo.lock")


def test_every_package_that_the_code_imports_is_locked() -> None:
    found = set()
    for folder in ("flyback", "streams", "schemas", "sinks", "dashboards", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.is_relative_to(ROOT / "benchmarks" / "peers"):  # these have environments of their own
                continue
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Import):
                    found |= {name.name.partition(".")[0] for name in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.partition(".")[0])
    others = found - sys.stdlib_module_names - {"flyback", "tests", "benchmarks"}
    ships = packages_distributions()
    versions = locked("requirements.lock")
    unlocked = {name for name in others if not {canonicalize_name(one) for one in ships.get(name, ())} & set(versions)}
    assert not unlocked, "name the package in pyproject.toml, then type `make lock`"
