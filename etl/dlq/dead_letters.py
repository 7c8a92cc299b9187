"""Dead letters: lines that could not be processed, to look at, fix and replay.

    letters = DeadLetters(queue)
    letters.groups()                    what fails, most frequent first
    letters.frame(processor="parse")    the lines, as a pandas frame
    letters.dry_run(pipeline)           how many would pass now
    letters.replay(fingerprint="…")     back into the queue
    letters.export("bad.jsonl")         into a file, for a colleague
    letters.import_("bad.jsonl")        from such a file into this store's queue

A letter is open until it is replayed (then it waits again like any line, and
comes back open if it dies again) or discarded. All of it works while workers run.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from etl.errors import SourceLocked, UsageError
from etl.pipeline.plan import INPUT
from etl.queue import Checkpoint, DeadLetterFilter, Queue
from etl.records.batch import Batch
from etl.records.columns import TIME, frame_of
from etl.records.result import UNREAD
from etl.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from etl.pipeline.pipeline import Pipeline
from etl.dlq.export import digest, exported_as, read_exported

__all__ = ["DeadLetters", "DryRun"]


BATCH_LINES = 20_000


COLUMNS = {
    "id": "int64",
    "status": "str",
    "source": "str",
    "line_number": "int64",
    "lines": "int64",
    "line": "str",
    "raw": "object",
    "format": "str",
    "payload": "object",
    "processor": "str",
    "code": "str",
    "error": "str",
    "message": "str",
    "traceback": "str",
    "attempts": "int64",
    "replays": "int64",
    "first_failed_at": TIME,
    "last_failed_at": TIME,
    "path": "object",
    "version": "str",
    "run": "str",
    "fingerprint": "str",
    "batch": "str",
}


GROUP_COLUMNS = dict.fromkeys(
    ("fingerprint", "processor", "code", "error", "message", "sample"), "str"
) | {"lines": "int64", "replays": "int64", "first_failed_at": TIME, "last_failed_at": TIME}


READ = (pl.col("processor") != INPUT) | ~pl.col("code").is_in(UNREAD)
"""Which letters have the text of a line, rather than why it could not be read."""


@dataclass(frozen=True, slots=True)
class DryRun:
    """What would become of some dead letters: ids that would pass, ids that would die again."""

    would_pass: Sequence[int]
    would_die: Sequence[int]

    def __str__(self) -> str:
        total = len(self.would_pass) + len(self.would_die)
        return f"{len(self.would_pass)} of {total} now pass"


class DeadLetters:
    """The dead letters of one store.

    Every method that picks letters takes `ids`, or any of `status` (open by
    default; None for all), `fingerprint`, `processor`, `code`, `source` and `limit`.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def frame(self, **which: Any) -> pd.DataFrame:
        """Return dead letters as a pandas frame, oldest first.

        Columns: `id` (int64), `status` (open, replaying, replayed, discarded),
        `source`, `line_number`, `lines` (over 1 only for a range that could
        not be read), `line` (the original text, or why there is none), `raw`
        (its bytes if not UTF-8, else null), `format`, `payload` (dict of the
        fields at failure, or null), `processor`, `code`, `error`, `message`,
        `traceback`, `attempts`,
        `replays`, `first_failed_at`, `last_failed_at` (datetime64, UTC),
        `path` (tuple of processors), `version`, `run`, `fingerprint`, `batch`.
        """
        dead_letters = self._pick(which).drop("failure", strict=False)
        rows = dead_letters.to_dicts()
        paths = {path: tuple(json.loads(path)) for path in dead_letters["path"].unique()}
        for row in rows:
            row["path"] = paths[row["path"]]
            row["payload"] = row["payload"] and json.loads(row["payload"])
        return frame_of(rows, COLUMNS)

    def groups(self, **which: Any) -> pd.DataFrame:
        """Return one row per kind of failure, the most frequent first.

        Columns: `fingerprint`, `processor`, `code`, `error`, `message` and
        `sample` (of one of them), `lines` (int64), `replays` (int64, the most
        of any), `first_failed_at`, `last_failed_at` (datetime64, UTC).
        """
        return frame_of(self.group_rows(**which), GROUP_COLUMNS)

    def group_rows(self, **which: Any) -> list[dict[str, Any]]:
        """Return what `groups` does, as dicts; times are Unix seconds."""
        return self._queue.dead_letter_groups(_filter(which))

    def dry_run(self, pipeline: Pipeline, **which: Any) -> DryRun:
        """Run dead letters through a pipeline as it is now, with no lasting effect.

        Those whose text could not be read count as ones that would die.
        """
        dead_letters = self._pick(which)
        passed: list[int] = []
        for batch in _batches(dead_letters.filter(READ)):
            passed += pipeline.dry_run(batch).passed
        gone = set(passed)
        return DryRun(passed, [id for id in dead_letters["id"] if id not in gone])

    def replay(
        self, *, edited: pd.DataFrame | None = None, force: bool = False, **which: Any
    ) -> int:
        """Put dead letters back into the queue, all or none, and return how many lines wait now.

        Args:
            edited: A frame from `frame()` whose `line` may have been changed;
                just its letters are replayed, with the lines as they are in it.
            force: Also replay letters that died again three times.
            **which: Which letters, if there is no edited frame.

        Raises:
            UsageError: If a letter is not open, was replayed too often, or
                stands for a range of a file that has changed.
        """
        if edited is not None:
            if not {"id", "line"} <= set(edited.columns):
                raise UsageError("edited letters need their columns 'id' and 'line'")
            which = {"ids": edited["id"]}
        dead_letters = self._pick(which)
        if edited is not None:
            dead_letters = _apply_edits(dead_letters, edited)
        _check_replay(dead_letters, force=force)
        if dead_letters.height:
            self._queue.replay(dead_letters["id"].to_list(), list(_batches(dead_letters)))
        return dead_letters.height

    def discard(self, **which: Any) -> int:
        """Close dead letters for good and return how many; they still count as dead."""
        ids = self._pick(which)["id"].to_list()
        if ids:
            self._queue.discard(ids)
        return len(ids)

    def export(self, path: Path | str, **which: Any) -> int:
        """Write dead letters to a file and return how many; they stay as they are.

        All columns of `frame()` but `status` and `id` are in it, times as Unix
        seconds, `path` and `payload` as JSON text. In JSON lines `raw` is base64.

        Args:
            path: The file, `.jsonl` or `.parquet`; one that is there is replaced.
            **which: Which letters.
        """
        path = Path(path)
        suffix = exported_as(path)
        dead_letters = self._pick(which).drop("id", "failure", "status", strict=False)
        staged = path.with_name(f".{path.name}.tmp")
        try:
            if suffix == ".parquet":
                dead_letters.write_parquet(staged)
            else:
                dead_letters.with_columns(pl.col("raw").bin.encode("base64")).write_ndjson(staged)
            staged.replace(path)
        except OSError as error:
            raise UsageError(f"{str(path)!r} cannot be written: {error}") from error
        return dead_letters.height

    def import_(self, path: Path | str) -> int:
        """Put the lines of exported dead letters into this queue; return how many wait now.

        They are accepted here as new lines, with the source, line number,
        format and bytes that they had: nothing is taken from the store they
        came from. The same set of letters is only ever put once, whatever
        its file is called; letters that two files share are put twice. Ranges
        that could not be read have no lines and are left out.

        Raises:
            UsageError: If the file is not there or was not made by `export`.
        """
        path = Path(path)
        dead_letters = read_exported(path).filter(READ)
        mark = Checkpoint(f"dead letters {digest(dead_letters)}", 0, dead_letters.height)
        if not dead_letters.height or self._queue.checkpoint(mark.source):
            return 0
        try:
            self._queue.put(*_batches(dead_letters), checkpoint=mark, expected=None)
        except SourceLocked:  # another has just put them
            return 0
        return dead_letters.height

    def _pick(self, which: dict[str, Any]) -> pl.DataFrame:
        """Return the letters that are wanted; those named by id must all be there."""
        wanted = _filter(which)
        dead_letters = self._queue.dead_letters(wanted)
        named = len(set(wanted.ids or ()))
        if named > dead_letters.height and wanted.limit is None:
            what = "there" if wanted.status is None else f"{wanted.status} any more"
            raise UsageError(
                f"{named - dead_letters.height} of {named} dead letters are not {what}; "
                "nothing was changed, look at them again"
            )
        return dead_letters

    def __repr__(self) -> str:
        return f"<DeadLetters of {self._queue.url}: {len(self):,} open>"

    def __len__(self) -> int:
        return sum(group["lines"] for group in self.group_rows())

    def _repr_html_(self) -> str:
        rows = self.group_rows()
        left = "<td style='text-align:left'>"
        cells = "".join(
            f"<tr><td>{row['lines']:,}</td>{left}{html.escape(row['processor'])}</td>"
            f"{left}{html.escape(row['error'] or row['code'])}</td>"
            f"{left}{html.escape(row['message'][:200])}</td>"
            f"{left}<code>{html.escape(row['sample'][:120])}</code></td></tr>"
            for row in rows
        )
        return (
            f"<table><caption>{sum(row['lines'] for row in rows):,} dead lines</caption>"
            "<thead><tr><th>lines</th><th>processor</th><th>error</th><th>message</th>"
            f"<th>sample</th></tr></thead><tbody>{cells}</tbody></table>"
        )


def _filter(which: dict[str, Any]) -> DeadLetterFilter:
    if which.get("ids") is not None:
        which = which | {"ids": [int(id) for id in which["ids"]]}
    try:
        return DeadLetterFilter(**which)
    except TypeError:
        known = ", ".join(DeadLetterFilter.__slots__)
        asked = ", ".join(which)
        raise UsageError(f"dead letters cannot be picked by {asked}; use {known}") from None


def _batches(dead_letters: pl.DataFrame) -> Iterator[Batch]:
    """Yield batches of letters that share their source and format."""
    groups = dead_letters.partition_by(["source", "format"], maintain_order=True)
    for group in groups:
        ids = {"dead_letter_id": "id"} if "id" in group.columns else {}
        rows = group.select("line", "line_number", "raw", **ids)
        for part in rows.iter_slices(BATCH_LINES):
            yield Batch(
                lines=part.height,
                payload=part,
                source=group["source"][0],
                first_line=part["line_number"][0],
                format=group["format"][0],
            )


def _apply_edits(dead_letters: pl.DataFrame, edited: pd.DataFrame) -> pl.DataFrame:
    """Take lines from an edited frame; a line that was edited loses its original bytes."""
    wanted = dict(zip(edited["id"], edited["line"], strict=True))
    for id, line in wanted.items():
        if not isinstance(line, str) or "\n" in line:
            what = "has a line break" if isinstance(line, str) else f"is {line!r}, which is no text"
            raise UsageError(f"the edited line of dead letter {id} {what}; nothing was changed")
    new = pl.Series("line", [wanted[id] for id in dead_letters["id"]], dtype=pl.String)
    same = dead_letters["line"] == new
    raw = pl.when(same).then(pl.col("raw"))
    return dead_letters.with_columns(raw=raw).with_columns(new)


def _check_replay(dead_letters: pl.DataFrame, *, force: bool) -> None:
    unread = dead_letters.filter(~READ)
    if unread.height:
        raise UsageError(
            f"dead letter {unread['id'][0]} stands for {unread['lines'][0]:,} lines of "
            f"{unread['source'][0]!r} that could not be read: {unread['message'][0]}; read it "
            "again with etl run --reread"
        )
    tired = dead_letters.filter(pl.col("replays") >= Settings.max_replays).height
    if tired and not force:
        raise UsageError(
            f"{tired} of {dead_letters.height} dead letters died again after "
            f"{Settings.max_replays} replays; fix the processor or edit the lines, or replay them "
            "with force (--force)"
        )
