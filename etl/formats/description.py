"""What a sample of a log is: for a user who asks before a run."""

from dataclasses import dataclass

import polars as pl

from etl.errors import FormatError
from etl.formats.columns import sample
from etl.formats.format import FORMATS, get_format
from etl.formats.generic import infer, template_of
from etl.formats.heads import header_of
from etl.formats.normal import normalise, parse
from etl.formats.records import join_records, record_start, start_in_words
from etl.records.context import whole_hours

__all__ = ["Description", "describe"]

ROWS = 5
NORMAL = ("timestamp", "level", "message")


@dataclass(frozen=True)
class Description:
    """What a sample of a log looks like.

    Attributes:
        records: How many records the sample has.
        several: How many of them have several lines.
        start: What begins a record, as `records.record_start` returns it.
        header: The head of the file that names its columns, if it has one.
        candidates: Formats and the share of records that each fits, the best first.
        fits: The share of records that fit the format that is named; 1.0 if none is.
        formats: Formats that the records were read by and the share of each.
        template: The most common layout among generic records, as a spec that a user can edit.
        template_share: The share of those records that fit this spec.
        generic: The share of records that only the generic reader reads.
        timeless: The share of records that fit and have no time.
        empty: The share of records that fit and have neither time, level nor message.
        rows: The first rows that fit, normalised.
        unfit: The first records that do not fit the format that is named.
    """

    records: int
    several: int
    start: str | None
    header: str | None
    candidates: tuple[tuple[str, float], ...]
    fits: float
    formats: tuple[tuple[str, float], ...]
    template: str | None
    template_share: float
    generic: float
    timeless: float
    empty: float
    rows: pl.DataFrame
    unfit: pl.DataFrame

    @property
    def begins(self) -> str:
        """What begins a record, in words, such as `every line` or `a line with a time`."""
        return start_in_words(self.start)


def describe(
    lines: pl.Series, spec: str | None = None, *, modified: float | None = None
) -> Description:
    """Describe consecutive lines from the beginning of a log, read as `parse` reads them.

    Args:
        lines: Up to some thousand lines.
        spec: A format to read them by; found for each record if not given.
        modified: When the file was last changed, in Unix seconds, for times without a year.

    Raises:
        FormatError: If the spec names no format, or one that no record fits.
    """
    numbers = pl.int_range(1, len(lines) + 1, eager=True, dtype=pl.Int64)
    frame = pl.DataFrame([lines.alias("line"), numbers.alias("line_number")])
    start, header = record_start(lines), header_of(lines)
    records = join_records(frame.filter(pl.col("line").str.contains(r"\S")), start)
    last = None if modified is None else whole_hours(modified)
    rows = normalise(parse(records, spec, header=header), modified=last)
    fit = rows.filter("_fits")
    some = sample(records["line"])
    scores = {name: form.score(some) for name, form in FORMATS.items() if name != "apache_access"}
    best = sorted(((n, s) for n, s in scores.items() if s), key=lambda pair: -pair[1])
    kinds = fit["format"].value_counts(sort=True)
    template, share = _template(rows.filter(pl.col("format") == "generic")["line"])
    total = max(1, len(rows))
    return Description(
        records=len(rows),
        several=int((rows["line_count"] > 1).sum()),
        start=start,
        header=header,
        candidates=tuple((name, score / max(1, len(some))) for name, score in best),
        fits=len(fit) / total if len(rows) else 1.0,
        formats=tuple((name, count / total) for name, count in kinds.iter_rows()),
        template=template,
        template_share=share,
        generic=int((rows["format"] == "generic").sum()) / total,
        timeless=fit["timestamp"].null_count() / total,
        empty=fit.filter(pl.all_horizontal(pl.col(NORMAL).is_null())).height / total,
        rows=fit.head(ROWS),
        unfit=rows.filter(~pl.col("_fits")).select("line_number", "line_count", "line").head(ROWS),
    )


def _template(lines: pl.Series) -> tuple[str | None, float]:
    """Return the most common layout of lines as a spec, and the share of lines that fit it."""
    some = sample(lines)
    found = [(layout, count) for layout, count in infer(some.to_list()) if layout]
    if not found:
        return None, 0.0
    text = template_of(max(found, key=lambda pair: pair[1])[0])
    best: tuple[str | None, float] = None, 0.0
    for spec in ("template:" + text, "template:" + text.replace(" ", "\t")):
        try:
            share = get_format(spec).score(some) / len(some)
        except FormatError:  # no text between two fields
            continue
        best = max(best, (spec, share), key=lambda pair: pair[1])
    return best
