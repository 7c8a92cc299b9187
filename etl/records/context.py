"""How lines are read: what a user asks for, and what a batch must know of its source.

A batch carries its `Context`, so that a worker elsewhere, or a replay next year, reads it as
it would be read here and now. What lines mean is found by `formats`, from the beginning of
the source (`sources/framing.py`).
"""

from __future__ import annotations

import json
import zoneinfo
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

from etl.errors import UsageError
from etl.text import wrong_with_regex

__all__ = ["AS_FOUND", "DEFAULT", "Context", "ReadOptions", "Unmatched", "whole_hours"]

Unmatched = Literal["keep", "dead"]
"""What becomes of a record of no known format: it is kept as `generic`, or dies."""

HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a batch must know of its source to be read.

    Attributes:
        record_start: What begins a record, as `formats.record_start` returns it; None if
            every line is a record.
        header: The line of the file's head that names its columns, if it has one.
        modified: Unix seconds, the next full hour, when the file was last changed or the lines
            were put: a time without a year is of the last year in which it is before that.
        timezone: IANA name of the zone of times that have none.
        year: Year of the source's first time that has none.
        first_day: Day of the year of that time.
        unmatched: What becomes of a record of no known format.
        keep_line: Whether sinks that leave out `line` write it all the same.
        columns: What is known of all lines beside their text, such as the container that wrote
            them: names of columns, and texts.
    """

    record_start: str | None = None
    header: str | None = None
    modified: int | None = None
    timezone: str = "UTC"
    year: int | None = None
    first_day: int | None = None
    unmatched: Unmatched = "keep"
    keep_line: bool = False
    columns: tuple[tuple[str, str], ...] = ()

    def encode(self) -> str:
        """Return it as a store keeps it: JSON of the attributes that are not the default."""
        if self == DEFAULT:
            return "{}"
        given = {
            one.name: value
            for one in fields(self)
            if (value := getattr(self, one.name)) != one.default
        }
        return json.dumps(given, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Context:
        """Return what `encode` encoded."""
        if text == "{}":
            return DEFAULT
        known = cls(**json.loads(text))
        columns = tuple((name, value) for name, value in known.columns)
        return replace(known, columns=columns) if columns else known


DEFAULT = Context()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How a user wants lines to be read.

    Attributes:
        format: Name of their format, ours or a user's own, or None to have it detected; kept
            as a spec that needs no file.
        multiline: `auto` to find out which lines belong together, `off` for one record a
            line, or a Rust regex of the lines that begin a record.
        timezone: IANA name of the zone of times that have none.
        year: Year of the first time that has none; by default found for each time.
        unmatched: What becomes of a record of no known format.
        keep_line: Whether sinks that leave out `line` write it all the same.
        columns: What is known of all lines beside their text, as `Context` has it.

    Raises:
        UsageError: If one of them cannot be used.
    """

    format: str | None = None
    multiline: str = "auto"
    timezone: str = "UTC"
    year: int | None = None
    unmatched: Unmatched = "keep"
    keep_line: bool = False
    columns: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Check them, and resolve the name of the format."""
        if self.format:
            from etl.formats import resolve_format

            object.__setattr__(self, "format", resolve_format(self.format))
        if self.multiline not in ("auto", "off"):
            import polars as pl  # which the command line does without

            try:
                pl.Series([""]).str.contains(self.multiline)
            except pl.exceptions.ComputeError as error:
                raise UsageError(
                    f"multiline {self.multiline!r} is neither auto, off nor a regex: "
                    f"{wrong_with_regex(error)}"
                ) from error
        try:
            zoneinfo.ZoneInfo(self.timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise UsageError(
                f"there is no time zone {self.timezone!r}; use an IANA name such as Europe/Berlin"
            ) from error
        if self.year is not None and not 1970 <= self.year <= 9999:
            raise UsageError(f"year {self.year} is not between 1970 and 9999")
        if self.unmatched not in get_args(Unmatched):
            raise UsageError(f"unmatched {self.unmatched!r} is neither keep nor dead")

    def context(
        self,
        *,
        modified: float,
        record_start: str | None = None,
        header: str | None = None,
        first_day: int | None = None,
    ) -> Context:
        """Return the context of lines that are read so.

        Args:
            modified: Unix seconds when the file was last changed, or when the lines are put.
            record_start: What begins a record.
            header: The line that names the columns.
            first_day: Day of the year of the first time, where the year is given.
        """
        return Context(
            record_start=record_start,
            header=header,
            modified=whole_hours(modified),
            timezone=self.timezone,
            year=self.year,
            first_day=first_day,
            unmatched=self.unmatched,
            keep_line=self.keep_line,
            columns=self.columns,
        )


def whole_hours(seconds: float) -> int:
    """Return the next full hour: batches that were put within an hour are read alike."""
    return -int(-seconds // HOUR) * HOUR


AS_FOUND = ReadOptions()
"""All is found from the lines."""
