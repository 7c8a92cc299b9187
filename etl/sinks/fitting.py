"""Whether rows fit the columns of a table, and rows as that table takes them.

A row that does not fit is rejected with a reason. What no row can fit, such as a column that the
table lacks, stops the pipeline: nothing was loaded by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from etl.errors import ProcessorStop
from etl.processors.processor import reject

__all__ = ["Columns", "TargetColumn", "fitted", "marked", "natural"]

MISFIT = "does_not_fit"
"""Code of rows that a table cannot hold."""

UTC = pl.Datetime("us", "UTC")

INTEGERS: Mapping[pl.DataType | type[pl.DataType], pl.DataType] = {
    pl.Int8: pl.Int16(),
    pl.Int16: pl.Int16(),
    pl.Int32: pl.Int32(),
    pl.Int64: pl.Int64(),
    pl.UInt8: pl.Int16(),
    pl.UInt16: pl.Int32(),
    pl.UInt32: pl.Int64(),
    pl.UInt64: pl.Int64(),
}
"""Integers with a sign, as databases have them."""


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """A column of a table that is there.

    Attributes:
        name: Its name.
        dtype: What it takes; None if that is not known to be anything that we can write.
        type_name: What the target calls that.
        required: Whether it must not be null.
        default: Whether it has a value where rows have none.
        max_chars: Characters of a text at most, or None.
        nul: Whether a text may have the character U+0000 in it.
        as_it_is: Types that the driver makes texts of.
    """

    name: str
    dtype: pl.DataType | None
    type_name: str
    required: bool = False
    default: bool = False
    max_chars: int | None = None
    nul: bool = True
    as_it_is: Sequence[type[pl.DataType]] = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table.

    Attributes:
        table: What it is called in messages.
        columns: They, in order.
        fold: Makes names equal that the target takes for the same.
    """

    table: str
    columns: Sequence[TargetColumn]
    fold: Callable[[str], str] = str

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return which of some columns the table does not have."""
        known = self._by_name()
        return [name for name in names if self.fold(name) not in known]

    def of(self, frame: pl.DataFrame) -> list[tuple[str, TargetColumn]]:
        """Return the columns of rows, each with that of the table.

        Raises:
            ProcessorStop: If there is a column that the table lacks, or lacks a value for.
        """
        known = self._by_name()
        folded = {self.fold(name): name for name in frame.columns}
        if len(folded) < frame.width:
            twice = sorted(set(frame.columns) - set(folded.values()))
            raise ProcessorStop(
                f"table {self.table} cannot have {', '.join(map(repr, twice))} twice: names differ "
                "only by case; rename one in the pipeline"
            )
        if lacking := self.missing(frame.columns):
            raise ProcessorStop(
                f"table {self.table} has no {_columns(lacking)} (it has "
                f"{', '.join(one.name for one in self.columns)}); add them to the table, drop them "
                "in the pipeline, or let etl add them: add_columns=True"
            )
        empty = [
            one.name
            for key, one in known.items()
            if one.required and not one.default and key not in folded
        ]
        if empty:
            raise ProcessorStop(
                f"table {self.table} needs values for {_columns(empty)}, and rows have none; set "
                "them in the pipeline, or let them be null"
            )
        return [(name, known[key]) for key, name in folded.items()]

    def _by_name(self) -> dict[str, TargetColumn]:
        return {self.fold(one.name): one for one in self.columns}


def natural(dtype: pl.DataType) -> pl.DataType:
    """Return the type of a column that is made for values of a Polars type.

    Text stands for what is nested (as JSON), for categories, decimals and times of day; seconds
    as a float for durations.
    """
    if dtype.base_type() in INTEGERS:
        return INTEGERS[dtype.base_type()]
    if isinstance(dtype, pl.Datetime):
        return UTC if dtype.time_zone else pl.Datetime("us")
    if dtype == pl.Duration:
        return pl.Float64()
    if isinstance(dtype, pl.Float32 | pl.Float64 | pl.Boolean | pl.Date | pl.Binary):
        return dtype
    return pl.String()


def marked(frame: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    """Return rows, with those marked as rejected that a table cannot hold.

    Raises:
        ProcessorStop: If the table cannot hold any of them.
    """
    problems: list[tuple[pl.Expr, str]] = []
    for name, column in columns.of(frame):
        value, source = pl.col(name), frame.schema[name]
        made = _converted(name, source, column, columns.table)
        if made is not None:
            wrong = value.is_not_null() & made.is_null()
            if source.is_float() and column.dtype is not None and column.dtype.is_integer():
                wrong |= made.cast(source) != value
            problems.append((wrong, f"column {name!r} does not fit {column.type_name}"))
        refused = _misfits(value if made is None else made, column)
        problems += [(where, f"column {name!r} {why}") for where, why in refused]
    if not problems:
        return frame
    found = frame.select(
        where.fill_null(value=False).any().alias(str(place))
        for place, (where, _) in enumerate(problems)
    ).row(0)
    for (where, why), any_row in zip(problems, found, strict=True):
        if any_row:
            frame = reject(frame, where, MISFIT, f"{why} (table {columns.table})")
    return frame


def _misfits(value: pl.Expr, column: TargetColumn) -> list[tuple[pl.Expr, str]]:
    """Return what a table refuses of values that have its type."""
    found = []
    if column.required:
        found.append((value.is_null(), "is null, and must not be"))
    if column.dtype == pl.String and not column.as_it_is:
        if not column.nul:
            nul = value.str.contains("\0", literal=True)
            found.append((nul, f"has the character U+0000, which {column.type_name} cannot hold"))
        if column.max_chars is not None:
            found.append(
                (value.str.len_chars() > column.max_chars, f"is too long for {column.type_name}")
            )
    return found


def fitted(frame: pl.DataFrame, columns: Columns, *, whole: bool = False) -> pl.DataFrame:
    """Return rows that fit as the table takes them: its names, and its types.

    Args:
        frame: The rows.
        columns: Those of the table.
        whole: Return all columns of the table, in its order; else those that rows have.
    """
    made: dict[str, pl.Expr] = {}
    for name, column in columns.of(frame):
        value = _converted(name, frame.schema[name], column, columns.table)
        made[column.name] = pl.col(name) if value is None else value
    if whole:
        made = {one.name: made.get(one.name, pl.lit(None, one.dtype)) for one in columns.columns}
    return frame.select(**made)


def _converted(name: str, source: pl.DataType, column: TargetColumn, table: str) -> pl.Expr | None:
    """Return a column with the type of the table's; null where a value does not fit.

    None if it has that type already.
    """
    value, wanted = pl.col(name), column.dtype
    if wanted is None:
        raise ProcessorStop(
            f"column {name!r} of table {table} is of type {column.type_name}, which cannot be "
            "written; drop it in the pipeline, or make it text"
        )
    if source == wanted or source.base_type() in column.as_it_is:
        return None
    if source == pl.Null:
        return value.cast(wanted)
    if source.is_nested():
        if wanted == pl.String:
            return _as_json(name, source)
    elif source == pl.Duration:
        if wanted.is_float() or wanted == pl.String:
            return (value.dt.total_microseconds() / 1e6).cast(wanted)
    elif isinstance(wanted, pl.Datetime) and isinstance(source, pl.Datetime | pl.Date):
        return _at_zone(value, source, wanted)
    elif wanted == pl.String or (wanted.is_numeric() and _is_like_number(source)):
        return value.cast(wanted, strict=False)
    raise ProcessorStop(
        f"column {name!r} holds {source}, and that of table {table} is {column.type_name}; convert "
        "it in the pipeline"
    )


def _is_like_number(source: pl.DataType) -> bool:
    return source.is_numeric() or source in (pl.Boolean, pl.String)


def _at_zone(value: pl.Expr, source: pl.DataType, wanted: pl.Datetime) -> pl.Expr:
    """Return times with the zone that is wanted; those that have none are in UTC."""
    if isinstance(source, pl.Datetime) and source.time_zone:
        utc = value.dt.convert_time_zone("UTC")
    else:
        utc = value.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    zone = wanted.time_zone
    shown = utc.dt.replace_time_zone(None) if zone is None else utc.dt.convert_time_zone(zone)
    return shown.cast(wanted)


def _as_json(name: str, source: pl.DataType) -> pl.Expr:
    """Return what is nested as JSON text."""
    if isinstance(source, pl.Struct):
        return pl.col(name).struct.json_encode()
    text = pl.struct(_=pl.col(name)).struct.json_encode()  # {"_":[1,2]}
    inside = text.str.slice(5).str.head(-1)
    return pl.when(pl.col(name).is_not_null()).then(inside)


def _columns(names: Sequence[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"
