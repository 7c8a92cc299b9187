"""What is done with frames in many places."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

__all__ = ["without"]


def without(frame: pl.DataFrame, names: Collection[str]) -> pl.DataFrame:
    """Return a frame without some columns, with as many rows; one that is not there is none.

    `DataFrame.drop` does the same as a query, which takes ten times as long, and
    `frame[[]]` is the whole frame.
    """
    rest = frame.clone()
    for name in frame.columns:
        if name in names:
            rest.drop_in_place(name)
    return rest
