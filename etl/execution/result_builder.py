"""What is written down about a batch while it runs: deaths, errors, counts, traces.

A `ResultBuilder` knows nothing of routing. The runner tells it which rows ended,
failed or were dropped, and it makes the `BatchResult` of that, counted in source
lines however often a line was copied on its way.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import polars as pl

from etl.errors import PipelineError
from etl.execution.bisect import FAILURES, FailedRows
from etl.execution.routing import RoutedRows
from etl.pipeline.plan import INPUT
from etl.records.batch import Lease
from etl.records.result import DEAD_LETTER_SCHEMA, BatchResult, FailureKind, ProcessorStats, Trace
from etl.settings import Settings

__all__ = ["ResultBuilder", "all_dead", "fingerprint"]


MAX_TRACED_LENGTH = 2000
"""Characters of a line that its trace keeps."""


MAX_REASONS = 100
"""A processor with more distinct reasons than this in one batch is failing in one way."""


NOISE = r"""0[xX][0-9a-fA-F]+|[0-9]+|'[^']*'|"[^"]*\""""
"""What makes messages of the same failure differ: numbers, hex, quoted values."""


class ResultBuilder:
    """The book of one batch.

    Args:
        origin: The batch's lines: `_row`, `line`, `line_number`, perhaps `raw` and `letter`.
    """

    def __init__(self, origin: pl.DataFrame) -> None:
        self.origin = origin
        self.copied = False
        self.processor_stats: dict[str, ProcessorStats] = {}
        self._ended: list[pl.Series] = []
        self._letters: list[pl.DataFrame] = []
        self._failures: list[FailureKind] = []
        self._errors: list[tuple[str, str, str, int, str]] = []
        self._traced: list[pl.DataFrame] = []
        self._paths: dict[tuple[str, ...], int] = {}
        self._trace_from = max(0, origin.height - Settings.kept_traces)

    def count(self, processor: str, tally: ProcessorStats) -> None:
        """Add to what a processor did."""
        self.processor_stats[processor] = (
            self.processor_stats.get(processor, ProcessorStats()) + tally
        )

    def end(self, routed: RoutedRows) -> None:
        """Note rows that have come to a leaf."""
        if not routed.frame.is_empty():
            self._ended.append(routed.frame["_row"])
            self.trace(routed, "done")

    def error(self, processor: str, bad: FailedRows, action: str) -> None:
        """Note an error for the list of recent ones."""
        kind, rows = bad.error or bad.code, bad.rows.height
        self._errors.append((processor, kind, bad.reasons[0], rows, action))

    def retried(self, processor: str, lines: int) -> None:
        """Note lines that failed and then passed."""
        text = f"{lines} lines failed and then passed"
        self._errors.append((processor, "retried", text, lines, "retried"))

    def bury(self, processor: str, routed: RoutedRows, bad: FailedRows) -> None:
        """Note rows that failed alike and will be dead letters."""
        frame = routed.frame
        path = frame["_path"] if "_path" in frame.columns else pl.lit(0, pl.UInt32).alias("_path")
        alike = bad.reasons.str.replace_all(NOISE, "#").str.head(200).alias("alike")
        if alike.n_unique() > MAX_REASONS:
            alike = pl.Series("alike", [""]).new_from_index(0, frame.height)
        rows = frame.select("_row").with_columns(
            path,
            alike,
            bad.reasons.alias("message"),
            _payloads(frame),
            attempts=pl.lit(bad.attempts, pl.Int64),
        )
        kinds = rows.select("alike", "_path").unique(maintain_order=True)
        kinds = kinds.with_row_index("failure", offset=len(self._failures))
        self._failures += [
            FailureKind(
                fingerprint=fingerprint(processor, bad.code, bad.error, text),
                processor=processor,
                code=bad.code,
                error=bad.error,
                traceback=bad.traceback,
                path=routed.paths[index],
            )
            for _, text, index in kinds.iter_rows()
        ]
        keys = ["alike", "_path"]
        joined = rows.join(kinds, on=keys, how="left", maintain_order="left").drop(keys)
        self._letters.append(joined)
        self.trace(routed, "dead")

    @property
    def deaths(self) -> int:
        """How many rows have died so far."""
        return sum(dead_letters.height for dead_letters in self._letters)

    def living(self, routed: RoutedRows) -> RoutedRows:
        """Return the rows of lines of which no copy has died."""
        if not (self.copied and self._letters):
            return routed
        dead = pl.concat([dead_letters["_row"] for dead_letters in self._letters])
        return routed.rows(routed.frame.filter(~pl.col("_row").is_in(dead.implode())))

    def trace(self, routed: RoutedRows, state: str) -> None:
        """Note where the last lines of the batch ended: done, filtered or dead."""
        frame = routed.frame.filter(pl.col("_row") >= self._trace_from)
        if frame.is_empty():
            return
        ids = [self._paths.setdefault(path, len(self._paths)) for path in routed.paths]
        path = (
            pl.lit(ids[0], pl.UInt32).alias("path")
            if len(ids) == 1
            else pl.Series("path", ids, pl.UInt32).gather(frame["_path"])
        )
        self._traced.append(frame.select("_row").with_columns(path, state=pl.lit(state)))

    def trace_dropped(self, routed: RoutedRows, left: pl.Series) -> None:
        """Note which of the last lines a processor dropped; `left` are the rows it did not."""
        recent = routed.frame.filter(pl.col("_row") >= self._trace_from)
        gone = recent.filter(~pl.col("_row").is_in(left.implode()))
        self.trace(routed.rows(gone), "filtered")

    def outcome(self, **rest: Any) -> BatchResult:
        """Tell what became of the batch; `rest` are further fields of the outcome."""
        dead_letters = self._gather_letters()
        total, dead = self.origin.height, dead_letters.height
        if self.copied:
            ended = pl.concat([pl.Series("_row", [], pl.UInt32), *self._ended]).unique()
            done = ended.len() - int(ended.is_in(dead_letters["_row"].implode()).sum())
        else:
            done = sum(len(rows) for rows in self._ended)
        if done + dead > total:
            raise PipelineError(
                f"{done + dead} lines came out of a batch of {total}: a processor has changed the "
                "column '_row', which says which line a row is from; leave it as it is"
            )
        return BatchResult(
            done=done,
            filtered=total - done - dead,
            dead=dead,
            processor_stats=self.processor_stats,
            dead_letters=dead_letters.select(DEAD_LETTER_SCHEMA.keys()),
            failures=self._failures,
            passed=self._passed(dead_letters),
            errors=self._errors,
            trace=self._trace(),
            **rest,
        )

    def _gather_letters(self) -> pl.DataFrame:
        """Join the rows that died with the lines they came from, one letter a line."""
        if not self._letters:
            return pl.DataFrame(schema={"_row": pl.UInt32, **DEAD_LETTER_SCHEMA})
        dead = pl.concat(self._letters)
        if self.copied:
            dead = dead.unique("_row", keep="first", maintain_order=True)
        dead = dead.sort("_row")
        dead = dead.hstack(self.origin.drop("_row")[dead["_row"]].get_columns())
        whole = pl.concat([pl.DataFrame(schema=DEAD_LETTER_SCHEMA), dead], how="diagonal")
        return whole.with_columns(lines=pl.lit(1, pl.Int64))

    def _passed(self, dead_letters: pl.DataFrame) -> list[int]:
        """Return the ids of the replayed dead letters that did not die again."""
        if "dead_letter_id" not in self.origin.columns:
            return []
        again = dead_letters["dead_letter_id"].drop_nulls()
        ids = self.origin["dead_letter_id"].drop_nulls()
        return ids.filter(~ids.is_in(again.implode())).to_list()

    def _trace(self) -> Trace | None:
        if not self._traced:
            return None
        lines = self.origin.tail(Settings.kept_traces).select(
            "_row", pl.col("line").str.head(MAX_TRACED_LENGTH), "line_number"
        )
        ends = pl.concat(self._traced).sort("_row", maintain_order=True).tail(Settings.kept_traces)
        joined = ends.join(lines, on="_row", how="left", maintain_order="left").drop("_row")
        per_line = {
            name: tally.seconds / max(1, tally.received)
            for name, tally in self.processor_stats.items()
        }
        paths = [[(name, per_line.get(name, 0.0)) for name in path] for path in self._paths]
        return Trace(joined, paths)


def all_dead(
    lease: Lease, code: str, message: str, rows: pl.DataFrame | None, *, version: str, run: str
) -> BatchResult:
    """Return the result of a batch that was not run: all its lines are dead.

    Args:
        lease: The batch.
        code: Short name of the reason.
        message: The reason.
        rows: The lines, each of which becomes a dead letter; None if they cannot be
            read, so that one dead letter stands for all of them.
        version: The pipeline's.
        run: Name of the run.
    """
    lines = 1
    if rows is None:
        lines = lease.lines
        rows = pl.DataFrame({"line": [message], "line_number": [lease.batches[0].first_line]})
    dead_letters = rows.with_columns(
        failure=pl.lit(0, pl.UInt32),
        message=pl.lit(message),
        lines=pl.lit(lines, pl.Int64),
        attempts=pl.lit(max(1, lease.deliveries - 1), pl.Int64),
    )
    empty = pl.DataFrame(schema=DEAD_LETTER_SCHEMA)
    return BatchResult(
        dead=lease.lines,
        dead_letters=pl.concat([empty, dead_letters], how="diagonal").select(empty.columns),
        failures=[FailureKind(fingerprint(INPUT, code), INPUT, code, "", "", (INPUT,))],
        errors=[(INPUT, code, message, lease.lines, "dead")],
        version=version,
        run=run,
    )


def fingerprint(*parts: str) -> str:
    """Return twelve hex digits for what makes failures the same."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _payloads(frame: pl.DataFrame) -> pl.Series:
    """Return each row's columns as JSON text, without those that every line has."""
    left_out = {"line", "line_number", "source"}
    own = [name for name in frame.columns if not name.startswith("_") and name not in left_out]
    writable = [
        pl.col(name).bin.encode("hex") if frame.schema[name] == pl.Binary else pl.col(name)
        for name in own
        if frame.schema[name] != pl.Object
    ]
    if not writable:
        return pl.Series("payload", [None], pl.String).new_from_index(0, frame.height)
    try:
        return frame.select(pl.struct(writable).struct.json_encode().alias("payload")).to_series()
    except FAILURES:  # bytes inside lists, say: Polars cannot write those
        texts = [json.dumps(row, default=str) for row in frame.select(writable).to_dicts()]
        return pl.Series("payload", texts, dtype=pl.String)
