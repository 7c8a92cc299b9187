"""What is recorded about a batch while it runs: dead letters, errors, statistics, traces.

A `ResultBuilder` knows nothing of routing. `BatchRun` reports which rows ended, failed or
were dropped, and it makes the `BatchResult` of that, counted in source lines however
often a line was copied on its way. All text in a result has been masked, if the plan masks.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import polars as pl

from etl.errors import PipelineError
from etl.execution.bisect import FailedRows
from etl.execution.routing import RoutedRows
from etl.formats.masks import layout, mask, reason
from etl.pipeline.plan import INPUT, Plan
from etl.records.batch import Lease
from etl.records.result import (
    DEAD_LETTER_SCHEMA,
    NO_FORMAT,
    BatchResult,
    FailureKind,
    FormatCounts,
    ProcessorStats,
    Trace,
)
from etl.settings import Settings

__all__ = ["ResultBuilder", "all_dead", "fingerprint"]


MAX_TRACED_LENGTH = 2000
"""Characters of a line that its trace keeps."""


ENCODE_ERRORS = (Exception, pl.exceptions.PanicException)
"""What Polars may raise for rows that it cannot write as JSON, such as bytes inside lists."""

MAX_REASONS = 100
"""A processor with more distinct reasons than this in one batch is failing in one way."""

TEMPLATE_WORDS = 3
"""Words of a message's template that tell failures apart; the others are mostly values."""


class ResultBuilder:
    """Collects what happens to one batch, and makes its result.

    Args:
        origin: The batch's records: `_row` UInt32, `line` String, `line_number` and
            `line_count` Int64, and, where the batch has them, `raw` Binary and
            `dead_letter_id` Int64.
        source: Where they are from.
        plan: What they run through; it says what is masked.
        traced: How many records are traced, the last ones. A lone one, dead ones and replayed
            ones are in any case.
    """

    def __init__(
        self,
        origin: pl.DataFrame,
        source: str,
        plan: Plan,
        traced: int = Settings.kept_traces,
    ) -> None:
        self.origin = origin
        self._plan = plan
        self._source = source
        self._counts = origin["line_count"]
        self._one_line_each = bool((self._counts == 1).all())
        self.copied = False
        self.processor_stats: defaultdict[str, ProcessorStats] = defaultdict(ProcessorStats)
        self._done: list[pl.Series] = []
        self._dead: list[pl.DataFrame] = []
        self._failures: list[FailureKind] = []
        self._errors: list[tuple[str, str, str, int, str]] = []
        self._formats: defaultdict[str, FormatCounts] = defaultdict(FormatCounts)
        self._traced: list[pl.DataFrame] = []
        self._paths: dict[tuple[str, ...], int] = {}
        in_any_case = origin.height == 1 or "dead_letter_id" in origin.columns
        traced = Settings.kept_traces if in_any_case else traced
        self._trace_from = max(0, origin.height - traced)

    def lines(self, rows: pl.Series) -> int:
        """Return how many source lines some rows stand for, by their `_row`."""
        return len(rows) if self._one_line_each else int(self._counts.gather(rows).sum())

    def add_done(self, routed: RoutedRows) -> None:
        """Record rows that have come to an end of the pipeline."""
        if not routed.frame.is_empty():
            self._done.append(routed.frame["_row"])
            self.add_trace(routed, "done")

    def add_filtered(self, routed: RoutedRows, left: pl.Series) -> None:
        """Record which of the last rows a processor dropped; `left` are the others' `_row`."""
        recent = routed.frame.filter(pl.col("_row") >= self._trace_from)
        dropped = recent.filter(~pl.col("_row").is_in(left.implode()))
        self.add_trace(routed.rows(dropped), "filtered")

    def add_error(self, processor: str, error: str, message: str, lines: int, action: str) -> None:
        """Record an error for the list of recent ones; `action` is dead, dropped or retried."""
        message = self._plan.masked_text(message)
        self._errors.append((processor, error, message, lines, action))

    def add_dead_letters(self, processor: str, routed: RoutedRows, failed: FailedRows) -> None:
        """Record rows that failed alike; `routed` has the paths of the frame that they are from."""
        routed = routed.rows(failed.rows)
        paths = routed.per_path("_path", range(len(routed.paths)))
        kinds: dict[tuple[str, str, int], int] = {}
        numbers = [
            kinds.setdefault((alike, template, path), len(self._failures) + len(kinds))
            for alike, template, path in zip(*self._alike(failed), paths, strict=True)
        ]
        name = (processor, failed.code, failed.error)
        self._failures += [
            FailureKind(
                fingerprint=fingerprint(*name, self._source, alike, template),
                processor=processor,
                code=failed.code,
                error=failed.error,
                traceback=self._plan.masked_text(failed.traceback),
                path=routed.paths[path],
            )
            for alike, template, path in kinds
        ]
        self._dead.append(
            failed.rows.select(
                "_row",
                failed.reasons.alias("message"),
                _payloads(self._plan.masked(failed.rows)),
                pl.Series("failure", numbers, pl.UInt32),
                attempts=pl.lit(failed.attempts, pl.Int64),
            )
        )
        self.add_trace(routed, "dead")

    def _alike(self, failed: FailedRows) -> tuple[list[str], list[str]]:
        """Return why rows failed and what they say, as far as failures of a kind have it alike.

        What a row says is the template of its message, or the layout of a line without one.
        """
        rows = failed.rows
        looks = layout(self.origin["line"].gather(rows["_row"]))
        if rows.schema.get("message") == pl.String and rows["message"].count():
            first_line = pl.col("message").str.head(200).str.extract("(.*)")
            words = mask(first_line).str.split(" ").list.head(TEMPLATE_WORDS).list.join(" ")
            looks = rows.select(pl.coalesce(words, pl.lit(looks))).to_series()
        texts = failed.reasons.to_frame("alike").select(reason(pl.col("alike"))).to_series()
        alike, templates = texts.to_list(), looks.to_list()
        if len({*zip(alike, templates, strict=True)}) > MAX_REASONS:
            templates = [""] * len(alike)
        if len({*alike}) > MAX_REASONS:
            alike = [""] * len(alike)
        return alike, templates

    def add_formats(
        self, before: pl.DataFrame, after: pl.DataFrame, failed: list[FailedRows]
    ) -> None:
        """Record the formats that records were read by, at the processor that finds them.

        A replayed record was counted when it came first.
        """
        if "dead_letter_id" in self.origin.columns:
            return
        unread = sum(group.rows.height for group in failed if group.code == NO_FORMAT)
        if unread:
            self._formats[""] += FormatCounts(records=unread)
        if _adds("format", pl.String, before, after):
            for name, records, cuts in _formats_of(after):
                self._formats[name or ""] += FormatCounts(records=records, cut=cuts)
        if _adds("timestamp", pl.Datetime, before, after) and "format" in after.columns:
            said = [
                pl.col(name).is_null() for name in ("level", "message") if name in after.columns
            ]
            untimed = after.filter(pl.col("timestamp").is_null()).group_by("format")
            empty = pl.all_horizontal(pl.lit(value=True), *said).sum()
            for name, records, nothing in untimed.agg(pl.len(), empty.alias("empty")).iter_rows():
                self._formats[name or ""] += FormatCounts(timeless=records, empty=nothing)

    @property
    def dead_rows(self) -> int:
        """How many rows have failed for good so far."""
        return sum(rows.height for rows in self._dead)

    def without_dead(self, routed: RoutedRows) -> RoutedRows:
        """Return the rows of lines of which no copy is dead."""
        if not (self.copied and self._dead):
            return routed
        dead = pl.concat([rows["_row"] for rows in self._dead])
        return routed.rows(routed.frame.filter(~pl.col("_row").is_in(dead.implode())))

    def add_trace(self, routed: RoutedRows, state: str) -> None:
        """Record where the traced lines of the batch ended: done, filtered or dead."""
        recent = routed
        if state != "dead":
            places = (routed.frame["_row"] >= self._trace_from).arg_true()
            names = [name for name in ("_row", "_path") if name in routed.frame.columns]
            recent = routed.rows(routed.frame[names][places])
        if not recent.frame.is_empty():
            ids = [self._paths.setdefault(path, len(self._paths)) for path in recent.paths]
            rows = recent.frame[["_row"]].hstack([recent.per_path("path", ids)])
            self._traced.append(rows.with_columns(state=pl.lit(state)))

    def result(self, **rest: Any) -> BatchResult:
        """Return the result of the batch; `rest` are further fields of it.

        Raises:
            PipelineError: If a processor has changed `_row`.
        """
        dead_letters = self._dead_letters()
        total, dead = int(self._counts.sum()), int(dead_letters["lines"].sum())
        ended = pl.concat([pl.Series("_row", [], pl.UInt32), *self._done])
        if self.copied:
            ended = ended.filter(~ended.is_in(dead_letters["_row"].implode())).unique()
        done = self.lines(ended)
        if done + dead > total:
            raise PipelineError(
                f"{done + dead} lines came out of a batch of {total}: a processor has changed the "
                "column '_row', which says which line a row is from; leave it as it is"
            )
        return BatchResult(
            done=done,
            filtered=total - done - dead,
            dead=dead,
            processor_stats=dict(self.processor_stats),
            dead_letters=dead_letters[[*DEAD_LETTER_SCHEMA]],
            failures=self._failures,
            passed=self._passed(dead_letters),
            errors=self._errors,
            trace=self._trace(),
            formats=dict(self._formats),
            **rest,
        )

    def _dead_letters(self) -> pl.DataFrame:
        """Join the rows that failed with the records they came from: one dead letter a record."""
        if not self._dead:
            return pl.DataFrame(schema={"_row": pl.UInt32, **DEAD_LETTER_SCHEMA})
        dead = pl.concat(self._dead)
        if self.copied:
            dead = dead.unique("_row", keep="first", maintain_order=True)
        dead = dead.sort("_row")
        origin = self.origin[dead["_row"]].rename({"line_count": "lines"})
        dead = dead.hstack([one for one in origin.get_columns() if one.name != "_row"])
        dead = pl.concat([pl.DataFrame(schema=DEAD_LETTER_SCHEMA), dead], how="diagonal")
        return masked_dead_letters(dead, self._plan)

    def _passed(self, dead_letters: pl.DataFrame) -> list[int]:
        """Return the ids of the replayed dead letters that did not fail again."""
        if "dead_letter_id" not in self.origin.columns:
            return []
        again = dead_letters["dead_letter_id"].drop_nulls()
        ids = self.origin["dead_letter_id"].drop_nulls()
        return ids.filter(~ids.is_in(again.implode())).to_list()

    def _trace(self) -> Trace | None:
        if not self._traced:
            return None
        ends = pl.concat(self._traced).sort("_row", maintain_order=True).tail(Settings.kept_traces)
        lines = self._plan.masked(self.origin[["line", "line_number"]][ends["_row"]])
        lines = lines.with_columns(pl.col("line").str.head(MAX_TRACED_LENGTH))
        joined = ends[["path", "state"]].hstack(lines.get_columns())
        per_line = {
            name: stats.seconds / max(1, stats.received)
            for name, stats in self.processor_stats.items()
        }
        paths = [[(name, per_line.get(name, 0.0)) for name in path] for path in self._paths]
        return Trace(joined, paths)


def masked_dead_letters(dead_letters: pl.DataFrame, plan: Plan) -> pl.DataFrame:
    """Return dead letters as they may be kept: with text masked if the plan masks.

    The bytes of a line that is changed by that are not kept.
    """
    if not plan.masks:
        return dead_letters
    texts = plan.masked(dead_letters.select("line", "message"))
    same = dead_letters["line"].eq_missing(texts["line"])
    raw = pl.when(pl.lit(same)).then(pl.col("raw")).alias("raw")
    return dead_letters.with_columns(raw, *texts.get_columns())


def all_dead(
    lease: Lease,
    code: str,
    message: str,
    rows: pl.DataFrame | None,
    *,
    plan: Plan,
    run: str,
    processor: str = INPUT,
) -> BatchResult:
    """Return the result of a batch that was not run: all its lines are dead.

    Args:
        lease: The batch.
        code: Short name of the reason.
        message: The reason.
        rows: The records, each of which becomes a dead letter; None if they cannot be
            read, so that one dead letter stands for all of them.
        plan: What it would have run through.
        run: Name of the run.
        processor: Where they failed.
    """
    if rows is None:
        unread = {"line": message, "line_number": lease.batches[0].first_line}
        rows = pl.DataFrame([unread | {"line_count": lease.lines}])
    dead_letters = rows.rename({"line_count": "lines"}).with_columns(
        failure=pl.lit(0, pl.UInt32),
        message=pl.lit(message),
        attempts=pl.lit(max(1, lease.deliveries - 1), pl.Int64),
    )
    empty = pl.DataFrame(schema=DEAD_LETTER_SCHEMA)
    dead_letters = pl.concat([empty, dead_letters], how="diagonal").select(empty.columns)
    message = plan.masked_text(message)
    kind = fingerprint(processor, code, lease.batches[0].source)
    count = lease.lines
    stats = ProcessorStats(received=count, errors=count, dead=count)
    return BatchResult(
        dead=lease.lines,
        dead_letters=masked_dead_letters(dead_letters, plan),
        failures=[FailureKind(kind, processor, code, "", "", (processor,))],
        errors=[(processor, code, message, count, "dead")],
        processor_stats={} if processor == INPUT else {processor: stats},
        version=plan.version,
        run=run,
    )


def _adds(name: str, dtype: type[pl.DataType], before: pl.DataFrame, after: pl.DataFrame) -> bool:
    """Return whether a processor has added a column of a type."""
    had = name in before.columns and before.schema[name] == dtype
    return not had and name in after.columns and after.schema[name] == dtype


def _formats_of(rows: pl.DataFrame) -> Iterable[tuple[str | None, int, int]]:
    """Return the formats of rows, how many have each, and how many of them are cut."""
    names = rows["format"]
    if "is_cut" in rows.columns:
        return rows.group_by("format").agg(pl.len(), pl.col("is_cut").sum()).iter_rows()
    if len(names) and (names == names[0]).all(ignore_nulls=False):  # mostly, and soon seen
        return [(str(names[0]), len(names), 0)]
    return [(name, records, 0) for name, records in names.value_counts().iter_rows()]


def fingerprint(*parts: str) -> str:
    """Return twelve hex digits that are the same for the same texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _payloads(frame: pl.DataFrame) -> pl.Series:
    """Return each row's own columns as JSON text, in a String column `payload`."""
    left_out = {"line", "line_number", "line_count", "source"}
    writable = [
        pl.col(name).bin.encode("hex") if dtype == pl.Binary else pl.col(name)
        for name, dtype in frame.schema.items()
        if not name.startswith("_") and name not in left_out and dtype != pl.Object
    ]
    if not writable:
        return pl.Series("payload", [None], pl.String).new_from_index(0, frame.height)
    try:
        return frame.select(pl.struct(writable).struct.json_encode().alias("payload")).to_series()
    except ENCODE_ERRORS:
        texts = [json.dumps(row, default=str) for row in frame.select(writable).to_dicts()]
        return pl.Series("payload", texts, dtype=pl.String)
