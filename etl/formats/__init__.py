"""What log lines look like: find the format, take the fields out, make them alike.

`parse` adds what a format finds in each line as raw text; `normalise` turns that into
the five columns every format shares: `timestamp` (Datetime('us', 'UTC')), `level`
(DEBUG INFO WARNING ERROR CRITICAL, or null), `logger`, `pid` (Int64) and `message`.
They are two steps so that a pipeline can have a processor between them.

This package reads no files and knows no batches; lines that fit nothing are marked
(`_fits` is False), and the pipeline decides what becomes of them.
"""

from etl.formats.format import FORMATS, Format, detect, get_format, normalise, parse

__all__ = ["FORMATS", "Format", "detect", "get_format", "normalise", "parse"]
