"""The lake in DuckDB: `flyback.lake("…")` is a connection with a view for each table and the resolved ones.

The definitions are the files in `views/`, one a view. They read the schema `raw`, which has each table as it is, with
every copy. All views stay at the table versions of the moment when the lake was opened, until `refresh()`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import duckdb
import pyarrow as pa
from deltalake.exceptions import DeltaError
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import PyFileSystem

from flyback import settings
from flyback.errors import LakeError
from flyback.sinks.storage import is_remote, lake_errors, open_table, options, table_path
from flyback.sinks.tables import TABLES, Table

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from duckdb import DuckDBPyConnection as _Connection
else:
    _Connection = object

VIEWS = (
    *(table.name for table in TABLES),
    "reviews",
    "failure_rates_exact",
    "disputes",
    "examples_resolved",
    "episodes",
)
"""Every view, in an order in which each needs only earlier ones. `views/<name>.sql` is its definition."""

AsOf = datetime | Mapping[str, int] | None


def lake(path: str | Path | None = None, *, as_of: AsOf = None) -> Lake:
    """Open a lake for reading; FLYBACK_LAKE where no path is given.

    `as_of`: a datetime with a zone (each table as it was committed then, empty before its first commit), or versions
    by table (the others at their newest). Raises LakeError where there is no such folder, table or version.
    """
    return Lake(str(path) if path is not None else settings.load().lake, as_of)


class Lake(_Connection):
    """A DuckDB connection (`sql`, `execute`, `cursor` … are DuckDB's own) over one lake. A context manager."""

    def __init__(self, path: str, as_of: AsOf = None) -> None:
        self.path = path
        self.connection = duckdb.connect()
        """DuckDB's own object, for libraries that insist on it."""
        self.versions: dict[str, int | None] = {}
        """The version of each table that the views show; None: nothing there."""
        self._as_of = as_of
        self._tables = _Tables(path)
        self._shown: dict[str, Pinned | None] = {}
        self._columns: list[tuple[str, str, str]] = []
        try:
            self.connection.execute("SET TimeZone = 'UTC'; SET parquet_metadata_cache = true; CREATE SCHEMA raw")
            # it would be printed to stdout, into the results of whoever reads those
            self.connection.execute("SET enable_progress_bar = false")
            if is_remote(path):
                register_s3(self.connection)
            self.refresh()
        except BaseException:
            self.connection.close()
            raise

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # DuckDB's class cannot be derived from; its methods are handed out as they are, so that its look-up of
            # Python variables by name (`FROM my_dataframe`) sees the caller's
            return getattr(self.connection, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Nothing of the lake is held open."""
        self.connection.close()

    def refresh(self) -> None:
        """Move all views to the newest versions (with `as_of`, to the ones it names). Raises LakeError."""
        pinned = self._tables.pin(self._as_of)
        self.connection.begin()
        try:
            for table in TABLES:
                if not self._shown or self._shown[table.name] != pinned[table.name]:
                    self._show(table, pinned)
            columns = self._raw_columns()
            if columns != self._columns:
                self._define_views(columns)
                for table in TABLES:
                    self._show(table, pinned)
        except BaseException:
            self.connection.rollback()
            raise
        self.connection.commit()
        self._shown, self._columns = pinned, columns
        self.versions = {name: found.version if found else None for name, found in pinned.items()}

    def _show(self, table: Table, pinned: Mapping[str, Pinned | None]) -> None:
        self.connection.execute(f"CREATE OR REPLACE VIEW raw.{table.name} AS {_select(table, pinned[table.name])}")

    def _raw_columns(self) -> list[tuple[str, str, str]]:
        """Table, column and type, of all tables."""
        return self.connection.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE schema_name = 'raw' "
            "ORDER BY table_name, column_index"
        ).fetchall()

    def _define_views(self, columns: Sequence[tuple[str, str, str]]) -> None:
        """Make all views while the tables are empty ones of these columns.

        A view is bound where it is made, with all that it reads, and that opens every file of every table it names.
        Only names and types matter for that, and those stay valid when the tables get their files back.
        """
        for table in TABLES:
            own = {name: kind for of, name, kind in columns if of == table.name}
            self.connection.execute(f"CREATE OR REPLACE VIEW raw.{table.name} AS {_nothing(own)}")
        for name in VIEWS:
            self.connection.execute(f"CREATE OR REPLACE VIEW {name} AS {definition(name)}")


@dataclass(frozen=True, slots=True)
class Pinned:
    """One version of a table: its files, and the types of its columns as DuckDB names them."""

    version: int
    files: list[str]
    columns: dict[str, str]


def definition(view: str) -> str:
    """The SELECT of a view."""
    return files("flyback.sinks").joinpath("views", f"{view}.sql").read_text(encoding="utf-8")


def pin(path: str, as_of: AsOf) -> dict[str, Pinned | None]:
    """The version of every table that `as_of` means, None where the table was not there. Raises LakeError."""
    return _Tables(path).pin(as_of)


class _Tables:
    """The tables of one lake. Each is opened once: later, only what was added to its log is read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._opened: dict[str, tuple[DeltaTable, tuple[int, ...]]] = {}

    def pin(self, as_of: AsOf) -> dict[str, Pinned | None]:
        """See the function of this name."""
        if not is_remote(self._path) and not Path(self._path).is_dir():
            raise LakeError(
                f"no lake at {self._path}: `flyback up` or `flyback sink` fill one, or give --lake (or FLYBACK_LAKE) "
                "where it is"
            )
        if isinstance(as_of, Mapping):
            names = [table.name for table in TABLES]
            if unknown := sorted(set(as_of) - set(names)):
                raise LakeError(f"as_of names {unknown}, the lake's tables are {names}")
        if isinstance(as_of, datetime) and as_of.tzinfo is None:
            raise LakeError("as_of needs a time zone: datetime(2026, 1, 31, 12, tzinfo=timezone.utc)")
        return {table.name: self._pin(table.name, as_of) for table in TABLES}

    def _pin(self, table: str, as_of: AsOf) -> Pinned | None:
        where = table_path(self._path, table)
        newest = self._newest(table)
        wanted = as_of.get(table) if isinstance(as_of, Mapping) else None
        if newest is None:
            if wanted is not None:
                raise LakeError(f"{where}: no version {wanted}, there is no such table yet")
            return None
        if isinstance(as_of, datetime):
            with lake_errors(where):
                wanted = _version_at(newest, as_of)
            if wanted is None:
                return None
        return _read(self._path, table, newest, wanted)

    def _newest(self, table: str) -> DeltaTable | None:
        handle, commit = self._opened.pop(table, (None, None))
        with lake_errors(table_path(self._path, table)):
            # a table that was deleted and made again would be read on as if it were the same one
            if handle is not None and commit and _last_commit(handle) == commit:
                handle.update_incremental()
            else:
                handle = open_table(self._path, table)
            if handle is not None:
                self._opened[table] = handle, _last_commit(handle)
        return handle


def _last_commit(handle: DeltaTable) -> tuple[int, ...]:
    """The commit that the handle stands at: its number, when its file was written, and how large it is; () if gone."""
    try:
        log = PyFileSystem(DeltaStorageHandler(handle.table_uri, options()))
        file = log.get_file_info(_log_file(handle.version()))
    except (DeltaError, OSError):  # the whole folder is not there
        return ()
    return handle.version(), file.mtime_ns or 0, file.size or 0


def _log_file(version: int) -> str:
    return f"_delta_log/{version:020d}.json"


def _version_at(handle: DeltaTable, moment: datetime) -> int | None:
    """The last version committed at or before the moment, None where the table is younger."""
    before, after = -1, handle.version() + 1
    while after - before > 1:
        middle = (before + after) // 2
        committed = _committed_at(handle, middle)
        if committed is None or committed <= moment.timestamp() * 1000:
            before = middle
        else:
            after = middle
    return before if before >= 0 else None


def _committed_at(handle: DeltaTable, version: int) -> int | None:
    """When a version was committed, ms since the epoch; None where the log does not reach back so far.

    The time is in the commit: those of files change where a lake is copied.
    """
    log = PyFileSystem(DeltaStorageHandler(handle.table_uri, options()))
    try:
        with log.open_input_file(_log_file(version)) as file:
            entries = [json.loads(line) for line in file.read().splitlines()]
    except FileNotFoundError:
        return None
    return next((int(entry["commitInfo"]["timestamp"]) for entry in entries if "commitInfo" in entry), 0)


def _read(path: str, table: str, newest: DeltaTable, wanted: int | None) -> Pinned:
    where = table_path(path, table)
    if wanted is not None and not 0 <= wanted <= newest.version():
        raise LakeError(f"{where}: no version {wanted}, there are 0 to {newest.version()}")
    with lake_errors(where):
        if wanted is not None:
            if _committed_at(newest, wanted) is None:
                raise _vacuumed(where, wanted)
            newest.load_as_version(wanted)
        found = Pinned(
            version=newest.version(),
            files=[f"{where}/{uri.rsplit('/', 1)[1]}" for uri in newest.file_uris()],  # those are percent-encoded
            columns={field.name: duckdb_type(field.type) for field in pa.schema(newest.schema().to_arrow())},
        )
    if wanted is not None and not is_remote(path) and any(not Path(file).exists() for file in found.files):
        raise _vacuumed(where, wanted)
    return found


def _vacuumed(where: str, version: int) -> LakeError:
    return LakeError(f"{where}: files of version {version} were vacuumed (FLYBACK_VACUUM_RETENTION); take a newer one")


def _select(table: Table, pinned: Pinned | None) -> str:
    """All columns of a table, those of this version of Flyback first, with their types even where nothing is there."""
    expected = {field.name: duckdb_type(field.type) for field in table.schema}
    if pinned is None or not pinned.files:
        return _nothing(expected)
    columns = [_column(name, kind, pinned.columns.get(name)) for name, kind in expected.items()]
    columns += [f'"{name}"' for name in pinned.columns if name not in expected]
    paths = ", ".join("'" + path.replace("'", "''") + "'" for path in pinned.files)
    return f"SELECT {', '.join(columns)} FROM read_parquet([{paths}], union_by_name = true)"


def _nothing(columns: Mapping[str, str]) -> str:
    """No rows, of these columns and types."""
    nulls = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
    return f"SELECT {nulls} WHERE false"


def _column(name: str, expected: str, found: str | None) -> str:
    if found is None:  # written before the column was there
        return f'NULL::{expected} AS "{name}"'
    return f'"{name}"' if found == expected else f'"{name}"::{expected} AS "{name}"'


def duckdb_type(kind: pa.DataType) -> str:
    """DuckDB's name for an Arrow type of the lake."""
    if pa.types.is_struct(kind):
        fields = ", ".join(f'"{field.name}" {duckdb_type(field.type)}' for field in kind)
        return f"STRUCT({fields})"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"{duckdb_type(kind.value_type)}[]"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP WITH TIME ZONE" if kind.tz else "TIMESTAMP"
    return _TYPES.get(str(kind).removeprefix("large_").removesuffix("_view"), "VARCHAR")


_TYPES = {
    "string": "VARCHAR",
    "binary": "BLOB",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
}


def register_s3(connection: duckdb.DuckDBPyConnection) -> None:
    """Let DuckDB read `s3://` through Arrow: its own extension is not in the wheel."""
    from flyback.sinks.s3 import filesystem

    connection.register_filesystem(filesystem())
