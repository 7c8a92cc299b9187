"""Tables of databases, through ADBC: PostgreSQL, SQLite, DuckDB, and any whose driver is there.

Files are loaded in one transaction with a row for each in the table `etl_batches`, which has the
id of the batch as its primary key: a file whose id is there is not loaded again.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import polars as pl

from etl.errors import ProcessorStop, UsageError
from etl.processors.processor import only_polars
from etl.sinks.fitting import Columns, TargetColumn, fitted, natural
from etl.sinks.table import TableTarget, duckdb_column, quoted, quoted_name, text_of
from etl.sinks.target import Address, SpooledFile, require, schema_of
from etl.text import POSTGRES

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Connection

__all__ = ["LEDGER", "DatabaseTable"]

LEDGER = "etl_batches"
"""Table of a target that has the ids of the files that were loaded."""

LEDGER_SCHEMA: Mapping[str, pl.DataType] = {
    "batch": pl.String(),
    "table_name": pl.String(),
    "row_count": pl.Int64(),
    "loaded_at": pl.Datetime("us", "UTC"),
}

TYPES: Mapping[pl.DataType, str] = {
    pl.Int16(): "SMALLINT",
    pl.Int32(): "INTEGER",
    pl.Int64(): "BIGINT",
    pl.Float32(): "REAL",
    pl.Float64(): "DOUBLE PRECISION",
    pl.String(): "TEXT",
    pl.Boolean(): "BOOLEAN",
    pl.Date(): "DATE",
    pl.Datetime("us"): "TIMESTAMP",
    pl.Datetime("us", "UTC"): "TIMESTAMP WITH TIME ZONE",
    pl.Binary(): "BYTEA",
}
"""Types of columns that are made, in the words of PostgreSQL and DuckDB."""


MISSING = re.compile("not exist|not found|no such|unknown table", re.IGNORECASE)
"""What they say of a table that is not there."""

SQLITE_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("SMALLINT", "INTEGER", "BIGINT", "BOOLEAN"), "INTEGER"),
    **dict.fromkeys(("REAL", "DOUBLE PRECISION"), "REAL"),
    "BYTEA": "BLOB",
}
"""Those of SQLite, which has but four; times are texts."""


class Dialect(Protocol):
    """What differs from one kind of database to another."""

    driver: str
    """Module of the ADBC driver."""
    whole_rows: bool
    """Whether rows must have all columns of a table, in its order."""
    types: Mapping[pl.DataType, str]

    def uri(self, address: Address) -> str:
        """Return the name by which the driver knows a database."""

    def fold(self, name: str) -> str:
        """Return the same for names that are the same to the database."""

    def columns(self, connection: Connection, table: str) -> list[TargetColumn]:
        """Return the columns of a table; none if there is no such table."""


class Generic:
    """Any database that has an ADBC driver."""

    whole_rows = True
    types = TYPES

    def __init__(self, scheme: str) -> None:
        self.driver = f"adbc_driver_{scheme.partition('+')[0]}"

    def uri(self, address: Address) -> str:
        """Return the URL as it is."""
        return address.secret

    def fold(self, name: str) -> str:
        """Return the name without case."""
        return name.casefold()

    def columns(self, connection: Connection, table: str) -> list[TargetColumn]:
        """Return the columns of a query that has no rows."""
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT * FROM {quoted(table)} LIMIT 0")
                schema = cursor.fetch_polars().schema
        except Exception as error:
            connection.rollback()
            if not re.search(
                "not exist|not found|no such|unknown table", str(error), re.IGNORECASE
            ):
                raise
            return []
        return [TargetColumn(name, dtype, str(dtype)) for name, dtype in schema.items()]


class DuckDB(Generic):
    """DuckDB, by the driver that is part of it."""

    driver = "adbc_driver_duckdb"

    def __init__(self) -> None:
        pass

    def uri(self, address: Address) -> str:
        """Return the path of the file."""
        return address.secret.partition("://")[2].removeprefix("/")

    def columns(self, connection: Connection, table: str) -> list[TargetColumn]:
        """Return the columns by what DuckDB itself says of them."""
        found = super().columns(connection, table)
        if not found:
            return []
        with connection.cursor() as cursor:
            cursor.execute(f"DESCRIBE {quoted(table)}")
            said = {row[0]: row[1:3] for row in cursor.fetch_polars().rows()}
        return [duckdb_column(one.name, one.dtype, *said[one.name]) for one in found]


class SQLite(Generic):
    """SQLite, whose columns have types in name more than in fact."""

    driver = "adbc_driver_sqlite"
    whole_rows = False
    types: Mapping[pl.DataType, str] = {
        dtype: SQLITE_NAMES.get(name, "TEXT") for dtype, name in TYPES.items()
    }

    def __init__(self) -> None:
        pass

    def uri(self, address: Address) -> str:
        """Return the path of the file."""
        return address.secret.partition("://")[2].removeprefix("/")

    def columns(self, connection: Connection, table: str) -> list[TargetColumn]:
        """Return the columns with the types that they were declared with."""
        with connection.cursor() as cursor:
            named = text_of(table)
            cursor.execute(
                f'SELECT name, type, "notnull", dflt_value FROM pragma_table_info({named})'
            )
            rows = cursor.fetch_polars().rows()
        return [
            TargetColumn(
                name,
                dtype := self._dtype(declared.upper()),
                declared or "any type",
                required=bool(required),
                default=default is not None,
                as_it_is=(pl.Datetime, pl.Date) if dtype == pl.String else (),
            )
            for name, declared, required, default in rows
        ]

    @staticmethod
    def _dtype(declared: str) -> pl.DataType:
        """Return what a declared type prefers: https://www.sqlite.org/datatype3.html."""
        if "INT" in declared or "BOOL" in declared:
            return pl.Int64()
        if re.search("REAL|FLOA|DOUB|NUM|DEC", declared):
            return pl.Float64()
        return pl.Binary() if "BLOB" in declared else pl.String()


class PostgreSQL(Generic):
    """PostgreSQL, which takes nothing but the type of the column."""

    driver = "adbc_driver_postgresql"
    whole_rows = False
    timeouts: Mapping[str, str] = {
        "connect_timeout": "10",
        "keepalives_idle": "10",
        "keepalives_interval": "10",
        "keepalives_count": "3",
        "tcp_user_timeout": "30000",
    }
    """Options of libpq without which a server that is gone is waited for without end."""

    dtypes: Mapping[str, pl.DataType] = {
        **{name.lower(): dtype for dtype, name in TYPES.items()},
        "timestamp without time zone": pl.Datetime("us"),
        "character varying": pl.String(),
        "character": pl.String(),
        "json": pl.String(),
    }

    COLUMNS = """
        SELECT attname, format_type(atttypid, NULL), attnotnull, atthasdef OR attidentity <> '',
               CASE WHEN atttypmod > 4 THEN atttypmod - 4 END
        FROM pg_attribute WHERE attrelid = to_regclass({table}) AND attnum > 0
            AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"""

    def __init__(self) -> None:
        pass

    def uri(self, address: Address) -> str:
        """Return the URL with limits on the time that a silent server is waited for."""
        parts = urlsplit(address.secret)
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        missing = {name: value for name, value in self.timeouts.items() if name not in given}
        query = "&".join(filter(None, [parts.query, urlencode(missing)]))
        return urlunsplit(parts._replace(query=query))

    def fold(self, name: str) -> str:
        """Return the name: it is always quoted."""
        return name

    def columns(self, connection: Connection, table: str) -> list[TargetColumn]:
        """Return the columns by the catalogue."""
        with connection.cursor() as cursor:
            cursor.execute(self.COLUMNS.format(table=text_of(quoted(table))))
            rows = cursor.fetch_polars().rows()
        return [
            TargetColumn(
                name,
                self.dtypes.get(declared),
                declared if chars is None else f"{declared}({chars})",
                required=required,
                default=default,
                max_chars=chars if declared.startswith("character") else None,
                nul=False,
            )
            for name, declared, required, default, chars in rows
        ]


def dialect_of(address: Address) -> Dialect:
    """Return the dialect of a URL.

    Raises:
        UsageError: If it is no URL of a database.
    """
    scheme = address.scheme
    if scheme in POSTGRES:
        return PostgreSQL()
    if scheme == "sqlite":
        return SQLite()
    if scheme == "duckdb":
        return DuckDB()
    if not re.fullmatch(r"[a-z][a-z0-9]*(\+\w+)?", scheme):
        raise UsageError(
            f"target {address} names no database; use postgresql://host/db, sqlite:///file.db, "
            "duckdb:///file.duckdb, or the URL of another one that has an ADBC driver"
        )
    return Generic(scheme)


@only_polars
@dataclass(frozen=True)
class DatabaseTable(TableTarget):
    """Load rows into a table of a database, each batch once: PostgreSQL, SQLite, DuckDB, ….

    The table is made with the columns of the first rows if it is not there. Rows that do not fit
    it are dead letters; a column that it does not have stops the pipeline.

    Args:
        url: `postgresql://host/db`, `sqlite:///file.db`, `duckdb:///file.duckdb`, or what the
            ADBC driver of another database is named after, with its options.
        table: Its name; perhaps after that of a schema and a dot.
        add_columns: Add columns to the table that rows have and it has not.
        leave_out: Columns that are not written; `line` is if the run keeps it (`--keep-line`).
        timeout: Seconds for which `etl run` waits at its end while the database fails.
        max_spool_bytes: Bytes of files that may wait for it; while there are more, workers
            lease nothing.

    Raises:
        UsageError: If the URL names no database, or its driver is not installed.
    """

    url: str = field(repr=False)
    table: str
    add_columns: bool = False

    def __post_init__(self) -> None:
        """Find the driver, without loading it."""
        super().__post_init__()
        known = self.dialect.driver.removeprefix("adbc_driver_")
        extra = "databases" if known in ("postgresql", "sqlite", "duckdb") else ""
        require("adbc_driver_manager", f"a table at {self.address}", "databases")
        require(self.dialect.driver, f"a table at {self.address}", extra)

    @cached_property
    def dialect(self) -> Dialect:
        """What is special of this kind of database."""
        return dialect_of(self.address)

    @contextmanager
    def session(self) -> Iterator[DatabaseSession]:
        """Connect to the database, until the block ends."""
        dbapi = importlib.import_module(f"{self.dialect.driver}.dbapi")
        uri = self.dialect.uri(self.address)
        if isinstance(self.dialect, SQLite | DuckDB):
            Path(uri).parent.mkdir(parents=True, exist_ok=True)
        connection: Connection = dbapi.connect(uri)
        try:
            yield DatabaseSession(connection, self)
        finally:
            connection.close()


class DatabaseSession:
    """A connection to a database.

    Args:
        connection: It.
        target: What is loaded.
    """

    def __init__(self, connection: Connection, target: DatabaseTable) -> None:
        self._connection = connection
        self._target = target
        self._dialect = target.dialect
        schema, _, self._table = target.table.rpartition(".")
        self._schema = schema or None
        self._ledger = f"{schema}.{LEDGER}" if schema else LEDGER

    def columns_for(self, schema: pl.Schema) -> Columns:
        """Return the table's columns; the table, and what it lacks, is made if it may be."""
        found = self._read_columns()
        if found is None or (self._target.add_columns and found.missing(schema.names())):
            try:
                self._make(schema, found)
            except Exception:  # another process may have made the same meanwhile
                with suppress(Exception):
                    self._connection.rollback()
                found = self._read_columns()
                if found is None or found.missing(schema.names()):
                    raise
            else:
                found = self._read_columns()
        self._connection.rollback()  # what is looked at next is as it is then
        if found is None:
            raise ProcessorStop(f"table {self._target.table} was made and cannot be found")
        return found

    def loaded(self, ids: Sequence[str]) -> set[str]:
        """Return which ids are in the ledger."""
        if not self._dialect.columns(self._connection, self._ledger):
            return set()
        listed = ", ".join(map(text_of, ids))
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT batch FROM {quoted(self._ledger)} WHERE batch IN ({listed})")
            found = {row[0] for row in cursor.fetch_polars().rows()}
        self._connection.rollback()  # what is looked at next is as it is then
        return found

    def load(self, files: Sequence[SpooledFile]) -> None:
        """Load files and note their ids in one transaction."""
        columns = self.columns_for(schema_of(files))
        try:
            self._load(files, columns)
            self._connection.commit()
        except BaseException:
            with suppress(Exception):  # the connection may be gone, and with it the transaction
                self._connection.rollback()
            raise

    def _load(self, files: Sequence[SpooledFile], columns: Columns) -> None:
        self._run(
            f"CREATE TABLE IF NOT EXISTS {quoted(self._ledger)} "
            f"({', '.join(self._definitions(LEDGER_SCHEMA))}, PRIMARY KEY (batch))"
        )
        now = datetime.now(UTC)
        rows = [(file.id, self._target.table, file.height, now) for file in files]
        # First: whoever loads the same at this moment waits here, and then has nothing to do.
        self._ingest(LEDGER, pl.DataFrame(rows, LEDGER_SCHEMA, orient="row"))
        for file in files:
            whole = self._dialect.whole_rows
            self._ingest(self._table, fitted(file.rows(), columns, whole=whole))

    def _ingest(self, table: str, rows: pl.DataFrame) -> None:
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest(table, rows, mode="append", db_schema_name=self._schema)

    def _make(self, schema: Mapping[str, pl.DataType], found: Columns | None) -> None:
        """Make the table, or the columns that it lacks."""
        table = quoted(self._target.table)
        if found is None:
            listed = ", ".join(self._definitions(schema))
            self._run(f"CREATE TABLE IF NOT EXISTS {table} ({listed})")
        else:
            new = {name: schema[name] for name in found.missing(list(schema))}
            for definition in self._definitions(new):
                self._run(f"ALTER TABLE {table} ADD COLUMN {definition}")
        self._connection.commit()

    def _definitions(self, schema: Mapping[str, pl.DataType]) -> list[str]:
        types = self._dialect.types
        return [f"{quoted_name(name)} {types[natural(dtype)]}" for name, dtype in schema.items()]

    def _read_columns(self) -> Columns | None:
        found = self._dialect.columns(self._connection, self._target.table)
        return Columns(self._target.table, found, self._dialect.fold) if found else None

    def _run(self, statement: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
