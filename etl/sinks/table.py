"""What targets that are tables have in common: what fits is agreed with the table, once a process.

Not here: how a table is reached, and how rows are loaded into it.
"""

from __future__ import annotations

import re
import threading
import time
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from etl.errors import ProcessorStop, TargetUnavailable
from etl.processors.processor import REJECT, Delivery
from etl.sinks.fitting import Columns, TargetColumn, fitted, marked
from etl.sinks.target import MAX_SPOOL_BYTES, Address, Session, Target

__all__ = ["TableSession", "TableTarget", "duckdb_column", "quoted", "quoted_name", "text_of"]

PATH = "path"
"""Column of the processors that a row has passed, which is set for sinks."""

LOCKED = re.compile(r"\block(ed)?\b|\bbusy\b|conflict", re.IGNORECASE)
"""What drivers say of a file that another process has open."""

WRITABLE = re.compile(
    r"U?(TINY|SMALL|BIG)?INT(EGER)?|FLOAT|DOUBLE|VARCHAR|BOOLEAN|DATE|BLOB|TIMESTAMP( WITH.*)?"
)
"""Types of DuckDB that are written as they are read."""


class TableSession(Session, Protocol):
    """A connection to a table."""

    def columns_for(self, schema: pl.Schema) -> Columns:
        """Return the table's columns; the table, and what it lacks, is made if it may be."""


class Agreed:
    """What this process knows of a table."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.columns: Columns | None = None


@dataclass(frozen=True)
class TableTarget(Target):
    """A table that rows are loaded into.

    Attributes:
        leave_out: Columns that are not written; `line` is if the run keeps it (`--keep-line`).
        timeout: Seconds for which `etl run` waits at its end while the target fails.
        max_spool_bytes: Bytes of files that may wait for it.
    """

    url: str = field(repr=False)
    table: str
    add_columns: bool = False
    leave_out: Sequence[str] = field(default=(), kw_only=True)
    timeout: float = field(default=30.0, kw_only=True)
    max_spool_bytes: int = field(default=MAX_SPOOL_BYTES, kw_only=True)
    _agreed: Agreed = field(default_factory=Agreed, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Keep the URL as one that shows no password."""
        object.__setattr__(self, "url", Address(self.url))

    @property
    def place(self) -> str:
        """The table."""
        return self.table

    @abstractmethod
    def session(self) -> AbstractContextManager[TableSession]:
        """Connect to the table."""

    def agree(self, frame: pl.DataFrame, delivery: Delivery) -> None:
        """Find out what columns the table has; it is made if need be."""
        rows, columns = self._agreed_with(frame, delivery)
        columns.of(rows)

    def fit(self, frame: pl.DataFrame, delivery: Delivery) -> pl.DataFrame:
        """Return the rows with the table's columns and types; or as they are, misfits marked."""
        rows, columns = self._agreed_with(frame, delivery)
        rows = marked(rows, columns)
        return rows if REJECT in rows.columns else fitted(rows, columns)

    def _agreed_with(self, frame: pl.DataFrame, delivery: Delivery) -> tuple[pl.DataFrame, Columns]:
        """Return the rows with the columns that are written, and the table's columns.

        The path of a row is written if the table has a column for it: no processor can drop it.
        """
        rows = delivery.without(frame, self.leave_out)
        columns = self._columns_for(rows.schema)
        if PATH in columns.missing(rows.columns):
            rows = rows.drop(PATH)
        return rows, columns

    def _columns_for(self, schema: pl.Schema) -> Columns:
        """Return the table's columns, as they were when this process last had to ask."""
        agreed = self._agreed
        with agreed.lock:
            known = agreed.columns
            if known is None or {*known.missing(schema.names())} - {PATH}:
                known = agreed.columns = self._ask(schema)
            return known

    def _ask(self, schema: pl.Schema) -> Columns:
        """Return what the target says of the table; one that another has locked is awaited."""
        deadline = time.monotonic() + self.timeout
        attempt = 0
        while True:
            try:
                with self.session() as session:
                    return session.columns_for(schema)
            except ProcessorStop:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a driver raises
                said = self.address.hide(error)
                if not LOCKED.search(said) or time.monotonic() > deadline:
                    raise TargetUnavailable(f"target {self.name} cannot be used: {said}") from None
            time.sleep(min(0.5, 0.05 * 2**attempt))
            attempt += 1


def quoted(table: str) -> str:
    """Return a table's name, perhaps after that of a schema and a dot, as SQL writes it."""
    return ".".join(map(quoted_name, table.split(".")))


def quoted_name(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def text_of(value: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + value.replace("'", "''") + "'"


def duckdb_column(name: str, dtype: pl.DataType | None, type_name: str, null: str) -> TargetColumn:
    """Return a column of what DESCRIBE of DuckDB says of it.

    Args:
        name: Its name.
        dtype: What it is read as.
        type_name: Its type.
        null: YES or NO.
    """
    writable = WRITABLE.fullmatch(type_name)
    return TargetColumn(name, dtype if writable else None, type_name, required=null == "NO")
