"""`etl compact` joins the files of a store's output; `etl query` reads them with SQL."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from etl.cli.options import Json, Store
from etl.cli.store import open_store
from etl.errors import UsageError
from etl.text import counted, printable, say

if TYPE_CHECKING:
    import polars as pl

    from etl.queue import Queue

Types = Annotated[
    list[str] | None,
    Option("--type", metavar="COLUMN=TYPE", help="Type that a column gets: amount=Float64."),
]
Target = Annotated[int, Option(min=1, help="Size in MB up to which files are joined.")]
Sql = Annotated[str, Argument(metavar="SQL", help="A query, in one word for the shell.")]
Run = Annotated[str | None, Option(help="Id of a run, as `etl runs` lists them.")]
To = Annotated[
    Path | None, Option("--to", help="File to write: .parquet, .csv or .jsonl, by its name.")
]
Format = Annotated[
    Literal["table", "csv", "jsonl"], Option(help="How rows are printed, unless --to is given.")
]

MAX_SHOWN = 1_000
"""Rows that a table shows."""


def compact(
    store: Store = None, type: Types = None, target_size: Target = 128, as_json: Json = False
) -> None:
    """Join small files of a store's output, and give all of them the same columns.

    Workers may run meanwhile, but not with --type (exit code 1: some files are left as they are).
    """
    from etl.cli.tables import print_json
    from etl.outputs.compact import change_types
    from etl.outputs.compact import compact as join

    pairs = [one.rpartition("=")[::2] for one in type or []]
    if wrong := [kind for name, kind in pairs if not name]:
        raise UsageError(f"--type {wrong[0]!r} names no column; use --type amount=Float64")
    with closing(open_store(store)) as queue:
        if pairs:
            change_types(queue, dict(pairs))
        done = join(queue, target=target_size << 20)
    if as_json:
        print_json({"replaced": done.replaced, "written": done.written, "problems": done.problems})
    else:
        for problem in done.problems:
            say(problem, err=True)
        say(f"files replaced: {done.replaced:,}, by {done.written:,}")
    sys.exit(1 if done.problems else 0)


def query(
    sql: Sql, store: Store = None, run: Run = None, format: Format = "table", to: To = None
) -> None:
    """Query the output of a store with SQL, and what is kept beside it; nothing is changed.

    Tables: lines (all rows of the output), dead_letters, metrics (the processors), traces (the
    last lines). etl query "select level, count(*) from lines group by 1"
    """
    from etl.analysis.query import asks_for
    from etl.store import Store as Opened

    with closing(open_store(_store_of(run) if run else store)) as queue:
        rows = Opened(queue).query(sql)
        if asks_for("lines", sql):
            _say_where(queue)
    if to is not None:
        _write(rows, to)
    elif format == "table":
        _show(rows)
    else:
        print(_text(rows, format), end="")  # noqa: T201 - data, not text for people


def _say_where(queue: Queue) -> None:
    """Say that lines are elsewhere if no sink of the store's workers writes Parquet files."""
    done = queue.stats().done
    if done and not queue.outputs() and not queue.data_sets():
        say(
            f"etl: the output of {queue.url} is not in Parquet files: {counted(done, 'line')} were "
            "written elsewhere, such as to a database; ask there",
            err=True,
        )


def _store_of(run: str) -> str:
    from etl.runs.registry import place_of, read

    record = read(place_of(run))
    if record is None:
        raise UsageError(f"no run {run!r} is recorded; list them with: etl runs")
    return str(record["store"])


def _show(rows: pl.DataFrame) -> None:
    import polars as pl
    import polars.selectors as cs
    from rich.console import Console

    from etl.cli.tables import Column, table

    columns = [
        Column(printable(name), itemgetter(name), right=dtype.is_numeric())
        for name, dtype in rows.schema.items()
    ]
    # Ids, too, are integers: as they are, they can be pasted.
    shown = rows.head(MAX_SHOWN).with_columns(cs.integer().cast(pl.String))
    Console().print(table(shown.to_dicts(), columns))
    if (more := rows.height - MAX_SHOWN) > 0:
        say(f"and {more:,} more rows; --to FILE writes all of them")


def _text(rows: pl.DataFrame, format: str) -> str:
    import polars as pl

    rows = rows.with_columns(pl.col(pl.Binary).bin.encode("base64"))
    return rows.write_ndjson() if format == "jsonl" else _flat(rows).write_csv()


def _write(rows: pl.DataFrame, to: Path) -> None:
    try:
        if to.suffix == ".parquet":
            rows.write_parquet(to)
        elif to.suffix in (".csv", ".jsonl"):
            to.write_text(_text(rows, to.suffix[1:]), encoding="utf-8")
        else:
            raise UsageError(f"--to {str(to)!r} must end in .parquet, .csv or .jsonl")
    except OSError as error:
        raise UsageError(f"cannot write {str(to)!r}: {error.strerror or error}") from error
    say(f"{rows.height:,} rows in {to}", err=True)


def _flat(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with lists and structs as JSON: CSV has none."""
    import polars as pl

    return rows.with_columns(
        pl.Series(name, [json.dumps(one, default=str) for one in rows[name].to_list()])
        for name, dtype in rows.schema.items()
        if dtype.is_nested()
    )
