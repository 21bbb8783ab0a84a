"""A client made before a fork, as gunicorn's preload does, works in parent and children."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flyback import topics
from flyback.settings import Settings, load
from tests.sdk.reading import read

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def run(script: str, settings: Settings) -> str:
    """Python's ordinary exit, atexit and finalisation included, is part of what is tested."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        env=settings.environment(), capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_parent_and_children_each_deliver_their_own_events(kafka_bootstrap: str, topic_prefix: str) -> None:
    settings = load(bootstrap_servers=kafka_bootstrap, topic_prefix=topic_prefix, partitions=4)
    topics.create(settings)
    run(
        """
import os, sys
from threading import Event, Thread
from flyback import Client, model

client = Client()

def send(task):
    client.predict(task_id=task, actor=model("m"), input="in", output="out")

stop = Event()
def busy():
    while not stop.is_set():  # so that a fork meets a held lock
        client.stats()
Thread(target=busy, daemon=True).start()

send("before")
children = []
for n in range(4):
    child = os.fork()
    if child == 0:
        send(f"child-{n}")
        assert client.stats().waiting + client.stats().sent == 1
        sys.exit(client.flush(30))
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
send("after")
assert client.flush(30) == 0
assert client.stats().sent == 2
stop.set()
""",
        settings,
    )
    found = read(kafka_bootstrap, topic_prefix, "predictions", 6)
    assert sorted(f.event["task_id"] for f in found) == ["after", "before", *(f"child-{n}" for n in range(4))]
    assert len({f.event["prediction_id"] for f in found}) == 6


def test_a_child_that_never_sends_ends_at_once_and_its_parents_events_stay_the_parents(dead_address: str) -> None:
    shown = run(
        """
import os, sys
from flyback import Client, PredictionRef, human

client = Client(delivery_timeout="1s", on_error=lambda *_: os.write(1, b"failed in %d;" % os.getpid()))
client.confirm(PredictionRef("t", "p"), author=human("ann"))
child = os.fork()
if child == 0:
    assert client.stats().waiting == 0
    sys.exit(client.flush(0))
assert os.waitpid(child, 0)[1] == 0
assert client.flush(30) == 0
os.write(1, b"parent %d" % os.getpid())
""",
        load(bootstrap_servers=dead_address),
    )
    failed, parent = shown.split(";")
    assert failed.split()[-1] == parent.split()[-1]
