"""Texts with what varies left out: the sentence that a program says, the layout of a line."""

import polars as pl

__all__ = ["MAX_LENGTH", "VALUE", "layout", "mask", "reason"]

VALUE = "<*>"

MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"

MASKS = (
    (r'"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|CONNECT|TRACE) [^"]*"', "$1 <*>"),
    (r"""("[^"]*"|'[^']*')""", VALUE),
    (r"""(?:\b[a-z][a-z0-9+.-]*://|\b[A-Za-z]:\\|[.~]{0,2}/)[^\s,;:()\[\]{}<>"']+""", VALUE),
    (r"\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?(?:" + MONTHS + r") +\d+\b", VALUE),
    (r"\b\d+(?:\.\d+)? ?(?:[kKMGT]?i?B|[mun]s)\b", VALUE),
    (r"[\w.@+~*-]*\d[\w.@+~*-]*|\b[0-9a-fA-F]{8,}\b", VALUE),
    (r"\b[a-z][\w-]*(?:\.[\w-]+){2,}", VALUE),
    (r"\s{2,}|[^\S ]", " "),
    (r"<\*>(?:[:.,/_@-]?<\*>)+", VALUE),
    (r"<\*>(?: <\*>)+", VALUE),
)
"""Patterns of values, in the order in which they are replaced: requests, quoted text, URLs and
paths, dates, sizes and times, anything with a digit and long hex, dotted names; then blanks and
values that stand side by side."""

NOISE = r"""0[xX][0-9a-fA-F]+|[0-9]+|'[^']*'|"[^"]*\""""
"""What makes messages of the same failure differ: numbers, hex, quoted values."""

MAX_LENGTH = 1000
"""Characters of a text that are looked at."""


def mask(texts: pl.Expr) -> pl.Expr:
    """Replace what is a value by its looks."""
    texts = texts.str.head(MAX_LENGTH)
    for pattern, value in MASKS:
        texts = texts.str.replace_all(pattern, value)
    return texts.str.strip_chars()


def layout(lines: pl.Series) -> pl.Series:
    """Return what the first two words of each line look like: `0-0-0 0:0:0,0`.

    Numbers become `0` and words `a`, so that the lines of one log look alike.
    """
    words = pl.lit(lines).str.head(100).str.extract_all(r"\S+").list.head(2).list.join(" ")
    looks = pl.select(words.str.replace_all("[A-Za-z_]+", "a").alias(lines.name)).to_series()
    if looks.str.contains(r"[^\x00-\x7F]").any():  # all letters are looked for ten times as long
        looks = looks.str.replace_all(r"[\p{L}_]+", "a")
    numbers = pl.lit(looks).str.replace_all("[0-9]+", "0").str.replace_all("[a0]{2,}", "a")
    return pl.select(numbers.str.head(16)).to_series()


def reason(messages: pl.Expr) -> pl.Expr:
    """Return the messages of failures as far as those of the same kind have them alike."""
    return messages.str.replace_all(NOISE, "#").str.head(200)
