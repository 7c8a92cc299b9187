"""Message templates: the sentences a program says, with what varies left out.

    PacketResponder 1 for block blk_38865049064139660 terminating
    PacketResponder <*> for block <*> terminating

Two steps, both on whole columns. Masks replace what is a value by its looks:
numbers, addresses, paths, quoted text. Then templates that differ in one word
only are one template if there are many of them: that word is a value as well,
such as a user's name. Nothing is learnt from run to run; the same lines always
give the same templates.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from etl.analysis.frame import Rows, frame
from etl.errors import UsageError
from etl.formats.masks import MAX_LENGTH, VALUE, mask
from etl.records.columns import INTEGER, NUMBER, TEXT, TIME, Table

__all__ = ["Lines", "mask", "new_templates", "template_of", "templates"]

Lines = pl.DataFrame | pl.Series | Iterable[str]
"""Processed rows (their `message`, or else their `line`), or the texts themselves."""

ALIKE = 6
"""Templates that differ in one word only are one if there are at least this many."""

WORDS = range(3, 31)
"""How many words a template has in which a word may turn out to be a value."""

MAX_TEMPLATES = 200_000
"""Beyond this many different masked texts nothing is merged: they are no program's sentences."""

TEMPLATES = Table.of("templates", template=TEXT, lines=INTEGER, share=NUMBER, sample=TEXT).add(
    first_seen=TIME, last_seen=TIME
)


@frame(TEMPLATES)
def templates(lines: Lines, *, text: str | None = None) -> Rows:
    """Return the templates of some lines, the most frequent first.

    Columns: `template` (str); `lines` (int64); `share` (float64, of all lines);
    `sample` (str, the first such text, at most 1,000 characters); `first_seen`,
    `last_seen` (datetime64, UTC: of the column `timestamp`, NaT without one).

    Args:
        lines: Processed rows, or texts; those that are null are left out.
        text: Column to look at; by default `message`, or else `line`.

    Raises:
        UsageError: If the frame has no such column.
    """
    return _ranked(_mine(_table(lines, text).drop_nulls("text")))


@frame(TEMPLATES)
def new_templates(today: Lines, before: Lines, *, text: str | None = None) -> Rows:
    """Return the templates of today's lines that no earlier line has, the most frequent first.

    Columns as of `templates`; `share` is of today's lines. Both are mined
    together, so that a word is a value in both or in neither.

    Args:
        today: The lines that may have something new to say.
        before: The lines to compare with.
        text: Column to look at; by default `message`, or else `line`.

    Raises:
        UsageError: If one of the frames has no such column.
    """
    days = [_table(day, text).drop_nulls("text") for day in (today, before)]
    both = pl.concat(day.with_columns(new=pl.lit(day is days[0])) for day in days)
    found = _mine(both).filter(pl.col("new").all().over("template"))
    return _ranked(found, days[0].height)


def template_of(lines: Lines, *, text: str | None = None) -> pl.Series:
    """Return the template of each line, in the order of the lines: a String column `template`.

    Args:
        lines: Processed rows, or texts; one that is null has no template.
        text: Column to look at; by default `message`, or else `line`.

    Raises:
        UsageError: If the frame has no such column.
    """
    masked = _table(lines, text).select(masked=mask(pl.col("text")))
    merged = _merge(masked.unique(maintain_order=True).drop_nulls())
    return masked.join(merged, on="masked", how="left", maintain_order="left")["template"]


def _table(lines: Lines, text: str | None) -> pl.DataFrame:
    """Return the columns `text` and `at` (Unix seconds), either of which may be null."""
    if not isinstance(lines, pl.DataFrame):
        lines = pl.DataFrame({"line": pl.Series(lines, dtype=pl.String)})
    text = text or ("message" if "message" in lines.columns else "line")
    if text not in lines.columns:
        have = ", ".join(lines.columns)
        raise UsageError(f"there is no column {text!r} to find templates in; there are {have}")
    at = pl.lit(None)
    if isinstance(lines.schema.get("timestamp"), pl.Datetime):
        at = pl.col("timestamp").dt.epoch("us") / 1e6
    return lines.select(text=pl.col(text).cast(pl.String), at=at.cast(pl.Float64))


def _mine(table: pl.DataFrame) -> pl.DataFrame:
    """Return one row per template (and day, if `new` says which): lines, sample, times."""
    days = [name for name in ("new",) if name in table.columns]
    text, at, one = pl.col("text"), pl.col("at"), pl.lit(1, pl.Int64)
    sums = (
        pl.col("lines").sum(),
        pl.col("sample").first(),
        pl.col("first_seen").min(),
        pl.col("last_seen").max(),
    )
    masked = table.lazy().select(
        *days, masked=mask(text), lines=one, sample=text, first_seen=at, last_seen=at
    )
    counts = masked.collect(engine="streaming")
    counts = counts.group_by("masked", *days, maintain_order=True).agg(sums)
    merged = _merge(counts.select(pl.col("masked").unique(maintain_order=True)))
    named = counts.join(merged, on="masked", how="left", maintain_order="left")
    return named.group_by("template", *days, maintain_order=True).agg(sums)


def _merge(found: pl.DataFrame) -> pl.DataFrame:
    """Add to the column `masked` its `template`: twice, as a text may hold two such words."""
    found = found.with_columns(template="masked")
    for _ in range(2 if found.height <= MAX_TEMPLATES else 0):
        merged = _merge_once(found.select(pl.col("template").unique(maintain_order=True)))
        found = found.join(merged, on="template", how="left", maintain_order="left")
        found = found.select("masked", template=pl.coalesce("better", "template"))
    return found


def _merge_once(found: pl.DataFrame) -> pl.DataFrame:
    """Return each `template` that is one of many alike, and the `better` one for all of them.

    Templates are alike at a place if the hashes of all their other words add up to the same.
    """
    words = found.select("template", words=pl.col("template").str.split(" "))
    words = words.filter(pl.col("words").list.len().is_in(WORDS)).with_row_index("number")
    places = pl.int_ranges(pl.col("words").list.len()).alias("place")
    each = words.select("number", places, word="words").explode(
        "place", "word", empty_as_null=False, keep_nulls=False
    )
    hashed = each.with_columns(hash=pl.struct("place", "word").hash() // 2**16)
    others = hashed.with_columns(others=pl.col("hash").sum().over("number") - pl.col("hash"))
    sized = others.with_columns(size=pl.len().over("others")).filter(pl.col("size") >= ALIKE)
    best = sized.sort("number", -pl.col("size").cast(pl.Int64), "place").unique(
        "number", keep="first", maintain_order=True
    )
    merged = best.join(words, on="number", how="left", maintain_order="left")
    words_but_one = [
        pl.col("words").list.head("place"),
        pl.lit([VALUE]),
        pl.col("words").list.slice(pl.col("place") + 1),
    ]
    return merged.select("template", better=pl.concat_list(words_but_one).list.join(" "))


def _ranked(found: pl.DataFrame, total: int | None = None) -> pl.DataFrame:
    """Return templates, the most frequent first, with their shares of all lines."""
    lines = pl.col("lines")
    return found.with_columns(
        sample=pl.col("sample").str.head(MAX_LENGTH), share=lines / (total or lines.sum())
    ).sort("lines", "template", descending=[True, False])
