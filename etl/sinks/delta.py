"""Delta Lake tables: each file is an application transaction of the commit that has its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from etl.errors import ProcessorStop
from etl.processors.processor import only_polars
from etl.sinks.fitting import Columns, TargetColumn, fitted, natural
from etl.sinks.table import TableTarget
from etl.sinks.target import SpooledFile, require

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["Delta"]

VERSION = 1
"""Version of an application transaction whose id is that of a file: it is committed once."""


@only_polars
@dataclass(frozen=True)
class Delta(TableTarget):
    """Load rows into a Delta Lake table, each batch once.

    The table is made if it is not there, and columns that it lacks are added.

    Args:
        url: A path, or a URL that `deltalake` opens, such as `s3://bucket/lines`.
        add_columns: Add columns to the table that rows have and it has not.
        storage_options: Options and credentials for the URL; by default of the environment.
        leave_out: Columns that are not written; `line` is if the run keeps it (`--keep-line`).
        timeout: Seconds for which `etl run` waits at its end while the table fails.
        max_spool_bytes: Bytes of files that may wait for it; while there are more, workers
            lease nothing.

    Raises:
        UsageError: If `deltalake` is not installed.
    """

    url: str = field(repr=False)
    table: str = field(default="", init=False, repr=False)
    add_columns: bool = True
    storage_options: Mapping[str, str] | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        """Find the library, without loading it."""
        super().__post_init__()
        require("deltalake", f"the Delta table {self.address}", "delta")

    @contextmanager
    def session(self) -> Iterator[DeltaSession]:
        """Return a session: each load looks at the table as it is then."""
        yield DeltaSession(self)


class DeltaSession:
    """A Delta table while files are loaded.

    Args:
        target: It.
    """

    def __init__(self, target: Delta) -> None:
        self._target = target
        self._url = target.address.secret
        self._options = dict(target.storage_options or {}) or None
        self._table: DeltaTable | None = None

    def columns_for(self, schema: pl.Schema) -> Columns:
        """Return the table's columns; the table, and what it lacks, is made if it may be."""
        found = self._read_columns(self._open())
        if found is None or (self._target.add_columns and found.missing(schema.names())):
            types = {name: natural(one) for name, one in schema.items()}
            missing = list(types) if found is None else found.missing(list(types))
            new = pl.DataFrame(schema={name: types[name] for name in missing})
            self._write(self._url, new, schema_mode="merge")
            found = self._read_columns(self._open())
        if found is None:
            raise ProcessorStop(f"Delta table {self._target.address} was made and is not there")
        return found

    def loaded(self, ids: Sequence[str]) -> set[str]:
        """Return which ids are those of committed application transactions."""
        self._table = table = self._open()
        if table is None:
            return set()
        return {id for id in ids if table.transaction_version(id) is not None}

    def load(self, files: Sequence[SpooledFile]) -> None:
        """Load files in one commit, which fails if another has one of their ids meanwhile.

        The commit is on the table as `loaded` saw it: so no id goes unnoticed in between.
        """
        from deltalake import CommitProperties, Transaction

        rows = pl.concat([file.rows() for file in files], how="diagonal_relaxed")
        if self._table is None:  # removed since the rows were fitted to it
            self.columns_for(rows.schema)
            self._table = self._open()
        if (table := self._table) is None or (columns := self._read_columns(table)) is None:
            raise ProcessorStop(f"Delta table {self._target.address} was made and is not there")
        once = CommitProperties(app_transactions=[Transaction(one.id, VERSION) for one in files])
        self._write(table, fitted(rows, columns, whole=True), commit_properties=once)

    def _open(self) -> DeltaTable | None:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            return DeltaTable(self._url, storage_options=self._options)
        except TableNotFoundError:
            return None

    def _write(self, table: DeltaTable | str, rows: pl.DataFrame, **options: Any) -> None:
        from deltalake import write_deltalake

        write_deltalake(table, rows, mode="append", storage_options=self._options, **options)

    def _read_columns(self, table: DeltaTable | None) -> Columns | None:
        if table is None:
            return None
        schema = table.schema()
        types = pl.Schema(schema.to_arrow())
        columns = [
            TargetColumn(one.name, types[one.name], str(types[one.name]), required=not one.nullable)
            for one in schema.fields
        ]
        return Columns(str(self._target.address), columns, str.casefold)
