"""docker-compose.yml and Dockerfile, checked without Docker: form, commands, variables, folders, ports.

What the services say of Kafka and the registry is tried on the real ones in test_compose_services.py.
"""

from __future__ import annotations

import fnmatch
import importlib.metadata
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import flyback
from flyback import settings
from flyback.local.kafka import KAFKA_VERSION
from flyback.local.registry import APICURIO_VERSION, CONFLUENT_API
from tests.packaging.command_line import refusal

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("flyback:")}
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
STAGES = DOCKERFILE.split("\nFROM ")[1:]
IMAGE = STAGES[-1]
IMAGE_VARIABLES = dict(
    pair.split("=", 1) for line in re.findall(r"^ENV (.*)$", IMAGE, flags=re.MULTILINE) for pair in shlex.split(line)
)
SECRETS = {
    str(field.validation_alias)
    for field in settings.Settings.model_fields.values()
    if "SecretStr" in str(field.annotation)
}


def test_it_follows_the_compose_specification() -> None:
    [packaged] = [
        path for path in importlib.metadata.files("check-jsonschema") or () if path.name == "compose-spec.json"
    ]
    schema = json.loads(packaged.read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(COMPOSE)


def test_what_each_service_refers_to_exists() -> None:
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "test" in SERVICES[needed]["healthcheck"]
        given = {volume.split(":")[0] for volume in service.get("volumes", ())}
        folders = {name for name in given if name.startswith("./")}
        assert given - folders <= set(COMPOSE["volumes"])
        assert all((ROOT / folder).is_dir() for folder in folders)


@pytest.mark.parametrize("name", OURS)
def test_its_command_is_one_of_ours(name: str) -> None:
    assert not refusal(OURS[name]["command"])


def test_a_command_that_is_not_ours_is_noticed() -> None:
    assert refusal(["topics", "make"])
    assert refusal(["worker", "--colour"])
    assert refusal(["topics"])


@pytest.mark.parametrize("name", OURS)
def test_its_variables_are_settings(name: str) -> None:
    known = set(settings.variables()) | {f"{secret}_FILE" for secret in SECRETS}
    assert set(OURS[name]["environment"]) <= known


def test_the_variables_of_the_image_are_settings() -> None:
    given = {name for name in IMAGE_VARIABLES if name not in ("PATH", "PYTHONUNBUFFERED")}
    assert given <= set(settings.variables())


def test_what_it_leaves_open_are_settings_with_our_defaults() -> None:
    defaults = settings.Settings(_env_file=None).environment()
    left_open = re.findall(r"\$\{(\w+):-([^}]*)\}", (ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert left_open
    assert {name: defaults[name] for name, _ in left_open} == dict(left_open)


def test_the_commands_in_its_comment_are_ours() -> None:
    comment = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    typed = re.findall(r"^#     docker compose exec (\w+) flyback (.*)$", comment, flags=re.MULTILINE)
    assert typed
    for service, arguments in typed:
        assert service in OURS
        assert not refusal(shlex.split(arguments))


def test_worker_and_sink_keep_their_folders_in_volumes() -> None:
    assert OURS["worker"]["volumes"] == [f"state:{IMAGE_VARIABLES['FLYBACK_STATE_DIR']}"]
    assert OURS["sink"]["volumes"] == [f"lake:{IMAGE_VARIABLES['FLYBACK_LAKE']}"]
    for folder in ("FLYBACK_STATE_DIR", "FLYBACK_LAKE"):
        assert re.search(rf"install -d -o flyback .*{IMAGE_VARIABLES[folder]}\b", IMAGE), (
            "a volume's owner is root else"
        )


def test_the_dashboard_reads_the_lake_and_may_be_looked_at_from_this_machine_alone() -> None:
    dashboard = OURS["dashboard"]
    assert dashboard["volumes"] == [f"{OURS['sink']['volumes'][0]}:ro"]
    assert dashboard["ports"] == ["127.0.0.1:9466:9464"]
    assert "--insecure" in dashboard["command"]


def test_the_health_check_asks_the_port_that_every_service_serves() -> None:
    [port] = re.findall(r"^EXPOSE (\d+)$", IMAGE, flags=re.MULTILINE)
    for name in ("FLYBACK_WORKER_HTTP_PORT", "FLYBACK_SINK_HTTP_PORT", "FLYBACK_DASHBOARD_PORT"):
        assert IMAGE_VARIABLES[name] == port
    [check] = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", IMAGE, flags=re.MULTILINE)
    assert f"http://127.0.0.1:{port}/healthz" in json.loads(check)[-1]
    for name in ("worker", "sink", "dashboard"):
        [published] = OURS[name]["ports"]
        assert published.startswith("127.0.0.1:")
        assert published.endswith(f":{port}")


def test_nothing_is_open_to_other_machines() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_versions_are_those_of_the_tests() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert SERVICES["registry"]["image"] == f"apicurio/apicurio-registry:{APICURIO_VERSION}"
    assert {service["image"] for service in OURS.values()} == {f"flyback:{flyback.__version__}"}
    assert all(service["environment"]["SCHEMA_REGISTRY_URL"].endswith(CONFLUENT_API) for service in OURS.values())


def test_the_image_is_made_of_files_that_its_context_has() -> None:
    kept = [
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
    ]
    sources = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, flags=re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert sources == set(kept)
    assert all((ROOT / source).exists() for source in sources)
    linked = {link.resolve().name for link in (ROOT / "flyback").iterdir() if link.is_symlink()}
    assert linked <= sources, "a package that flyback/ links to is not in the image"


def test_the_image_runs_the_command_line_as_another_user_than_root() -> None:
    assert re.findall(r"^USER (.*)$", IMAGE, flags=re.MULTILINE) == ["flyback"]
    assert re.findall(r"^ENTRYPOINT (.*)$", IMAGE, flags=re.MULTILINE) == ['["flyback"]']
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "flyback" in project["project"]["scripts"]
    assert fnmatch.fnmatch(STAGES[-1].split()[0], "python:3.*-slim")
