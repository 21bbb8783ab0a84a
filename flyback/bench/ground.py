"""Where a bench takes place: topics under a prefix of its own and a folder of its own, gone when it is over."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from flyback import history, topics
from flyback.bench.measure import PREFIX, Plan
from flyback.errors import BrokerError, ConfigurationError, FlybackError
from flyback.login import Login
from flyback.settings import Settings
from flyback.stack import Stack
from flyback.streams.topology import Kind, Topology

_SECONDS = 30.0
_POLL_SECONDS = 0.1
_RIGHTS = (
    f"a bench needs the rights (ACLs) to Create, Delete, Describe, DescribeConfigs, Read and Write topics, to Read "
    f"groups, and to Describe and Write transactional ids, each with the prefix `{PREFIX}`"
)


@dataclass(frozen=True, slots=True)
class Ground:
    """`settings` are the installation's but for names and folders; `connect_ms`: how far away the nearest broker is."""

    settings: Settings
    stack: Stack
    connect_ms: float | None


def installed(settings: Settings, partitions: int | None) -> Settings:
    """These settings with the partitions and replicas of the topics that are installed, if there are any.

    Raises BrokerError when Kafka is not reachable.
    """
    there = [topic for topic in topics.listing(settings) if topic.kind is Kind.RAW and topic.partitions]
    found = {"partitions": there[0].partitions, "replication_factor": there[0].replicas} if there else {}
    return settings.model_copy(update=found | ({"partitions": partitions} if partitions else {}))


@contextmanager
def ground(settings: Settings, plan: Plan, folder: Path | None) -> Iterator[Ground]:
    """Topics as `installed` says, and settings for processes that use nothing else. In the end all of it is deleted.

    After an error the processes' logs stay. Raises BrokerError (naming the rights, where these are what is missing),
    ConfigurationError where the folder is missing or has no room.
    """
    if folder is not None and not folder.is_dir():
        raise ConfigurationError(f"--folder {folder} is no folder: give one on the disk that worker and sink will use")
    own = Path(tempfile.mkdtemp(prefix="flyback-bench-", dir=folder)).absolute()
    data = own / "data"
    changes: dict[str, object] = {
        "topic_prefix": plan.topic_prefix,
        "group": plan.topic_prefix,
        "registry_url": None,  # nothing is to be registered for topics that will be gone
        "state_dir": data / "state",
        "lake": str(data / "lake"),
        "http_host": "127.0.0.1",
        "worker_http_port": 0,
        "sink_http_port": 0,
    }
    # absolute, since the children run elsewhere: a .env here would give them what is left out above
    changes |= {name: value.absolute() for name, value in settings if isinstance(value, Path) and name not in changes}
    found = settings.model_copy(update=changes)
    stack, keep_logs = Stack(found, own / "logs", cwd=data), False
    try:
        data.mkdir()
        _require_room(own, plan.disk_bytes)
        _require_right_to_delete(found)
        topics.create(found)
        history.bounds(found, Topology(found).names)  # leaders that answer refuse no first batch: see ADR 13
        yield Ground(stack.settings, stack, connect_ms(found))
    except Exception as error:
        keep_logs = (own / "logs").is_dir()
        # Kafka's words, or those with which a worker or a sink has ended
        if isinstance(error, FlybackError) and "authorization failed" in str(error):
            raise BrokerError(f"{error}; {_RIGHTS}") from error
        raise
    finally:
        try:
            _clean(found, stack, data)
        except (KeyboardInterrupt, SystemError):  # an interrupt, which comes only once: see `signals_interrupt`
            _clean(found, stack, data)
            raise
        finally:
            if not keep_logs:
                shutil.rmtree(own, ignore_errors=True)


def _clean(settings: Settings, stack: Stack, data: Path) -> None:
    stack.stop()
    shutil.rmtree(data, ignore_errors=True)
    delete_topics(settings)


def delete_topics(settings: Settings) -> None:
    """Delete every topic under the prefix, and return when none is left. Raises BrokerError that says how to."""
    prefix, why = settings.topic_prefix, "they are still there"
    assert prefix.startswith(PREFIX), prefix
    deadline = time.monotonic() + _SECONDS
    admin, login = _admin(settings)
    while time.monotonic() < deadline:
        try:
            left = [name for name in login.metadata(admin, _SECONDS).topics if name.startswith(prefix)]
        except BrokerError as error:
            why = str(error)
            continue
        if not left:
            return
        for asked in admin.delete_topics(left, operation_timeout=_SECONDS, request_timeout=_SECONDS).values():
            why = str(asked.exception() or why)
        time.sleep(_POLL_SECONDS)
    every = prefix.replace(".", r"\.") + ".*"
    raise BrokerError(
        f"topics of this bench are left ({why}). To delete them:\n"
        f"  kafka-topics.sh --bootstrap-server {settings.bootstrap_servers} --delete --topic '{every}'"
    )


def connect_ms(settings: Settings) -> float | None:
    """Milliseconds in which the nearest broker takes a connection: one way through the network and back."""
    admin, login = _admin(settings)
    took = []
    for broker in 3 * list(login.metadata(admin, _SECONDS).brokers.values()):
        began = time.perf_counter()
        try:
            socket.create_connection((broker.host, broker.port), timeout=1.0).close()
        except OSError:
            continue
        took.append(1000 * (time.perf_counter() - began))
    return min(took, default=None)


def _admin(settings: Settings) -> tuple[AdminClient, Login]:
    login = Login(settings)
    return AdminClient(settings.kafka() | {"log_level": 0, "error_cb": login}), login


def _require_right_to_delete(settings: Settings) -> None:
    """Before anything is created: brokers look at the rights to a topic before they see that it is not there."""
    admin, _ = _admin(settings)
    (asked,) = admin.delete_topics([f"{settings.topic_prefix}none"], request_timeout=_SECONDS).values()
    error = asked.exception()
    if isinstance(error, KafkaException) and error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
        raise BrokerError(f"cannot delete topics: {error.args[0].str()}") from error


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigurationError(
            f"{folder.parent} has {free / 1e6:,.0f} MB free, the bench may need {needed / 1e6:,.0f}: give another "
            "--folder, or fewer --events"
        )
