"""What the command line shows: tables, a progress bar. Text from logs is made harmless first."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, JustifyMethod
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from etl.analysis.metrics import processor_rows, state_totals
from etl.queue import TOTALS, DeadLetterFilter, Queue, open_queue
from etl.queue.urls import file_of
from etl.runs.registry import latest_store
from etl.sources.resolve import passed_over
from etl.text import clock, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.runs.run import Progress as RunProgress

__all__ = [
    "batches_table",
    "dead_letter_text",
    "dead_letters_table",
    "groups_table",
    "live_view",
    "processors_table",
    "queue_line",
    "runs_table",
    "show_progress",
    "show_summary",
    "traces_table",
    "watch_store",
]

_PAUSED_BY = {"operator": "an operator", "worker": "a worker that cannot continue"}


def show_summary(console: Console, queue: Queue, result: Mapping[str, Any]) -> None:
    """Print what a run did and where to look next."""
    console.print(processors_table(queue))
    for name, counts in state_totals(queue).items():
        parts = [f"{value} {int(count):,}" for value, count in sorted(counts.items())]
        console.print(Text(f"{name}: " + " · ".join(map(printable, parts))))
    console.print(queue_line(result))
    control = queue.control()
    if control.paused:
        why = f": {printable(control.reason)}" if control.reason else ""
        text = f"paused by {_PAUSED_BY[control.paused_by or 'operator']}{why}"
        console.print(Text(text, style="bold red"))
    latest = latest_store()
    known = latest is not None and result.get("store", "").endswith(str(latest.absolute()))
    hint = f" --store {_near(result['store'])}" if "store" in result and not known else ""
    if groups := queue.dead_letter_groups(DeadLetterFilter()):
        console.print(groups_table(groups))
        console.print(Text(f"look at them with: etl dlq list --lines{hint}", style="dim"))
    if result.get("new") == 0 and not result["lines_per_second"]:
        nothing = "nothing new: everything was read before; --reread reads it again"
        console.print(Text(nothing if result["accepted"] else "there is no line in it"))
    codes = {row["code"] for row in groups}
    if result["dead"] == result["accepted"] > 0 and codes == {"no_format"}:
        console.print(Text("every line is dead; name their --format, or describe it: --template"))
    if result.get("skipped"):
        console.print(Text(passed_over(result["skipped"])))
    rate, seconds = result["lines_per_second"], result["seconds"]
    console.print(Text(f"{seconds:.1f} s, {rate:,.0f} lines/s", style="dim"))
    if "out" in result:
        console.print(Text(f"output: {_near(result['out'])}"), soft_wrap=True)
    if "store" in result:
        console.print(Text(f"store:  {_near(result['store'])}"), soft_wrap=True)


def processors_table(queue: Queue) -> Table:
    """Return one row per processor; times are microseconds per line."""
    counts = ("received", "emitted", "filtered", "errors", "retries", "dead")
    table = _table(
        "processor", *counts, "busy s", "p50 µs", "p99 µs", right=range(1, 10), padding=1
    )
    for column in table.columns:
        column.no_wrap = True
    for row in processor_rows(queue):
        numbers = [_count(row[name]) for name in counts]
        times = [f"{row['seconds']:.2f}", *(_micros(row[p]) for p in ("p50", "p99"))]
        name = _cell(row["processor"], 20)
        table.add_row(name, *numbers, *times, style="red" if row["dead"] else None)
    return table


def _micros(seconds: float) -> str:
    """Return microseconds with three digits, or as many as are before the point."""
    micros = seconds * 1e6
    return f"{micros:.3g}" if micros < 999.5 else f"{micros:,.0f}"


def queue_line(result: Mapping[str, Any]) -> Text:
    """Return the conservation law with its numbers."""
    parts = " + ".join(f"{result[name]:,} {name}" for name in TOTALS[1:])
    mark = ("✓", "green") if result["conserved"] else ("✗ lines are missing", "bold red")
    text = Text.assemble((f"{result['accepted']:,} accepted = {parts} ", "bold"), mark)
    return text.append("  paused", "bold red") if result["paused"] else text


def groups_table(groups: Iterable[Mapping[str, Any]]) -> Table:
    """Return one row per kind of failure."""
    table = _table("dead", "fingerprint", "processor", "why", "sample", right=[0])
    for row in groups:
        why = f"{row['error'] or row['code']}: {row['message']}"
        table.add_row(
            f"{row['lines']:,}",
            row["fingerprint"],
            *map(_cell, (row["processor"], why, row["sample"])),
        )
    return table


def dead_letters_table(dead_letters: Iterable[Mapping[str, Any]]) -> Table:
    """Return one row per dead letter."""
    table = _table("id", "source", "line", "processor", "why", "text", right=[0, 2])
    for row in dead_letters:
        why = f"{row['error'] or row['code']}: {row['message']}"
        table.add_row(
            str(row["id"]),
            _cell(row["source"]),
            f"{row['line_number']:,}",
            *map(_cell, (row["processor"], why, row["line"])),
        )
    return table


def dead_letter_text(dead_letter: Mapping[str, Any]) -> Text:
    """Return all that is known of one dead letter, a field a line."""
    text = Text()
    for name, value in dead_letter.items():
        if name == "failure" or value is None or value == "":
            continue
        shown = clock(value) if name.endswith("_at") else str(value)
        body = "\n".join(printable(line) for line in shown.split("\n"))
        text.append(f"{name}: ", "bold").append(f"\n{body}" if "\n" in body else body).append("\n")
    return text


def traces_table(traces: Iterable[Mapping[str, Any]]) -> Table:
    """Return one row per traced line."""
    table = _table("line", "text", "path", "state", "µs", right=[0, 4])
    colours = {"dead": "red", "filtered": "dim"}
    for row in traces:
        path = " → ".join(printable(name) for name in row["path"])
        state = Text(row["state"], style=colours.get(row["state"], ""))
        number = str(row["line_number"])
        time_taken = f"{row['seconds'] * 1e6:.1f}"
        table.add_row(number, _cell(row["line"]), _cell(path), state, time_taken)
    return table


def runs_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Return one row per recorded run."""
    names = ("run", "kind", "state", "started (UTC)", "took", "accepted", "dead", "sources")
    table = _table(*names, right=(4, 5, 6), padding=1)
    for column in table.columns[:-1]:
        column.no_wrap = True
    for column, width in zip(table.columns, (20, 5, 8, 16), strict=False):
        column.min_width = width
    colours = {"running": "green", "gate": "yellow", "failed": "red", "killed": "red"}
    for row in rows:
        counts = ["" if row[name] is None else f"{row[name]:,}" for name in ("accepted", "dead")]
        table.add_row(
            _cell(row["run"], 40),
            _cell(row["kind"] or ""),
            Text(row["state"], style=colours.get(row["state"], "")),
            clock(row["started_at"])[:16],
            "" if row["seconds"] is None else f"{row['seconds']:,.1f} s",
            *counts,
            _cell(", ".join(_near(one) for one in row["sources"] or [row["store"] or ""])),
        )
    return table


def batches_table(outcomes: Iterable[Mapping[str, Any]]) -> Table:
    """Return one row per batch of `etl batch --each`."""
    table = _table("file", "state", "accepted", "done", "dead", "seconds", "why", right=range(2, 6))
    for one in outcomes:
        numbers = (one[name] for name in ("accepted", "done", "dead", "seconds"))
        table.add_row(
            _cell(one["file"], 60),
            Text(one["state"], style="" if one["state"] == "finished" else "red"),
            *("" if number is None else f"{number:,}" for number in numbers),
            _cell(one["error"], 200),
        )
    return table


def live_view(queue: Queue, result: Mapping[str, Any]) -> Group:
    """Return what `etl top` shows."""
    workers = queue.read("workers")
    busy = sum(worker["batch"] is not None for worker in workers)
    rate = f"{result['lines_per_second']:,.0f} lines/s"
    age = f"oldest {result['oldest_age']:.1f} s"
    head = Text(f"{rate} · {age} · {len(workers)} workers, {busy} busy")
    return Group(head, queue_line(result), processors_table(queue))


@contextmanager
def show_progress(console: Console) -> Iterator[Callable[[RunProgress], None]]:
    """Show a bar of bytes and lines while a run goes on; without a terminal, only that it waits."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[lines]:,} lines, {task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
    )
    shown = console.is_terminal
    told = False
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("reading", total=None, lines=0, rate=0.0)

        def watch(progress: RunProgress) -> None:
            stats = progress.stats
            reading = progress.size is None or progress.read < progress.size
            what = "paused" if stats.paused else "reading" if reading else "working"
            nonlocal told
            if not shown and stats.paused and not told:
                console.print("etl: the store is paused; etl resume lets it go on", style="")
                told = True
            bar.update(
                task,
                description=what,
                total=progress.size,
                completed=progress.read,
                lines=stats.finished,
                rate=stats.finished / max(progress.seconds, 1e-9),
            )

        yield watch


@contextmanager
def watch_store(console: Console, url: str) -> Iterator[None]:
    """Show a bar of a store's lines while others work on it; nothing if there is no terminal."""
    if not console.is_terminal:
        yield
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} of {task.total:,} lines"),
        TimeElapsedColumn(),
    )
    ended = threading.Event()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("running the notebook", total=0)

        def look() -> None:
            file = file_of(url)
            while file and not file.exists():
                if ended.wait(0.1):
                    return
            queue = open_queue(url)
            while not ended.wait(0.25):
                stats = queue.stats()
                bar.update(task, total=stats.accepted, completed=stats.finished)
            queue.close()

        thread = threading.Thread(target=look, name="etl-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _table(*columns: str, right: Sequence[int], padding: int = 2) -> Table:
    table = Table(box=None, padding=(0, padding, 0, 0), header_style="bold")
    for number, name in enumerate(columns):
        justify: JustifyMethod = "right" if number in right else "left"
        table.add_column(name, justify=justify, overflow="ellipsis")
    return table


def _cell(text: str, most: int = 100) -> Text:
    """Return text on one line, cut where there is no room; other columns keep theirs."""
    return Text(printable(text, most), no_wrap=True, overflow="ellipsis")


def _count(number: int) -> str:
    """Return a count in at most seven characters; a dot for none."""
    if number >= 1_000_000:
        return f"{number / 1e6:.3f}M"
    return f"{number:,}" if number else "·"


def _near(place: str) -> str:
    """Return a path from here, if it is below the current folder."""
    path, here = file_of(place), Path.cwd()
    return str(path.relative_to(here)) if path and path.is_relative_to(here) else place
