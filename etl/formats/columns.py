"""Which columns are the line's own, how a format's are called, and who fills them.

A frame is cut in two by its columns `_fits` and `format`: what is left of them belongs
to the line and is never touched; what is right of them is the format's. A format's
column whose name is taken on the left gets `_` at its end.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import polars as pl

__all__ = [
    "MARKS", "ROW", "Reader", "beside", "cascade", "cleaned", "group_names", "safe",
    "sample", "split", "ungrouped", "unmarked",
]  # fmt: skip

Reader = Callable[[pl.Series], pl.DataFrame]
"""Lines -> `_fits` (Boolean) and raw columns, a row for each line."""

SAMPLE = 200  # lines that detection looks at
_ANSI = r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07"
MARKS = ("_fits", "format")
ROW = "__row"


def cascade(
    lines: pl.Series,
    readers: Iterable[Reader],
    *,
    more: Callable[[pl.Series, int], Sequence[Reader]] | None = None,
) -> pl.DataFrame:
    """Let each reader have the lines that those before it left; keep the rows in order.

    `more` returns readers for the lines that are left and the number of times it was asked;
    it is asked until it has none.
    """
    rows = pl.int_range(len(lines), eager=True).alias(ROW)
    found: list[tuple[pl.DataFrame, pl.Series]] = []
    got = pl.Series("_fits", [False]).new_from_index(0, len(lines)).to_frame()
    rounds = 0
    while readers or more:
        for read in readers:
            got = read(lines)
            fits = got["_fits"]
            if fits.any():
                found.append((got, rows))
            if fits.all():
                rows = rows.clear()
                break
            lines, rows = lines.filter(~fits), rows.filter(~fits)
        readers = more(lines, rounds) if more and len(rows) else ()
        if not readers:
            break
        rounds += 1
    if len(found) < 2:  # mostly one reader takes all it can: no order to restore
        return found[0][0] if found else got
    parts = [part.with_columns(at).filter("_fits") for part, at in found]
    rest = rows.to_frame().with_columns(_fits=pl.lit(value=False))
    return pl.concat([*parts, rest], how="diagonal_relaxed").sort(ROW).drop(ROW)


@lru_cache(maxsize=1024)
def group_names(pattern: str) -> tuple[str, ...]:
    """Return the names of a regex's groups, in order."""
    dtype = pl.Series([], dtype=pl.String).str.extract_groups(pattern).dtype
    return tuple(f.name for f in getattr(dtype, "fields", ()) if not f.name.isdigit())


@lru_cache(maxsize=1024)
def closed(pattern: str) -> str:
    """Return a regex behind which more may stand; that of a verbose one may be in a comment."""
    try:
        group_names(f"(?:{pattern})")
    except pl.exceptions.ComputeError:
        return f"{pattern}\n"
    return pattern


def ungrouped(pattern: str) -> str:
    """Return a regex without the names of its groups, to see where it fits and no more."""
    return re.sub(r"\(\?P<\w+>", "(?:", pattern)


def sample(lines: pl.Series) -> pl.Series:
    """Take up to 200 lines, evenly, that are not blank."""
    lines = lines.gather_every(max(1, len(lines) // (4 * SAMPLE)))
    lines = lines.filter(lines.str.contains(r"\S"))
    return lines.gather_every(-(-len(lines) // SAMPLE) or 1)


def cleaned(lines: pl.Series) -> pl.Series:
    """Return the lines without colours, byte order marks, and NULs before them."""
    if lines.str.contains("\x1b", literal=True).any():
        lines = lines.str.replace_all(_ANSI, "")
    return unmarked(lines)


def unmarked(lines: pl.Series) -> pl.Series:
    """Return the lines without byte order marks, and NULs before them."""
    if lines.head(1).str.starts_with("\ufeff").any():
        lines = lines.str.strip_prefix("\ufeff")
    empty = lines.str.starts_with("\0").fill_null(value=False).arg_true()
    if len(empty):
        without = lines.gather(empty).str.strip_chars_start("\0")
        lines = lines.clone().scatter(empty, without)
    return lines


def safe(key: str) -> str:
    """Keep a key from looking like one of ours, or like a pattern of names to Polars.

    Columns that begin with `_` are etl's own; `*` and `^…$` stand for several columns.
    """
    return f"field{key}" if re.match(r"(field)*(_|$|format$|\*$|\^)", key) else key


def beside(frame: pl.DataFrame, columns: Iterable[pl.Series]) -> pl.DataFrame:
    """Add columns to the right; one whose name is taken there gets `_` at its end."""
    return frame.hstack(
        [column.alias(column.name + _end(column.name, frame.columns)) for column in columns]
    )


def split(frame: pl.DataFrame) -> tuple[list[str], dict[str, pl.Series]]:
    """Return the names of the line's columns, and the format's columns by their first names."""
    names = frame.columns
    left = names[: 1 + max(names.index(mark) for mark in (*MARKS, "line") if mark in names)]
    return left, {x.removesuffix(_end(x, left)): frame[x] for x in names[len(left) :]}


def _end(name: str, taken: Iterable[str]) -> str:
    # one `_` more than the longest name has that differs only in them
    stem = name.rstrip("_")
    return "_" * max((1 + len(x) - len(stem) for x in taken if x.rstrip("_") == stem), default=0)
