"""What a processor is, and those that come with etl.

A processor is any function from a Polars frame to a Polars frame:

    def shorten(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.col("message").str.head(80))

It may change columns, drop rows (they count as filtered), add rows (fan-out), and mark
rows that cannot be processed with `reject`. A function with a second parameter is given
the `Batch` as well. Columns that begin with `_` are the pipeline's; `line` String,
`line_number` Int64 and `source` String say where a row is from.

`each` makes a processor of a function of one line. An object that also has `state()` and
`restore(state)` is stateful: its state, a JSON value, is committed with every batch. An
object with `stage(frame, delivery)` is a sink.
"""

from etl.processors.builtin import Count, Parse, drop, normalise, upper
from etl.processors.processor import each, only_polars, reject
from etl.processors.retry import Retry
from etl.processors.secrets import mask

__all__ = [
    "Count",
    "Parse",
    "Retry",
    "drop",
    "each",
    "mask",
    "normalise",
    "only_polars",
    "reject",
    "upper",
]
