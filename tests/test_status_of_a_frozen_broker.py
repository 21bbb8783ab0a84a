"""A broker that comes back after it was given up: librdkafka aborts a process that still holds the client (4605)."""

from __future__ import annotations

import os
import subprocess
import sys

from flyback.local.kafka import KafkaBroker

ASK = """
import os, signal, sys
from flyback.errors import BrokerError
from flyback.login import Login
from flyback.settings import load
from flyback.status import groups

broker = int(sys.argv[1])
metadata = Login.metadata

def then_freeze(self, client, seconds):
    found = metadata(self, client, seconds)
    os.killpg(broker, signal.SIGSTOP)
    return found

groups._SECONDS = 2.0
Login.metadata = then_freeze
try:
    groups.describe(load(), "nobody", [])
except BrokerError as error:
    held = error  # with all that its frames refer to
finally:
    os.killpg(broker, signal.SIGCONT)
Login.metadata = metadata
groups._SECONDS = 90.0
print(groups.describe(load(), "nobody", []).state, held)
"""


def test_the_question_for_a_group_ends_with_an_error_and_not_with_the_process(kafka_broker: KafkaBroker) -> None:
    assert kafka_broker._process is not None
    asked = subprocess.run(
        [sys.executable, "-c", ASK, str(kafka_broker._process.pid)],
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka_broker.bootstrap},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.startswith("dead cannot ask for the members of group nobody")
