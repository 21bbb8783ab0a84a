"""The schema registry is not there; a schema id that it learns late, or never."""

from __future__ import annotations

import json
import random
import re
from typing import TYPE_CHECKING
from uuid import uuid4

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from flyback import history
from flyback.errors import UnknownSchema
from flyback.schemas import wire
from flyback.schemas.catalog import open_catalog
from flyback.schemas.codec import bundled
from flyback.streams.topology import Topology
from tests.chaos.fault import Fault, in_turn
from tests.chaos.patience import SECONDS
from tests.chaos.proxy import Proxy
from tests.streams.on_kafka import OnKafka
from tests.streams.records import Raw, a_correction, a_prediction, registered
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.chaos.service import Service
    from tests.chaos.site import Site

NOBODYS = 2_000_000_000
"""A schema id that no registry has."""


def start_without(site: Site, rng: random.Random) -> None:
    """Killed while the registry refuses connections: workers and sinks wait, say so, and go on once it is there."""
    proxy = _proxy(site)
    proxy.stop()
    for service in site.services:
        service.kill()
    for service in site.services:
        _until_waits(service, "registry")
    proxy.start()
    _until_well(site)


def new_schema_without(site: Site, rng: random.Random) -> None:
    """Events of a newer schema come while the registry does not answer, so that somebody has to wait for it."""
    newer = Newer(site)
    proxy = _proxy(site)
    end, begin = rng.choice(((proxy.stall, proxy.pass_on), (proxy.stop, proxy.start)))
    before = _all_waits(site, "registry")
    end()
    newer.send_pair(newer.register())
    _until_waited(site, "registry", before)
    begin()
    _until_well(site)


def schema_that_comes_late(site: Site, rng: random.Random) -> None:
    """Events come under an id that the registry does not know yet; it does once workers and sinks wait for it."""
    newer = Newer(site)
    before = _all_waits(site, "unknown_schema")
    expected = newer.register() + 1
    newer.send_pair(expected)
    _until_waited(site, "unknown_schema", before)
    assert newer.register() == expected, "the registry did not give the next id"
    _until_well(site)


def schema_that_comes_too_late(site: Site, rng: random.Random) -> None:
    """As before, but only after a worker has given up and said which id it is that it does not know."""
    newer = Newer(site)
    said = {name: len(worker.said()) for name, worker in site.workers.items()}
    expected = newer.register() + 1
    newer.send_pair(expected)

    text = re.compile(rf'^(?=.*"error": "UnknownSchema").*unknown schema id {expected} at \S+/\d+@\d+', re.MULTILINE)

    def given_up() -> bool:
        return any(text.search(worker.said()[said[name] :]) for name, worker in site.workers.items())

    eventually(given_up, f"a worker gives up and names schema id {expected}", SECONDS)
    ended = UnknownSchema.exit_code
    eventually(lambda: any(worker.exits[ended] for worker in site.workers.values()), f"it ends with {ended}", SECONDS)
    assert newer.register() == expected, "the registry did not give the next id"
    _until_well(site)


def schema_that_never_comes(site: Site, rng: random.Random) -> None:
    """Where dead letters are wanted for it, an event of an unknown schema becomes one, and its neighbours go on."""
    letters = _dead_letters(site)
    Newer(site).send_pair(NOBODYS)
    eventually(lambda: _dead_letters(site) > letters, "the event is a dead letter", SECONDS)
    _until_well(site)


class Newer:
    """A producer that is newer than Flyback: its predictions have one more field. It asks the registry directly."""

    def __init__(self, site: Site) -> None:
        self._settings = site.settings
        self._topology = Topology(site.settings)
        self._catalog = open_catalog(site.settings)
        self._client = SchemaRegistryClient(site.settings.registry())

    def register(self) -> int:
        """The id of a schema that nobody has seen before; the registry counts them."""
        schema = json.loads(bundled("Prediction").text)
        field = {"name": f"extra_{uuid4().hex}", "type": ["null", "string"], "default": None, "doc": "Something new."}
        schema["fields"].append(field)
        subject = f"{self._topology.topic_of('Prediction')}-value"
        return self._client.register_schema(subject, Schema(json.dumps(schema), "AVRO"))

    def send_pair(self, schema_id: int) -> None:
        """A prediction with that field left empty, under this id, and its correction."""
        task = f"newer-{uuid4().hex}"
        old = a_prediction(task)
        assert old.value is not None
        body = old.value[wire.HEADER :] + b"\x00"  # the union's first branch: null
        producer = OnKafka(self._settings)
        producer.start_sending(Raw(old.record, task, old.key, wire.frame(schema_id, body)))
        producer.start_sending(registered(a_correction(task), self._topology, self._catalog))
        producer.flush()


def waits(service: Service, cause: str) -> float:
    """`flyback_waits_total` of the present process; 0 where nobody answers."""
    found = re.search(rf'^flyback_waits_total{{cause="{cause}"}} (\S+)', service.get("metrics"), re.MULTILINE)
    return float(found[1]) if found else 0.0


def _until_waits(service: Service, cause: str) -> None:
    eventually(lambda: waits(service, cause) > 0, f"{service.name} waits for the {cause}", SECONDS)


def _all_waits(site: Site, cause: str) -> tuple[float, float]:
    """Of the workers and of the sinks."""
    workers, sinks = site.workers.values(), site.sinks.values()
    return sum(waits(one, cause) for one in workers), sum(waits(one, cause) for one in sinks)


def _until_waited(site: Site, cause: str, before: tuple[float, float]) -> None:
    """The worker that has the partition waits, and the sink."""

    def waited() -> bool:
        return all(now > then for now, then in zip(_all_waits(site, cause), before, strict=True))

    eventually(waited, f"a worker and the sink wait for {cause}", SECONDS)


def _until_well(site: Site) -> None:
    site.until_progress("worker")
    site.until_progress("sink")


def _dead_letters(site: Site) -> int:
    topic = f"{Topology(site.settings).topic_of('Prediction')}.dlq"
    return sum(history.next_offsets(site.settings, [topic]).values())


def _proxy(site: Site) -> Proxy:
    proxy: Proxy = site.place.parts["proxy"]
    return proxy


PATIENT = {"FLYBACK_UNKNOWN_SCHEMA_TIMEOUT": "30s"}
HASTY = {"FLYBACK_UNKNOWN_SCHEMA_TIMEOUT": "3s"}
LENIENT = {"FLYBACK_UNKNOWN_SCHEMA": "dead-letter"}

FAULTS: tuple[Fault, ...] = (
    Fault(
        "registry down at the start, or for a new schema, learns it late, or never",
        in_turn(start_without, new_schema_without, schema_that_comes_late, schema_that_never_comes),
        (4, 0),
        "registry",
        environment=PATIENT | LENIENT,
    ),
    Fault("registry down when workers and sinks start", start_without, (0, 20), "registry"),
    Fault("registry down when a new schema comes", new_schema_without, (0, 20), "registry"),
    Fault("schema id that the registry learns late", schema_that_comes_late, (0, 20), "registry", environment=PATIENT),
    Fault("schema id learnt after workers gave up", schema_that_comes_too_late, (0, 20), "registry", environment=HASTY),
    Fault(
        "schema id never learnt: dead letter",
        schema_that_never_comes,
        (0, 20),
        "registry",
        environment=HASTY | LENIENT,
    ),
)
