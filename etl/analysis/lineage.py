"""Where a row came from: its source and line number, and that line as it stands in the file.

    rows = pl.read_parquet("out/*.parquet", include_file_paths="file")
    lineage(rows.filter(pl.col("status") == 500), queue)

A row only names its source, and a name is text that anybody may have put into
the queue. So a file is opened only if the store itself has read it, and its
line is shown only if it is still that file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import polars as pl

from etl.analysis.traces import trace_rows
from etl.errors import SourceChanged, SourceError, UsageError
from etl.queue import Checkpoint, Queue
from etl.records.columns import frame_of
from etl.sources.files import read_lines_at

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["lineage"]

COLUMNS = {
    "source": "str",
    "line_number": "int64",
    "text": "str",
    "offset": "Int64",
    "batch": "str",
    "path": "object",
    "state": "str",
    "note": "str",
}


NEEDED = ("source", "line_number")


def lineage(rows: pl.DataFrame | pd.DataFrame | Mapping[str, Any], queue: Queue) -> pd.DataFrame:
    r"""Return for each row the line of the source that it was made from.

    Columns: `source` (str), `line_number` (int64); `text` (str: the line as it
    is in the file, bytes that are not UTF-8 as `\xff`; null if it cannot be
    told); `offset` (Int64: bytes of the file's text before it, decompressed);
    `batch` (str or null); `path` (tuple of processors, or null); `state` (str
    or null: done, filtered or dead, if the line is among the traces); `note`
    (str: why there is no text, or empty).

    Args:
        rows: Rows of an output, of `traces`, of dead letters: a frame, or one
            row as a dict, with `source` and `line_number`. A column `batch` or
            `path` is taken over; a column `file` is the output file, which
            tells the batch.
        queue: The store that processed them; knows which files it has read.

    Raises:
        UsageError: If the rows do not say where they are from.
    """
    missing = [name for name in NEEDED if name not in rows]
    if missing:
        raise UsageError(
            f"the rows have no {' and no '.join(missing)} to tell where they are from; "
            "keep both columns in the output"
        )
    found = [_origin(row) for row in _dicts(rows)]
    known = {(row["source"], row["line_number"]): row for row in trace_rows(queue)}
    for row in found:
        trace = known.get((row["source"], row["line_number"]))
        if trace is not None and row["batch"] in (None, trace["batch"]):
            row |= {"batch": trace["batch"], "state": trace["state"]}
            row["path"] = row["path"] or trace["path"]
    checkpoints = [Checkpoint(**record) for record in queue.read("checkpoints")]
    for source in {row["source"] for row in found}:
        _read_texts([row for row in found if row["source"] == source], source, checkpoints)
    return frame_of(found, COLUMNS)


def _dicts(rows: pl.DataFrame | pd.DataFrame | Mapping[str, Any]) -> list[dict[str, Any]]:
    if isinstance(rows, Mapping):
        return [dict(rows)]
    wanted = [name for name in (*NEEDED, "batch", "path", "file") if name in rows.columns]
    if isinstance(rows, pl.DataFrame):
        return rows.select(wanted).to_dicts()
    found: list[dict[str, Any]] = rows[wanted].to_dict("records")
    return found


def _origin(row: Mapping[str, Any]) -> dict[str, Any]:
    batch, path, file = row.get("batch"), row.get("path"), row.get("file")
    if isinstance(file, str) and not isinstance(batch, str):
        batch = unquote(Path(file).stem).partition("~")[0]
    if isinstance(path, str):
        path = path.split(" → ")
    return {
        "source": str(row["source"]),
        "line_number": int(row["line_number"]),
        "text": None,
        "offset": None,
        "batch": batch if isinstance(batch, str) else None,
        "path": tuple(path) if isinstance(path, (list, tuple)) else None,
        "state": None,
        "note": "",
    }


def _read_texts(rows: list[dict[str, Any]], source: str, checkpoints: list[Checkpoint]) -> None:
    """Add to rows of one source their text and offset, or the reason why there is none."""
    checkpoint = _position(source, checkpoints)
    if checkpoint is None:
        for row in rows:
            row["note"] = "the store has read no such file"
        return
    try:
        lines = {
            number: (offset, data)
            for number, offset, data in read_lines_at(
                checkpoint, [row["line_number"] for row in rows]
            )
        }
    except (SourceChanged, SourceError) as error:
        for row in rows:
            row["note"] = str(error)
        return
    for row in rows:
        if row["line_number"] in lines:
            row["offset"], data = lines[row["line_number"]]
            row["text"] = data.removesuffix(b"\r").decode("utf-8", "backslashreplace")
        else:
            row["note"] = "the file has no such line"


def _position(source: str, checkpoints: list[Checkpoint]) -> Checkpoint | None:
    """Return the one file that the store has read under this name.

    A relative name was given in a folder that may not be the current one.
    """
    try:
        whole = str(Path(source).resolve())
    except (OSError, RuntimeError, ValueError):  # too long, links in a ring, a NUL
        return None
    exact = [one for one in checkpoints if one.source == whole]
    parts = Path(source).parts
    alike = [one for one in checkpoints if Path(one.source).parts[-len(parts) :] == parts]
    found = exact or alike
    return found[0] if len(found) == 1 else None
