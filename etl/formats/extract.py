"""Read lines by a regex: what it says of fixed places, and of the end of a line, without it.

A regex costs five nanoseconds a byte, to cut a line at known places next to nothing. So a head of
fixed width, such as that of a time, is only checked and then cut off; and what a last group takes
that takes all the rest is what is left. The result is that of the whole regex.
"""

import re
from functools import lru_cache
from typing import NamedTuple

import polars as pl

from etl.formats.columns import group_names, safe

__all__ = ["extract"]

MIN_LINES = 200
"""Lines, of fewer it costs more to cut them than it saves."""

MIN_WIDTH = 12
"""Characters of a head that is worth it."""

MIN_SHARE = 0.5
"""Share of lines that must have the head."""

_ONE = re.compile(
    r"(?:(\\d)|([A-Za-z0-9 :,;/_<>=@!%&~#'\"`-]|\\[^\w\s<>]|\[(?!.*--)[A-Za-z0-9_.,:/+ -]+\]))"
    r"(?:\{(\d+)\})?(?![*+?{])"
)
r"""A part of a regex that takes as many characters in each line: `\d`, another one, how often."""

_OPEN = re.compile(r"\(\?P?<(\w+)>")

_CLOSE = re.compile(r"\)(?![*+?{])")

_INNER_CLASS = re.compile(r"(?<!\\)(?:\\\\)*\[")
_PARTS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)

_LOOK_BACK = {"^", r"\A", r"\b", r"\B", r"\<", r"\>"}
"""What depends on the text before it."""


def extract(lines: pl.Series, pattern: str, *, one_line: bool = False) -> pl.DataFrame:
    """Return `_fits` and a column for each named group of a regex.

    Args:
        lines: The lines.
        pattern: A Rust regex with named groups.
        one_line: Whether it is known that no line has a line break in it.
    """
    fixed = _fixed(pattern) if len(lines) >= MIN_LINES else None
    if fixed is None:
        return _extract(lines, pattern, one_line=one_line)
    has_head = lines.str.contains(fixed.check)
    if has_head.null_count():
        has_head = has_head.fill_null(value=False)
    if (has_head.sum() or 0) < MIN_SHARE * len(lines):
        return _extract(lines, pattern, one_line=one_line)
    all_have = has_head.all()
    line = pl.lit(lines if all_have else lines.set(~has_head, None))
    cuts = [line.str.slice(at, size).alias(safe(name)) for name, at, size in fixed.groups]
    tail, *cut = pl.select(line.str.slice(fixed.width).alias(""), *cuts).get_columns()
    got = _extract(tail, fixed.rest, one_line=one_line)
    fits = got["_fits"]
    if not fits.all():
        cut = [column.set(~fits, None) for column in cut]
    got = pl.DataFrame([fits, *cut, *got.get_columns()[1:]])
    return got if all_have else _with_others(got, lines, (~has_head).arg_true(), pattern)


def _with_others(
    got: pl.DataFrame, lines: pl.Series, places: pl.Series, pattern: str
) -> pl.DataFrame:
    r"""Read the lines without the head that may still fit: `\d` takes more than ASCII's digits."""
    others = lines[places]
    wide = others.str.contains(r"[^\x00-\x7F]").fill_null(value=False)
    if not wide.any() or not (apart := _extract(others.filter(wide), pattern))["_fits"].any():
        return got
    at = pl.int_range(len(lines), eager=True)
    at = at.scatter(places.filter(wide), pl.int_range(apart.height, eager=True) + len(lines))
    return pl.concat([got, apart])[at]


def _extract(lines: pl.Series, pattern: str, *, one_line: bool = False) -> pl.DataFrame:
    # One more group tells whether a line fits: the others may be null in one that does.
    headed = _headed(pattern)
    if headed and headed.one_line and not one_line:
        headed = None if lines.str.contains("\n", literal=True).any() else headed
    whole = f"({headed.head})" if headed else f"(?:{pattern})()"
    found = lines.str.extract_groups(whole).struct.unnest()
    around = found.to_series(0 if headed else -1)
    columns = [found[g].alias(safe(g)) for g in group_names(headed.head if headed else pattern)]
    if headed:  # what is behind the head: no regex needs to go through it
        end = around.str.len_bytes()
        rest = lines.cast(pl.Binary).bin.slice(end).cast(pl.String)  # type: ignore[arg-type]
        columns.append(rest.alias(safe(headed.rest)))
    return pl.DataFrame([around.is_not_null().alias("_fits"), *columns])


class _Headed(NamedTuple):
    """A regex whose last group takes all that is behind its head.

    Attributes:
        head: The regex of the head.
        rest: The name of the last group.
        one_line: Whether it takes no line break.
    """

    head: str
    rest: str
    one_line: bool


@lru_cache(maxsize=1024)
def _headed(pattern: str) -> _Headed | None:
    """Return the parts of a regex whose last group takes all the rest; None of any other."""
    found = re.fullmatch(r"(\^.*)\(\?P?<(\w+)>(?:(\.\*)|\(\?s:\.\*\))\)\$", pattern, re.DOTALL)
    if not found or re.search(r"\(\?[a-zA-Z-]*[mRsUx][a-zA-Z-]*\)", found[1]):
        return None  # flags may give another meaning to what is behind them
    return None if _is_odd(found[1]) else _Headed(found[1], found[2], one_line=found[3] is not None)


class _Fixed(NamedTuple):
    """A regex that begins with a head of fixed width.

    Attributes:
        check: A regex of lines that have the head, in ASCII.
        width: Characters of the head.
        groups: The groups in it: name, offset and number of characters.
        rest: The regex of what is behind it.
    """

    check: str
    width: int
    groups: tuple[tuple[str, int, int], ...]
    rest: str


@lru_cache(maxsize=1024)
def _fixed(pattern: str) -> _Fixed | None:
    """Return the parts of a regex that begins with a head of fixed width; None of any other."""
    if not pattern.startswith("^") or _is_odd(pattern):
        return None
    at, width, check = 1, 0, "^"
    begun: tuple[str, int, int, str] | None = None
    groups: list[tuple[str, int, int]] = []
    while at < len(pattern):
        if not begun and (found := _OPEN.match(pattern, at)):
            begun = (found[1], at, width, check)
        elif begun and (found := _CLOSE.match(pattern, at)):
            groups.append((begun[0], begun[2], width - begun[2]))
            begun = None
        elif found := _ONE.match(pattern, at):
            times = int(found[3] or 1)
            check += ("[0-9]" if found[1] else found[2]) + f"{{{times}}}"
            width += times
        else:
            break
        at = found.end()
    if begun:  # a group that is not of fixed width
        _, at, width, check = begun
    rest = f"^{pattern[at:]}"
    if width < MIN_WIDTH or not _LOOK_BACK.isdisjoint(_PARTS.findall(rest[1:])):
        return None
    return _Fixed(check, width, tuple(groups), rest) if group_names(rest) else None


def _is_odd(pattern: str) -> bool:
    """Return whether a regex cannot be taken apart by looking at its marks.

    It has a `|` outside of all groups, a class in a class, comments, or a group without its end.
    """
    depth = 0
    for part in _PARTS.findall(pattern):
        depth += {"(": 1, ")": -1}.get(part, 0)
        if (part == "|" and not depth) or (len(part) > 2 and _INNER_CLASS.search(part, 1)):
            return True
    return depth != 0 or re.search(r"\(\?[a-zA-Z-]*x", pattern) is not None
