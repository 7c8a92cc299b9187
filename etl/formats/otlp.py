"""Records of OpenTelemetry: lines that `POST /v1/logs` makes of what OTLP sends.

An envelope: the body is the line of a program, and may be read again. See `sources/otlp.py` for
the layout.
"""

import re

import polars as pl

from etl.formats.columns import beside
from etl.formats.keyed import is_json, read_json

__all__ = ["OTLP", "is_otlp", "read_otlp"]

OTLP = r'^\{"timeUnixNano":"[0-9]{1,20}"[,}]'
"""What each of these lines begins with."""

TIMES = ("timeUnixNano", "observedTimeUnixNano")
ISO = "%Y-%m-%dT%H:%M:%S%.6fZ"
_begins = re.compile(OTLP).search


def is_otlp(line: str) -> bool:
    """Return whether a line is such a record."""
    return _begins(line) is not None and is_json(line)


def read_otlp(lines: pl.Series) -> pl.DataFrame:
    """Read OpenTelemetry's records: `body` is the message.

    The time is the record's or, without one, that at which it was observed, however far off it is;
    both also stay as they were sent, in nanoseconds.
    """
    fits = lines.str.contains(OTLP).fill_null(value=False)
    if not fits.any():
        return pl.DataFrame({"_fits": fits})
    got = read_json(lines.set(~fits, None))
    nanos = [
        pl.col(name).cast(pl.UInt64, strict=False).replace(0, None)
        for name in TIMES
        if name in got.columns
    ]
    if not nanos:  # none of them is a whole object
        return got.with_columns(pl.lit(value=False).alias("_fits"))
    micros = (pl.coalesce(nanos) // 1000).cast(pl.Int64).cast(pl.Datetime("us"))
    time = micros.dt.strftime(ISO).alias("timestamp")
    others = [got[name] for name in ("timestamp",) if name in got.columns]
    got = got.with_columns(time, *nanos, _fits=fits & got["_fits"])
    if "body" in got.columns and "message" not in got.columns:
        got = got.rename({"body": "message"}).with_columns(pl.col("message").cast(pl.String))
    return beside(got, others)
