"""From raw columns to the five that every format shares, each line by its format."""

import re
from datetime import UTC, datetime

import polars as pl

from etl.errors import FormatError
from etl.formats.columns import MARKS, ROW, beside, cleaned, split, unmarked
from etl.formats.days import with_day
from etl.formats.dialects import (
    ALIASES,
    COPIES,
    DIALECTS,
    INTEGERS,
    KEYED_BY,
    SECONDS,
    STATUS,
    TIME_KEY,
    bare,
)
from etl.formats.envelopes import unfold
from etl.formats.format import Format, get_format, read_lines, written_by
from etl.formats.heads import TABLES
from etl.formats.levels import LEVEL_NUMBERS, SEVERITIES, read_levels
from etl.formats.times import UTC_TIME, Clock, read_times
from etl.records.frames import without

__all__ = ["normalise", "parse"]

NORMAL = dict.fromkeys(ALIASES, pl.String()) | {"timestamp": UTC_TIME, "pid": pl.Int64()}


def parse(
    frame: pl.DataFrame, spec: str | None = None, *, header: str | None = None
) -> pl.DataFrame:
    """Add `_fits` (Boolean), `format` (String: what the line fits) and the raw columns.

    Without a spec, or with 'auto', every line gets a format that it fits, or `generic`. A line
    does not fit only where a format is named. Rows and their order stay.

    Args:
        frame: Records, in the column `line`.
        spec: A format's name, `template:…` or `regex:…`.
        header: The head of the file that names its columns, if the frame begins below it.

    Raises:
        FormatError: If the spec names no format.
    """
    frame = without(frame, MARKS)
    lines = frame["line"]
    line = pl.col("line")
    odd, marked, cr = frame.select(  # mostly nothing is, and it is looked for once
        odd=line.str.contains("[\n\x1b]").any(),
        marked=line.str.starts_with("\0").any() | line.first().str.starts_with("\ufeff"),
        cr=line.str.ends_with("\r").any(),
    ).row(0)
    if odd or marked:
        lines = cleaned(lines) if odd else unmarked(lines)
    auto = spec in (None, "auto")
    if odd:  # blank lines at the end of a record say nothing
        lines = lines.str.strip_chars_end("\r\n" if auto else "\n")
    elif auto and cr:
        lines = lines.str.strip_chars_end("\r")
    lines, heads = unfold(lines) if odd else (lines, None)
    read = read_lines if auto else get_format(str(spec)).read
    got = read(lines, header, one_line=not odd)
    if heads is not None:
        got = _with_heads(got, heads)
    columns = [got[name] for name in got.columns if name not in MARKS]
    return beside(frame.hstack([got[name] for name in MARKS]), columns)


def _with_heads(got: pl.DataFrame, heads: pl.Series) -> pl.DataFrame:
    """Add the heads of a record's later lines to what no column holds."""
    own = [pl.col("rest").cast(pl.String)] if "rest" in got.columns else []
    rest = pl.concat_str(*own, pl.lit(heads), separator=" ", ignore_nulls=True)
    return got.with_columns(pl.when(rest != "").then(rest).alias("rest"))


def normalise(
    frame: pl.DataFrame,
    *,
    now: datetime | None = None,
    timezone: str = "UTC",
    year: int | None = None,
    modified: float | None = None,
    first_day: int | None = None,
) -> pl.DataFrame:
    """Turn raw columns into the five normal ones, each line by its format, then the others.

    Rows and their order stay. Text that does not convert (a `ts` that is no time, a level
    that is none of ours or says more than ours) stays in a column of its own: that of a normal
    column's name in `timestamp_text`, `level_text` and so on.

    Args:
        frame: What `parse` returned, with or without `_fits`.
        now: The latest that a time without a year may be is a day after it; the clock's time
            if not given.
        timezone: IANA name of the zone of times that have none.
        year: The year of the first time that has none.
        modified: When the file was last changed, in Unix seconds; goes before `now`. Times of
            day get their date by it: the last is of that day, or of the day before.
        first_day: What the function `first_day` returned for the file, if the frame may begin
            below its first lines: `year` is that of the file's first time.

    Raises:
        FormatError: If the frame has no column `format`, or what is in it is no format.
    """
    if "format" not in frame.columns:
        raise FormatError("no column 'format' to normalise by; parse the frame first")
    now = datetime.fromtimestamp(modified, UTC) if modified is not None else now
    now = now or datetime.now(UTC)
    clock = Clock(now, timezone, year, is_end=modified is not None, first_day=first_day)
    names = frame["format"].drop_nulls().unique().to_list() or ["json"]
    if len(names) == 1:
        return _normalised(frame, written_by(names[0]), clock)
    parts = []
    for part in frame.with_row_index(ROW).partition_by("format"):
        form = written_by(part["format"][0] or "json")
        raw = split(part)[1].items()
        empty = [s.name for key, s in raw if key not in form.groups and not s.count()]
        parts.append(_normalised(part.drop(empty), form, clock))
    return pl.concat(parts, how="diagonal_relaxed").sort(ROW).drop(ROW)


def first_day(
    lines: pl.Series, spec: str | None = None, *, header: str | None = None
) -> int | None:
    """Return the day of the year of the first time in lines that has no year, if there is one.

    Args:
        lines: The first of a file.
        spec: A format to read them by; found for each line if not given.
        header: The head of the file that names its columns.
    """
    frame = parse(lines.alias("line").to_frame(), spec, header=header)
    one, other = (normalise(frame, year=year)["timestamp"].drop_nulls() for year in (2000, 2004))
    days = one.filter(one != other).dt.ordinal_day()
    return int(days[0]) if len(days) else None


def _normalised(frame: pl.DataFrame, form: Format, clock: Clock) -> pl.DataFrame:
    left, own = split(frame)
    _derive(own, form)
    normal = []
    numbers = {name: pl.Int64() for name in INTEGERS if name in own and form.typed}
    for name, dtype in (NORMAL | numbers).items():
        column = pl.Series(name, [None], dtype).new_from_index(0, len(frame))
        keys, order = _keys(name, own, form), [*own] if form.name in TABLES else []
        names = [key.lower() for key in keys]
        for key in keys:
            if key not in own:  # a date that a time before it has used up
                continue
            text, more = own[key], None
            if name == "timestamp":
                got = _timed(key, own, column, clock, order)
            else:
                got, more = _converted(name, key, dtype, text)
            del own[key]
            lost = text.is_not_null() & (got.is_null() | column.is_not_null())
            if more is not None:
                lost |= more.is_not_null()
            if lost.any():
                lower = key.lower() if names.count(key.lower()) == 1 else key
                taken = lower in NORMAL or lower in numbers
                kept = f"{lower}_text" if taken and f"{lower}_text" not in own else key
                own[kept] = text.set(~lost, None)
            is_first = not column.count() and got.dtype == dtype
            column = got.alias(name) if is_first else column.fill_null(got)
        for copy in COPIES.get(name, ()):
            if copy in own and column.null_count():
                column = column.fill_null(own[copy].cast(pl.String))
        normal.append(column)
    others = [column.alias(name) for name, column in own.items()]
    return beside(beside(frame.select(left), normal), others)


def _keys(name: str, own: dict[str, pl.Series], form: Format) -> list[str]:
    """Return the columns that may fill a normal one, the best first."""
    known = [*ALIASES.get(name, [name]), *(DIALECTS.get(name, ()) if form.reader else ())]
    known += {"timestamp": ["outer_timestamp"], "level": ["pri_severity"]}.get(name, [])
    named: dict[str, list[str]] = {}
    for key in own:
        named.setdefault(bare(key), []).append(key)
    found = [key for alias in known for key in named.get(alias, ())]
    if name == "timestamp" and form.reader and not found:
        found = [key for key in own if re.search(TIME_KEY, key.lower())]
    return found


def _derive(own: dict[str, pl.Series], form: Format) -> None:
    """Make `-` null, join what two columns say, and find the level where a number tells it."""
    if form.typed and not form.reader:
        for name, text in own.items():
            if name not in ("level", "message") and text.dtype == pl.String:
                own[name] = text.set((text == "-") | (text == ""), None)
        if "trace" in own:
            own["message"] += own.pop("trace").fill_null("")
    lower = {bare(key): key for key in own}
    if form.reader:
        _join(own, lower)
    status = next((lower[key] for key in STATUS if key in lower), None)
    if status and form.typed and not any(_keys("level", own, form)):
        text = own[status].cast(pl.String)
        first = text.set(~text.str.contains("^[1-5][0-9]{2}$"), None).str.head(1)
        own["level"] = first.replace_strict(
            {n: f"{n}xx" for n in "12345"}, default=None, return_dtype=pl.String
        )
    if "pri" in own:
        _severity(own, form)
        if "message" in own:
            own["message"] = own["message"].str.strip_prefix("\ufeff")  # RFC 5424 marks UTF-8 so


def _severity(own: dict[str, pl.Series], form: Format) -> None:
    """Take a priority apart; a severity that says more than a level is one by its name."""
    number = own.pop("pri").cast(pl.Int64, strict=False)
    severity = number % 8
    named = severity.is_in(list(SEVERITIES)).fill_null(value=False)
    if named.any():
        for key in _keys("level", own, form):  # which go before it
            named &= own[key].is_null()
    if named.any():
        names = severity.set(~named, None).replace_strict(SEVERITIES, return_dtype=pl.String)
        own["level"] = own["level"].cast(pl.String).fill_null(names) if "level" in own else names
        severity = severity.set(named, None)
    own |= {"pri_severity": severity.cast(pl.String), "facility": number // 8}


def _join(own: dict[str, pl.Series], lower: dict[str, str]) -> None:
    """Join seconds and nanoseconds; rename keys that others explain."""
    for seconds, nanos in SECONDS:
        if seconds in lower and nanos in lower:
            second = own.pop(lower[seconds]).cast(pl.String)
            nano = own.pop(lower[nanos]).cast(pl.String).fill_null("0").str.zfill(9)
            own["_seconds"] = second + "." + nano
    for marker, names in KEYED_BY.items():
        if marker in lower:
            for key, name in names.items():
                if key in own and name not in own:
                    own[name] = own.pop(key)


def _timed(
    key: str,
    own: dict[str, pl.Series],
    column: pl.Series,
    clock: Clock,
    order: list[str],
) -> pl.Series:
    """Return the times of a column, each with the day that columns beside it say.

    What is used of these columns where `column` has no time yet is removed from them. A time of
    day whose day is said but cannot be read is null: that of the file is not its day.
    """
    dated = with_day(key, own, order=order) if column.null_count() else None
    if dated is None:
        return read_times(own[key], clock)
    got = read_times(dated.text, clock)
    apart = own[key].set(got.is_not_null() | dated.alone, None)
    for part, where in dated.parts.items():
        own[part] = own[part].set(where & got.is_not_null() & column.is_null(), None)
        if not own[part].count():
            del own[part]
    return got.fill_null(read_times(apart, clock)) if apart.count() else got


def _converted(
    name: str, key: str, dtype: pl.DataType, text: pl.Series
) -> tuple[pl.Series, pl.Series | None]:
    """Return a column as a normal one, and what of its text that does not hold, if any."""
    if name == "level":
        return read_levels(text.cast(pl.String), LEVEL_NUMBERS.get(bare(key).replace("_", "")))
    return text.cast(dtype, strict=False), None
