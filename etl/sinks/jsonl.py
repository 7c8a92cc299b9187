"""JSON lines: one file per batch."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from etl.processors.processor import Delivery, only_polars
from etl.sinks.publish import StagedFile, stage_file

__all__ = ["JsonLines"]


@only_polars
@dataclass(frozen=True)
class JsonLines:
    """Write each batch as one file of JSON objects, one a line.

    Args:
        folder: Where to; a relative one is below the run's output folder.
    """

    folder: str = "."

    def stage(self, frame: pl.DataFrame, delivery: Delivery) -> StagedFile:
        """Write the rows to a hidden file."""
        return stage_file(self.folder, delivery, "jsonl", frame.write_ndjson)
