"""The lake: readable, writable, of this Kafka, and tidy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flyback.doctor.check import Check, failed, ok, skipped, warning, worst
from flyback.doctor.machine import space, unwritable
from flyback.errors import LakeError, RefusedToStart
from flyback.settings import Settings
from flyback.sinks.storage import is_remote, lake_errors, open_table, table_path
from flyback.sinks.tables import TABLES, Source, Table, TableWriter
from flyback.streams.clients import Cluster
from flyback.streams.topology import Topology

_SMALL_BYTES = 8_000_000
_MANY = 500


def examine(settings: Settings, cluster: Cluster | None) -> Iterator[Check]:
    """`cluster`: the topics as they are in Kafka now, None where they are not known."""
    remote = is_remote(settings.lake)
    tables: list[Check] = []
    there = compared = 0
    for table in TABLES:
        try:
            if open_table(settings.lake, table.name) is None:
                continue
            there += 1
            if sources := _sources(settings, table, cluster):
                compared += 1
                TableWriter(settings.lake, table, sources).open()
        except LakeError as error:
            mend = "mend the disk or the access to it (AWS_* variables for s3://); or set FLYBACK_LAKE to another place"
            tables.append(failed("lake", str(error), mend))
            break
        except RefusedToStart as error:
            tables.append(failed("lake", str(error), "set FLYBACK_LAKE to the lake of this Kafka, or to a new folder"))
    found = f"{settings.lake}: {there} tables" if there else f"nothing at {settings.lake} yet: a sink makes it"
    yield worst("lake", tables, found + (f", {compared} of them compared: of this Kafka" if compared else ""))
    if remote:
        yield skipped("lake access", "whether an object store may be written to, only writing would tell")
        yield skipped("lake space", "an object store does not fill up")
    else:
        yield _access(settings.lake)
        yield space("lake space", Path(settings.lake), "FLYBACK_LAKE")
    if there and not tables:
        yield _files(settings.lake)


def _sources(settings: Settings, table: Table, cluster: Cluster | None) -> dict[str, Source]:
    """The topics that fill a table, {} where they are not all there."""
    topics = table.topics(Topology(settings))
    if cluster is None or not all(topic in cluster.topic_ids for topic in topics):
        return {}
    return {t: Source(cluster.cluster_id, cluster.topic_ids[t], cluster.partitions[t]) for t in topics}


def _access(lake: str) -> Check:
    folders = [Path(lake), *(path for table in TABLES if (path := Path(table_path(lake, table.name))).exists())]
    for folder in folders:
        if why := unwritable(folder):
            return failed("lake access", why, "start the sink as another user, or set FLYBACK_LAKE to another folder")
    return ok("lake access", "may be written to")


def _files(lake: str) -> Check:
    counts = {}
    for table in TABLES:
        try:
            if (handle := open_table(lake, table.name)) is None:
                continue
            with lake_errors(table_path(lake, table.name)):
                sizes = handle.get_add_actions(flatten=True)["size_bytes"].to_pylist()
        except LakeError as error:
            return skipped("lake files", str(error))
        counts[table.name] = sum(size < _SMALL_BYTES for size in sizes)
    many = {name: count for name, count in counts.items() if count > _MANY}
    if not many:
        return ok("lake files", f"{sum(counts.values())} small ones in {len(counts)} tables")
    listed = ", ".join(f"{name} {count}" for name, count in many.items())
    mend = "type `flyback sink compact`; is FLYBACK_MAINTENANCE_INTERVAL 0s?"
    return warning("lake files", f"many small files make queries slow: {listed}", mend)
