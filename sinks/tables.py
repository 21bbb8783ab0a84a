"""The lake's tables: one Delta table a topic, and one for all dead letters.

A commit holds rows and, as Delta app transactions, the Kafka offsets that follow them, so that both land or neither.
Each table also names the topics that fill it by cluster and topic id: offsets of another cluster, or of a topic that
was deleted and made again, mean nothing here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
from deltalake import (
    BloomFilterProperties,
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Schema,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError

from flyback.errors import LakeError, RefusedToStart, WorkerFenced
from flyback.sinks.columns import table_schema
from flyback.sinks.message import Place
from flyback.sinks.parquet import LONGEST_STATISTIC, add_file
from flyback.sinks.storage import is_remote, lake_errors, open_table, options, table_path
from flyback.streams.topology import TOPICS, Kind, Topology

_SOURCE = "flyback.source."
_REOPEN_AFTER = 20  # commits; the older a handle, the slower its commits
CHECKPOINT_INTERVAL = 100
"""Commits. Each reads what was committed since the last checkpoint (0.3 ms a commit), but one names all files that
vacuum has not deleted yet: after a week at one commit in two seconds, that is 2 s of CPU time and 17 MB."""

_MANY = 5_000  # rows; for fewer, pyarrow saves less than reading the log again costs, which deltalake's writer spares
_CONFIGURATION = {
    # as_of= names old versions: only maintenance may forget one, and it says when
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
}
ROW_GROUP = 32_768
"""Rows of a row group: those that looking up one of them has to decompress, and that one thread reads."""
_ID_COLUMNS = {
    "Prediction": "prediction_id",
    "Correction": "correction_id",
    "Grade": "grade_id",
    "Example": "example_id",
    "GradedExample": "graded_example_id",
    "Coaching": "coaching_id",
    "Alert": "alert_id",
}


@dataclass(frozen=True, slots=True)
class Table:
    """One table. `record` is the Avro record that it holds, None for the dead letters."""

    name: str
    record: str | None

    @property
    def schema(self) -> pa.Schema:
        """All columns, provenance last."""
        return table_schema(self.record)

    @property
    def id_column(self) -> str | None:
        """The column that single rows are looked up by."""
        return _ID_COLUMNS.get(self.record) if self.record else "value_sha256"

    @property
    def looked_up_by(self) -> list[str]:
        """The columns with a Bloom filter: the ids that say nothing of when a row was made."""
        return [name for name in self.schema.names if name in (self.id_column, "task_id")]

    def topics(self, topology: Topology) -> list[str]:
        """The topics, with the prefix, whose messages are this table's rows."""
        return topology.of(Kind.DEAD_LETTERS) if self.record is None else [topology.topic_of(self.record)]


TABLES = (
    *(
        Table(topic.name.removesuffix(".v1").replace("-", "_"), topic.record)
        for topic in TOPICS
        if topic.record and "sink" in topic.readers
    ),
    Table("dead_letters", None),
)
"""Every table of the lake."""


@dataclass(frozen=True, slots=True)
class Source:
    """A topic as it was when the table was filled from it: what its offsets depend on."""

    cluster_id: str
    topic_id: str
    partitions: int


def app_id(place: Place) -> str:
    """The Delta application id under which the next offset of a topic's partition is kept."""
    return f"flyback/{place[0]}/{place[1]}"


def sources_of(handle: DeltaTable) -> dict[str, Source]:
    """The topics that fill this table."""
    found = handle.metadata().configuration
    return {
        name.removeprefix(_SOURCE): Source(**json.loads(value))
        for name, value in found.items()
        if name.startswith(_SOURCE)
    }


def offsets_of(handle: DeltaTable) -> dict[Place, int]:
    """The next offset of every partition that this version of the table has rows or skipped messages of."""
    places = [(topic, p) for topic, source in sources_of(handle).items() for p in range(source.partitions)]
    versions = {place: handle.transaction_version(app_id(place)) for place in places}
    return {place: offset for place, offset in versions.items() if offset is not None}


def landed(lake: str) -> dict[Place, int]:
    """The next offset of every (topic, partition) in the lake: all messages before it are rows, or were skipped.

    Read from the tables alone, no Kafka is asked. Partitions of which nothing was read yet are left out.
    Raises LakeError where the lake cannot be read; a lake that does not exist yet holds nothing.
    """
    found: dict[Place, int] = {}
    for table in TABLES:
        handle = open_table(lake, table.name)
        if handle is not None:
            found |= offsets_of(handle)
    return found


def writer_properties(table: Table, rows: int) -> WriterProperties:
    """How the table's Parquet files are written, by the sink and by compaction alike."""
    bloom = ColumnProperties(bloom_filter_properties=BloomFilterProperties(True, ndv=max(1, min(rows, ROW_GROUP))))
    return WriterProperties(
        compression="ZSTD",
        statistics_truncate_length=LONGEST_STATISTIC,
        max_row_group_size=ROW_GROUP,
        column_properties=dict.fromkeys(table.looked_up_by, bloom),
    )


class TableWriter:
    """Appends to one table. Not thread-safe; two writers of one table fence each other off."""

    def __init__(self, lake: str, table: Table, sources: Mapping[str, Source]) -> None:
        """`sources`: the topics that fill the table, as they are in Kafka now."""
        self.table = table
        self._lake = lake
        self._path = table_path(lake, table.name)
        self._sources = dict(sources)
        self._handle: DeltaTable | None = None
        self._commits = 0

    def fill_from(self, sources: Mapping[str, Source]) -> None:
        """The topics as they are in Kafka by now: `commit` refuses where one was deleted and made again."""
        self._sources = dict(sources)

    def open(self) -> dict[Place, int]:
        """The next offsets in the table, {} where there is no table yet.

        Raises RefusedToStart where the table was filled from other topics than the ones given, and LakeError.
        """
        self._commits = 0
        self._handle = open_table(self._lake, self.table.name)
        if self._handle is None:
            return {}
        with lake_errors(self._path):
            self._refuse_foreign(sources_of(self._handle))
            return offsets_of(self._handle)

    def commit(self, rows: pa.Table, before: Mapping[Place, int], after: Mapping[Place, int]) -> None:
        """Append rows and move the offsets of `after` on from `before` (a place not in there: from none), at once.

        Calling again after an error is safe: what was committed all the same is not written twice.
        Raises WorkerFenced where another sink moved the offsets, RefusedToStart (see `open`), LakeError.
        """
        handle = self._current()
        with lake_errors(self._path):
            if self._is_done(handle, before, after):
                return
            try:
                # Another sink's commit from here on is a conflict, since both name the same app id: Delta refuses ours.
                self._append(handle, rows, after)
            except CommitFailedError:
                handle.update_incremental()
                if not self._is_done(handle, before, after):
                    raise
        self._commits += 1

    def _append(self, handle: DeltaTable, rows: pa.Table, after: Mapping[Place, int]) -> None:
        commit = CommitProperties(
            app_transactions=[Transaction(app_id(place), offset) for place, offset in after.items()],
            max_commit_retries=100,
        )
        # it lists the whole log, at every commit: maintenance does it now and then
        hooks = PostCommitHookProperties(cleanup_expired_logs=False)
        schema = handle.schema()
        if rows.num_rows >= _MANY and not is_remote(self._lake) and schema == Schema.from_arrow(rows.schema):
            file = add_file(Path(self._path), rows, self.table.looked_up_by)
            handle.create_write_transaction(
                [file], "append", schema, commit_properties=commit, post_commithook_properties=hooks
            )
        else:  # it uploads without holding up other threads, and adds columns that only the rows or the table have
            write_deltalake(
                handle,
                rows,
                mode="append",
                schema_mode="merge",
                writer_properties=writer_properties(self.table, rows.num_rows),
                commit_properties=commit,
                post_commithook_properties=hooks,
            )

    def _is_done(self, handle: DeltaTable, before: Mapping[Place, int], after: Mapping[Place, int]) -> bool:
        """Whether an earlier attempt, whose outcome we did not learn, had worked. Raises WorkerFenced."""
        stored = {place: handle.transaction_version(app_id(place)) for place in after}
        if stored == dict(after):
            return True
        if stored != {place: before.get(place) for place in after}:
            raise WorkerFenced(
                f"{self._path}: another sink moved the offsets to {stored} meanwhile; one sink for a lake is enough"
            )
        return False

    def _current(self) -> DeltaTable:
        """A handle that knows the newest version; the table is made where there is none."""
        if self._handle is None or self._commits >= _REOPEN_AFTER:
            self.open()
        with lake_errors(self._path):
            if self._handle is None:
                self._create()
            handle = self._handle
            assert handle is not None
            handle.update_incremental()
            known = sources_of(handle)
            self._refuse_foreign(known)
            if new := {topic: source for topic, source in self._sources.items() if topic not in known}:
                handle.alter.set_table_properties(_properties(new), raise_if_not_exists=False)
        return handle

    def _create(self) -> None:
        DeltaTable.create(
            self._path,
            self.table.schema,
            mode="ignore",  # another sink may have been faster
            name=self.table.name,
            configuration={**_CONFIGURATION, **_properties(self._sources)},
            storage_options=options(),
            raise_if_key_not_exists=False,
        )
        self._handle = open_table(self._lake, self.table.name)
        if self._handle is None:
            raise LakeError(f"{self._path}: the table was made, but cannot be opened")

    def _refuse_foreign(self, known: Mapping[str, Source]) -> None:
        for topic, source in known.items():
            ours = self._sources.get(topic)
            if ours == source:
                continue
            if ours is None:
                problem = f"it was filled from the topic {topic}, which is none of {sorted(self._sources)}"
            elif ours.partitions != source.partitions:
                problem = (
                    f"{topic} had {source.partitions} partitions and has {ours.partitions}: growing means new ones"
                )
            elif ours.cluster_id != source.cluster_id:
                problem = f"{topic} was in cluster {source.cluster_id}, this is cluster {ours.cluster_id}"
            else:
                problem = f"{topic} was deleted and made again, or this broker started anew"
            raise RefusedToStart(
                f"{self._path} cannot be continued: {problem}. Set FLYBACK_LAKE to a new folder, or give one "
                "with --lake (this one stays readable), or connect to the cluster and topics that it was filled from"
            )


def _properties(sources: Mapping[str, Source]) -> dict[str, str]:
    return {_SOURCE + topic: json.dumps(asdict(source), sort_keys=True) for topic, source in sources.items()}
