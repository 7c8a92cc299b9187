"""Standard output: one line a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from etl.processors.processor import Delivery
from etl.records.result import Output
from etl.text import say

__all__ = ["Stdout"]


@dataclass(frozen=True, slots=True)
class StagedText:
    """Lines that are printed once their batch is committed."""

    lines: Sequence[str]
    outputs: Sequence[Output] = ()

    def publish(self) -> None:
        """Print them."""
        say(*self.lines)

    def discard(self) -> None:
        """Print nothing."""


@dataclass(frozen=True)
class Stdout:
    """Print one line a row, with control characters made visible.

    Args:
        text: Expression that gives the text; by default the original line.
    """

    text: pl.Expr = pl.col("line")  # noqa: RUF009 - an expression does not change

    def stage(self, frame: pl.DataFrame, delivery: Delivery) -> StagedText:  # noqa: ARG002
        """Make the lines ready; they are printed after the commit."""
        texts = frame.select(self.text.cast(pl.String).fill_null("")).to_series()
        return StagedText(texts.to_list())
