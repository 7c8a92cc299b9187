"""The columns of data sets: one type each, the same in every file, as a store remembers them.

A data set is the files below a folder that sinks of tables write. The first batch that has a
column says its type; a column of nothing but nulls has none yet, and is written as String. What
another batch has in a column fits it if a cast to its type and back gives the same.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from etl.errors import UsageError

__all__ = ["NO_TYPE", "Remember", "Schemas", "cast_exactly", "type_of", "written"]

Remember = Callable[[Path, Mapping[str, str]], Mapping[str, str]]
"""Given the folder of a data set and types by column, returns the types of all its columns."""

NO_TYPE = "Null"
"""The type of a column that had no value so far."""

MAX_SHOWN = 80
"""Characters of a value in a message."""


class Schemas:
    """The columns of data sets as one worker knows them.

    Args:
        remember: Keeps those that are new where all workers find them; by default only here.
    """

    def __init__(self, remember: Remember | None = None) -> None:
        self._remember = remember or _Memory().remember
        self._known: dict[Path, pl.Schema] = {}
        self._written: dict[Path, pl.Schema] = {}

    def agree(self, folder: Path, frame: pl.DataFrame) -> None:
        """Have a type remembered for each column of a frame that has none so far.

        Raises:
            StoreError: If it cannot be remembered.
        """
        if frame.schema == self._written.get(folder):
            return
        known = self._known.get(folder, pl.Schema())
        new = {}
        for name, dtype in frame.schema.items():
            if known.get(name, pl.Null) != pl.Null:
                continue
            may_be_any = dtype in (pl.Null, pl.String)
            empty = may_be_any and frame[name].null_count() == frame.height
            if not (empty and name in known):
                new[name] = NO_TYPE if empty else str(dtype)
        if new or folder not in self._known:
            found = self._remember(folder, new)
            self._known[folder] = schema = pl.Schema({k: type_of(v) for k, v in found.items()})
            self._written[folder] = written(schema)

    def fit(self, folder: Path, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series | None]:
        """Return rows with all columns of the data set, and for each why it does not fit.

        Args:
            folder: Of the data set.
            frame: Rows on whose columns `agree` was called.

        Returns:
            The rows, with null where a value does not fit; and a String series of reasons, null
            for the rows that fit, or None if all do.
        """
        schema = self._written[folder]
        if frame.schema == schema:
            return frame, None
        columns: list[pl.Series] = []
        reasons = pl.Series("reason", [None], pl.String).new_from_index(0, frame.height)
        for name, dtype in schema.items():
            if name not in frame.columns:
                columns.append(pl.Series(name, [None], dtype).new_from_index(0, frame.height))
                continue
            values = frame[name]
            if values.dtype != dtype:
                values, wrong = cast_exactly(values, dtype)
                is_float = dtype.is_integer() and frame[name].dtype.is_float()
                wider = frame[name].dtype if is_float else "String"
                widen = f"give it a wider type with: etl compact --type {f'{name}={wider}'!r}"
                why = f"the column has the type {dtype}; {widen}"
                reasons = _explained(reasons, frame[name], wrong, why)
            columns.append(values)
        for name in frame.columns:
            if name not in schema:
                why = f"the data set has {len(schema):,} columns already, the limit"
                reasons = _explained(reasons, frame[name], frame[name].is_not_null(), why)
        rows = pl.DataFrame(columns)
        return rows, reasons if reasons.null_count() < frame.height else None


class _Memory:
    """What a store does, for those who have none."""

    def __init__(self) -> None:
        self._data_sets: dict[Path, dict[str, str]] = {}

    def remember(self, folder: Path, columns: Mapping[str, str]) -> Mapping[str, str]:
        known = self._data_sets.setdefault(folder, {})
        for name, text in columns.items():
            if known.get(name, NO_TYPE) == NO_TYPE:
                known[name] = text
        return known


def written(schema: pl.Schema) -> pl.Schema:
    """Return the types with which columns are written: String for those that have none yet."""
    return pl.Schema(
        {name: pl.String() if dtype == pl.Null else dtype for name, dtype in schema.items()}
    )


def cast_exactly(values: pl.Series, dtype: pl.DataType) -> tuple[pl.Series, pl.Series]:
    """Return values of another type, null where they do not fit, and which do not.

    All fit String; any other type they fit if they come back as they were.
    """
    try:
        cast = values.cast(dtype, strict=False)
        wrong = cast.is_null() & values.is_not_null()
        if dtype != pl.String:
            wrong |= cast.cast(values.dtype, strict=False).ne_missing(values)
    except pl.exceptions.PolarsError:  # there is no such cast
        wrong = values.is_not_null()
        cast = pl.Series(values.name, [None], dtype).new_from_index(0, len(values))
    return cast, wrong


def _explained(reasons: pl.Series, values: pl.Series, wrong: pl.Series, why: str) -> pl.Series:
    """Return reasons with one for each value that is wrong and has none yet."""
    places = (wrong & reasons.is_null()).arg_true()
    if not len(places):
        return reasons
    shown = [repr(one)[:MAX_SHOWN] for one in values.gather(places).to_list()]
    said = [f"column {values.name!r} has {one} ({values.dtype}) here, and {why}" for one in shown]
    return reasons.scatter(places, said)


def type_of(text: str) -> pl.DataType:
    """Return the Polars type that a text names, as `Int64` or `Datetime('us', 'UTC')`.

    Raises:
        UsageError: If it names none.
    """
    try:
        found = _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError, ValueError, pl.exceptions.PolarsError):
        found = None
    dtype = found() if isinstance(found, type) else found
    if not isinstance(dtype, pl.DataType):
        raise UsageError(
            f"{text!r} is no type of a column; there are Int64, Float64, String, Boolean, Date, "
            "Datetime('us', 'UTC') and the others of Polars"
        )
    return dtype


def _value(node: ast.AST) -> object:
    """Return the type or constant of an expression; nothing else in it is evaluated."""
    match node:
        case ast.Name(id=name) if _is_type(getattr(pl, name, None)):
            return getattr(pl, name)
        case ast.Call(func=function, args=args, keywords=options):
            kind = _value(function)
            if not _is_type(kind):
                raise ValueError
            given = {str(one.arg): _value(one.value) for one in options}
            return kind(*map(_value, args), **given)  # type: ignore[operator]
        case ast.List(elts=items):
            return [_value(one) for one in items]
        case ast.Tuple(elts=items):
            return tuple(_value(one) for one in items)
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {_value(key): _value(one) for key, one in pairs if key is not None}
        case _:
            return ast.literal_eval(node)


def _is_type(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, pl.DataType)
