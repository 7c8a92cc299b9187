"""Two runs side by side: which processor got slower, which failure is new.

A store counts everything that ran in it, so that a run is compared by its
store: one run, one store, as `etl run` does it.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl.queue import DeadLetterFilter, Queue
from etl.records.columns import frame_of
from etl.text import duration

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "compare_stores"]

PROCESSOR_COLUMNS = {
    "processor": "str",
    "lines_a": "int64",
    "lines_b": "int64",
    "seconds_per_line_a": "float64",
    "seconds_per_line_b": "float64",
    "ratio": "float64",
    "dead_a": "int64",
    "dead_b": "int64",
    "change": "str",
}


FAILURE_COLUMNS = dict.fromkeys(
    ("fingerprint", "processor", "code", "error", "message", "sample"), "str"
) | {"lines_a": "int64", "lines_b": "int64", "change": "str"}


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
            `sample` (str); `lines_a`, `lines_b` (int64: lines that died of it,
            replayed since or not); `change` (str: new, gone, grown, shrunk, or empty).
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
        return f"<Comparison: {slower} processors slower, {new} kinds of failure new>"

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.sentences())
        return f"<ul>{items}</ul>"

    def _speed(self) -> str:
        slower = self.slower
        if slower.empty:
            return "No processor got slower."
        first = slower.iloc[0]
        times = [duration(first[f"seconds_per_line_{run}"]) for run in "ab"]
        also = f"; so did {_names(slower['processor'].tolist()[1:])}" if len(slower) > 1 else ""
        took = f"{times[1]} a line, {first['ratio']:.1f} times the {times[0]} before"
        return f"Processor {first['processor']!r} got slower: {took}{also}."

    def _failures(self) -> str:
        for change, what in (("new", "new"), ("grown", "more frequent")):
            found = self.failures[self.failures["change"] == change]
            if found.empty:
                continue
            first = found.iloc[0]
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
        if before == now:
            return f"{now:.2%} of the lines died, as before."
        return f"{now:.2%} of the lines died, {before:.2%} before."


def compare_stores(
    a: Queue,
    b: Queue,
    *,
    slower: float = 1.5,
    least_lines: int = 100,
    least_share: float = 0.01,
) -> Comparison:
    """Compare the run in store b with the one in store a; see `etl.compare`."""
    stats = [queue.stats() for queue in (a, b)]
    ratios = [stat.dead / stat.finished if stat.finished else 0.0 for stat in stats]
    processors = _processors(a, b, slower, least_lines, least_share)
    return Comparison(processors, _failures(a, b), *ratios)


def _processors(
    a: Queue, b: Queue, slower: float, least_lines: int, least_share: float
) -> pd.DataFrame:
    before, after = _sums(a), _sums(b)
    busy_a, busy_b = (
        sum(counts["seconds"] for counts in sums.values()) or 1.0 for sums in (before, after)
    )
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys([*after, *before]):
        row: dict[str, Any] = {"processor": name}
        for run, sums in (("a", before), ("b", after)):
            counts = sums.get(name, Counter())
            lines = counts["received"]
            row |= {f"lines_{run}": lines, f"dead_{run}": counts["dead"]}
            row[f"seconds_per_line_{run}"] = counts["seconds"] / lines if lines else float("nan")
        was, now = row["seconds_per_line_a"], row["seconds_per_line_b"]
        ratio = now / was if was else float("nan")
        lost, won = (now - was) * row["lines_b"] / busy_b, (was - now) * row["lines_a"] / busy_a
        enough = min(row["lines_a"], row["lines_b"]) >= least_lines
        known = {
            "new": name not in before,
            "gone": name not in after,
            "slower": enough and ratio >= slower and lost >= least_share,
            "faster": enough and ratio <= 1 / slower and won >= least_share,
        }
        rows.append(row | {"ratio": ratio, "change": _first_that_holds(known)})
    return frame_of(rows, PROCESSOR_COLUMNS)


def _sums(queue: Queue) -> dict[str, Counter[str]]:
    """Return by processor what all workers did together."""
    found: dict[str, Counter[str]] = {}
    for row in queue.read("processors"):
        counts = found.setdefault(row["processor"], Counter())
        counts.update({name: row[name] for name in ("received", "dead", "seconds")})
    return found


def _failures(a: Queue, b: Queue) -> pd.DataFrame:
    every = DeadLetterFilter(status=None)
    before, after = (
        {row["fingerprint"]: row for row in queue.dead_letter_groups(every)} for queue in (a, b)
    )
    rows = []
    for mark in {**after, **before}:
        a_lines, b_lines = (run[mark]["lines"] if mark in run else 0 for run in (before, after))
        known = {"new": not a_lines, "gone": not b_lines}
        known |= {"grown": b_lines > a_lines, "shrunk": b_lines < a_lines}
        row = after.get(mark) or before[mark]
        row |= {"lines_a": a_lines, "lines_b": b_lines, "change": _first_that_holds(known)}
        rows.append(row)
    rows.sort(key=lambda row: (-abs(row["lines_b"] - row["lines_a"]), row["fingerprint"]))
    return frame_of(rows, FAILURE_COLUMNS)


def _first_that_holds(known: Mapping[str, bool]) -> str:
    return next((name for name, holds in known.items() if holds), "")


def _names(names: list[str]) -> str:
    return ", ".join(map(repr, names))
