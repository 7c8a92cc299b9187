"""Named SQL: statements in files beside this one, with lists of columns from `records.columns`.

A statement begins with `-- name: …` and ends before the next. What every store speaks is in
this folder; what differs has the same names in `sqlite/statements.sql` and
`postgres/statements.sql`. What stands in braces is a word of the dialect, or derived from a
table of `records.columns`, here for one called `workers`:

    {workers}              "name", "slot", …
    {workers_values}       :name, :slot, …
    {workers_updates}      "name" = excluded."name", …
    {workers_sums}         "received" = workers."received" + excluded."received", …, of what is
                           added up
    {workers_totals}       sum("received") AS "received", …, of the same
    {workers_rows}         the rows of the JSON list :rows of objects, as a table
    {workers_definitions}  "name" TEXT NOT NULL, …
    {slot}                 which of the slots this transaction counts in
    {now}                  :now, or the database's clock if that is null
    {in_ids}               is one of the integers in the JSON list :ids
    {in_kinds}             the same of :kinds
    {in_texts}             is one of the texts in the JSON list :texts
    {for_update}           keeps the selected rows for this transaction; waits for others to end
    {skip_locked}          the same, without those that others keep
    {for_key_share}        keeps others from deleting the selected rows
    {floor}                before a number in brackets that is cast to an integer: rounds it down
    {position}             the order in which rows of `processors` were inserted
    {one_by_one}           before a column: it is looked at row by row, and not by an index
    {is_key}               whether a checkpoint is that of an idempotency key
    {has_dead_letters}     whether there are dead letters of a row of `failures`
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from importlib import resources

from etl.queue.protocol import KEY_SOURCE, STATUSES
from etl.records.columns import (
    CHECKED,
    CHECKPOINTS,
    COUNTERS,
    ERRORS,
    FAILURES,
    INTEGER,
    LATENCY,
    PROCESSOR_HISTORY,
    PROCESSORS,
    QUEUE_HISTORY,
    SOURCE_FORMATS,
    STATES,
    STORED_DEAD_LETTERS,
    TOTALS,
    TRACES,
    WORKERS,
    Column,
    Table,
)
from etl.records.stats import FormatCounts
from etl.settings import Settings

__all__ = ["COUNTS", "POSTGRES", "SQLITE", "STORED", "Dialect"]

COUNTS = TOTALS.add(
    leased_bytes=INTEGER, waiting_bytes=INTEGER, leased_batches=INTEGER, waiting_batches=INTEGER
).add(Column("pruned", INTEGER, "Dead source lines that were discarded, and then deleted."))
"""What each slot counts. What is dead is in dead letters that are open or discarded, or pruned."""

STORED: dict[str, Table] = {
    "checked": CHECKED,
    "checkpoints": CHECKPOINTS,
    "counts": COUNTS,
    "dead_letters": STORED_DEAD_LETTERS,
    "errors": ERRORS,
    "failures": FAILURES,
    "latency": LATENCY,
    "new_dead_letters": STORED_DEAD_LETTERS.drop("id", "status", "replays"),
    "processor_history": PROCESSOR_HISTORY,
    "processors": PROCESSORS,
    "queue_history": QUEUE_HISTORY,
    "source_formats": SOURCE_FORMATS,
    "states": STATES,
    "totals": TOTALS,
    "traces": TRACES.pick("at", "worker", "batch", "source", "version"),
    "workers": WORKERS.drop("batch", "source", "first_line", "lines", "leased_at"),
}
"""Columns as a store keeps them."""

COUNTED: dict[str, tuple[str, ...]] = {
    "counts": COUNTS.names,
    "latency": ("lines",),
    "processor_history": COUNTERS.names,
    "processors": COUNTERS.names,
    "source_formats": tuple(one.name for one in fields(FormatCounts)),
}
"""Columns that are added up."""

SHARED = ("batches", "check", "control", "dead_letters", "reads", "results", "retention")
"""Files of statements that are the same for every store."""


@dataclass(frozen=True, eq=False)
class Dialect:
    """The SQL of one kind of store.

    Attributes:
        name: Its folder.
        types: Its names of the types that differ from those in `records.columns`.
        words: What else is put into braces.
        rows: Makes a table of :rows, of names and types of its columns.
        parameter: What `:name` becomes, as a replacement of `re`.
    """

    name: str
    types: Mapping[str, str]
    words: Mapping[str, str]
    rows: Callable[[Mapping[str, str]], str]
    parameter: str | None = None

    @cache  # noqa: B019 - there are two, for good
    def statement(self, name: str, where: str = "") -> str:
        """Return a statement by its name.

        Args:
            name: Its name.
            where: Conditions, for those that have a place for them.
        """
        sql = self._statements[name].replace("<where>", (where or "TRUE").format_map(self._lists))
        return re.sub(r":(\w+)", self.parameter, sql) if self.parameter else sql

    def script(self, file: str) -> str:
        """Return the text of a file, such as `views` or `sqlite/schema`."""
        text = resources.files("etl.queue.sql").joinpath(f"{file}.sql").read_text("utf-8")
        return text.format_map(self._lists)

    @cached_property
    def _statements(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for file in (*SHARED, f"{self.name}/statements"):
            parts = re.split(r"^-- name: (\w+)$", self.script(file), flags=re.MULTILINE)
            for key, statement in zip(parts[1::2], parts[2::2], strict=True):
                found[key] = re.sub(r"^--.*\n", "", statement.strip(), flags=re.MULTILINE)
                found[key] = found[key].removesuffix(";")
        return found

    @cached_property
    def _lists(self) -> Mapping[str, str]:
        return {**self.words, **_lists(self.types, self.rows)}


def _lists(types: Mapping[str, str], rows: Callable[[Mapping[str, str]], str]) -> dict[str, str]:
    """Return the lists of columns of every table."""
    found: dict[str, str] = {}
    for name, table in STORED.items():
        columns = {column.name: f'"{column.name}"' for column in table}  # `offset` is a word of SQL
        counted = [table[one] for one in COUNTED.get(name, ())]
        kinds = {one.name: types.get(one.kind.sql, one.kind.sql) for one in table}
        found[name] = ", ".join(columns.values())
        found[f"{name}_values"] = ", ".join(f":{column}" for column in columns)
        found[f"{name}_updates"] = ", ".join(f"{one} = excluded.{one}" for one in columns.values())
        found[f"{name}_sums"] = ", ".join(
            f'"{one.name}" = {name}."{one.name}" + excluded."{one.name}"' for one in counted
        )
        found[f"{name}_totals"] = ", ".join(
            f"CAST(coalesce(sum({columns[one.name]}), 0) AS {kinds[one.name]}) AS "
            f"{columns[one.name]}"
            for one in counted
        )
        found[f"{name}_rows"] = rows(kinds)
        found[f"{name}_definitions"] = ", ".join(
            f"{columns[one.name]} {kinds[one.name]}{'' if one.null else ' NOT NULL'}"
            for one in table
        )
    return found


WORDS = {
    "totals_changes": ", ".join(
        f"{name} - lag({name}, 1, CAST(0 AS BIGINT)) OVER earlier AS {name}"
        for name in TOTALS.names
    ),
    "totals_running": ", ".join(
        f"CAST(sum(sum({name})) OVER (ORDER BY second) AS BIGINT) AS {name}"
        for name in TOTALS.names
    ),
    "history_seconds": str(Settings.history_seconds),
    "one_by_one": "0 + ",
    "is_key": f"source >= '{KEY_SOURCE}:' AND source < '{KEY_SOURCE};'",
    "has_dead_letters": "EXISTS (SELECT 1 FROM dead_letters WHERE failure = failures.id "
    f"AND status IN {STATUSES})",
}
"""Words that are the same in every dialect, such as how totals of slots become the store's."""


def _sqlite_rows(kinds: Mapping[str, str]) -> str:
    columns = ", ".join(f"""value ->> '{name}' AS "{name}\"""" for name in kinds)
    return f"(SELECT {columns} FROM json_each(:rows)) AS given"


def _postgres_rows(kinds: Mapping[str, str]) -> str:
    columns = ", ".join(f'"{name}" {kind}' for name, kind in kinds.items())
    return f"json_to_recordset(CAST(:rows AS JSON)) AS given ({columns})"


SQLITE = Dialect(
    "sqlite",
    types={},
    words=WORDS
    | {
        "in_ids": "IN (SELECT value FROM json_each(:ids))",
        "in_kinds": "IN (SELECT value FROM json_each(:kinds))",
        "in_texts": "IN (SELECT value FROM json_each(:texts))",
        "now": ":now",
        "last_payload": "last_insert_rowid()",
        "slot": "0",  # there is one writer at a time
        "for_update": "",
        "skip_locked": "",
        "for_key_share": "",
        "floor": "",
        "position": "rowid",
        "totals_pivot": ", ".join(
            f"max(lines) FILTER (WHERE name = '{name}')" for name in TOTALS.names
        ),
    },
    rows=_sqlite_rows,
)

POSTGRES = Dialect(
    "postgres",
    types={
        "INTEGER": "BIGINT",
        "REAL": "DOUBLE PRECISION",
        "BLOB": "BYTEA",
        "TEXT": 'TEXT COLLATE "C"',  # the order of bytes, as everywhere else
    },
    words=WORDS
    | {
        "in_ids": "= ANY (ARRAY(SELECT CAST(value AS BIGINT) FROM "
        "json_array_elements_text(CAST(:ids AS JSON))))",
        "in_kinds": "= ANY (ARRAY(SELECT CAST(value AS BIGINT) FROM "
        "json_array_elements_text(CAST(:kinds AS JSON))))",
        "in_texts": "= ANY (ARRAY(SELECT value FROM "
        "json_array_elements_text(CAST(:texts AS JSON))))",
        "now": "coalesce(CAST(:now AS DOUBLE PRECISION), CAST(extract(epoch FROM "
        "statement_timestamp()) AS DOUBLE PRECISION))",
        "last_payload": "currval(pg_get_serial_sequence('payloads', 'id'))",
        "slot": "mod(pg_backend_pid(), 64)",  # nobody waits for another's sync
        "for_update": "FOR UPDATE",
        "skip_locked": "FOR UPDATE SKIP LOCKED",
        "for_key_share": "FOR KEY SHARE",
        "floor": "floor",
        "position": "position",
    },
    rows=_postgres_rows,
    parameter=r"%(\1)s",
)
