"""The columns of every table that a store keeps, each once: name, type, unit and meaning.

SQL, Polars schemas, pandas dtypes, the HTTP models, Prometheus and the tables of the
command line are derived from here. A column that is added is added here, and to the
stores that exist by a migration (`etl/queue/sql`).

    DEAD_LETTERS.names           ("id", "status", …)
    DEAD_LETTERS.schema          {"id": pl.Int64, …}
    DEAD_LETTERS.frame(rows)     a pandas frame with exactly these columns and dtypes
    PROCESSORS.drop("worker")    the same without a column
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from etl.records.stats import ProcessorStats

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BYTES",
    "CHECKED",
    "CHECKPOINTS",
    "COUNTERS",
    "DEAD_LETTERS",
    "DEAD_LETTER_GROUPS",
    "ERRORS",
    "FAILURES",
    "FINDINGS",
    "FLAG",
    "INTEGER",
    "INTEGER_OR_NULL",
    "JSON",
    "LATENCY",
    "NAMES",
    "NAME_LIST",
    "NUMBER",
    "NUMBER_LIST",
    "PROCESSORS",
    "PROCESSOR_HISTORY",
    "QUEUE_HISTORY",
    "SOURCE_FORMATS",
    "STATES",
    "STORED_DEAD_LETTERS",
    "TEXT",
    "TIME",
    "TOTALS",
    "TRACES",
    "WAITING",
    "WORKERS",
    "Column",
    "Kind",
    "Table",
]


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of column, as each place that holds it calls it.

    Attributes:
        sql: In SQLite; `etl/queue/sql` knows what other stores call it.
        polars: In a Polars frame.
        pandas: In a pandas frame.
        python: In a row that is a dict, and in JSON.
    """

    sql: str
    polars: pl.DataType | type[pl.DataType]
    pandas: str
    python: Any


INTEGER = Kind("INTEGER", pl.Int64, "int64", int)
INTEGER_OR_NULL = Kind("INTEGER", pl.Int64, "Int64", int | None)
NUMBER = Kind("REAL", pl.Float64, "float64", float)
TEXT = Kind("TEXT", pl.String, "str", str)
FLAG = Kind("INTEGER", pl.Boolean, "bool", bool)
TIME = Kind("REAL", pl.Float64, "datetime64[us, UTC]", float)
"""Unix seconds; in pandas a time in UTC."""
SECOND = Kind("INTEGER", pl.Int64, TIME.pandas, int)
"""Whole Unix seconds; in pandas a time in UTC."""
BYTES = Kind("BLOB", pl.Binary, "object", bytes)
JSON = Kind("TEXT", pl.String, "object", Any)
"""A JSON value, kept as its text."""
NAMES = Kind("TEXT", pl.String, "object", list[str])
"""A path: names of processors, kept as a JSON list; in pandas a tuple."""
NAME_LIST = Kind("TEXT", pl.List(pl.String), "object", list[str])
"""The same, read; in pandas a tuple."""
NUMBER_LIST = Kind("TEXT", pl.List(pl.Float64), "object", list[float])
"""Numbers, read from a JSON list; in pandas a tuple."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its name, the same everywhere.
        kind: Its type.
        about: What it means, with its unit, in one sentence.
        null: Whether it may be null.
    """

    name: str
    kind: Kind
    about: str
    null: bool = False

    @property
    def dtype(self) -> str:
        """Its pandas dtype."""
        return "Int64" if self.null and self.kind is INTEGER else self.kind.pandas


class Table:
    """The columns of a table, in order.

    Args:
        name: The table's name.
        columns: Its columns.
    """

    def __init__(self, name: str, *columns: Column) -> None:
        self.name = name
        self._columns = {column.name: column for column in columns}

    @classmethod
    def of(cls, name: str, /, **kinds: Kind) -> Table:
        """Return the table of a frame that is made of others, by its columns' kinds."""
        return cls(name, *(Column(column, kind, "") for column, kind in kinds.items()))

    def __iter__(self) -> Iterator[Column]:
        return iter(self._columns.values())

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __repr__(self) -> str:
        return f"<Table {self.name}: {', '.join(self._columns)}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(self._columns)

    @property
    def schema(self) -> dict[str, pl.DataType | type[pl.DataType]]:
        """The columns as a Polars schema."""
        return {column.name: column.kind.polars for column in self}

    def pick(self, *names: str) -> Table:
        """Return a table of some of the columns, in this order."""
        return Table(self.name, *(self._columns[name] for name in names))

    def drop(self, *names: str) -> Table:
        """Return the table without some columns."""
        return Table(self.name, *(column for column in self if column.name not in names))

    def add(self, *columns: Column, **kinds: Kind) -> Table:
        """Return the table with further columns at its end: as they are, or by their kinds."""
        return Table(self.name, *self, *columns, *Table.of("", **kinds))

    def rename(self, **names: str) -> Table:
        """Return the table with columns called otherwise."""
        return Table(self.name, *(replace(one, name=names.get(one.name, one.name)) for one in self))

    def frame(self, rows: Iterable[Mapping[str, Any]] | pl.DataFrame) -> pd.DataFrame:
        """Return rows as a pandas frame with exactly these columns and dtypes.

        Args:
            rows: Dicts or a Polars frame; what has no column here is left out, and a
                column that they lack is null.
        """
        import pandas as pd  # half a second that the command line does without

        given = rows.to_dicts() if isinstance(rows, pl.DataFrame) else list(rows)
        frame = pd.DataFrame(given, columns=list(self._columns))
        for column in self:
            values = frame[column.name]
            if column.kind.pandas == TIME.pandas and not pd.api.types.is_datetime64_any_dtype(
                values
            ):
                values = pd.to_datetime(values.astype("float64"), unit="s", utc=True)
            frame[column.name] = values.astype(column.dtype)
        return frame


def _columns(kind: Kind, **columns: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind, about) for name, about in columns.items())


COUNTERS = Table(
    "counters",
    *(
        Column(one.name, NUMBER if one.type == "float" else INTEGER, one.metadata["about"])
        for one in fields(ProcessorStats)
    ),
)
"""What is counted of a processor."""

TOTALS = Table(
    "totals",
    *_columns(
        INTEGER,
        accepted="Source lines stored.",
        done="Source lines that reached an end of the pipeline.",
        filtered="Source lines that a processor dropped.",
        dead="Source lines in the dead-letter queue, or discarded from it.",
        leased="Source lines that workers have leased.",
        waiting="Source lines that wait.",
    ),
)
"""The accounting identity: the first is the sum of the others."""

_PROCESSOR = Column("processor", TEXT, "Name of the processor.")
_SECOND = Column("second", SECOND, "The second.")

PROCESSORS = Table("processors", Column("worker", TEXT, "Name of the worker."), _PROCESSOR).add(
    *COUNTERS
)
PROCESSOR_HISTORY = Table("processor_history", _SECOND, _PROCESSOR).add(*COUNTERS)
QUEUE_HISTORY = Table("queue_history", _SECOND).add(*TOTALS)
"""The totals at the end of each second in which they changed."""

LATENCY = Table(
    "latency",
    _PROCESSOR,
    Column("bucket", INTEGER, "Eighths of a power of two seconds a line."),
    Column("lines", INTEGER, "Rows in this bucket."),
)

CHECKPOINTS = Table(
    "checkpoints",
    Column("source", TEXT, "What was read: a file's path, or a name."),
    Column("offset", INTEGER, "Bytes of (decompressed) text read."),
    Column("line_number", INTEGER, "Lines read."),
    Column("signature", TEXT, "Tells this file from another of its name."),
    Column("number", INTEGER, "Which of the files that had its name, from 1; 0 for no file."),
    Column("path", TEXT, "Where that file was seen last."),
    Column("file", TEXT, "Its device and inode then."),
    Column("host", TEXT, "On which machine."),
    Column("modified", TIME, "When it was last changed, then."),
    Column("error", TEXT, "Why it cannot be read now; empty if it can."),
)
"""How far each source was read: moves in the transaction that puts its lines."""

SOURCE_FORMATS = Table(
    "source_formats",
    Column("source", TEXT, "Where the records are from."),
    Column("format", TEXT, "What they were read by; empty if they do not fit the one named."),
    Column("records", INTEGER, "How many were."),
    Column("timeless", INTEGER, "Those of them without a time."),
    Column("empty", INTEGER, "Those with neither a time, nor a level, nor a message."),
    Column("cut", INTEGER, "Pieces of records that were over the limits."),
)
"""What was read in each source."""

DEAD_LETTERS = Table(
    "dead_letters",
    Column("id", INTEGER, "Its number, unique in the store."),
    Column("status", TEXT, "open, replaying, replayed or discarded."),
    Column("source", TEXT, "Where the line is from."),
    Column("line_number", INTEGER, "Number of its first line there, from 1."),
    Column("lines", INTEGER, "How many lines it has."),
    Column("line", TEXT, "The original text, or why there is none."),
    Column("raw", BYTES, "Its bytes if they are not UTF-8.", null=True),
    Column("format", TEXT, "Its format, if the producer named one.", null=True),
    Column("payload", JSON, "The row's fields at the failure.", null=True),
    Column("processor", TEXT, "Where it failed."),
    Column("code", TEXT, "Short name of the reason: that given to `reject`, error or timeout."),
    Column("error", TEXT, "Class of the exception, or empty."),
    Column("message", TEXT, "Why it failed, in one sentence."),
    Column("traceback", TEXT, "The exception's traceback, or empty."),
    Column("attempts", INTEGER, "How often it was tried."),
    Column("replays", INTEGER, "How often it was replayed."),
    Column("first_failed_at", TIME, "When it failed first."),
    Column("last_failed_at", TIME, "When it failed last."),
    Column("path", NAMES, "Processors that it passed."),
    Column("version", TEXT, "Version of the pipeline."),
    Column("run", TEXT, "Id of the run."),
    Column("fingerprint", TEXT, "The same for failures of the same kind."),
    Column("batch", TEXT, "Id of its batch."),
    Column("context", TEXT, "What is known of its source, to read it by: a `Context` as JSON."),
    Column("damaged", FLAG, "Whether the store holds something else than was written."),
)
"""Records that could not be processed, each with its failure."""

FAILURES = DEAD_LETTERS.pick(
    *("processor", "code", "error", "traceback", "path", "version", "run", "fingerprint")
)
"""What dead letters that failed alike share: a store keeps it once for all of them."""

STORED_DEAD_LETTERS = DEAD_LETTERS.drop(*FAILURES.names, "damaged")
"""What a store keeps of each dead letter besides its failure."""

CHECKED = DEAD_LETTERS.pick(
    *("source", "line_number", "lines", "line", "raw", "format", "payload", "message", "context")
)
"""What a dead letter's checksum is of."""

DEAD_LETTER_GROUPS = Table(
    "dead_letter_groups",
    *DEAD_LETTERS.pick("fingerprint", "source", "processor", "code", "error"),
    Column("message", TEXT, "Why the newest of them failed."),
    Column("sample", TEXT, "Its line, at most 200 characters."),
    Column("lines", INTEGER, "Source lines that failed so."),
    Column("replays", INTEGER, "How often the most replayed of them was replayed."),
    Column("first_failed_at", TIME, "When the first of them failed first."),
    Column("last_failed_at", TIME, "When the last of them failed last."),
)

ERRORS = Table(
    "errors",
    Column("at", TIME, "When."),
    Column("worker", TEXT, "Name of the worker."),
    Column("batch", TEXT, "Id of the batch."),
    _PROCESSOR,
    Column("error", TEXT, "Class of the exception, or the code of the rejection."),
    Column("message", TEXT, "What it said."),
    Column("lines", INTEGER, "Rows that failed so."),
    Column("action", TEXT, "dead, dropped or retried."),
)
"""The last errors, also those of lines that passed later."""

TRACES = Table(
    "traces",
    Column("at", TIME, "When the batch was committed."),
    Column("worker", TEXT, "Name of the worker."),
    Column("batch", TEXT, "Id of the batch."),
    Column("source", TEXT, "Where the line is from."),
    Column("version", TEXT, "Version of the pipeline."),
    Column("line_number", INTEGER, "Its number there, from 1."),
    Column("line", TEXT, "The line, at most 2,000 characters."),
    Column("state", TEXT, "done, filtered or dead."),
    Column("path", NAME_LIST, "Processors that it passed."),
    Column("hop_seconds", NUMBER_LIST, "Seconds at each of them."),
    Column("seconds", NUMBER, "Their sum."),
)
"""The last lines with their paths."""

STATES = Table(
    "states",
    Column("slot", INTEGER, "Which of the parallel workers: each has a state of its own."),
    _PROCESSOR,
    Column("state", JSON, "The committed state."),
)

WORKERS = Table(
    "workers",
    Column("name", TEXT, "Its name."),
    Column("slot", INTEGER, "Its slot: the lowest that no other worker has."),
    Column("host", TEXT, "Its machine."),
    Column("pid", INTEGER, "Its process."),
    Column("started_at", TIME, "When it started."),
    Column("heartbeat_at", TIME, "When it was last heard of."),
    Column("batch", TEXT, "Id of the first batch that it has leased.", null=True),
    Column("source", TEXT, "Where the lines of that are from.", null=True),
    Column("first_line", INTEGER_OR_NULL, "Number of its first line.", null=True),
    Column("lines", INTEGER_OR_NULL, "Source lines that it has leased.", null=True),
    Column("leased_at", TIME, "When it leased them, or renewed the lease.", null=True),
)

FINDINGS = Table(
    "findings",
    Column("part", TEXT, "Part of the store: payloads, dead letters, outputs, ..."),
    Column("name", TEXT, "Id of the batch or dead letter, or path of the file."),
    Column("problem", TEXT, "What is wrong with it."),
    Column("source", TEXT, "Where its lines are from; empty if that is not known."),
    Column("lines", INTEGER, "How many source lines are affected."),
)
"""What `etl check` finds damaged or missing."""

WAITING = Table(
    "waiting",
    Column("batch", TEXT, "Id of the batch."),
    Column("put_at", TIME, "When it was put."),
    Column("source", TEXT, "Where the line is from."),
    Column("line_number", INTEGER, "Its number there, from 1."),
    Column("line", TEXT, "The line."),
    Column("format", TEXT, "Its format, if the producer named one.", null=True),
)
"""Lines that wait."""
