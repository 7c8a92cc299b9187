"""What a sample of a log is: for a user who asks before a run."""

from dataclasses import dataclass

import polars as pl

from etl.errors import FormatError
from etl.formats.columns import sample
from etl.formats.format import FORMATS, get_format
from etl.formats.generic import infer, template_of
from etl.formats.heads import header_of
from etl.formats.normal import normalise, parse
from etl.formats.records import join_records, record_start

__all__ = ["Description", "describe"]

ROWS = 5
NORMAL = ("timestamp", "level", "message")


@dataclass(frozen=True)
class Description:
    """What a sample of a log looks like.

    Attributes:
        records: How many records the sample has.
        start: What begins a record, as `records.record_start` returns it.
        header: The head of the file that names its columns, if it has one.
        candidates: Formats and the share of records that each fits, the best first.
        formats: Formats that the records were read by and the share of each.
        template: The most common layout among generic records, as a spec that a user can edit.
        template_share: The share of those records that fit this spec.
        generic: The share of records that only the generic reader reads.
        timeless: The share of records without a time.
        empty: The share of records that have neither time, level nor message.
        rows: The first rows, normalised.
    """

    records: int
    start: str | None
    header: str | None
    candidates: tuple[tuple[str, float], ...]
    formats: tuple[tuple[str, float], ...]
    template: str | None
    template_share: float
    generic: float
    timeless: float
    empty: float
    rows: pl.DataFrame


def describe(lines: pl.Series, spec: str | None = None) -> Description:
    """Describe consecutive lines from the beginning of a log, read as `parse` reads them.

    Args:
        lines: Up to some thousand lines.
        spec: A format to read them by; found for each record if not given.

    Raises:
        FormatError: If the spec names no format, or one that no record fits.
    """
    numbers = pl.int_range(1, len(lines) + 1, eager=True, dtype=pl.Int64)
    frame = pl.DataFrame([lines.alias("line"), numbers.alias("line_number")])
    start, header = record_start(lines), header_of(lines)
    records = join_records(frame.filter(pl.col("line").str.contains(r"\S")), start)
    rows = normalise(parse(records, spec, header=header))
    if spec and len(rows) and not rows["_fits"].any():
        raise FormatError(
            f"{spec!r} fits none of {len(rows)} records; the first is {rows['line'][0][:80]!r};"
            " leave it out to see what they look like"
        )
    some = sample(records["line"])
    scores = {name: form.score(some) for name, form in FORMATS.items() if name != "apache_access"}
    best = sorted(((n, s) for n, s in scores.items() if s), key=lambda pair: -pair[1])
    kinds = rows.filter("_fits")["format"].value_counts(sort=True)
    template, share = _template(rows.filter(pl.col("format") == "generic")["line"])
    total = max(1, len(rows))
    return Description(
        records=len(rows),
        start=start,
        header=header,
        candidates=tuple((name, score / max(1, len(some))) for name, score in best),
        formats=tuple((name, count / total) for name, count in kinds.iter_rows()),
        template=template,
        template_share=share,
        generic=int((rows["format"] == "generic").sum()) / total,
        timeless=rows["timestamp"].null_count() / total,
        empty=rows.filter(pl.all_horizontal(pl.col(NORMAL).is_null())).height / total,
        rows=rows.head(ROWS),
    )


def _template(lines: pl.Series) -> tuple[str | None, float]:
    """Return the most common layout of lines as a spec, and the share of lines that fit it."""
    some = sample(lines)
    found = [(layout, count) for layout, count in infer(some.to_list()) if layout]
    if not found:
        return None, 0.0
    spec = "template:" + template_of(max(found, key=lambda pair: pair[1])[0])
    try:
        return spec, get_format(spec).score(some) / len(some)
    except FormatError:  # one field only
        return None, 0.0
