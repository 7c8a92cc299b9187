"""Times in log lines: find the layout a column has, read it as UTC."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

import polars as pl

__all__ = ["UTC_TIME", "read_times"]

UTC_TIME = pl.Datetime("us", "UTC")
# Tried in this order. Fixed-width fractions come first: Polars parses them eight times faster.
LAYOUTS = (
    *(
        f"%Y-%m-%d{t}%H:%M:%S{fraction}{zone}"
        for t in " T"
        for fraction in (",%3f", ".%3f", "", ".%6f")
        for zone in ("", "Z", " UTC", " GMT", "+00:00")
    ),
    "%d/%b/%Y:%H:%M:%S %z",
    "%b %d %H:%M:%S",
    "%y/%m/%d %H:%M:%S",  # before %Y, which takes two digits for a year, too
    "%Y/%m/%d %H:%M:%S%.f",
    "%y%m%d %H%M%S",
    "%a %b %d %H:%M:%S%.f %Y",
    "%d %b %Y %H:%M:%S%.f",
    "%m-%d %H:%M:%S%.f",
    *(f"%Y-%m-%d{t}%H:%M:%S%.f{zone}" for t in " T" for zone in ("%#z", "")),
    "epoch",
)


def read_times(text: pl.Series, now: datetime) -> pl.Series:
    """Parse with a layout that a sample has, then what is left with the layouts it has.

    Returns Datetime('us', 'UTC'), null where no layout fits. A time without an offset is
    taken as UTC, one without a year as the latest that is no more than a day after `now`.
    """
    if text.dtype == pl.Datetime:
        return text.cast(UTC_TIME)
    left = text.cast(pl.String, strict=False)
    times = pl.repeat(None, len(text), dtype=UTC_TIME, eager=True)
    tried: set[str] = set()
    while layout := _common(left, tried):
        tried.add(layout)
        got = _read(left, layout, now)
        times = times.fill_null(got)
        left = left.set(got.is_not_null(), None)
    return times


def _common(text: pl.Series, tried: set[str]) -> str | None:
    known = text.drop_nulls()
    some = known.gather_every(max(1, len(known) // 50)).str.slice(0, 80)
    # Eleven is a good day, month, hour, minute and year.
    shapes = some.str.replace_all("[0-9]", "1").unique(maintain_order=True)
    return next((x for x in map(_layout, shapes) if x and x not in tried), None)


@lru_cache(maxsize=4096)
def _layout(shape: str) -> str | None:
    example, now = pl.Series([shape]), datetime.now(UTC)
    return next((layout for layout in LAYOUTS if _read(example, layout, now)[0]), None)


def _read(text: pl.Series, layout: str, now: datetime) -> pl.Series:
    if layout == "epoch":
        return _epoch(text)
    if "%Y" not in layout and "%y" not in layout:
        return _yearless(text, layout, now)
    times = text.str.to_datetime(layout, strict=False, time_unit="us")
    return times.dt.replace_time_zone("UTC") if times.dtype == pl.Datetime("us") else times


def _yearless(text: pl.Series, layout: str, now: datetime) -> pl.Series:
    limit = now.astimezone(UTC) + timedelta(days=1)
    times = pl.repeat(None, len(text), dtype=UTC_TIME, eager=True)
    for year in range(limit.year, limit.year - 9, -1):  # 29 February may be eight years ago
        got = _read(f"{year} " + text, f"%Y {layout}", now)
        times = times.fill_null(got.set(got > limit, None))
        if times.null_count() == text.null_count():
            break
    return times


def _epoch(text: pl.Series) -> pl.Series:
    # seconds, ms, µs or ns since 1970, told apart by size: 1973 to 2286 in each unit
    n = pl.lit(text.cast(pl.Float64, strict=False))
    units = (1, 1e3, 1e6, 1e9)
    micros = [pl.when(n.is_between(1e8 * k, 1e10 * k)).then(n * (1e6 / k)) for k in units]
    return pl.select(pl.coalesce(micros).round().cast(pl.Int64).cast(UTC_TIME)).to_series()
