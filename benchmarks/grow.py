"""Grow a small real log into a large benchmark input, the same bytes for the same arguments.

Each output line is a line of the template log with a new time, new numbers and a request number
at its end, as services that trace their requests write it (it brings the mean line from 89 to
114 bytes). Shapes, loggers and the shares of the levels stay real, and no two lines are the same.
A few lines are poison: they match nothing and must end up among the dead. Continuation lines
(tracebacks) of the template are left out, because the work measured here is per line.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import polars as pl
from pattern import PATTERN

TEMPLATE = Path(__file__).parent.parent / "data" / "python_app.log"
BLOCK = 500_000
SLOTS = 8
NUMBER = re.compile(r"\d{2,9}")
POISON = (
    "Traceback (most recent call last):",
    '  File "/srv/app/worker.py", line 212, in handle',
    "ValueError: invalid literal for int() with base 10: 'x'",
    '{"event": "lost", "reason": "no such layout"}',
    "2026-11-2",
    "\x00\x00\x00\x00",
    "",
)


def templates(path: Path) -> pl.DataFrame:
    """Cut each line of the template log at the numbers of its message.

    Returns:
        One row a line: `part0` to `part8` (String, the text around the numbers) and `size1` to
        `size8` (Int64, digits of each number, 0 for none).
    """
    found = (re.match(PATTERN, line) for line in path.read_text(encoding="utf-8").split("\n"))
    rows = [row(line) for line in found if line]
    if not rows:
        raise SystemExit(f"no line of {path} has the layout {PATTERN}")
    names = [f"part{i}" for i in range(SLOTS + 1)] + [f"size{i}" for i in range(1, SLOTS + 1)]
    return pl.DataFrame(rows, schema=names, orient="row")


def row(line: re.Match[str]) -> tuple[str | int, ...]:
    """Return the parts and the sizes of one template line."""
    message = line["message"]
    numbers = list(NUMBER.finditer(message))[:SLOTS]
    starts = [0, *(number.end() for number in numbers)]
    ends = [*(number.start() for number in numbers), len(message)]
    parts = [message[start:end] for start, end in zip(starts, ends, strict=True)]
    parts[0] = f" {line['level']} {line['logger']}: {parts[0]}"
    sizes = [len(number[0]) for number in numbers]
    empty = SLOTS - len(sizes)
    return (*parts, *[""] * empty, *sizes, *[0] * empty)


def first_moment(path: Path) -> int:
    """Return the time of the first line of the template log, in milliseconds since the epoch."""
    found = re.search(PATTERN, path.read_text(encoding="utf-8"), re.MULTILINE)
    stamp = f"{found['date']}T{found['time'].replace(',', '.')}" if found else "1970-01-01"
    return int(np.datetime64(stamp, "ms").astype(np.int64))


def block(shapes: pl.DataFrame, moments: np.ndarray, random: np.random.Generator) -> pl.Series:
    """Return one block of lines, one per moment.

    Args:
        shapes: What `templates` returned.
        moments: Times of the lines, in milliseconds since the epoch.
        random: Where the choice of shapes and the new numbers come from.
    """
    count = len(moments)
    picked = shapes[random.integers(0, shapes.height, count)]
    stamp = pl.Series(moments).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%d %H:%M:%S,%3f")
    numbers = [
        pl.Series(f"digits{slot}", random.integers(10**8, 10**9, count)).cast(pl.String)
        for slot in range(1, SLOTS + 1)
    ]
    pieces: list[pl.Series | pl.Expr] = [stamp, pl.col("part0")]
    for slot in range(1, SLOTS + 1):
        pieces.append(pl.col(f"digits{slot}").str.slice(0, pl.col(f"size{slot}")))
        pieces.append(pl.col(f"part{slot}"))
    pieces.append(" request=" + pl.Series(random.integers(10**15, 10**16, count)).cast(pl.String))
    return picked.with_columns(numbers).select(pl.concat_str(pieces).alias("line"))["line"]


def poison(lines: pl.Series, share: float, random: np.random.Generator) -> pl.Series:
    """Replace a share of the lines by lines that match nothing."""
    bad = pl.Series(random.random(len(lines)) < share)
    other = pl.Series(POISON, dtype=pl.String)[random.integers(0, len(POISON), len(lines))]
    return lines.zip_with(~bad, other)


def grow(
    target: Path, *, lines: int, template: Path = TEMPLATE, seed: int = 7, share: float = 0.001
) -> None:
    """Write a benchmark input.

    Args:
        target: The file to write.
        lines: How many lines it gets.
        template: The log whose shapes it repeats.
        seed: Same seed, same bytes.
        share: Share of poison lines, 0 to 1.
    """
    random = np.random.default_rng(seed)
    shapes, moment = templates(template), first_moment(template)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for start in range(0, lines, BLOCK):
            steps = random.integers(0, 25, min(BLOCK, lines - start))
            moments = moment + np.cumsum(steps)
            moment = int(moments[-1])
            text = poison(block(shapes, moments, random), share, random)
            text.to_frame().write_csv(
                file, include_header=False, quote_style="never", separator="\x01"
            )


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("target", type=Path, help="file to write")
    parser.add_argument("--lines", type=int, default=4_000_000)
    parser.add_argument("--template", type=Path, default=TEMPLATE)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--poison", type=float, default=0.001, help="share of lines, 0 to 1")
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    grow(
        given.target,
        lines=given.lines,
        template=given.template,
        seed=given.seed,
        share=given.poison,
    )
