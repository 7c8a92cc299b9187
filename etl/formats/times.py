"""Times in log lines: find the layout a column has, read it as UTC.

The layouts that most files have are read by Polars' own parser. The rest is taken apart by
the regexes of `stamps`, which also know named zones, AM and PM, and fractions of any length.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from etl.formats.epochs import UTC_TIME, read_epochs, read_tai
from etl.formats.stamps import CLOCK, FAMILIES, MONTHS, ZONES
from etl.formats.years import in_years

__all__ = ["UTC_TIME", "Clock", "read_times"]

Reader = Callable[[pl.Series], pl.Series]
# Tried in this order. Fixed-width fractions come first: Polars parses them eight times faster.
LAYOUTS = (
    *(
        f"%Y-%m-%d{t}%H:%M:%S{fraction}{zone}"
        for t in " T"
        for fraction in (",%3f", ".%3f", "", ".%6f")
        for zone in ("", "Z", " UTC", " GMT", "+00:00")
    ),
    "%d/%b/%Y:%H:%M:%S %z",
    *(f"%Y-%m-%d{t}%H:%M:%S%.f{zone}" for t in " T" for zone in ("%#z", "")),
    "%Y/%m/%d %H:%M:%S",
    "%b %d %H:%M:%S",
    "%a %b %d %H:%M:%S%.f %Y",
    "%y%m%d %H%M%S",
    "%d %b %Y %H:%M:%S%.f",
    "%m-%d %H:%M:%S%.f",
)
YEARLESS = ("%b %d %H", "%m-%d %H")
SAMPLE = 50


@dataclass(frozen=True)
class Clock:
    """What is known of the times in a file besides their text.

    Attributes:
        now: The latest that a time without a year may be is a day after this.
        timezone: IANA name of the zone of times that have none.
        year: Year of the first time that has none, if it is known.
        is_end: Whether `now` is when the last time was written, so that a time of day is of
            the day of `now` or the day before.
        first_day: Day of the year of the file's first time, where the lines may begin below
            it: if they begin earlier in the year, they are of the year after.
    """

    now: datetime
    timezone: str = "UTC"
    year: int | None = None
    is_end: bool = False
    first_day: int | None = None


def read_times(text: pl.Series, clock: Clock) -> pl.Series:
    """Return Datetime('us', 'UTC'), null where no layout fits.

    A layout is tried on a sample of the values that no layout before it could read. The
    order of day and month, where both could be either, is the one that reads most values.
    """
    if text.dtype == pl.Datetime:
        return text.cast(UTC_TIME)
    left = text.cast(pl.String, strict=False)
    times = pl.Series([None], dtype=UTC_TIME).new_from_index(0, len(text))
    tried: set[str] = set()
    while layout := _common(left, tried):
        tried.add(layout)
        got = _by_layout(left, layout, clock)
        times = times.fill_null(got) if times.count() or got.dtype != UTC_TIME else got
        left = left.set(got.is_not_null(), None)
    readers: list[Reader] = [
        read_epochs,
        read_tai,
        *(_Family(pattern, clock) for pattern in FAMILIES.values()),
        *([_Family(CLOCK, clock)] if clock.is_end else ()),
    ]
    for read in readers:
        if not left.len() - left.null_count():
            break
        got = read(left)
        times = times.fill_null(got)
        left = left.set(got.is_not_null(), None)
    return times


def _common(text: pl.Series, tried: set[str]) -> str | None:
    """Return the layout of the first of a few values of which one has an untried layout."""
    known = text.drop_nulls()
    some = known.gather_every(max(1, len(known) // SAMPLE)).head(SAMPLE)
    shapes = some.str.slice(0, 40).str.replace_all("[0-9]", "0")
    for value in some.filter(shapes.is_first_distinct()):
        one = pl.Series([value])
        for layout in LAYOUTS:
            apart = layout.startswith("%Y-") and value[10:11] != layout[8]
            if layout not in tried and not apart and _parsed(one, layout)[0] is not None:
                return layout
    return None


def _parsed(text: pl.Series, layout: str) -> pl.Series:
    if layout.startswith(YEARLESS):
        text, layout = "2000 " + text, f"%Y {layout}"
    elif layout.startswith("%Y/"):  # Polars takes two digits for a year, too
        text = text.set(~text.str.contains("^[0-9]{4}"), None)
    elif layout.startswith("%d %b %Y"):
        text = text.set(~text.str.contains(" [0-9]{4} "), None)
    return text.str.to_datetime(layout, strict=False, time_unit="us")


def _by_layout(text: pl.Series, layout: str, clock: Clock) -> pl.Series:
    times = _parsed(text, layout)
    if layout.startswith(YEARLESS):
        times = _with_years(times, clock)
    naive = times.dtype == pl.Datetime("us") and "Z" not in layout and layout[-1] not in "TC0"
    if naive:
        return _placed(times, clock)
    return times.dt.replace_time_zone("UTC") if times.dtype == pl.Datetime("us") else times


def _placed(times: pl.Series, clock: Clock) -> pl.Series:
    """Return naive times of the clock's zone as UTC."""
    if clock.timezone == "UTC":
        return times.dt.replace_time_zone("UTC")
    try:
        there = times.dt.replace_time_zone(
            clock.timezone, ambiguous="earliest", non_existent="null"
        )
        return there.dt.convert_time_zone("UTC")
    except pl.exceptions.ComputeError:  # a place that is none
        return pl.repeat(None, len(times), dtype=UTC_TIME, eager=True)


@dataclass(frozen=True)
class _Family:
    """Reads the times that one regex of `stamps.FAMILIES` takes apart."""

    pattern: str
    clock: Clock

    def __call__(self, text: pl.Series) -> pl.Series:
        blank = pl.repeat(None, len(text), dtype=UTC_TIME, eager=True)
        pattern = (
            rf"^[A-Z]?{self.pattern}$"
            if self.pattern.startswith("(?P<m>")
            else (rf"^[\s\[(]*{self.pattern}[\])\s]*$")
        )
        some = text.drop_nulls()
        if not some.str.contains(pattern).any():
            return blank
        found = text.str.extract_groups(pattern).struct.unnest()
        if "n1" in found.columns:
            found = _ordered(found, self.clock)
        return self._assembled(found)

    def _assembled(self, found: pl.DataFrame) -> pl.Series:
        def part(name: str, default: str = "0") -> pl.Series:
            if name in found.columns:
                return found[name].fill_null(default)
            return pl.repeat(default, found.height, dtype=pl.String, eager=True)

        dayless = "d" not in found.columns
        yearless = not {"Y", "y"} & set(found.columns) and not dayless
        year = part("Y") if "Y" in found.columns else part("y", "2000")
        short = year.str.len_chars() < 3
        century = year.cast(pl.Int64, strict=False) < 70
        year = pl.select(
            pl.when(short & century).then("20" + year).when(short).then("19" + year).otherwise(year)
        ).to_series()
        one = "1" if dayless else "0"
        month = _month(found["b"]) if "b" in found.columns else part("m", one)
        hour = part("H").cast(pl.Int64, strict=False)
        if "p" in found.columns and found["p"].count():
            afternoon = found["p"].str.to_lowercase().str.starts_with("p")
            hour = pl.select(
                pl.when(afternoon.is_null()).then(hour)
                .otherwise(hour % 12 + 12 * afternoon.cast(pl.Int64))
            ).to_series()  # fmt: skip
        text = pl.select(
            pl.format(
                "{}-{}-{} {}:{}:{}.{}", year, month.str.zfill(2), part("d", one).str.zfill(2),
                hour.cast(pl.String).str.zfill(2), part("M"), part("S", "00"),
                part("f").str.slice(0, 6).str.pad_end(6, "0"),
            )
        ).to_series()  # fmt: skip
        times = text.str.to_datetime("%Y-%m-%d %H:%M:%S.%6f", strict=False, time_unit="us")
        if yearless:
            times = _with_years(times, self.clock)
        if dayless:
            times = _with_days(times.set(found["H"].is_null(), None), self.clock)
        if "z" not in found.columns or not found["z"].count():
            return _placed(times, self.clock)
        zones = found["z"].str.strip_chars()
        offset = _offsets(zones)
        placed = _placed(times.set(zones.is_not_null(), None), self.clock)
        for place in zones.filter(zones.str.contains("/", literal=True)).unique():
            there = times.set((zones != place).fill_null(value=True), None)
            placed = placed.fill_null(_placed(there, replace(self.clock, timezone=place)))
        return (times - offset).dt.replace_time_zone("UTC").fill_null(placed)


def _month(name: pl.Series) -> pl.Series:
    numbers = {month: str(n) for n, month in enumerate(MONTHS, 1)}
    return name.str.slice(0, 3).str.to_titlecase().replace_strict(numbers, default=None)


def _offsets(zones: pl.Series) -> pl.Series:
    """Return what to take from a local time to have UTC, as Duration."""
    known = {zone: _offset(zone) for zone in zones.drop_nulls().unique() if "/" not in zone}
    minutes = zones.replace_strict(known, default=None, return_dtype=pl.Int64)
    return (minutes * 60_000_000).cast(pl.Duration("us"))


def _offset(zone: str) -> int:
    name = zone.rstrip("+-0123456789:")
    minutes = round(ZONES[name.upper()] * 60) if name else 0
    if number := zone[len(name) :]:
        digits = number[1:].replace(":", "")
        hours, rest = (digits[:2], digits[2:]) if len(digits) != 3 else ("0", digits)
        minutes += (1 if number[0] == "+" else -1) * (int(hours) * 60 + int(rest or 0))
    return minutes


def _ordered(found: pl.DataFrame, clock: Clock) -> pl.DataFrame:
    """Name the numbers of dates such as 03/05/2024: the order that reads most of them.

    Of orders that read as many, the one wins whose times are not after now, then the one whose
    times are closest together, then the usual one: month first with slashes, else day first.
    With points the day is first.
    24/03/05 and 03/05/24 are told apart by which year is nearer to the clock's.
    """
    numbers = [
        found[f"n{i}"].cast(pl.Int64, strict=False) for i in (1, 2, 3) if f"n{i}" in found.columns
    ]
    if len(numbers) == 2:
        swapped = (numbers[0] > 12).any() and not (numbers[1] > 12).any()
        names = ("d", "m") if swapped else ("m", "d")
        return found.rename({"n1": names[0], "n2": names[1]})
    mark = found["sep"].drop_nulls()[0]
    slashes = mark == "/"
    long = found["n3"].str.len_chars().max() == 4
    if long:
        orders = ["mdY", "dmY"] if slashes else ["dmY", "mdY"]
    else:
        orders = ["ymd", "mdy", "dmy"] if slashes else ["dmy", "ymd", "mdy"]

    def merit(order: str) -> tuple[int, int, bool, int]:
        part = dict(zip(order.lower(), numbers, strict=True))
        good = part["m"].is_between(1, 12) & part["d"].is_between(1, 31)
        days = (part["y"] * 372 + part["m"] * 31 + part["d"]).filter(good)
        first, last = (int(str(day or 0)) for day in (days.min(), days.max()))
        now = (clock.now.year % (10_000 if long else 100)) * 372
        is_past = last <= now + clock.now.month * 31 + clock.now.day + 1
        if mark == ".":  # day first, wherever it is used
            return int(good.sum()), 0, False, 0
        if long:
            return int(good.sum()), 0, is_past, first - last
        year = part["y"].max()
        distance = abs(clock.now.year - 2000 - year) if isinstance(year, int) else 0
        near = -1000 if slashes and order == "dmy" else -distance
        return int(good.sum()), near, is_past, first - last

    best = max(orders, key=merit)
    return found.rename({f"n{i}": name for i, name in enumerate(best, 1)})


DISORDER = 7  # days by which a line may be older than the first


def _with_years(times: pl.Series, clock: Clock) -> pl.Series:
    """Give times, all of the leap year 2000, the years that they have by order and clock.

    A step back of more than half a year is a New Year; the last time is the latest that is
    no more than a day after now, or the first has the clock's year.
    """
    filled = times.fill_null(strategy="forward").fill_null(strategy="backward")
    if not filled.count():
        return times
    day = filled.dt.ordinal_day().cast(pl.Int64)
    step = day.diff().fill_null(0)
    turns = ((step < -183).cast(pl.Int64) - (step > 183).cast(pl.Int64)).cum_sum()
    if clock.year is not None:
        later = clock.first_day is not None and day[0] < clock.first_day - DISORDER
        years = turns + clock.year + int(later)
    else:
        limit = clock.now.astimezone(UTC).replace(tzinfo=None) + timedelta(days=1)
        latest = turns.max()
        last = filled.filter(turns == latest).max()
        fits = isinstance(last, datetime) and last <= limit.replace(year=2000)
        years = turns - latest + (limit.year if fits else limit.year - 1)
    return in_years(times, years)


def _with_days(times: pl.Series, clock: Clock) -> pl.Series:
    """Give times, all of one day, the days that they have by order, the last that of the clock.

    A step back of more than half a day is midnight; a step forward of as much goes back.
    """
    filled = times.fill_null(strategy="forward").fill_null(strategy="backward")
    if not filled.count():
        return times
    step = filled.diff().dt.total_seconds().fill_null(0)
    turns = ((step < -43_200).cast(pl.Int64) - (step > 43_200).cast(pl.Int64)).cum_sum()
    end = clock.now.astimezone(ZoneInfo(clock.timezone)).replace(tzinfo=None)
    latest = turns.max()
    last = filled.filter(turns == latest).max()
    before = isinstance(last, datetime) and last.time() > end.time()
    day = datetime(end.year, end.month, end.day) - timedelta(days=int(before))  # noqa: DTZ001
    first = times.dt.truncate("1d")
    return (
        (times - first)
        + pl.select(pl.lit(day).cast(pl.Datetime("us"))).to_series()
        + ((turns - latest) * 86_400_000_000).cast(pl.Duration("us"))
    )
