"""Results of the benchmark: rows of numbers, targets, tables of them, and JSON files.

A saved file is a list of rows, `TABLE.json` in a folder; `notebooks/06_benchmark.ipynb` shows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from measure import MEGA, Process, Sample


@dataclass(frozen=True, slots=True)
class Row:
    """The medians of one contender.

    Attributes:
        name: The contender.
        lines: Lines in its input.
        wall: Seconds.
        cpu: CPU seconds.
        peak: Largest process, MB.
        tree: Largest sum over the process tree, MB.
        processes: What each process used, in the run with the largest sum.
    """

    name: str
    lines: int
    wall: float
    cpu: float
    peak: float
    tree: float
    processes: tuple[Process, ...] = ()

    @classmethod
    def of(cls, name: str, lines: int, samples: Sequence[Sample]) -> Row:
        """Return the medians of some runs."""
        return cls(
            name=name,
            lines=lines,
            wall=median(sample.wall for sample in samples),
            cpu=median(sample.cpu for sample in samples),
            peak=median(sample.peak for sample in samples),
            tree=median(sample.tree for sample in samples),
            processes=max(samples, key=lambda sample: sample.tree).processes,
        )

    @property
    def rate(self) -> float:
        """Lines a second."""
        return self.lines / self.wall

    @property
    def cpu_per_million(self) -> float:
        """CPU seconds for a million lines."""
        return self.cpu / self.lines * MEGA


Rows = Mapping[tuple[str, int], Row]
"""Rows by the name of the contender and the lines of its input."""


@dataclass(frozen=True, slots=True)
class Target:
    """A promise about a number: at least (`>=`) or less than (`<`) a bound."""

    text: str
    value: float
    relation: str
    bound: float

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        return self.value >= self.bound if self.relation == ">=" else self.value < self.bound

    def __str__(self) -> str:
        verdict = "met" if self.met else f"missed by {abs(self.value / self.bound - 1):.0%}"
        return f"{self.text}: {self.value:,.2f} ({self.relation} {self.bound:,.2f}) {verdict}"


def ratio(rows: Rows, one: tuple[str, int], other: tuple[str, int], bound: float) -> list[Target]:
    """Return the target that one row is so many times as fast as another, if both are there."""
    if one not in rows or other not in rows:
        return []
    text = f"{one[0]}, {one[1]:,} lines, speed of {other[0]} = 1"
    return [Target(text, rows[one].rate / rows[other].rate, ">=", bound)]


def table(rows: Rows, bars: Sequence[str] = ()) -> Iterator[str]:
    """Yield the lines of a table as Markdown.

    Args:
        rows: What it shows.
        bars: Contenders whose speed the others are shown as multiples of, where both have an
            input of the same size, else by lines a second.
    """
    heads = ["lines", "wall s", "lines/s", "CPU s/M", "peak MB", "tree MB"]
    bars = [name for name in bars if any(name == one for one, _ in rows)]
    heads += [f"x {name}" for name in bars]
    yield f"| | {' | '.join(heads)} |"
    yield "|---|" + "---:|" * len(heads)
    for row in rows.values():
        cells = [f"{row.lines:,}", f"{row.wall:.2f}", f"{row.rate:,.0f}"]
        cells += [f"{row.cpu_per_million:.2f}", f"{row.peak:.0f}", f"{row.tree:.0f}"]
        cells += [f"{row.rate / _bar(rows, name, row.lines).rate:.2f}" for name in bars]
        yield f"| {row.name} | {' | '.join(cells)} |"


def _bar(rows: Rows, name: str, lines: int) -> Row:
    """Return the row of a contender whose size is nearest to some lines."""
    return min(
        (row for row in rows.values() if row.name == name), key=lambda row: abs(row.lines - lines)
    )


def process_table(rows: Rows) -> Iterator[str]:
    """Yield the lines of a table of the processes of each row."""
    yield "| | lines | process | CPU s | peak MB |"
    yield "|---|---:|---|---:|---:|"
    for row in rows.values():
        for one in row.processes:
            cells = f"{one.name} | {one.cpu:.2f} | {one.peak:.0f}"
            yield f"| {row.name} | {row.lines:,} | {cells} |"


def save(folder: Path | None, name: str, rows: Iterable[Row] | Iterable[Mapping]) -> None:
    """Write a table as `NAME.json` in a folder; nothing if there is no folder."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    found = [
        {**asdict(row), "rate": row.rate} if isinstance(row, Row) else dict(row) for row in rows
    ]
    (folder / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> dict[str, list[dict]]:
    """Return the tables that are saved in a folder, by name.

    Raises:
        FileNotFoundError: If there are none.
    """
    found = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }
    if not found:
        raise FileNotFoundError(
            f"{str(folder)!r} has no saved results; run.py --save {str(folder)!r} writes some"
        )
    return found
