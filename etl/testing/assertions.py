"""Test a pipeline of your own: one line, some rows at one processor, a file, a whole queue.

    assert_line(pipeline, "ERROR total=12", level="ERROR", cents=1200)
    assert_dead(pipeline, "rubbish", processor="parse", code="no_format")
    run_from(pipeline, [{"message": "total=12"}], at="price", until="price")
    assert_golden(pipeline, "orders.log", "orders.golden.jsonl")
    drain(queue, pipeline)

Only `drain` has a lasting effect: elsewhere sinks write nothing, states stay as they
are, and no retry waits. A failure shows the line before and after every hop. The same
checks as TOML are in `cases.py`; pytest runs both.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from types import EllipsisType
from typing import Any

import polars as pl

from etl.errors import UsageError, did_you_mean
from etl.execution.dry_run import End, Explanation, dry_run, explain
from etl.execution.routing import for_sink, merge
from etl.formats import resolve_format
from etl.pipeline.pipeline import Pipeline
from etl.queue import Queue, Stats
from etl.records.batch import Batch
from etl.records.context import DEFAULT, Context, ReadOptions
from etl.records.result import BatchResult
from etl.sources.resolve import resolve_sources
from etl.text import printable
from etl.workers.worker import Worker

__all__ = ["assert_dead", "assert_golden", "assert_line", "drain", "run_from"]

MAX_SHOWN = 10
"""Differences that a golden file's message lists."""

MAX_SHOWN_LENGTH = 80
"""Characters of a value that a golden file's message shows."""

Route = Sequence[str | EllipsisType]
"""Names of processors; `...` stands for any number of them."""

FILLED = {
    "line": pl.lit(""),
    "line_number": pl.int_range(1, pl.len() + 1, dtype=pl.Int64),
    "line_count": pl.lit(1, pl.Int64),
    "source": pl.lit("test"),
}
"""Columns that rows are given where they lack them."""


def assert_line(
    pipeline: Pipeline,
    line: str | bytes,
    *,
    state: str = "done",
    path: Route | None = None,
    rows: int | None = None,
    fields: Mapping[str, Any] | None = None,
    format: str | None = None,
    context: Context = DEFAULT,
    **more: Any,
) -> None:
    """Assert that one line passes, and with which path and fields.

    If the line ends as several rows (fan-out, a copy down a tee), one of them
    must have the path and all of the fields; `rows` is the number of them.

    Args:
        pipeline: What to run the line through.
        line: The line, without its newline.
        state: Where it must end: "done" or "filtered"; `assert_dead` is for dead letters.
        path: The processors it must pass, all of them in order; `...` (or
            "...") stands for any number of them.
        rows: How many rows must come to a leaf.
        fields: Fields that a row at a leaf must have, by name.
        format: Name of the line's format; None to have it detected.
        context: What is known of the line's source: its head, year or zone.
        **more: Further fields, whose names are not those of the options above.

    Raises:
        AssertionError: If the line ends otherwise; it shows every hop.
        UsageError: If `path` names an unknown processor.
    """
    __tracebackhide__ = True
    if state not in ("done", "filtered"):
        hint = "; use assert_dead" if state == "dead" else did_you_mean(state, ["done", "filtered"])
        raise UsageError(f"assert_line cannot expect state {state!r}{hint}")
    _check_names(pipeline, *path or ())
    explanation = _explain(pipeline, line, format, context, state)
    wanted = {**(fields or {}), **more}
    ends = explanation.ends or [End((), {})]
    wrong = min((_wrong_end(end, end.row, wanted, path) for end in ends), key=len)
    found = len(explanation.ends) if state == "done" else 0
    if rows not in (None, found):
        wrong.append(f"rows: expected {rows}, found {found}")
    _raise_if(wrong, explanation)


def assert_dead(
    pipeline: Pipeline,
    line: str | bytes,
    *,
    processor: str | None = None,
    code: str | None = None,
    error: str | None = None,
    message: str | None = None,
    path: Route | None = None,
    format: str | None = None,
    context: Context = DEFAULT,
) -> None:
    """Assert that one line becomes a dead letter.

    Args:
        pipeline: What to run the line through.
        line: The line, without its newline.
        processor: Where it must fail.
        code: The code that `reject` gave, "error" if the processor raised.
        error: Name of the exception's class.
        message: Text that the message must contain.
        path: As for `assert_line`; its last processor is where the line fails.
        format: Name of the line's format; None to have it detected.
        context: What is known of the line's source: its head, year or zone.

    Raises:
        AssertionError: If the line ends otherwise; it shows every hop.
        UsageError: If an unknown processor is named.
    """
    __tracebackhide__ = True
    _check_names(pipeline, *path or (), processor)
    explanation = _explain(pipeline, line, format, context, "dead")
    end = explanation.ends[0]
    given = {"processor": processor, "code": code, "error": error}
    wanted = {name: value for name, value in given.items() if value is not None}
    found = {"processor": end.path[-1], "code": end.code, "error": end.error}
    wrong = _wrong_end(end, found, wanted, path)
    if message is not None and message not in end.message:
        wrong.append(f"message: expected {message!r} in it, found {end.message!r}")
    _raise_if(wrong, explanation)


def run_from(
    pipeline: Pipeline,
    rows: pl.DataFrame | Iterable[Mapping[str, Any]],
    *,
    at: str,
    until: str | None = None,
    format: str | None = None,
) -> pl.DataFrame:
    """Put rows into one processor and return the rows that leave another.

    With `until` the same as `at`, one processor runs alone.

    Args:
        pipeline: The pipeline that has both.
        rows: A frame or dicts with the columns that `at` wants. `line` is
            empty, `line_number` counts from 1 and `source` is "test" unless
            they are given; a batch has one source.
        at: The processor that the rows come to first.
        until: The processor whose rows are wanted, and after which nothing
            runs; by default every leaf.
        format: The batch's format, for processors that ask.

    Returns:
        The rows in the order of those they came from, without the pipeline's
        own columns and those that were filled in here.

    Raises:
        AssertionError: If a row fails; it says where and why.
        UsageError: If a processor is unknown, or the rows have several sources.
    """
    __tracebackhide__ = True
    _check_names(pipeline, at, until)
    given = pl.DataFrame(
        rows if isinstance(rows, pl.DataFrame) else list(rows), infer_schema_length=None
    )
    filled = {name: value for name, value in FILLED.items() if name not in given.columns}
    frame = given.with_columns(**filled)
    sources = frame["source"].unique()
    if len(sources) > 1:
        raise UsageError(f"the rows have {len(sources)} sources, a batch has one; run them apart")
    source, payload = str(sources.first()), frame.drop("source")
    lines = int(frame["line_count"].sum())
    batch = Batch(lines=lines, payload=payload, source=source, format=resolve_format(format))
    result, routed_rows = dry_run(pipeline, batch, at=at, until=until)
    if result.dead:
        raise AssertionError(f"{result.dead} of {frame.height} rows failed: {_failures([result])}")
    if not routed_rows:
        return pl.DataFrame()
    return merge(routed_rows).frame.select(pl.exclude("^_.*$", *filled))


def assert_golden(
    pipeline: Pipeline,
    source: str | Path,
    golden: str | Path,
    *,
    format: str | None = None,
    update: bool = False,
) -> None:
    """Assert that a file's output is that of a committed file: JSON lines or Parquet.

    Every row that comes to a leaf counts, as a sink is given it: with `path`,
    and as `source` the file's name without its folders.

    Args:
        pipeline: What to run the file through.
        source: The log file; it may be compressed.
        golden: The committed file: `.jsonl` or `.parquet`.
        format: Name of the lines' format; None to have it detected.
        update: Write the golden file instead; then look at what changed in it.

    Raises:
        AssertionError: If the output differs; it names the lines and fields.
        UsageError: If there is no golden file, or its name has another ending.
    """
    __tracebackhide__ = True
    golden = Path(golden)
    if golden.suffix not in (".jsonl", ".parquet"):
        raise UsageError(f"golden file {str(golden)!r} is of no known kind; use .jsonl or .parquet")
    frame, results = _output(pipeline, Path(source), format)
    output = _encode(frame, golden.suffix)
    if update:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_bytes(output)
        return
    if not golden.exists():
        raise UsageError(
            f"there is no golden file {str(golden)!r}; write it with update=True or "
            "pytest --etl-update-golden, and look at it"
        )
    expected, found = (_decode(data, golden.suffix) for data in (golden.read_bytes(), output))
    wrong = list(_differences(expected, found))
    if wrong:
        more = len(wrong) - MAX_SHOWN
        failed = _failures(results)
        shown = wrong[:MAX_SHOWN]
        shown += [f"… and {more:,} more"] if more > 0 else []
        shown += [f"dead lines: {failed}"] if failed else []
        text = "\n  ".join(shown)
        raise AssertionError(f"the output differs from {str(golden)!r}:\n  {text}")


def drain(queue: Queue, pipeline: Pipeline, out: str | Path | None = None) -> Stats:
    """Process all waiting lines in this thread, and return the store's totals.

    Args:
        queue: Where lines wait.
        pipeline: What they run through.
        out: Folder that sinks write below; by default a temporary one, which is removed.

    Raises:
        AssertionError: If a line is missing, or lines still wait.
        ProcessorStop: If a processor failed whose policy is to stop.
    """
    __tracebackhide__ = True
    with tempfile.TemporaryDirectory(prefix="etl-") as folder:
        Worker(queue, pipeline, out=out or folder).drain()
    stats = queue.stats()
    if not stats.conserved:
        raise AssertionError(f"lines are missing or counted twice: {stats}")
    if not stats.idle:
        why = "the queue is paused" if stats.paused else "another worker has them"
        raise AssertionError(f"{stats.waiting + stats.leased} lines are not processed: {why}")
    return stats


def _check_names(pipeline: Pipeline, *names: str | EllipsisType | None) -> None:
    """Raise a UsageError for an unknown processor, rather than compare with it in vain."""
    for name in names:
        if isinstance(name, str) and name != "...":
            pipeline[name]


def _explain(
    pipeline: Pipeline, line: str | bytes, format: str | None, context: Context, state: str
) -> Explanation:
    """Return what the pipeline does with a line.

    Raises:
        AssertionError: If the line ends in another state.
    """
    __tracebackhide__ = True
    found = explain(pipeline, line, format=format, context=context)
    if found.state != state:
        why = ""
        if found.state == "dead":
            end = found.ends[0]
            why = f" in {end.path[-1]!r}: {end.error or end.code}: {end.message}"
        _raise_if([f"state: expected {state!r}, found {found.state!r}{why}"], found)
    return found


def _wrong_end(
    end: End, found: Mapping[str, Any], wanted: Mapping[str, Any], path: Route | None
) -> list[str]:
    """Return what differs at one end of a line: its fields, and its path."""
    wrong = []
    for name, value in wanted.items():
        if name not in found:
            wrong.append(f"{name}: there is no such field{did_you_mean(name, found)}")
        elif not _same(found[name], value):
            wrong.append(f"{name}: expected {value!r}, found {found[name]!r}")
    if path is not None and not _follows(end.path, path):
        wrong.append(f"path: expected {_arrows(path)}, found {_arrows(end.path)}")
    return wrong


def _follows(found: Sequence[str], wanted: Route) -> bool:
    if not wanted:
        return not found
    if wanted[0] in (..., "..."):
        return any(_follows(found[start:], wanted[1:]) for start in range(len(found) + 1))
    return bool(found) and found[0] == wanted[0] and _follows(found[1:], wanted[1:])


def _arrows(path: Route) -> str:
    return " → ".join("..." if name is ... else name for name in path) or "(none)"


def _same(one: Any, other: Any) -> bool:
    """Compare two values; a NaN equals another NaN."""
    return bool(one == other) or (one != one and other != other)  # noqa: PLR0124


def _raise_if(wrong: Sequence[str], explanation: Explanation) -> None:
    __tracebackhide__ = True
    if wrong:
        text = "\n  ".join(wrong)
        raise AssertionError(f"the line is not as expected:\n  {text}\n{explanation}")


def _output(
    pipeline: Pipeline, source: Path, format: str | None
) -> tuple[pl.DataFrame, list[BatchResult]]:
    """Return a file's rows at the leaves, as sinks are given them, and its batches' results."""
    if not source.is_file():
        raise UsageError(f"there is no file {str(source)!r} to compare the output of")
    frames, results = [], []
    for one in resolve_sources([str(source)], ReadOptions(format=format)):
        for read in one.read():
            result, routed_rows = dry_run(pipeline, read.batch)
            results.append(result)
            if routed_rows:
                frames.append(for_sink(merge(routed_rows)).with_columns(source=pl.lit(source.name)))
    frame = pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()
    return frame.with_columns(pl.col(pl.Null).cast(pl.String)), results


def _encode(frame: pl.DataFrame, suffix: str) -> bytes:
    out = io.BytesIO()
    if suffix == ".jsonl":
        frame.write_ndjson(out)
    else:
        frame.write_parquet(out)
    return out.getvalue()


def _decode(data: bytes, suffix: str) -> list[dict[str, Any]]:
    if suffix == ".jsonl":
        return [json.loads(text) for text in data.splitlines()]
    return pl.read_parquet(data).to_dicts()


def _failures(results: Iterable[BatchResult]) -> str:
    """Return why lines failed: `3 in 'parse' (no_format: the line matches no known format)`."""
    texts: dict[str, str] = {}
    lines: Counter[str] = Counter()
    for result in results:
        for index, message in result.dead_letters.select("failure", "message").iter_rows():
            kind = result.failures[index]
            why = f"{kind.error or kind.code}: {printable(message, MAX_SHOWN_LENGTH)}"
            texts.setdefault(kind.fingerprint, f"in {kind.processor!r} ({why})")
            lines[kind.fingerprint] += 1
    return "; ".join(f"{lines[key]:,} {text}" for key, text in texts.items())


def _differences(
    expected: Iterable[Mapping[str, Any]], found: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """Yield what differs between the rows of each line, field by field."""
    lines: dict[int, tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    for side, rows in enumerate((expected, found)):
        for row in rows:
            lines[row.get("line_number") or 0][side].append(row)
    for number, sides in sorted(lines.items()):
        for nth, (old, new) in enumerate(zip_longest(*sides)):
            where = f"line {number}" + (f", row {nth + 1}" if nth else "")
            if old is None or new is None:
                yield f"{where}: is {'new' if old is None else 'missing'}"
                continue
            for name in old | new:
                if name in old and name in new and _same(old[name], new[name]):
                    continue
                yield f"{where}: {name}: {_value(old, name)} → {_value(new, name)}"


def _value(row: Mapping[str, Any], name: str) -> str:
    return printable(repr(row[name]), MAX_SHOWN_LENGTH) if name in row else "(no such field)"
