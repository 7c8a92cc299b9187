"""What a processor is, and the ones that come with etl.

A processor is any callable from frame to frame:

    def shorten(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.col("message").str.head(80))

It may change columns, drop rows (they are counted as filtered), add rows
(fan-out) and mark rows that cannot be processed with `reject`. One that takes
a second parameter is given the `Batch` as well. Columns that begin with `_`
are the pipeline's; `line`, `line_number` and `source` say where a row is from.

`each` makes a processor of a function of one line. An object that also has
`state()` and `restore(state)` is stateful: its state, a JSON value, is
committed with every batch. An object with `stage(frame, delivery)` is a sink.
"""

from etl.processors.builtin import Count, Parse, drop, normalise, upper
from etl.processors.processor import Delivery, Sink, Staged, Stateful, each, reject
from etl.processors.retry import Retry

__all__ = [
    "Count",
    "Delivery",
    "Parse",
    "Retry",
    "Sink",
    "Staged",
    "Stateful",
    "drop",
    "each",
    "normalise",
    "reject",
    "upper",
]
