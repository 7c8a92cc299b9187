"""Times without a year, put into the years that they have."""

from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta

import polars as pl

__all__ = ["in_years"]

LEAP_DAY = 60  # of a leap year
DAY = 86_400_000_000  # microseconds


def in_years(times: pl.Series, years: pl.Series) -> pl.Series:
    """Return times of the year 2000 in other years; 29 February in the leap year before.

    Args:
        times: Datetime('us') of the year 2000.
        years: Int64 without nulls, a year for each time.
    """
    day = times.dt.ordinal_day()
    common = ~((years % 4 == 0) & ((years % 100 != 0) | (years % 400 == 0)))
    if (odd := (day == LEAP_DAY) & common).any():
        years = years.zip_with(~odd.fill_null(value=False), years - years % 4)
        times = times.set(odd & (years % 100 == 0) & (years % 400 != 0), None)
    start = datetime(2000, 1, 1, tzinfo=UTC)
    shifts = {
        year: (start.replace(year=year) - start) // timedelta(microseconds=1)
        for year in years.unique()
        if MINYEAR <= year <= MAXYEAR
    }
    shift = years.replace_strict(shifts, default=None, return_dtype=pl.Int64)
    shift -= (common & (day > LEAP_DAY)).cast(pl.Int64) * DAY
    return (times.cast(pl.Int64) + shift).cast(pl.Datetime("us"))
