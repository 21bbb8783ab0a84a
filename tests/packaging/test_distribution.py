"""What is published: the source distribution, the wheel made from it, and the wheel once installed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Mapping
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import flyback

ROOT = Path(__file__).parents[2]
# What `python -m build --no-isolation` runs.
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, 'build_' + sys.argv[1])(sys.argv[2])"


def run(*command: object, cwd: Path, more: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run it without what this environment's variables tell Python."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | (more or {})
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files as git has them, links included, without what builds and tests leave about."""
    folder = tmp_path_factory.mktemp("checkout")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for source in (ROOT / name for name in names if name):
        target = folder / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
        elif source.exists():
            target.write_bytes(source.read_bytes())
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from the source distribution, as an installer does that has no wheel; without the network."""
    folder = tmp_path_factory.mktemp("dist")
    built = run(sys.executable, "-c", BUILD, "sdist", folder, cwd=checkout)
    assert built.returncode == 0, built.stdout + built.stderr
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder)  # of our own making; no filter before Python 3.11.4
    built = run(sys.executable, "-c", BUILD, "wheel", folder, cwd=folder / archive.name.removesuffix(".tar.gz"))
    assert built.returncode == 0, built.stdout + built.stderr
    [found] = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a fresh environment that holds the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    done = run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def test_the_wheel_holds_every_module_and_data_file(wheel: Path, checkout: Path) -> None:
    expected = set()
    for path in checkout.glob("flyback/*"):
        found = [path] if path.is_file() else path.resolve().rglob("*.*")
        expected |= {str(Path("flyback", path.name, file.relative_to(path.resolve()))) for file in found}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("flyback/")}
    assert packed == expected
    assert {"flyback/streams/engine.py", "flyback/schemas/released/prediction.1.avsc", "flyback/py.typed"} <= packed


def test_the_wheel_needs_only_what_the_sdk_needs_and_carries_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        [path] = [name for name in packed.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(packed.read(path).decode())
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in packed.namelist())
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    needed = {requirement.name for requirement in requirements if requirement.marker is None}
    assert needed == {"confluent-kafka", "fastavro", "pydantic-settings", "structlog", "uuid-utils"}


def test_without_extras_the_command_says_which_one_is_missing(installed: Path) -> None:
    done = run(installed / "flyback", "demo", cwd=installed)
    assert done.returncode == 2
    assert "pip install 'flyback[demo]'" in done.stderr


def test_with_its_dependencies_the_command_runs(installed: Path) -> None:
    # Those of this environment; its own Flyback, an editable one, does not come with them.
    dependencies = {"PYTHONPATH": sysconfig.get_path("purelib")}
    done = run(installed / "flyback", "--version", cwd=installed, more=dependencies)
    assert done.stdout == f"flyback {flyback.__version__}\n", done.stderr
    done = run(installed / "python", "-c", "import flyback; print(flyback.__file__)", cwd=installed, more=dependencies)
    assert Path(done.stdout.strip()).is_relative_to(installed.parent), "this tests the checkout, not the wheel"
