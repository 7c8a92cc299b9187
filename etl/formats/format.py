"""A format: what a line must look like, and what its parts mean."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import polars as pl

from etl.errors import FormatError, did_you_mean
from etl.formats.catalogue import ALIASES, INTEGERS, LEVELS, PATTERNS
from etl.formats.columns import MARKS, ROW, beside, cascade, safe, sample, split
from etl.formats.keyed import read_json, read_logfmt
from etl.formats.layouts import compile_spec, group_names
from etl.formats.times import UTC_TIME, read_times

__all__ = ["FORMATS", "Format", "detect", "get_format", "normalise", "parse"]

BOM = "\ufeff"
"""What programs of Windows put before the first line of a file."""

NORMAL = dict.fromkeys(ALIASES, pl.String()) | {"timestamp": UTC_TIME, "pid": pl.Int64()}


@dataclass(frozen=True)
class Format:
    """One layout of log lines.

    Attributes:
        name: The text that names it everywhere: `python`, `template:{date} …`, `regex:…`.
        patterns: Rust regexes with named groups, one for each variant of the format. No
            line may fit two of them in different ways: their order is not kept.
        reader: For JSON and logfmt: lines -> frame of `_fits` and raw String columns.
        typed: Whether `-` means null and `status` a number; not so in templates and regexes.
    """

    name: str
    patterns: tuple[str, ...] = ()
    reader: Callable[[pl.Series], pl.DataFrame] | None = None
    typed: bool = True

    @property
    def groups(self) -> list[str]:
        """Names of the raw columns; empty for JSON and logfmt, where the lines tell."""
        return list(dict.fromkeys(safe(g) for p in self.patterns for g in group_names(p)))

    def read(self, lines: pl.Series) -> pl.DataFrame:
        """Return `_fits` (Boolean), `format` and the raw String columns, a row for each line."""
        few = lines.gather_every(max(1, len(lines) // 32))
        fit = pl.select(pl.lit(few).str.contains(p).sum().alias(p) for p in self.patterns)
        patterns = sorted(self.patterns, key=lambda p: -fit[p][0])
        readers = [partial(_extract, pattern=p) for p in patterns]
        got = self.reader(lines) if self.reader else cascade(lines, readers)
        absent = [pl.lit(None, pl.String).alias(g) for g in self.groups if g not in got.columns]
        name = pl.when("_fits").then(pl.lit(self.name)).alias("format")
        return got.with_columns(name, *absent).select(*MARKS, *(self.groups or got.columns[1:]))

    def score(self, lines: pl.Series) -> int:
        """Count the lines that fit."""
        if self.reader:
            return int(self.reader(lines)["_fits"].sum())
        return sum(int(lines.str.contains(p).sum()) for p in self.patterns)


FORMATS: Mapping[str, Format] = {
    "json": Format("json", reader=read_json),
    **{name: Format(name, (p,) if isinstance(p, str) else p) for name, p in PATTERNS.items()},
    "logfmt": Format("logfmt", reader=read_logfmt),
}


def get_format(spec: str) -> Format:
    """Return a named format, or make one of `template:…` or `regex:…`.

    Raises:
        FormatError: If there is no such format, or the template or regex cannot be used.
    """
    if spec.startswith(("template:", "regex:")):
        return Format(spec, compile_spec(spec), typed=False)
    if spec in FORMATS:
        return FORMATS[spec]
    hint = did_you_mean(spec, [*FORMATS, "template:…", "regex:…"])
    raise FormatError(f"unknown format {spec!r}{hint}")


def detect(lines: pl.Series) -> Format | None:
    """Return the format that most lines fit, or None if less than half of them do.

    Looks at up to 200 lines that are not blank. Of formats that fit equally well the earlier
    in `FORMATS` wins: the ones that ask more of a line come first. Apache's and nginx's
    access logs look the same; they are called nginx_access.
    """
    some = sample(lines)
    score, best = max(((f.score(some), f) for f in FORMATS.values()), key=lambda pair: pair[0])
    return best if score and 2 * score >= len(some) else None


def parse(frame: pl.DataFrame, spec: str | None = None) -> pl.DataFrame:
    """Add `_fits` (Boolean), `format` (String: what the line fits) and the raw String columns.

    Without a spec, or with 'auto', every line gets the first format in `FORMATS` that it fits;
    formats that no line of a sample fits are tried last. Rows and their order stay.

    Raises:
        FormatError: If the spec names no format.
    """
    frame = frame.drop(MARKS, strict=False)
    lines = frame["line"]
    if lines.head(1).str.starts_with(BOM).any():
        lines = lines.str.strip_prefix(BOM)
    if spec in (None, "auto"):
        some = sample(lines)
        formats = sorted(FORMATS.values(), key=lambda form: not form.score(some))
    else:
        formats = [get_format(str(spec))]
    got = cascade(lines, [form.read for form in formats])
    return beside(frame.hstack(got.select(MARKS)), got.drop(MARKS).get_columns())


def normalise(frame: pl.DataFrame, *, now: datetime | None = None) -> pl.DataFrame:
    """Turn raw columns into the five normal ones, each line by its format, then the others.

    Rows and their order stay. Values of JSON and logfmt that do not convert (a `ts` that is no
    time, a `status` that is no number) stay as text in a column of their own: nothing is lost.

    Args:
        frame: What `parse` returned, with or without `_fits`.
        now: Decides the year of times that have none; the clock's time if not given.

    Raises:
        FormatError: If the frame has no column `format`, or an unknown format in it.
    """
    if "format" not in frame.columns:
        raise FormatError("no column 'format' to normalise by; parse the frame first")
    now = now or datetime.now(UTC)
    names = frame["format"].drop_nulls().unique().to_list() or ["json"]
    if len(names) == 1:
        return _normalised(frame, get_format(names[0]), now)
    parts = []
    for part in frame.with_row_index(ROW).partition_by("format"):
        form = get_format(part["format"][0] or "json")
        raw = split(part)[1].items()
        empty = [s.name for key, s in raw if key not in form.groups and not s.count()]
        parts.append(_normalised(part.drop(empty), form, now))
    return pl.concat(parts, how="diagonal_relaxed").sort(ROW).drop(ROW)


def _extract(lines: pl.Series, pattern: str) -> pl.DataFrame:
    # The empty group tells whether a line fits: the others may be null in one that does.
    found = lines.str.extract_groups(f"{pattern}()").struct.unnest()
    fits = found.to_series(-1).is_not_null().alias("_fits")
    return pl.DataFrame([fits, *(found[g].alias(safe(g)) for g in group_names(pattern))])


def _normalised(frame: pl.DataFrame, form: Format, now: datetime) -> pl.DataFrame:
    left, own = split(frame)
    if form.typed and not form.reader:
        _derive(own)
    elif not form.typed and "timestamp" not in own and {"date", "time"} <= own.keys():
        own["timestamp"] = own.pop("date") + " " + own.pop("time")
    normal = []
    numbers = {name: pl.Int64() for name in INTEGERS if name in own and form.typed}
    for name, dtype in (NORMAL | numbers).items():
        column = pl.repeat(None, len(frame), dtype=dtype, eager=True).alias(name)
        for alias in [a for a in ALIASES.get(name, [name]) if a in own]:
            text = own.pop(alias)
            got = _converted(name, dtype, text, now)
            lost = text.is_not_null() & (got.is_null() | column.is_not_null())
            if lost.any() and (form.reader or alias != name):
                own[alias] = text.set(~lost, None)
            column = column.fill_null(got)
        normal.append(column)
    others = [column.alias(name) for name, column in own.items()]
    return beside(beside(frame.select(left), normal), others)


def _derive(own: dict[str, pl.Series]) -> None:
    """Make `-` null, and find the level where a number tells it."""
    for name, text in own.items():
        if name not in ("level", "message") and text.dtype == pl.String:
            own[name] = text.set((text == "-") | (text == ""), None)
    if "status" in own:
        own["level"] = own["status"].cast(pl.String).str.extract("^([1-5])") + "xx"
    if "pri" in own:
        number = own.pop("pri").cast(pl.Int64, strict=False)
        own |= {"level": (number % 8).cast(pl.String), "facility": number // 8}
        own["message"] = own["message"].str.strip_prefix("\ufeff")  # RFC 5424 marks UTF-8 so


def _converted(name: str, dtype: pl.DataType, text: pl.Series, now: datetime) -> pl.Series:
    if name == "timestamp":
        return read_times(text, now)
    text = text.cast(dtype, strict=False)
    return text.replace_strict(LEVELS, default=None) if name == "level" else text
