"""What is refused at the start: a line that says what to do, and the exit code that docs/operations.md gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from flyback import Client, human, model
from flyback.errors import RefusedToStart
from flyback.local.kafka import KafkaBroker
from flyback.sinks.tables import landed
from tests.end_to_end.conftest import StartSite
from tests.end_to_end.site import SECONDS, Site
from tests.waiting import eventually


def refusal(site: Site, command: str, code: int, **environment: str) -> str:
    """The message with which a worker or sink ends at its start."""
    done = site.run(command, **environment)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def configure(site: Site, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, site.settings.topic_prefix + topic, incremental_configs=[entry])
    admin = AdminClient(site.settings.kafka())
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(10)


@pytest.mark.parametrize("command", ["worker", "sink"])
def test_topics_that_are_missing_are_named_with_how_to_make_them(start_site: StartSite, command: str) -> None:
    site = start_site(create=False)
    said = refusal(site, command, 1)
    assert f"{site.settings.topic_prefix}predictions.v1: does not exist; type `flyback topics create`" in said
    assert f"{site.settings.topic_prefix}corrections.v1.dlq: does not exist" in said


def test_topics_that_are_not_fit_are_named_with_how_to_mend_them(site: Site) -> None:
    configure(site, "corrections.v1", "message.timestamp.type", "CreateTime")
    configure(site, "grades.v1", "retention.ms", "604800000")
    said = refusal(site, "worker", 1)
    prefix = site.settings.topic_prefix
    assert f"{prefix}corrections.v1: message.timestamp.type is CreateTime, LogAppendTime is needed" in said
    assert f"{prefix}grades.v1: retention.ms is 604800000, at least 7776000000 is needed" in said
    assert f"--entity-name {prefix}grades.v1 --add-config retention.ms=" in said
    assert f"{prefix}predictions.v1" not in said

    configure(site, "corrections.v1", "message.timestamp.type", "LogAppendTime")
    configure(site, "grades.v1", "retention.ms", "-1")
    site.start_worker().wait_ready()


def test_a_state_folder_that_another_worker_uses_is_refused(site: Site) -> None:
    first = site.start_worker()
    first.wait_ready()
    folder = site.folder / "state-worker"
    said = refusal(site, "worker", RefusedToStart.exit_code, FLYBACK_STATE_DIR=str(folder))
    assert f"another worker uses the state folder {folder}: give each worker its own FLYBACK_STATE_DIR" in said
    assert first.health()["ok"]


def test_a_port_that_is_taken_is_refused_by_its_variable(site: Site) -> None:
    first = site.start_worker()
    first.wait_ready()
    said = site.run("worker", FLYBACK_STATE_DIR=str(site.folder / "other"), FLYBACK_WORKER_HTTP_PORT=str(first.port))
    assert said.returncode == 2, said.stderr
    assert "FLYBACK_WORKER_HTTP_PORT: cannot serve health and metrics" in said.stderr


def test_the_lake_of_another_cluster_is_refused_and_stays_as_it_is(
    site: Site, start_site: StartSite, start_kafka: Callable[..., KafkaBroker]
) -> None:
    sink = site.start_sink()
    with Client(site.settings) as client:
        p = client.predict(task_id="t", actor=model("m", "1"), input="x", output="a")
        client.confirm(p, author=human("ann"))
    eventually(lambda: sum(landed(site.settings.lake).values()) == 2, "both rows are in the lake", SECONDS)
    sink.stop()
    before = landed(site.settings.lake)

    elsewhere = start_site(bootstrap_servers=start_kafka().bootstrap)
    said = refusal(elsewhere, "sink", RefusedToStart.exit_code)
    assert "this is cluster" in said
    assert "Set FLYBACK_LAKE to a new folder" in said
    assert landed(site.settings.lake) == before
