"""Rows as JSON, for what takes no frames."""

from __future__ import annotations

import polars as pl
from polars import selectors as cs

__all__ = ["documents", "for_json"]


def for_json(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows as JSON can hold them: times as ISO 8601, bytes as base64, no NaN."""
    return rows.with_columns(
        cs.datetime().dt.to_string("iso:strict"),
        (cs.date() | cs.time() | cs.categorical() | cs.enum() | cs.decimal()).cast(pl.String),
        cs.duration().dt.total_microseconds() / 1e6,
        cs.binary().bin.encode("base64"),
        pl.when(cs.float().is_finite()).then(cs.float()),
    )


def documents(rows: pl.DataFrame) -> pl.Series:
    """Return each row as a JSON object."""
    return rows.select(pl.struct(pl.all()).struct.json_encode().alias("row")).to_series()
