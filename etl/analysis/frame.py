"""Tables with documented columns: pandas for people, Polars for programs.

A function that returns rows becomes a frame by a decorator that names its columns:

    @frame(at=TIME, worker=TEXT, lines=INTEGER)
    def errors(queue: Queue) -> Rows: ...

`errors(queue)` is then a pandas frame with exactly these columns and their dtypes.
`errors.polars(queue)` is the same as a Polars frame, with times as Unix seconds; it
does without pandas, which takes half a second to import.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, cast

import polars as pl

from etl.records.columns import JSON, NAME_LIST, NUMBER_LIST, Kind, Table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Rows", "frame"]

P = ParamSpec("P")

Rows = pl.DataFrame | Sequence[Mapping[str, Any]]

IN_PANDAS: Mapping[Kind, Callable[[Any], Any]] = {
    JSON: json.loads,
    NAME_LIST: tuple,
    NUMBER_LIST: tuple,
}
"""What makes a value of a Polars frame one of a pandas frame, where they differ."""


class Framed(Protocol[P]):
    """A function that returns a pandas frame, and, as `polars`, one that returns a Polars frame."""

    __name__: str
    polars: Callable[P, pl.DataFrame]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> pd.DataFrame:
        """Return the pandas frame."""


def frame(table: Table | None = None, **kinds: Kind) -> Callable[[Callable[P, Rows]], Framed[P]]:
    """Return a decorator for functions whose rows have these columns.

    Rows may lack some of the columns, and have others, which are left out.

    Args:
        table: The first columns.
        **kinds: Further columns, by their kinds.
    """
    columns = (table or Table("")).add(**kinds)

    def decorate(build: Callable[P, Rows]) -> Framed[P]:
        @wraps(build)
        def polars(*args: P.args, **kwargs: P.kwargs) -> pl.DataFrame:
            rows = build(*args, **kwargs)
            if not isinstance(rows, pl.DataFrame):
                return pl.DataFrame(rows, schema=columns.schema)
            found = (column for column in columns if column.name in rows.columns)
            return rows.select(pl.col(column.name).cast(column.kind.polars) for column in found)

        @wraps(build)
        def pandas(*args: P.args, **kwargs: P.kwargs) -> pd.DataFrame:
            rows = polars(*args, **kwargs)
            found = columns.pick(*rows.columns)
            shown = found.frame(rows)
            for column in found:
                if convert := IN_PANDAS.get(column.kind):
                    shown[column.name] = shown[column.name].map(convert, na_action="ignore")
            return shown

        signature = inspect.signature(build).replace(return_annotation="pd.DataFrame")
        vars(pandas).update(polars=polars, __signature__=signature)
        return cast("Framed[P]", pandas)

    return decorate
