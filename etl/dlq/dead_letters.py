"""Dead letters: lines that could not be processed, to look at, fix and replay.

    dead_letters = DeadLetters(queue)
    dead_letters.groups()                    what fails, most frequent first
    dead_letters.frame(processor="parse")    the lines, as a pandas frame
    dead_letters.dry_run(pipeline)           how many would pass now
    dead_letters.replay(fingerprint="…")     back into the queue
    dead_letters.discard(ids=[17])           closed; reopen(ids=[17]) undoes it
    dead_letters.export("bad.jsonl")         into a file, for a colleague
    dead_letters.import_("bad.jsonl")        from such a file into this store's queue

A dead letter is open until it is replayed (then it waits like any line, and is open
again if it fails again) or discarded (until it is reopened, or deleted as too old). All of
it works while workers run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import polars as pl

from etl.dlq.export import content_id, read_export, write_export
from etl.errors import SourceLocked, UsageError
from etl.pipeline.plan import INPUT
from etl.processors.processor import Delivery
from etl.queue import Checkpoint, DeadLetterFilter, Queue
from etl.records.batch import Batch
from etl.records.columns import DEAD_LETTER_GROUPS, DEAD_LETTERS
from etl.records.context import Context
from etl.records.result import UNREAD
from etl.records.schemas import NO_TYPE, Schemas
from etl.settings import Settings
from etl.text import first_line, html_table

if TYPE_CHECKING:
    import pandas as pd

    from etl.pipeline.pipeline import Pipeline

__all__ = ["DeadLetters", "DryRun"]

PAGE = 20_000
"""Dead letters that are read at once, and replayed as one batch if they are alike."""

SHOWN_IDS = 3
"""Dead letters that a message names."""

HAS_TEXT = (pl.col("processor") != INPUT) | ~pl.col("code").is_in(UNREAD)
"""Which dead letters have the text of a line, rather than why it could not be read."""

CAN_RUN = HAS_TEXT & ~pl.col("damaged")
"""Which of them have the text that they were written with."""


MAX_REASONS = 3
"""Reasons that a dry run's text has, the most frequent first."""


class Which(TypedDict, total=False):
    """Which dead letters: those for which everything given holds; see `DeadLetterFilter`."""

    ids: Sequence[int] | None
    status: str | None
    fingerprint: str | None
    processor: str | None
    code: str | None
    source: str | None
    before: int | None
    limit: int | None
    skip: int


@dataclass(frozen=True, slots=True)
class DryRun:
    """The result of a dry run.

    Attributes:
        would_pass: Ids of dead letters that would pass.
        would_fail: Ids of those that would fail again.
        reasons: Why, by the ids of those that could be run.
    """

    would_pass: Sequence[int]
    would_fail: Sequence[int]
    reasons: Mapping[int, str] = field(default_factory=dict)

    def __str__(self) -> str:
        total = len(self.would_pass) + len(self.would_fail)
        found = Counter(map(first_line, self.reasons.values())).most_common()
        more = [f"{_do_not(count)}: {why}" for why, count in found[:MAX_REASONS]]
        if rest := found[MAX_REASONS:]:
            more.append(f"{_do_not(sum(count for _, count in rest))}, for other reasons")
        return "; ".join([f"{len(self.would_pass):,} of {total:,} now pass", *more])


def _do_not(count: int) -> str:
    return "1 does not" if count == 1 else f"{count:,} do not"


class DeadLetters:
    """The dead letters of one store.

    Every method that picks dead letters takes `ids`, or any of `status` (open by default,
    discarded for `reopen`; None for all), `fingerprint`, `processor`, `code`, `source`,
    `before` (an id), `limit` and `skip`. However many there are, those that only change are
    read in pages of 20,000.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def frame(self, **which: Unpack[Which]) -> pd.DataFrame:
        """Return dead letters as a pandas frame, oldest first.

        Columns and dtypes: those of `etl.records.columns.DEAD_LETTERS`. `payload` is a
        dict or null, `path` a tuple of names.
        """
        frame = DEAD_LETTERS.frame(self._pick(which))
        path = frame["path"].map(cache(lambda text: tuple(json.loads(text))))
        payload = frame["payload"].map(json.loads, na_action="ignore")
        return frame.assign(path=path, payload=payload)

    def groups(self, **which: Unpack[Which]) -> pd.DataFrame:
        """Return a pandas frame with a row per kind of failure, most frequent first.

        Columns and dtypes: those of `etl.records.columns.DEAD_LETTER_GROUPS`.
        `Queue.dead_letter_groups` returns the same as dicts, without pandas.
        """
        return DEAD_LETTER_GROUPS.frame(self._queue.dead_letter_groups(_filter(which)))

    def dry_run(self, pipeline: Pipeline, **which: Unpack[Which]) -> DryRun:
        """Return which dead letters would pass a pipeline as it is now; nothing is changed.

        Those whose text could not be read, or is damaged, count as failing, and those that do not
        fit the columns that the store keeps of its output.
        """
        kept = self._kept()
        would_pass: list[int] = []
        would_fail: list[int] = []
        reasons: dict[int, str] = {}
        for page in self._pages(which):
            passed: list[int] = []
            for batch in _batches(page.filter(CAN_RUN)):
                result = pipeline.dry_run(batch, kept=kept)
                passed += result.passed
                failed = result.dead_letters.select("dead_letter_id", "message")
                reasons |= {id: message for id, message in failed.iter_rows() if id is not None}
            would_pass += passed
            would_fail += page.filter(~pl.col("id").is_in(passed))["id"].to_list()
        return DryRun(would_pass, would_fail, reasons)

    def _kept(self) -> Delivery | None:
        """Return what the store keeps of its data sets, for sinks to ask; None if nothing."""
        root, data_sets = self._queue.output_root(), self._queue.data_sets()
        if root is None:
            return None

        def known(folder: Path, new: Mapping[str, str]) -> Mapping[str, str]:
            types = data_sets.setdefault(folder.resolve(), {})  # also those of earlier batches
            types |= {
                name: type for name, type in new.items() if types.get(name, NO_TYPE) == NO_TYPE
            }
            return types

        return Delivery(id="dry-run", token="", out=root, schemas=Schemas(known))

    def replay(
        self, *, edited: pd.DataFrame | None = None, force: bool = False, **which: Unpack[Which]
    ) -> int:
        """Put dead letters back into the queue and return how many lines wait now.

        All are checked before the first is put back; then each page is, all of it or nothing.

        Args:
            edited: A frame from `frame()` whose `line` may have been changed; exactly
                its dead letters are replayed, with the lines as they are in it.
            force: Also replay dead letters that failed again three times.
            **which: Which dead letters, if there is no edited frame.

        Raises:
            UsageError: If a dead letter is not open, was replayed too often, is damaged, or
                stands for a range of a file that has changed.
        """
        if edited is not None:
            if not {"id", "line"} <= set(edited.columns):
                raise UsageError("edited dead letters need their columns 'id' and 'line'")
            which = {"ids": edited["id"]}
        ranges: list[tuple[int, int]] = []
        for page in self._pages(which):
            _check_replay(page if edited is None else _apply_edits(page, edited), force=force)
            ranges.append((page["id"][-1], page.height))
        lines = 0
        for last, count in reversed(ranges):  # the oldest first
            page = self._pick(which | {"before": last + 1, "limit": count})
            if edited is not None:
                page = _apply_edits(page, edited)
            self._queue.replay(page["id"].to_list(), list(_batches(page)))
            lines += int(page["lines"].sum())
        return lines

    def discard(self, **which: Unpack[Which]) -> int:
        """Close dead letters and return how many; they still count as dead."""
        count = 0
        for page in self._pages(which):
            self._queue.discard(page["id"].to_list())
            count += page.height
        return count

    def reopen(self, **which: Unpack[Which]) -> int:
        """Open discarded dead letters again and return how many lines they are.

        `status` is discarded by default here; those that have another are not reopened. Those
        that were deleted as too old cannot be.

        Raises:
            UsageError: If one that is named by its id is not discarded; nothing is changed.
        """
        pages = self._pages({"status": "discarded", **which})
        return sum(self._queue.reopen(page["id"].to_list()) for page in pages)

    def export(self, path: Path | str, **which: Unpack[Which]) -> int:
        """Write dead letters to a file and return how many; they stay as they are.

        The file has all columns of `frame()` but `status` and `id`, times as Unix
        seconds, `path` and `payload` as JSON text. In JSON lines `raw` is base64.

        Args:
            path: The file, `.jsonl` or `.parquet`; an existing one is replaced.
            **which: Which dead letters.

        Raises:
            UsageError: If the file cannot be written, or its name has another ending.
        """
        return write_export(self._pages(which), Path(path))

    def import_(self, path: Path | str) -> int:
        """Put the lines of exported dead letters into this queue; return how many wait now.

        They are accepted as new lines, with their source, line number, format and
        bytes; nothing changes in the store they came from. The same set of dead
        letters is put only once, whatever the name of its file; those that two
        files share are put twice. Ranges that could not be read have no lines and
        are left out, as are dead letters that were damaged.

        Raises:
            UsageError: If the file does not exist or was not made by `export`.
        """
        dead_letters = read_export(Path(path)).filter(CAN_RUN)
        checkpoint = Checkpoint(f"dead letters {content_id(dead_letters)}", 0, dead_letters.height)
        if not dead_letters.height or self._queue.checkpoint(checkpoint.source):
            return 0
        try:
            self._queue.put(*_batches(dead_letters), checkpoint=checkpoint, expected=None)
        except SourceLocked:  # another process has just put them
            return 0
        return int(dead_letters["lines"].sum())

    def _pages(self, which: Which) -> Iterator[pl.DataFrame]:
        """Yield the wanted dead letters in pages, the newest first; those named by id at once."""
        limit = which.get("limit")
        left = 2**62 if limit is None else limit
        if which.get("ids") is not None:
            if (page := self._pick(which)).height:
                yield page
            return
        while left > 0:
            page = self._pick({**which, "limit": min(left, PAGE)})
            if page.is_empty():
                return
            yield page
            which = {**which, "before": page["id"][0], "skip": 0}
            left -= page.height

    def _pick(self, which: Which) -> pl.DataFrame:
        """Return the wanted dead letters.

        Raises:
            UsageError: If one that is named by its id is not among them.
        """
        wanted = _filter(which)
        dead_letters = self._queue.dead_letters(wanted)
        named = set(wanted.ids or ())
        if len(named) > dead_letters.height and wanted.limit is None:
            missing = sorted(named.difference(dead_letters["id"]))
            state = "there" if wanted.status is None else wanted.status
            raise UsageError(
                f"{len(missing)} of {len(named)} dead letters are not {state}; "
                f"nothing was changed: {self._states(missing)}"
            )
        return dead_letters

    def _states(self, ids: Sequence[int]) -> str:
        """Return what is known of some dead letters, of the first few: `7 is discarded`."""
        first = ids[:SHOWN_IDS]
        found = self._queue.dead_letters(DeadLetterFilter(status=None, ids=first))
        known = dict(found.select("id", "status").iter_rows())
        told = [f"{id} is {known.get(id, 'not there')}" for id in first]
        return ", ".join([*told, *(["…"] if len(ids) > len(first) else [])])

    def __repr__(self) -> str:
        return f"<DeadLetters of {self._queue.url}: {len(self):,} open>"

    def __len__(self) -> int:
        return sum(group["lines"] for group in self._queue.dead_letter_groups(DeadLetterFilter()))

    def _repr_html_(self) -> str:
        groups = self._queue.dead_letter_groups(DeadLetterFilter())
        columns = ("lines", "processor", "error", "message", "sample")
        shown = [
            one | {"error": one["error"] or one["code"], "message": first_line(one["message"])}
            for one in groups
        ]
        rows = [[one[name] for name in columns] for one in shown]
        caption = f"{sum(one['lines'] for one in groups):,} dead lines"
        return html_table(columns, rows, caption=caption)


def _filter(which: Which) -> DeadLetterFilter:
    unknown = which.keys() - set(DeadLetterFilter.__slots__)
    if unknown:
        known = ", ".join(DeadLetterFilter.__slots__)
        raise UsageError(f"dead letters cannot be picked by {', '.join(unknown)}; use {known}")
    if (ids := which.get("ids")) is not None:
        which = {**which, "ids": [int(id) for id in ids]}
    return DeadLetterFilter(**which)


def _batches(dead_letters: pl.DataFrame) -> Iterator[Batch]:
    """Yield batches of dead letters that are read alike, and are from one source."""
    groups = dead_letters.partition_by(["source", "format", "context"], maintain_order=True)
    for group in groups:
        ids = {"dead_letter_id": "id"} if "id" in group.columns else {}
        rows = group.select("line", "line_number", "raw", **ids, line_count="lines")
        for part in rows.iter_slices(PAGE):
            yield Batch(
                lines=int(part["line_count"].sum()),
                payload=part,
                source=group["source"][0],
                first_line=part["line_number"][0],
                format=group["format"][0],
                context=Context.decode(group["context"][0]),
            )


def _apply_edits(dead_letters: pl.DataFrame, edited: pd.DataFrame) -> pl.DataFrame:
    """Return dead letters with edited lines; a line that was edited loses its original bytes."""
    lines = dict(zip(edited["id"], edited["line"], strict=True))
    for id, line in lines.items():
        if not isinstance(line, str):
            raise UsageError(
                f"the edited line of dead letter {id} must be text, got {line!r}; "
                "nothing was changed"
            )
    new = pl.col("id").replace_strict(lines, return_dtype=pl.String)
    return dead_letters.with_columns(raw=pl.when(pl.col("line") == new).then("raw"), line=new)


def _check_replay(dead_letters: pl.DataFrame, *, force: bool) -> None:
    damaged = dead_letters.filter("damaged")
    if damaged.height:
        raise UsageError(
            f"dead letter {damaged['id'][0]}, line {damaged['line_number'][0]:,} of "
            f"{damaged['source'][0]!r}, is damaged in the store and is not replayed; look at it: "
            f"etl dlq show {damaged['id'][0]}, discard it, and replay the others"
        )
    unread = dead_letters.filter(~HAS_TEXT)
    if unread.height:
        raise UsageError(
            f"dead letter {unread['id'][0]} stands for {unread['lines'][0]:,} lines of "
            f"{unread['source'][0]!r} that could not be read: {unread['message'][0]}; read it "
            "again with etl run --reread"
        )
    often = dead_letters.filter(pl.col("replays") >= Settings.max_replays).height
    if often and not force:
        raise UsageError(
            f"{often} of {dead_letters.height} dead letters failed again after "
            f"{Settings.max_replays} replays; fix the processor or edit the lines, or replay "
            "them with force (--force)"
        )
