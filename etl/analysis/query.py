"""SQL over frames: what Polars knows of SQL, which changes nothing outside of the query."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import polars as pl

from etl.errors import UsageError
from etl.records.columns import TIME, Table

__all__ = ["asks_for", "run_sql", "with_times"]

CHANGES = {"alter", "create", "delete", "drop", "insert", "merge", "truncate", "update"}
"""How statements begin that would change a table."""


def asks_for(table: str, sql: str) -> bool:
    """Return whether a query may name a table."""
    return bool(re.search(rf"\b{table}\b", sql, re.IGNORECASE))


def _first_word(sql: str) -> str:
    """Return the first word of a query, in lower case."""
    text = re.sub(r"--[^\n]*|/\*.*?\*/", " ", sql, flags=re.DOTALL)
    found = re.search(r"\w+", text)
    return found.group().lower() if found else ""


def run_sql(sql: str, tables: Mapping[str, Callable[[], pl.LazyFrame]]) -> pl.DataFrame:
    """Return the rows of a query.

    Args:
        sql: The query.
        tables: Its tables by name; those that it does not name are not made.

    Raises:
        UsageError: If the query is wrong.
    """
    if (first := _first_word(sql)) in CHANGES:
        raise UsageError(
            f"a query changes nothing, and this one begins with {first.upper()}; it begins with "
            "SELECT or WITH"
        )
    wanted = {name: make() for name, make in tables.items() if asks_for(name, sql)}
    try:
        with pl.SQLContext(wanted, eager=True) as context:
            return context.execute(sql)
    except pl.exceptions.PolarsError as error:
        if "os error 2" in str(error):  # a file was replaced in the meantime
            raise FileNotFoundError(str(error)) from error
        hint = "" if wanted else f"; tables: {', '.join(tables)}"
        if "no table or struct column" in str(error):
            hint = '; a name with a dot in it is written in double quotes: "docker.container"'
        raise UsageError(f"the query failed: {str(error).partition(chr(10))[0]}{hint}") from error


def with_times(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Return rows with times in UTC where a table has Unix seconds."""
    return frame.with_columns(
        pl.from_epoch((pl.col(one.name) * 1e6).cast(pl.Int64), "us").dt.replace_time_zone("UTC")
        for one in table
        if one.kind is TIME and one.name in frame.columns
    )
