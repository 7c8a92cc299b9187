"""What `etl run` and `etl status` print of a store: counts, sources, failures, the next steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from etl.analysis.metrics import processors, state_totals, too_few_batches
from etl.cli.commands import etl_command, etl_with, python_code, relative
from etl.cli.detect import STDIN
from etl.cli.tables import (
    GROUPS,
    PERCENTILES,
    PROCESSORS,
    SOURCES,
    TRACES,
    Row,
    near,
    print_json,
    table,
)
from etl.formats.levels import LEVELS
from etl.queue import DeadLetterFilter, Queue, identity
from etl.records.result import NO_FORMAT
from etl.sources.resolve import passed_over
from etl.text import clock, percent, printable

__all__ = ["show_summary"]

PAUSED_BY = {"operator": "an operator", "worker": "a worker that cannot continue"}

GENERIC_TOLD = 0.05
"""Share of generic records from which on a summary says what to do."""

EMPTY_TOLD = 0.5
"""Share of records with neither time, level nor message from which on a summary says so."""

MOST_LOST = 5
"""Lost outputs that a summary names."""

MOST_SOURCES = 20
"""Sources that a summary lists: those of which the largest share is generic."""

MOST_GROUPS = 20
"""Kinds of failure that a summary lists: the most frequent."""

STEPS = 3
"""Next steps that a summary names."""


def show_summary(queue: Queue, result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the result of a run, and the commands that show more.

    Args:
        queue: The store.
        result: Its `summary` and `store`; after a run also `out`, `new` and perhaps `traces`.
        as_json: Whether to print `result` as one JSON object instead.
    """
    if as_json:
        print_json(result)
        return
    console = Console()
    if "traces" in result:
        console.print(table(result["traces"], TRACES))
    _print_processors(console, queue)
    _print_counts(console, queue)
    if result.get("sources"):
        _print_sources(console, result["sources"])
    console.print(_identity(result), soft_wrap=True)
    control = queue.control()
    if control.paused:
        why = f": {printable(control.reason)}" if control.reason else ""
        who = PAUSED_BY[control.paused_by or "operator"]
        console.print(Text(f"paused by {who}{why}", "bold red"))
    groups = queue.dead_letter_groups(DeadLetterFilter())
    _print_groups(console, groups)
    for hint in _hints(result, groups):
        console.print(Text(printable(hint)), soft_wrap=True)
    _print_lost(console, result)
    _print_targets(console, result)
    if "out" in result:
        _print_run(console, result, failures=bool(groups))
        return
    console.print(Text(f"store:  {near(result['store'])}"), soft_wrap=True)
    if groups:
        hint = etl_command("dlq list", "--lines", store=result["store"])
        console.print(Text(f"list the dead letters: {hint}", "dim"), soft_wrap=True)


def _print_processors(console: Console, queue: Queue) -> None:
    """Print the counts of the processors, and percentiles of their times if there can be some."""
    shown = PROCESSORS[: -len(PERCENTILES)] if too_few_batches(queue) else PROCESSORS
    console.print(table(processors.polars(queue).to_dicts(), shown, red="dead"))


def _print_counts(console: Console, queue: Queue) -> None:
    """Print what stateful processors have counted, such as lines by level."""
    for name, counts in state_totals(queue).items():
        none = "no level" if counts.keys() - LEVELS.values() == {"None"} else "no value"
        words = ((none if key == "None" else key, count) for key, count in sorted(counts.items()))
        parts = [f"{printable(word)} {int(count):,}" for word, count in words]
        console.print(Text(f"{printable(name)}: " + " · ".join(parts)))


def _print_groups(console: Console, groups: Sequence[Row]) -> None:
    """Print why lines died, the most frequent kinds of failure first."""
    if groups:
        console.print(table(groups[:MOST_GROUPS], GROUPS))
    if (more := len(groups) - MOST_GROUPS) > 0:
        console.print(Text(f"and {more:,} more kinds of failure", "dim"))


def _print_lost(console: Console, result: Mapping[str, Any]) -> None:
    """Print which committed output is not there."""
    if not (lost := result["lost_outputs"]):
        return
    names = ", ".join(printable(near(path)) for path in lost[:MOST_LOST])
    names += f" and {len(lost) - MOST_LOST:,} more" if len(lost) > MOST_LOST else ""
    check = etl_command("check", relative(result["store"]))
    text = f"committed output is lost: {names}; to see whose: {check}"
    console.print(Text(text, "bold red"), soft_wrap=True)


def _print_targets(console: Console, result: Mapping[str, Any]) -> None:
    """Print what waits to be loaded into databases and the like, and which of them fail."""
    for one in result["targets"]:
        waiting = f"{one['lines']:,} lines wait for {printable(one['name'])}"
        if one["error"]:
            text = f"{waiting}, which has failed since {clock(one['since'])}: "
            console.print(Text(text + printable(one["error"]), "bold red"), soft_wrap=True)
        elif one["files"]:
            console.print(Text(f"{waiting}; workers of its pipeline load them"), soft_wrap=True)


def _print_run(console: Console, result: Mapping[str, Any], *, failures: bool) -> None:
    """Print how fast a run was, where its output and store are, and what may come next."""
    new = f"{result['new']:,} lines read, " if result["new"] != result["accepted"] else ""
    speed = f"{result['seconds']:.1f} s, {result['lines_per_second']:,.0f} lines/s"
    console.print(Text(new + speed, "dim"))
    console.print(Text(f"output: {near(result['out'])}"), soft_wrap=True)
    console.print(Text(f"store:  {near(result['store'])}"), soft_wrap=True)
    _print_steps(console, result["store"], Path(result["out"]), failures=failures)


def _print_steps(console: Console, store: str, out: Path, *, failures: bool) -> None:
    """Print what may come next: the commands for it, to be pasted."""
    steps = list(_steps(store, out, failures=failures))[:STEPS]
    width = max(len(what) for what, _ in steps)
    console.print(Text("next steps:", "bold"))
    for what, command in steps:
        text = Text.assemble(f"  {what:<{width}}  ", (command, "cyan"))
        console.print(text, soft_wrap=True, highlight=False)


def _steps(store: str, out: Path, *, failures: bool) -> Iterator[tuple[str, str]]:
    """Yield what a user may want to do next, and its command, the most useful first."""
    if failures:
        yield "see the failures", etl_command("dlq list", "--lines", store=store)
    room = etl_command("lab", store=store)
    yield "open the control room", etl_with("notebook", "jupyterlab", room)
    folder = relative(str(out))
    if any(out.rglob("[!.]*.parquet")):
        code = f"import etl; print(etl.read_output({folder!r}))"
        yield "read the output", python_code(code)
    elif any(out.rglob("[!.]*.jsonl")):
        pattern = str(Path(folder) / "**" / "*.jsonl")
        code = f"import polars as pl; print(pl.scan_ndjson({pattern!r}).collect())"
        yield "read the output", python_code(code)
    yield "see the paths of the last lines", etl_command("trace", store=store)
    yield "see the counts again", etl_command("status", store=store)


def _hints(result: Mapping[str, Any], groups: Sequence[Row]) -> Iterator[str]:
    """Yield what a user should know of a result besides its numbers."""
    if result.get("new") == 0 and not result["lines_per_second"]:
        nothing = "nothing new: all lines were read before; to read them again: --reread"
        yield nothing if result["accepted"] else "the sources have no lines"
    if "out" not in result:  # after a run, they are said as errors
        yield from result.get("unreadable", ())
    codes = {row["code"] for row in groups}
    if result["dead"] == result["accepted"] > 0 and codes == {NO_FORMAT}:
        names = [row["source"] for row in result["sources"]]
        file = names[0] if len(names) == 1 else "FILE"
        yield (
            "every line is dead: no record matches its format; to see what would: "
            f"{etl_command('detect', file)}"
        )
    if skipped := passed_over(result.get("skipped", 0), result.get("skipped_binary", 0)):
        yield skipped


def _print_sources(console: Console, sources: Sequence[Row]) -> None:
    """Print how sources were read, those first of which least is of a known format."""
    by_share = sorted(sources, key=lambda row: row["matched"])
    console.print(table(by_share[:MOST_SOURCES], SOURCES))
    if more := by_share[MOST_SOURCES:]:
        least = percent(more[0]["matched"])
        console.print(Text(f"and {len(more):,} more, of each {least} or more matched", "dim"))
    if cut := sum(row["cut"] for row in sources):
        text = f"records over 10,000 lines or 4 MB were cut: {cut:,} pieces have is_cut true"
        console.print(Text(f"{text}; see --multiline", "yellow"))
    for row in by_share:
        if row["empty"] > EMPTY_TOLD and row["matched"]:
            text = f"{near(row['source'])}: no time, level or message in {percent(row['empty'])}"
            console.print(Text(f"{text} of the records; its other fields are columns", "yellow"))
    first = by_share[0]
    if first["generic"] > GENERIC_TOLD:
        source = first["source"]
        hint = etl_command("detect", "-" if source == STDIN else relative(source))
        console.print(Text(f"generic: of no known format; to see what is found: {hint}", "dim"))


def _identity(result: Mapping[str, Any]) -> Text:
    """Return the accounting identity with its numbers."""
    mark = ("✓", "green") if result["conserved"] else ("✗ lines are missing", "bold red")
    text = Text.assemble((f"{identity(result)} ", "bold"), mark)
    return text.append("  paused", "bold red") if result["paused"] else text
