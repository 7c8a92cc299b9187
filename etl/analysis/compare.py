"""Two runs side by side: which processor got slower, which failure is new.

A store counts everything that ran in it, so that a run is compared by its
store: one run, one store, as `etl run` does it.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from etl.analysis.metrics import processors
from etl.formats.masks import reason
from etl.queue import DeadLetterFilter, Queue
from etl.records.columns import DEAD_LETTER_GROUPS, INTEGER, NUMBER, TEXT, Table
from etl.text import duration

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "compare_stores"]

PROCESSORS = (
    Table.of("compared_processors", processor=TEXT, lines_a=INTEGER, lines_b=INTEGER)
    .add(seconds_per_line_a=NUMBER, seconds_per_line_b=NUMBER, ratio=NUMBER)
    .add(dead_a=INTEGER, dead_b=INTEGER, change=TEXT)
)

KIND = DEAD_LETTER_GROUPS.pick("fingerprint", "processor", "code", "error", "message", "sample")

FAILURES = KIND.add(lines_a=INTEGER, lines_b=INTEGER, change=TEXT)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Comparison:
    """What changed from run a to run b.

    Attributes:
        processors: One row per processor, in the order of b's pipeline. Columns:
            `processor` (str); `lines_a`, `lines_b` (int64, received);
            `seconds_per_line_a`, `seconds_per_line_b` (float64, NaN without
            lines); `ratio` (float64, b to a); `dead_a`, `dead_b` (int64);
            `change` (str: slower, faster, new, gone, or empty).
        failures: One row per kind of failure, those that changed most first.
            Columns: `fingerprint`, `processor`, `code`, `error`, `message`,
            `sample` (str); `lines_a`, `lines_b` (int64: its dead lines, replayed
            since or not); `change` (str: new, gone, grown, shrunk, or empty).
        dead_ratio_a: Dead lines of a, of those it finished.
        dead_ratio_b: The same of b.
    """

    processors: pd.DataFrame
    failures: pd.DataFrame
    dead_ratio_a: float
    dead_ratio_b: float

    @property
    def slower(self) -> pd.DataFrame:
        """The processors that got slower, those that cost run b most extra time first."""
        found = self.processors[self.processors["change"] == "slower"]
        each = found["seconds_per_line_b"] - found["seconds_per_line_a"]
        extra = each * found["lines_b"]
        return found.loc[extra.sort_values(ascending=False, kind="stable").index]

    def sentences(self) -> list[str]:
        """Return the three most important things: on speed, on failures, on dead lines."""
        return [self._speed(), self._failures(), self._dead()]

    def __repr__(self) -> str:
        slower, new = len(self.slower), int((self.failures["change"] == "new").sum())
        return f"<Comparison: processors slower: {slower}, kinds of failure new: {new}>"

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.sentences())
        return f"<ul>{items}</ul>"

    def _speed(self) -> str:
        slower = self.slower
        if slower.empty:
            return "No processor got slower."
        first, *others = slower.to_dict("records")
        was, now = (duration(first[f"seconds_per_line_{run}"]) for run in "ab")
        names = ", ".join(repr(other["processor"]) for other in others)
        also = f"; so did {names}" if others else ""
        took = f"{now} a line, {first['ratio']:.1f} times the {was} before"
        return f"Processor {first['processor']!r} got slower: {took}{also}."

    def _failures(self) -> str:
        for change, what in (("new", "new"), ("grown", "more frequent")):
            found = self.failures[self.failures["change"] == change].to_dict("records")
            if not found:
                continue
            first = found[0]
            why = f"{first['error'] or first['code']}: {first['message'][:120]}"
            lines = f"{first['lines_b']:,} lines, {first['lines_a']:,} before"
            kinds = f"{len(found)} kinds of failure are {what}, most of all"
            if len(found) == 1:
                kinds = f"1 kind of failure is {what}:"
            return f"{kinds} {why!r} in {first['processor']!r} ({lines})."
        gone = int((self.failures["change"] == "gone").sum())
        left = f", and {gone} {'is' if gone == 1 else 'are'} gone" if gone else ""
        return f"No failure is new{left}."

    def _dead(self) -> str:
        before, now = self.dead_ratio_a, self.dead_ratio_b
        then = "as before" if before == now else f"{before:.2%} before"
        return f"{now:.2%} of the lines are dead, {then}."


def compare_stores(
    a: Queue, b: Queue, *, slower: float = 1.5, least_lines: int = 100, least_share: float = 0.01
) -> Comparison:
    """Return the comparison of the run in store b with the one in store a; see `etl.compare`."""
    stats = [queue.stats() for queue in (a, b)]
    ratios = [stat.dead / stat.finished if stat.finished else 0.0 for stat in stats]
    compared = _processors(a, b, slower, least_lines, least_share)
    return Comparison(PROCESSORS.frame(compared), FAILURES.frame(_failures(a, b)), *ratios)


def _processors(
    a: Queue, b: Queue, slower: float, least_lines: int, least_share: float
) -> pl.DataFrame:
    """Return the rows of PROCESSORS; a number that is not known is null."""
    lines, seconds = pl.col("received"), pl.col("seconds")
    per_line = pl.when(lines > 0).then(seconds / lines)
    counted = [
        processors.polars(queue).select(
            "processor", "dead", "seconds", lines=lines, seconds_per_line=per_line
        )
        for queue in (a, b)
    ]
    was, now = pl.col("seconds_per_line_a"), pl.col("seconds_per_line_b")
    ratio = pl.when(was > 0).then(now / was)
    lost = (now - was) * pl.col("lines_b") / pl.col("seconds_b").sum()
    won = (was - now) * pl.col("lines_a") / pl.col("seconds_a").sum()
    enough = pl.min_horizontal("lines_a", "lines_b") >= least_lines
    change = _first_that_holds(
        new=pl.col("lines_a").is_null(),
        gone=pl.col("lines_b").is_null(),
        slower=enough & (ratio >= slower) & (lost >= least_share),
        faster=enough & (ratio <= 1 / slower) & (won >= least_share),
    )
    found = _side_by_side("processor", *counted).with_columns(ratio=ratio, change=change)
    return found.with_columns(pl.col("^(lines|dead)_.$").fill_null(0))


def _failures(a: Queue, b: Queue) -> pl.DataFrame:
    """Return the rows of FAILURES: a kind is the same in whatever file it comes up."""
    kind = pl.concat_str("processor", "code", "error", reason(pl.col("message")), separator="\n")
    groups = [
        pl.DataFrame(
            queue.dead_letter_groups(DeadLetterFilter(status=None)),
            schema=DEAD_LETTER_GROUPS.schema,
        )
        .group_by(kind.alias("kind"), maintain_order=True)
        .agg(pl.exclude("lines").first(), pl.col("lines").sum())
        for queue in (a, b)
    ]
    was, now = (pl.col(f"lines_{run}").fill_null(0) for run in "ab")
    change = _first_that_holds(new=was == 0, gone=now == 0, grown=now > was, shrunk=now < was)
    newest = [pl.coalesce(f"{name}_b", f"{name}_a").alias(name) for name in KIND.names]
    found = _side_by_side("kind", *groups).with_columns(was, now, *newest, change=change)
    return found.sort((now - was).abs(), "fingerprint", descending=[True, False])


def _side_by_side(key: str, a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """Return two frames joined by a key, b's rows first, with the run in the columns' names."""
    left, right = (
        frame.select(key, pl.exclude(key).name.suffix(f"_{run}"))
        for run, frame in (("b", b), ("a", a))
    )
    return left.join(right, on=key, how="full", coalesce=True, maintain_order="left_right")


def _first_that_holds(**conditions: pl.Expr) -> pl.Expr:
    """Return the name of the first condition that holds, or an empty string."""
    names = (pl.when(holds).then(pl.lit(name)) for name, holds in conditions.items())
    return pl.coalesce(*names, pl.lit(""))
