"""Test a pipeline of your own: one line, some rows at one processor, a file, a whole queue.

    assert_line(pipeline, "ERROR total=12", level="ERROR", cents=1200)
    assert_dead(pipeline, "rubbish", processor="parse", code="no_format")
    run_from(pipeline, [{"message": "total=12"}], at="price", until="price")
    assert_golden(pipeline, "orders.log", "orders.golden.jsonl")
    drain(queue, pipeline)

Nothing but `drain` has a lasting effect: sinks write nothing, states stay as
they are, no retry waits. A failure shows the line before and after every hop.
The same checks as TOML are in `cases.py`; pytest runs both.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Any

import polars as pl

from etl.errors import UsageError, did_you_mean
from etl.execution.dry_run import End, Explanation, dry_run, explain
from etl.execution.routing import for_sink, merge
from etl.pipeline.pipeline import Pipeline
from etl.queue import Queue, Stats
from etl.records.batch import Batch
from etl.records.result import BatchResult, FailureKind
from etl.sources.resolve import resolve_sources
from etl.workers.worker import Worker

__all__ = ["assert_dead", "assert_golden", "assert_line", "drain", "run_from"]

MAX_SHOWN = 10
"""Differences that a golden file's message lists."""


MAX_SHOWN_LENGTH = 80
"""Characters of a value that a golden file's message shows."""


Way = Sequence[str | EllipsisType]
"""Names of processors; `...` stands for any number of them."""


def assert_line(
    pipeline: Pipeline,
    line: str | bytes,
    *,
    state: str = "done",
    path: Way | None = None,
    rows: int | None = None,
    fields: Mapping[str, Any] | None = None,
    format: str | None = None,
    **more: Any,
) -> None:
    """Assert what becomes of one line.

    If the line ends as several rows (fan-out, a copy down a tee), one of them
    must have the path and all of the fields; `rows` says how many there are.

    Args:
        pipeline: What to run the line through.
        line: The line, without its newline.
        state: Where it must end: "done" or "filtered"; `assert_dead` is for the dead.
        path: The processors it must pass, all of them in order; `...` (or
            "...") stands for any number of them.
        rows: How many rows must come to a leaf.
        fields: Fields that a row at a leaf must have, by name.
        format: Name of the line's format; None to have it detected.
        **more: Further fields, whose names are not those of the options above.

    Raises:
        AssertionError: If the line does not end so; it shows every hop.
        UsageError: If `path` names a processor that there is not.
    """
    __tracebackhide__ = True
    if state not in ("done", "filtered"):
        hint = "; use assert_dead" if state == "dead" else did_you_mean(state, ["done", "filtered"])
        raise UsageError(f"assert_line knows no state {state!r}{hint}")
    _check_names(pipeline, path)
    told = explain(pipeline, line, format=format)
    wanted = {**(fields or {}), **more}
    wrong = _wrong_state(told, state)
    if not wrong:
        ends = told.ends or [End((), {})]
        wrong = min((_wrong_row(end, path, wanted) for end in ends), key=len)
        if rows is not None and rows != (found := len(told.ends) if state == "done" else 0):
            wrong.append(f"rows: expected {rows}, found {found}")
    _raise_if(wrong, told)


def assert_dead(
    pipeline: Pipeline,
    line: str | bytes,
    *,
    processor: str | None = None,
    code: str | None = None,
    error: str | None = None,
    message: str | None = None,
    path: Way | None = None,
    format: str | None = None,
) -> None:
    """Assert that one line becomes a dead letter.

    Args:
        pipeline: What to run the line through.
        line: The line, without its newline.
        processor: Where it must die.
        code: The code that `reject` gave, "error" if the processor raised.
        error: Name of the exception's class.
        message: Text that the message must hold.
        path: As for `assert_line`; its last processor is where the line dies.
        format: Name of the line's format; None to have it detected.

    Raises:
        AssertionError: If the line does not end so; it shows every hop.
        UsageError: If a processor is named that there is not.
    """
    __tracebackhide__ = True
    _check_names(pipeline, path, processor)
    told = explain(pipeline, line, format=format)
    wrong = _wrong_state(told, "dead")
    if not wrong:
        end = told.ends[0]
        found = {"processor": end.path[-1], "code": end.code, "error": end.error}
        wanted = {"processor": processor, "code": code, "error": error}
        wrong = [
            f"{name}: expected {value!r}, found {found[name]!r}"
            for name, value in wanted.items()
            if value is not None and value != found[name]
        ]
        wrong += _wrong_path(end, path)
        if message is not None and message not in end.message:
            wrong.append(f"message: expected {message!r} in it, found {end.message!r}")
    _raise_if(wrong, told)


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
        pipeline: What they are in.
        rows: A frame or dicts with the columns that `at` wants. `line` is
            empty, `line_number` counts from 1 and `source` is "test" unless
            they are given; a batch has one source.
        at: The processor that the rows come to first.
        until: The processor whose rows are wanted, and after which nothing
            runs; by default every leaf.
        format: What the batch's format is, for processors that ask.

    Returns:
        The rows in the order of those they came from, without the pipeline's
        own columns and those that were filled in here.

    Raises:
        AssertionError: If a row dies on its way; it says where and why.
        UsageError: If there is no such processor, or the rows have several sources.
    """
    __tracebackhide__ = True
    _check_names(pipeline, [at], until)
    frame = (
        rows
        if isinstance(rows, pl.DataFrame)
        else pl.DataFrame(list(rows), infer_schema_length=None)
    )
    given = frame.columns
    sources = frame["source"].unique().to_list() if "source" in given else ["test"]
    if len(sources) > 1:
        raise UsageError(f"the rows have {len(sources)} sources, a batch has one; run them apart")
    if "line" not in given:
        frame = frame.with_columns(line=pl.lit(""))
    if "line_number" not in given:
        frame = frame.with_columns(line_number=pl.int_range(1, pl.len() + 1, dtype=pl.Int64))
    payload = frame.drop("source", strict=False)
    batch = Batch(lines=frame.height, payload=payload, source=str(sources[0]), format=format)
    outcome, routed_rows = dry_run(pipeline, batch, at=at, until=until)
    if outcome.dead:
        raise AssertionError(f"{outcome.dead} of {frame.height} rows died: {_deaths([outcome])}")
    if not routed_rows:
        return pl.DataFrame()
    filled = {"line", "line_number", "source"} - set(given)
    return merge(routed_rows).frame.select(pl.exclude("^_.*$", *filled))


def assert_golden(
    pipeline: Pipeline,
    source: str | Path,
    golden: str | Path,
    *,
    format: str | None = None,
    update: bool = False,
) -> None:
    """Assert that a file's output is what a committed file says: JSON lines or Parquet.

    Every row that comes to a leaf counts, as a sink is given it: with `path`,
    and as `source` the file's name without its folders.

    Args:
        pipeline: What to run the file through.
        source: The log file; it may be compressed.
        golden: The committed file: `.jsonl` or `.parquet`.
        format: Name of the lines' format; None to have it detected.
        update: Write the golden file anew instead; then look at what changed in it.

    Raises:
        AssertionError: If the output differs; it names the lines and fields.
        UsageError: If there is no golden file, or its name has another ending.
    """
    __tracebackhide__ = True
    golden = Path(golden)
    if golden.suffix not in (".jsonl", ".parquet"):
        raise UsageError(f"golden file {str(golden)!r} is of no known kind; use .jsonl or .parquet")
    frame, outcomes = _output(pipeline, Path(source), format)
    if update:
        golden.parent.mkdir(parents=True, exist_ok=True)
        if golden.suffix == ".jsonl":
            frame.write_ndjson(golden)
        else:
            frame.write_parquet(golden)
        return
    if not golden.exists():
        raise UsageError(
            f"there is no golden file {str(golden)!r}; write it with update=True or "
            "pytest --etl-update-golden, and look at it"
        )
    if golden.suffix == ".jsonl":
        with golden.open(encoding="utf-8") as file:
            expected = [json.loads(text) for text in file]
        found = [json.loads(text) for text in io.StringIO(frame.write_ndjson())]
    else:
        expected, found = pl.read_parquet(golden).to_dicts(), frame.to_dicts()
    wrong = _differences(expected, found)
    if wrong:
        shown = wrong[:MAX_SHOWN]
        if len(wrong) > MAX_SHOWN:
            shown.append(f"… and {len(wrong) - MAX_SHOWN:,} more")
        dead = _deaths(outcomes)
        shown += [f"dead lines: {dead}"] if dead else []
        text = "\n  ".join(shown)
        raise AssertionError(f"the output differs from {str(golden)!r}:\n  {text}")


def drain(queue: Queue, pipeline: Pipeline, out: str | Path | None = None) -> Stats:
    """Process all that waits, in this thread, and return the store's totals.

    Args:
        queue: Where lines wait.
        pipeline: What they run through.
        out: Folder that sinks write below; by default one that is then thrown away.

    Raises:
        AssertionError: If a line is missing, or lines wait still.
        ProcessorStop: If a processor failed whose policy is to stop.
    """
    __tracebackhide__ = True
    with contextlib.ExitStack() as stack:
        folder = out or stack.enter_context(tempfile.TemporaryDirectory(prefix="etl-"))
        Worker(queue, pipeline, out=folder).drain()
    stats = queue.stats()
    if not stats.conserved:
        raise AssertionError(f"lines are missing or there twice: {stats}")
    if not stats.idle:
        why = "the queue is paused" if stats.paused else "another worker has them"
        raise AssertionError(f"{stats.waiting + stats.leased} lines are not processed: {why}")
    return stats


def _check_names(pipeline: Pipeline, path: Way | None, *names: str | None) -> None:
    """Refuse a processor that there is not, rather than compare with it in vain."""
    for name in (*(path or ()), *names):
        if isinstance(name, str) and name != "...":
            pipeline[name]


def _wrong_state(told: Explanation, state: str) -> list[str]:
    if told.state == state:
        return []
    why = ""
    if told.state == "dead":
        end = told.ends[0]
        why = f" in {end.path[-1]!r}: {end.error or end.code}: {end.message}"
    return [f"state: expected {state!r}, found {told.state!r}{why}"]


def _wrong_row(end: End, path: Way | None, wanted: Mapping[str, Any]) -> list[str]:
    """Say in what one row is not as expected."""
    wrong = []
    for name, value in wanted.items():
        if name not in end.row:
            wrong.append(f"{name}: there is no such field{did_you_mean(name, end.row)}")
        elif not _same(end.row[name], value):
            wrong.append(f"{name}: expected {value!r}, found {end.row[name]!r}")
    return wrong + _wrong_path(end, path)


def _wrong_path(end: End, path: Way | None) -> list[str]:
    if path is None or _follows(end.path, path):
        return []
    return [f"path: expected {_arrows(path)}, found {_arrows(end.path)}"]


def _follows(found: Sequence[str], wanted: Way) -> bool:
    if not wanted:
        return not found
    if wanted[0] in (..., "..."):
        return any(_follows(found[start:], wanted[1:]) for start in range(len(found) + 1))
    return bool(found) and found[0] == wanted[0] and _follows(found[1:], wanted[1:])


def _arrows(path: Way) -> str:
    return " → ".join("..." if name is ... else name for name in path) or "(none)"


def _same(one: Any, other: Any) -> bool:
    """Compare two values; a NaN is the same as another."""
    both_nan = isinstance(one, float) and isinstance(other, float) and one != one and other != other  # noqa: PLR0124
    return both_nan or bool(one == other)


def _raise_if(wrong: Sequence[str], told: Explanation) -> None:
    __tracebackhide__ = True
    if wrong:
        text = "\n  ".join(wrong)
        raise AssertionError(f"the line is not as expected:\n  {text}\n{told}")


def _output(
    pipeline: Pipeline, source: Path, format: str | None
) -> tuple[pl.DataFrame, list[BatchResult]]:
    """Return what a file's rows are at the leaves, as sinks are given them."""
    if not source.is_file():
        raise UsageError(f"there is no file {str(source)!r} to compare the output of")
    frames, outcomes = [], []
    for one in resolve_sources([str(source)], format=format):
        for read in one.read():
            outcome, routed_rows = dry_run(pipeline, read.batch)
            outcomes.append(outcome)
            if routed_rows:
                frames.append(for_sink(merge(routed_rows)).with_columns(source=pl.lit(source.name)))
    frame = pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()
    return frame.with_columns(pl.col(pl.Null).cast(pl.String)), outcomes


def _deaths(outcomes: Iterable[BatchResult]) -> str:
    """Say what lines died of: `3 in 'parse' (no_format: the line fits no known format)`."""
    kinds: dict[str, tuple[FailureKind, str]] = {}
    lines: Counter[str] = Counter()
    for outcome in outcomes:
        for failure, message in outcome.dead_letters.select("failure", "message").iter_rows():
            why = outcome.failures[failure]
            kinds.setdefault(why.fingerprint, (why, message))
            lines[why.fingerprint] += 1
    return "; ".join(
        f"{lines[key]:,} in {why.processor!r} ({why.error or why.code}: {_cut(message)})"
        for key, (why, message) in kinds.items()
    )


def _differences(
    expected: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Compare rows of the same line with each other, and say field by field what differs."""
    old, new = _by_line(expected), _by_line(found)
    wrong = []
    for key in sorted(old.keys() | new.keys()):
        where = f"line {key[0]}" + (f", row {key[1] + 1}" if key[1] else "")
        if key not in new:
            wrong.append(f"{where}: is missing")
        elif key not in old:
            wrong.append(f"{where}: is new")
        else:
            before, after = old[key], new[key]
            names = [name for name in {**before, **after} if name != "line_number"]
            wrong += [
                f"{where}: {name}: {_value(before, name)} → {_value(after, name)}"
                for name in names
                if name not in before or name not in after or not _same(before[name], after[name])
            ]
    return wrong


def _by_line(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[int, int], Mapping[str, Any]]:
    """Return rows by the number of their line, and which of that line's rows each is."""
    seen: Counter[int] = Counter()
    keyed = {}
    for row in rows:
        number = int(row.get("line_number") or 0)
        keyed[number, seen[number]] = row
        seen[number] += 1
    return keyed


def _value(row: Mapping[str, Any], name: str) -> str:
    return _cut(repr(row[name])) if name in row else "(no such field)"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_LENGTH else f"{text[:MAX_SHOWN_LENGTH]}…"
