"""Where a row came from: its source and line number, and that line as it stands in the file.

    rows = pl.read_parquet("out/*.parquet", include_file_paths="file")
    lineage(rows.filter(pl.col("status") == 500), queue)

A row only names its source, and a name is text that anybody may have put into
the queue. So a file is opened only if the store itself has read it, and its
line is shown only if it is still that file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import polars as pl

from etl.analysis.frame import Rows, frame
from etl.analysis.traces import traces
from etl.errors import SourceChanged, SourceError, UsageError
from etl.queue import Checkpoint, Queue
from etl.records.columns import INTEGER, INTEGER_OR_NULL, NAME_LIST, TEXT, Table
from etl.sources.files import read_lines_at

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["lineage"]

KEY = ["source", "line_number"]

WHERE = Table.of("", source=TEXT, line_number=INTEGER, line_count=INTEGER)

GIVEN = WHERE.add(batch=TEXT, path=NAME_LIST, file=TEXT)

READ = Table.of("", source=TEXT, line_number=INTEGER, text=TEXT, offset=INTEGER_OR_NULL, note=TEXT)

COUNT = {"line_count": "lines"}
"""How many lines a row is, and what dead letters call it."""


@frame(READ.drop("note"), batch=TEXT, path=NAME_LIST, state=TEXT, note=TEXT)
def lineage(rows: pl.DataFrame | pd.DataFrame | Mapping[str, Any], queue: Queue) -> Rows:
    r"""Return for each row the lines of the source that it was made from.

    Columns: `source` (str), `line_number` (int64); `text` (str: the lines as they
    are in the file, bytes that are not UTF-8 as `\xff`; null if the file cannot
    be read); `offset` (Int64: bytes of the file's text before it, decompressed);
    `batch` (str or null); `path` (tuple of processors, or null); `state` (str
    or null: done, filtered or dead, if the line is among the traces); `note`
    (str: why there is no text, or empty).

    Args:
        rows: Rows of an output, of `traces`, of dead letters: a frame, or one
            row as a dict, with `source` and `line_number`, and perhaps `line_count`. A
            column `batch` or `path` is kept; a column `file` is the output file, whose name holds
            the batch.
        queue: The store that processed them; knows which files it has read.

    Raises:
        UsageError: If the rows lack `source` or `line_number`.
    """
    missing = [name for name in KEY if name not in rows]
    if missing:
        raise UsageError(
            f"the rows have no {' and no '.join(missing)} to find their lines by; "
            "keep both columns in the output"
        )
    found = _given(rows)
    traced = traces.polars(queue).unique(KEY, keep="last").select(*KEY, "batch", "path", "state")
    found = found.join(traced, on=KEY, how="left", maintain_order="left", suffix="_traced")
    same = pl.col("batch").is_null() | (pl.col("batch") == pl.col("batch_traced"))
    found = found.with_columns(
        state=pl.when(same).then("state"),
        batch=pl.coalesce("batch", "batch_traced"),
        path=pl.coalesce("path", pl.when(same).then("path_traced")),
    )
    checkpoints = [Checkpoint(**record) for record in queue.read("checkpoints")]
    lines = [
        {"source": source, "note": ""} | line
        for (source,), numbers in found.group_by("source")
        for line in _read(
            str(source), dict(numbers["line_number", "line_count"].iter_rows()), checkpoints
        )
    ]
    read = pl.DataFrame(lines, schema=READ.schema)
    return found.join(read, on=KEY, how="left", maintain_order="left")


def _given(rows: pl.DataFrame | pd.DataFrame | Mapping[str, Any]) -> pl.DataFrame:
    """Return where rows are from, as far as they know: the columns GIVEN but `file`."""
    names = [*GIVEN.names, *COUNT.values()]
    if isinstance(rows, Mapping):
        rows = pl.DataFrame([{name: rows.get(name) for name in names}])
    elif not isinstance(rows, pl.DataFrame):
        rows = pl.from_pandas(rows[[name for name in names if name in rows]])
    counts = [pl.col(name) for item in COUNT.items() for name in item if name in rows.columns]
    rows = rows.with_columns(line_count=pl.coalesce(*counts, 1))
    lacking = (pl.lit(None).alias(name) for name in GIVEN.names if name not in rows.columns)
    rows = rows.with_columns(lacking)
    if rows.schema["path"] == pl.String:
        rows = rows.with_columns(pl.col("path").str.split(" → "))
    rows = rows.select(pl.col(column.name).cast(column.kind.polars) for column in GIVEN)
    of_file = pl.col("file").map_elements(_batch_of, return_dtype=pl.String)
    return rows.with_columns(batch=pl.coalesce("batch", of_file)).drop("file")


def _batch_of(file: str) -> str:
    """Return the batch that a sink wrote to a file."""
    return unquote(Path(file).stem).partition("~")[0]


def _read(
    source: str, counts: Mapping[int, int], checkpoints: list[Checkpoint]
) -> Iterator[dict[str, Any]]:
    """Yield records of a source with their text and offset, or a note why there is none.

    Args:
        source: Its name.
        counts: How many lines a record has, by the number of its first.
        checkpoints: What the store has read.
    """
    found = _checkpoints(source, checkpoints)
    if not found:
        yield from _notes(counts, "the store has read no such file")
        return
    whose: dict[int, dict[int, int]] = {}  # the records of each of the files that had this name
    for first, count in counts.items():
        having = [one.number for one in found if one.line_number >= first]
        if len(having) > 1:
            note = (
                f"{len(having)} files of this name had such a line; it is not known which is meant"
            )
            yield from _notes([first], note)
        else:
            whose.setdefault(having[0] if having else found[-1].number, {})[first] = count
    for checkpoint in found:
        yield from _read_file(checkpoint, whose.get(checkpoint.number, {}))


def _notes(numbers: Iterable[int], note: str) -> Iterator[dict[str, Any]]:
    for number in numbers:
        yield {"line_number": number, "note": note}


def _read_file(checkpoint: Checkpoint, counts: Mapping[int, int]) -> Iterator[dict[str, Any]]:
    """Yield records of a file with their text and offset, or a note why there is none."""
    notes = dict.fromkeys(counts, "the file has no such line")
    numbers = {line for first, count in counts.items() for line in range(first, first + count)}
    try:
        lines = {
            number: (offset, data) for number, offset, data in read_lines_at(checkpoint, numbers)
        }
    except (SourceChanged, SourceError) as error:
        lines, notes = {}, dict.fromkeys(counts, str(error))
    for first, count in counts.items():
        found = [lines[line] for line in range(first, first + count) if line in lines]
        if found:
            texts = [
                data.removesuffix(b"\r").decode("utf-8", "backslashreplace") for _, data in found
            ]
            del notes[first]
            yield {"line_number": first, "text": "\n".join(texts), "offset": found[0][0]}
    for number, note in notes.items():
        yield {"line_number": number, "note": note}


def _checkpoints(source: str, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """Return the files that the store has read under this name, by their numbers.

    A relative name was given in a folder that may not be the current one.
    """
    try:
        whole = str(Path(source).resolve())
    except (OSError, RuntimeError, ValueError):  # too long, links in a ring, a NUL
        return []
    exact = [one for one in checkpoints if one.source == whole]
    parts = Path(source).parts
    alike = [one for one in checkpoints if Path(one.source).parts[-len(parts) :] == parts]
    found = exact or alike
    return found if len({one.source for one in found}) == 1 else []
