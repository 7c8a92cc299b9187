"""The day of a time of day, where columns beside it say it.

Tables, JSON and templates may have date and time apart, and the date in parts: `Date` and
`Time`; `Month`, `Day` and `Time`; `Date` (Dec), `Day` (10) and `Time`. Here they become one
text; `times` reads it, and finds the year if none is said.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from etl.formats.columns import ungrouped
from etl.formats.dialects import DAYS
from etl.formats.stamps import MONTHS, TIMES_OF_DAY

__all__ = ["Dated", "with_day"]

_CLOCK = f"^(?:{'|'.join(map(ungrouped, TIMES_OF_DAY))})$"
_PLAIN = r"^[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?$"
_USUAL = "^[0-9]{2,4}[-/.][0-9]{2}[-/.][0-9]{2,4}$"
COMPACT = 6  # digits of 203615
_MONTH = rf"(?i:{'|'.join(MONTHS)})[a-z]*\.?"
_NUMBERED = {str(number): month for number, month in enumerate(MONTHS, 1)}
_NUMBER = "^[0-9]{1,2}$"
_MIDNIGHT = r"[T ]00:00(?::00(?:\.0+)?)?Z?$"
"""What a spreadsheet writes behind a date that has no time."""
_YEARLESS_NUMBERS = r"^([0-9]{1,2})[-/.]([0-9]{1,2})\.?$"
_YEARLESS_NAMED = rf"^(?:{_MONTH}[ -][0-9]{{1,2}}|[0-9]{{1,2}}[ /-]{_MONTH})$"


@dataclass(frozen=True)
class Dated:
    """Times of day with the day that columns beside them say.

    Attributes:
        text: String, day and time, null where not both are there.
        parts: The columns that say the day, each with the rows (Boolean) where `text` has it.
        alone: Boolean, where the column has a time of day that no other day may be given:
            columns beside it say a day or a part of it, or a table has them.
    """

    text: pl.Series
    parts: Mapping[str, pl.Series]
    alone: pl.Series


def with_day(
    key: str, columns: Mapping[str, pl.Series], *, order: Sequence[str] = ()
) -> Dated | None:
    """Return the times of a column with their days, or None if no column says the day.

    Args:
        key: The name of the column of times.
        columns: It, and those beside it.
        order: The names of a table's columns from left to right. The one beside that of times
            may say the day by any name that has the word `date`.
    """
    names = _parts(key, columns, order)
    if not names or not columns[key].count():
        return None
    texts = {"time": key} | names
    rows = pl.DataFrame(
        {part: columns[name].cast(pl.String, strict=False) for part, name in texts.items()}
    ).select(pl.all().str.strip_chars())
    time = rows["time"]
    is_plain = time.str.contains(_PLAIN).all()
    day, used = _day(rows)
    text = day + " " + (time if is_plain else _time(time, day))
    parts = {name: used[part] & text.is_not_null() for part, name in names.items()}
    clock = time.is_not_null() if is_plain else time.str.contains(_CLOCK).fill_null(value=False)
    said = rows.select(pl.any_horizontal(pl.exclude("time").is_not_null())).to_series()
    return Dated(text, parts, clock if order else clock & said)


def _squashed(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _parts(key: str, columns: Mapping[str, pl.Series], order: Sequence[str]) -> dict[str, str]:
    """Return which columns say the date, year, month and day of a column's times."""
    squashed = _squashed(key)
    if "date" in squashed and "time" not in squashed:
        return {}
    known = {_squashed(name): name for name in columns if name != key}
    twin = re.sub("timestamp|time", "date", squashed)  # log_time and log_date
    names = {part: [twin, *called] if part == "date" else called for part, called in DAYS.items()}
    found = {
        part: next(known[n] for n in called if n in known)
        for part, called in names.items()
        if not known.keys().isdisjoint(called)
    }
    if not found and key in order:
        at = order.index(key)
        beside = [*order[max(0, at - 1) : at], *order[at + 1 : at + 2]]
        date = next((n for n in beside if n in columns and _has_word(n)), None)
        found = {"date": date} if date else {}
    return found


def _has_word(name: str) -> bool:
    words = re.findall("[A-Z]?[a-z]+|[A-Z]+", name)
    return "date" in map(str.lower, words) and "time" not in map(str.lower, words)


def _day(rows: pl.DataFrame) -> tuple[pl.Series, dict[str, pl.Series]]:
    """Return the text of each row's day, and the rows in which it has a part's text."""
    if rows.columns == ["time", "date"] and rows["date"].str.contains(_USUAL).all():
        return rows["date"], {"date": rows["date"].is_not_null()}
    absent = [pl.lit(None, pl.String).alias(part) for part in DAYS if part not in rows.columns]
    rows = rows.with_columns(absent).with_columns(
        pl.col("month").str.replace("^0?([0-9])$", "$1").replace(_NUMBERED),
    )
    date, day, month, year = (pl.col(part) for part in ("date", "day", "month", "year"))
    is_month, is_number = date.str.contains(f"^{_MONTH}$"), date.str.contains(_NUMBER)
    is_day = day.str.contains(_NUMBER)
    rows = rows.with_columns(
        by_date=date.is_not_null() & ~is_month & ~is_number,
        by_day=day.str.contains("[0-9]") & ~is_day,  # a whole date, by the name of `Day`
        gives_month=is_month & month.is_null(),
        gives_day=is_number & ~is_day.fill_null(value=False),
    ).with_columns(pl.col("^(?:by|gives)_.*$").fill_null(value=False))
    given = pl.when("by_date").then(date).when("by_day").then(day)
    digits = pl.col("time").str.contains("^[0-9]+$") & given.str.contains("^[0-9]{5}$")
    rows = rows.with_columns(
        whole=pl.when(digits).then("0" + given).otherwise(given.str.replace(_MIDNIGHT, "")),
        month=pl.when("gives_month").then(date).otherwise(month),
        day=pl.when("gives_day").then(date).when(is_day).then(day),
        year=pl.when(~year.str.contains("^[0-9]{2}$")).then(year)
        .when(year < "70").then("20" + year).otherwise("19" + year),
    )  # fmt: skip
    whole = pl.col("whole")
    numbers, named = whole.str.contains(_YEARLESS_NUMBERS), whole.str.contains(_YEARLESS_NAMED)
    with_year = year.is_not_null()
    text = (
        pl.when(numbers & with_year).then(whole.str.replace(_YEARLESS_NUMBERS, "$1/$2/") + year)
        .when(named & with_year).then(whole + " " + year)
        .when(whole.is_not_null()).then(whole.str.replace(rf"^([0-9]+)[-/]({_MONTH})$", "$1 $2"))
        .when(with_year).then(day + " " + month + " " + year)
        .otherwise(month + " " + day)
    )  # fmt: skip
    parted = whole.is_null()
    used = rows.select(
        text=text,
        date=pl.col("by_date") | (parted & (pl.col("gives_month") | pl.col("gives_day"))),
        year=with_year & (parted | numbers | named).fill_null(value=False),
        month=parted & ~pl.col("gives_month"),
        day=(pl.col("by_day") & ~pl.col("by_date")) | (parted & ~pl.col("gives_day")),
    )
    return used["text"], {part: used[part] for part in DAYS}


def _time(time: pl.Series, day: pl.Series) -> pl.Series:
    """Write times as the reader of full ones knows them: 9:05 as 09:05:00, 203615 as 20:36:15."""
    if (time.str.len_chars() == COMPACT).any():  # in which a spreadsheet may have cut zeros
        cut = time.str.contains("^[0-9]{1,5}$") & day.str.contains("^[0-9]{6}(?:[0-9]{2})?$")
        time = time.str.zfill(COMPACT).zip_with(cut.fill_null(value=False), time)
    time = time.str.replace("^([0-9]{2})([0-9]{2})([0-9]{2})([.,][0-9]{1,9})?$", "$1:$2:$3$4")
    time = time.str.replace("^([0-9]):", "0$1:")
    return time.str.replace(r"^([0-9]{2}:[0-9]{2})([^0-9:.].*)?$", "$1:00$2")
