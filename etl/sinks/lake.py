"""DuckLake: tables of Parquet files whose catalog is in SQLite or PostgreSQL.

Files are loaded in one transaction with a row for each in the table `etl_batches` of the lake. No
table of a lake has unique keys: what lets only one of two that load the same file succeed is that
both update one row, on which their transactions conflict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from etl.errors import ProcessorStop, UsageError
from etl.processors.processor import only_polars
from etl.sinks.database import LEDGER, LEDGER_SCHEMA, TYPES
from etl.sinks.fitting import Columns, fitted, natural
from etl.sinks.table import TableTarget, duckdb_column, quoted, quoted_name, text_of
from etl.sinks.target import SpooledFile, require
from etl.text import POSTGRES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["DuckLake"]

OTHER_FILES = "existing data path"
"""What DuckLake says if a lake was made with another folder of Parquet files."""

TURN = ""
"""Id of the row of the ledger that every load updates, and so is alone."""


@only_polars
@dataclass(frozen=True)
class DuckLake(TableTarget):
    """Load rows into a table of a DuckLake, each batch once.

    The lake and the table are made if they are not there, and columns that the table lacks are
    added. Several processes and machines may write to one lake.

    Args:
        url: Its catalog: a path or `sqlite:///lake.db` for a file of SQLite, or
            `postgresql://host/db`.
        table: Its name; perhaps after that of a schema and a dot.
        add_columns: Add columns to the table that rows have and it has not.
        files: Folder of its Parquet files; by default `lake.db.files` beside the catalog.
        leave_out: Columns that are not written; `line` is if the run keeps it (`--keep-line`).
        timeout: Seconds for which `etl run` waits at its end while the lake fails.
        max_spool_bytes: Bytes of files that may wait for it; while there are more, workers
            lease nothing.

    Raises:
        UsageError: If the catalog is of no known kind, or DuckDB or an extension is not installed.
    """

    url: str = field(repr=False)
    table: str
    add_columns: bool = True
    files: str | None = None

    def __post_init__(self) -> None:
        """Find DuckDB and its extensions, without loading them."""
        super().__post_init__()
        scheme = self.address.scheme
        if scheme not in ("", "sqlite", *POSTGRES):
            raise UsageError(
                f"catalog {self.address} of a lake is of no known kind; use a path, "
                "sqlite:///lake.db or postgresql://host/db"
            )
        if scheme in POSTGRES and self.files is None:
            raise UsageError(
                f"the lake at {self.address} has no folder for its Parquet files; name one that "
                "all its users reach: files=…"
            )
        for module in ("duckdb", "pyarrow", *map(_module, self._extensions)):
            require(module, f"the lake at {self.address}", "lake")

    @property
    def _extensions(self) -> tuple[str, str]:
        """The extensions of DuckDB that it takes."""
        on_server = self.address.scheme in POSTGRES
        return ("postgres_scanner" if on_server else "sqlite_scanner", "ducklake")

    @contextmanager
    def session(self) -> Iterator[LakeSession]:
        """Attach the lake to a DuckDB in memory, until the block ends."""
        import duckdb

        alone: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        with duckdb.connect(config=alone) as connection:
            for extension in self._extensions:
                connection.execute(f"LOAD {text_of(_file_of(extension, duckdb.__version__))}")
            try:
                connection.execute(self._attach(self.files or self._beside()))
            except duckdb.Error as error:
                if self.files is not None or OTHER_FILES not in str(error):
                    raise
                connection.execute(self._attach(None))  # they are where its maker put them
            connection.execute("USE lake")
            yield LakeSession(connection, self)

    def _attach(self, files: str | None) -> str:
        """Return the statement that attaches the lake, whose Parquet files are in a folder."""
        if self.address.scheme in POSTGRES:
            catalog, options = f"postgres:{self.address.secret}", []
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            catalog = f"sqlite:{self._path}"
            options = ["META_JOURNAL_MODE 'WAL'", "META_BUSY_TIMEOUT 10000"]
        if files is not None:
            options.append(f"DATA_PATH {text_of(files)}")
        return f"ATTACH {text_of(f'ducklake:{catalog}')} AS lake ({', '.join(options)})"

    @property
    def _path(self) -> Path:
        """The catalog, if it is a file."""
        _, url, path = self.address.secret.partition("sqlite:///")
        return Path(path if url else self.address.secret).absolute()

    def _beside(self) -> str:
        """Return the folder of the Parquet files if none is named."""
        return f"{self._path}.files"


class LakeSession:
    """A DuckDB that has a lake attached.

    Args:
        connection: It.
        target: What is loaded.
    """

    def __init__(self, connection: DuckDBPyConnection, target: DuckLake) -> None:
        self._connection = connection
        self._target = target

    def columns_for(self, schema: pl.Schema) -> Columns:
        """Return the table's columns; the table, and what it lacks, is made if it may be."""
        found = self._read_columns()
        if found is None or (self._target.add_columns and found.missing(schema.names())):
            self._make(schema, found)
            found = self._read_columns()
        if found is None:
            raise ProcessorStop(f"table {self._target.table} was made and cannot be found")
        return found

    def loaded(self, ids: Sequence[str]) -> set[str]:
        """Return which ids are in the ledger."""
        self._make_ledger()
        listed = ", ".join(map(text_of, ids))
        rows = self._connection.execute(f"SELECT batch FROM {LEDGER} WHERE batch IN ({listed})")
        return {row[0] for row in rows.fetchall()}

    def load(self, files: Sequence[SpooledFile]) -> None:
        """Load files and note their ids in one transaction."""
        frames = [file.rows() for file in files]
        rows = pl.concat(frames, how="diagonal_relaxed")
        columns = self.columns_for(rows.schema)
        now = datetime.now(UTC)
        noted = [
            (file.id, self._target.table, frame.height, now)
            for file, frame in zip(files, frames, strict=True)
        ]
        self._connection.begin()
        try:
            self._connection.execute(
                f"UPDATE {LEDGER} SET row_count = row_count + {rows.height} WHERE batch = '{TURN}'"
            )
            if known := self.loaded([file.id for file in files]):
                raise ConflictError(f"{len(known)} files were loaded by another process meanwhile")
            self._insert(LEDGER, pl.DataFrame(noted, LEDGER_SCHEMA, orient="row"))
            self._insert(self._target.table, fitted(rows, columns))
            self._connection.commit()
        except BaseException:
            with suppress(Exception):  # a commit that failed has ended the transaction
                self._connection.rollback()
            raise

    def _insert(self, table: str, rows: pl.DataFrame) -> None:
        self._connection.register("spooled", rows)
        self._connection.execute(f"INSERT INTO {quoted(table)} BY NAME SELECT * FROM spooled")
        self._connection.unregister("spooled")

    def _make_ledger(self) -> None:
        """Make the ledger with the row that all loads update, if it is not there."""
        if self._describe(LEDGER):
            return
        self._connection.begin()
        try:
            self._connection.execute(f"CREATE TABLE {LEDGER} ({_definitions(LEDGER_SCHEMA)})")
            self._connection.execute(f"INSERT INTO {LEDGER} VALUES ('{TURN}', '', 0, now())")
            self._connection.commit()
        except BaseException:
            with suppress(Exception):
                self._connection.rollback()
            raise

    def _make(self, columns: pl.Schema, found: Columns | None) -> None:
        table = quoted(self._target.table)
        if found is None:
            schema, dot, _ = self._target.table.rpartition(".")
            if dot:
                self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
            self._connection.execute(
                f"CREATE TABLE IF NOT EXISTS {table} ({_definitions(columns)})"
            )
            return
        for name in found.missing(columns.names()):
            definition = _definitions({name: columns[name]})
            self._connection.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {definition}")

    def _read_columns(self) -> Columns | None:
        found = self._describe(self._target.table)
        if not found:
            return None
        schema = (
            self._connection.execute(f"SELECT * FROM {quoted(self._target.table)} LIMIT 0")
            .pl()
            .schema
        )
        columns = [duckdb_column(name, schema[name], kind, null) for name, kind, null in found]
        return Columns(self._target.table, columns, str.casefold)

    def _describe(self, table: str) -> list[tuple[str, str, str]]:
        """Return names, types and whether they may be null, of the columns of a table."""
        import duckdb

        try:
            rows = self._connection.execute(f"DESCRIBE {quoted(table)}").fetchall()
        except duckdb.CatalogException:
            return []
        return [(name, kind, null) for name, kind, null, *_ in rows]


class ConflictError(Exception):
    """Another process has loaded the same."""


def _definitions(schema: Mapping[str, pl.DataType]) -> str:
    return ", ".join(f"{quoted_name(name)} {TYPES[natural(one)]}" for name, one in schema.items())


def _module(extension: str) -> str:
    return f"duckdb_extension_{extension}"


def _file_of(extension: str, version: str) -> str:
    """Return the file of an extension, of the package that has it.

    Raises:
        UsageError: If the package is of another version of DuckDB.
    """
    spec = find_spec(_module(extension))
    folder = Path(spec.origin or "").parent if spec else Path()
    file = folder / "extensions" / f"v{version}" / f"{extension}.duckdb_extension"
    if not file.exists():
        name = _module(extension).replace("_", "-")
        raise UsageError(
            f"{name} has no extension for DuckDB {version}; install both of one version: "
            f"pip install 'duckdb=={version}' '{name}=={version}'"
        )
    return str(file)
