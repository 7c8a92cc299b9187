"""The reader for lines of an unknown layout: it always answers.

It infers the layouts of a sample and reads whole columns by them. What no layout takes is a
message as it stands.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial

import polars as pl

from etl.formats.columns import Reader, cascade, sample
from etl.formats.extract import extract
from etl.formats.parts import SENTENCE
from etl.formats.scan import COLUMN, Step, scan

__all__ = ["COLUMNS", "Layout", "infer", "pattern_of", "read_generic", "template_of"]

SAMPLE = 120
ROUNDS = 8
LAYOUTS = 10  # that one round applies
COLUMNS = (
    "timestamp", "time", "level", "pid", "thread", "logger", "caller", "rest", "message",
)  # fmt: skip
_BLANKS = r"[ \t]*"
_MESSAGE = (
    r"[ \t]*(?:(?:-{1,3}>?|=>|[:|;,])(?:[ \t]+|\r?\n[ \t]*)|[:|,;])?"
    r"\s*(?P<message>(?s:.*))$"
)

Layout = tuple[Step, ...]


def read_generic(lines: pl.Series) -> pl.DataFrame:
    """Return `_fits` (always True) and the String columns of `COLUMNS`."""
    got = _with_sentences(cascade(lines, (), more=_layouts), lines)
    whole = lines.set(got["_fits"], None)
    message = got["message"].fill_null(whole) if "message" in got.columns else whole
    rest = [name for name in got.columns if re.fullmatch("rest[0-9]*", name)]
    joined = pl.concat_str([pl.col(n) for n in rest], separator=" ", ignore_nulls=True)
    return got.select(
        pl.lit(value=True).alias("_fits"),
        *(name for name in COLUMNS if name in got.columns and name not in ("rest", "message")),
        *([pl.when(joined != "").then(joined).alias("rest")] if rest else ()),
        message.alias("message"),
    )


def _with_sentences(got: pl.DataFrame, lines: pl.Series) -> pl.DataFrame:
    """Give the level that begins a sentence (`Error handler installed`) back to it.

    The layout of lines with a level fits such a line, too. Where most lines have levels in
    capitalised form they are a column.
    """
    if not {"level", "message"} <= set(got.columns):
        return got
    level, message = got["level"], got["message"]
    names = [name for name in level.unique() if name and len(name) > 1 and name.istitle()]
    if not names:
        return got
    own = level.is_in(names).fill_null(value=False)
    begun = own & (" " + message).str.contains(f"^{SENTENCE}").fill_null(value=False)
    if not begun.any():
        return got
    whole = level + " " + message
    begun &= pl.select(
        pl.lit(lines).str.ends_with(pl.lit(whole)).fill_null(value=False)
    ).to_series()
    word = rf"(?:{'|'.join(names)})[ \t]+\w"
    begun &= ~lines.str.contains(rf"[|\t] *{word}")
    column = int((own & lines.str.contains(rf"(?:^|\W){word}").fill_null(value=False)).sum())
    timed = max((got[name].count() for name in ("timestamp", "time") if name in got.columns),
                default=len(got))  # fmt: skip
    if column >= 2 * begun.sum() or column >= max(COLUMN[0] * timed, COLUMN[1]):
        return got
    return got.with_columns(level.set(begun, None), message.zip_with(~begun, whole))


def infer(lines: Sequence[str]) -> list[tuple[Layout, int]]:
    """Return the layouts of some lines and how many lines have each, most fields first.

    A step that one line does not prove is kept if enough of the lines that have the steps
    before it have it, too.
    """
    scanned = [tuple(scan(line)) for line in lines]
    counts = Counter(steps[:i] for steps in scanned for i in range(len(steps) + 1))
    layouts: Counter[Layout] = Counter()
    for steps in scanned:
        kept = 0
        while kept < len(steps):
            least = max(steps[kept].share * counts[steps[:kept]], steps[kept].least)
            if counts[steps[: kept + 1]] < least:
                break
            kept += 1
        layouts[steps[:kept]] += 1
    return sorted(layouts.items(), key=lambda item: (*_fields(item[0]), -item[1]))


def _fields(layout: Layout) -> tuple[int, bool]:
    pattern = "".join(step.pattern for step in layout)
    return -pattern.count("(?P<"), "(?P<level>" not in pattern


def pattern_of(layout: Layout) -> str:
    """Return the Rust regex of a layout."""
    pattern = "^" + "".join(step.pattern for step in layout)
    numbers = Counter[str]()

    def named(found: re.Match[str]) -> str:
        numbers[found[1]] += 1
        return f"(?P<{found[1]}{numbers[found[1]] if numbers[found[1]] > 1 else ''}>"

    pattern = re.sub(r"\(\?P<(\w+)>", named, pattern)
    if "message" in numbers:
        return pattern + "$"
    if pattern.endswith(_BLANKS):  # a quote behind them opens the message, and closes no level
        return pattern.removesuffix(_BLANKS) + rf"(?:[\"']|{_BLANKS}[\])}}>])?{_MESSAGE}"
    return rf"{pattern}[\])}}>\"']?{_MESSAGE}"


def template_of(layout: Layout) -> str:
    """Return a layout as the text of a template that a user can edit."""
    text = "".join(step.template for step in layout)
    if "{message}" not in text:
        gap = (
            ""
            if text.endswith(("|", "\t", ";", ",")) or not text
            else "] "
            if text.count("[") > text.count("]")
            else " "
        )
        text = f"{text}{gap}{{message}}"
    numbers = Counter[str]()

    def named(found: re.Match[str]) -> str:
        numbers[found[1]] += 1
        return f"{{{found[1]}{numbers[found[1]] if numbers[found[1]] > 1 else ''}}}"

    return re.sub(r"\{(\w+)\}", named, text)


def _layouts(left: pl.Series, done: int) -> list[Reader]:
    """Return readers by the layouts of what is left; none after some rounds."""
    if done >= ROUNDS:
        return []
    some = sample(left)
    found = infer(some.gather_every(-(-len(some) // SAMPLE) or 1).to_list())
    most = sorted(found, key=lambda item: -item[1])[:LAYOUTS]
    found = sorted(most, key=lambda item: _fields(item[0]))
    return [partial(extract, pattern=pattern_of(layout)) for layout, _ in found if layout]
