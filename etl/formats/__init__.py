"""What log lines look like: find the format, take the fields out, make them alike.

`parse` adds what a format finds in each line as raw text; `normalise` turns that into
the five columns every format shares: `timestamp` (Datetime('us', 'UTC')), `level`
(DEBUG INFO WARNING ERROR CRITICAL, or null), `logger`, `pid` (Int64) and `message`.
They are two steps so that a pipeline can have a processor between them.

This package reads no files and knows no batches. Lines of no known format are read by the
generic reader; a line is marked (`_fits` is False) only if it does not fit a format that was
named, and the pipeline decides what happens to it.
"""

from etl.formats.columns import beside
from etl.formats.containers import container_of
from etl.formats.description import Description, describe
from etl.formats.format import FORMATS, Format, detect, get_format
from etl.formats.heads import header_of
from etl.formats.normal import first_day, normalise, parse
from etl.formats.records import join_records, record_start
from etl.formats.starts import cuts, of_neighbours, starts
from etl.formats.user import UserFormat, resolve_format, user_formats

__all__ = [
    "FORMATS",
    "Description",
    "Format",
    "UserFormat",
    "beside",
    "container_of",
    "cuts",
    "describe",
    "detect",
    "first_day",
    "get_format",
    "header_of",
    "join_records",
    "normalise",
    "of_neighbours",
    "parse",
    "record_start",
    "resolve_format",
    "starts",
    "user_formats",
]
