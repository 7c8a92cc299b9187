"""What log lines look like: find the format, take the fields out, make them alike.

`parse` adds what a format finds in each line as raw text; `normalise` turns that
into the five columns every format shares. They are two steps so that a pipeline can
have a processor between them:

    timestamp  Datetime('us', 'UTC')   a time without an offset is taken as UTC
    level      String                  DEBUG INFO WARNING ERROR CRITICAL, or null
    logger     String                  what in the program wrote the line
    pid        Int64
    message    String

A frame is cut in two by its columns `_fits` and `format`: what is left of them
belongs to the line and is never touched; what is right of them is the format's.
A format's column whose name is taken on the left gets `_` at its end.

This module does not read files and knows no batches; lines that fit nothing are
marked (`_fits` is False), and the pipeline decides what becomes of them.

Patterns are Rust regexes (https://docs.rs/regex, Python's `(?P<name>…)` is fine). They
are written so that each byte decides what matches it: that is 2.5 times faster than `.*?`.
"""

from __future__ import annotations

import io
import json
import re
import string
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import polars as pl

from etl.errors import FormatError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["FORMATS", "Format", "detect", "get_format", "normalise", "parse"]

SAMPLE = 200  # lines that detection looks at
MAX_KEYS = 200  # JSON or logfmt keys that become columns; the others go to `extra`
MARKS = ("_fits", "format")
BLOCK = 500  # JSON lines that one broken line makes go one by one, three times slower
ROW = "__row"

LEVELS: dict[str, str] = {
    word: level
    for level, words in {
        # 0 to 7 are syslog's severities (RFC 5424, GELF), 10 to 60 those of pino and bunyan
        "DEBUG": "debug trace verbose notset fine finer finest debug1 debug2 debug3 debug4 debug5"
        " trace1 trace2 trace3 trace4 trace5 trace6 trace7 trace8 d v t . - 7 10 20",
        "INFO": "info information informational notice log statement hint detail context query"
        " location config i n * 6 5 30",
        "WARNING": "warning warn w # 4 40",
        "ERROR": "error err severe e 3 50",
        "CRITICAL": "critical crit fatal alert emerg emergency panic f c 0 1 2 60",
    }.items()
    for name in words.split()
    for word in (name, name.upper(), name.capitalize())
}
FACILITIES = [  # RFC 5424, table 1
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron"),
    *("authpriv", "ftp", "ntp", "audit", "alert", "clock", *(f"local{i}" for i in range(8))),
]
SEVERITIES = ["CRITICAL"] * 3 + ["ERROR", "WARNING", "INFO", "INFO", "DEBUG"]  # RFC 5424, table 2
STATUSES = ["INFO", "INFO", "INFO", "WARNING", "ERROR"]  # 1xx to 5xx
INTEGERS = ("status", "bytes", "tid", "connection")

# Tried in this order. Fixed-width fractions come first: Polars parses them eight times faster.
LAYOUTS = (
    *(
        f"%Y-%m-%d{t}%H:%M:%S{fraction}{zone}"
        for t in " T"
        for fraction in (",%3f", ".%3f", "", ".%6f", ",%6f")
        for zone in ("", "Z", " UTC", "+00:00")
    ),
    "%d/%b/%Y:%H:%M:%S %z",
    "%b %d %H:%M:%S",
    "%y/%m/%d %H:%M:%S",  # before %Y, which takes two digits for a year, too
    "%Y/%m/%d %H:%M:%S%.f",
    "%y%m%d %H%M%S",
    "%a %b %d %H:%M:%S%.f %Y",
    "%d %b %Y %H:%M:%S%.f",
    "%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d-%H.%M.%S%.f",
    "%Y-%m-%d",
    "epoch",
    "zone",
)
ZONES = {  # RFC 5322 section 4.3, and Central European Time; other letters mean too many things
    " UTC": "+0000", " GMT": "+0000", " EST": "-0500", " EDT": "-0400", " CST": "-0600",
    " CDT": "-0500", " MST": "-0700", " MDT": "-0600", " PST": "-0800", " PDT": "-0700",
    " CET": "+0100", " CEST": "+0200",
}  # fmt: skip

NAMED = {  # normal column: names of template fields and regex groups that fill it
    "timestamp": ("timestamp", "datetime", "date time", "date", "time"),
    "level": ("level",),
    "logger": ("logger", "component"),
    "pid": ("pid",),
    "message": ("message",),
}
KEYED = {  # the same for JSON and logfmt keys, first come first
    "timestamp": ("timestamp", "@timestamp", "ts", "time", "datetime", "asctime"),
    "level": ("level", "severity", "levelname", "log.level", "loglevel", "lvl"),
    "logger": ("logger", "logger_name", "log.logger", "name", "component"),
    "pid": ("pid", "process", "process_id", "process.pid"),
    "message": ("message", "msg", "event"),
}
NORMAL: dict[str, pl.DataType] = {
    "timestamp": pl.Datetime("us", "UTC"),
    "level": pl.String(),
    "logger": pl.String(),
    "pid": pl.Int64(),
    "message": pl.String(),
}

_decode_json = json.JSONDecoder(strict=False).decode
_encode_json = json.JSONEncoder(ensure_ascii=False).encode

_HMS = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
_ISO = f"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[ T]{_HMS}"
_BSD = f"[A-Z][a-z]{{2}} [ 0-9][0-9] {_HMS}"
_REST = r"(?P<message>(?s:.*))$"
_QUOTED = r'(?:[^"\\]|\\.)*'
_PYTHON = "(?P<level>DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)"
_JAVA = r"(?P<level>TRACE|DEBUG|INFO|WARN(?:ING)?|ERROR|SEVERE|FATAL)"
_BY = r"(?P<logger>[^\s:]+)(?: -|:) "
_CLF = r"^(?P<client>\S+) \S+ (?P<user>\S+) \[(?P<timestamp>[^\]]+)\] "
_REPLY = (
    r' (?P<status>[0-9]{3}) (?P<bytes>[0-9]+|-)(?: "(?P<referer>Q)" "(?P<agent>Q)"(?: .*)?)?$'
).replace("Q", _QUOTED)
_RFC3339 = _ISO.replace("[ T]", "T") + r"\S*"
_SYSLOG = rf"^(?:<(?P<pri>[0-9]{{1,3}})>)?(?P<timestamp>{_BSD}|{_RFC3339}) (?P<host>\S+) "
_TAG = r"(?P<app>[^\s:\[]+)(?:\[(?P<pid>[0-9]+)\])?"
_DPKG = rf"^(?P<timestamp>{_ISO}) (?P<message>"
_POSTGRES = rf"^(?P<timestamp>{_ISO}(?:\.[0-9]+)? [A-Z0-9:+-]+) \[(?P<pid>[0-9]+)\] "
_LEVEL_PG = (
    "(?P<level>DE(?:BUG[1-5]?|TAIL)|INFO|NOTICE|WARNING|ERROR|LO(?:G|CATION)|FATAL|PANIC"
    "|STATEMENT|HINT|CONTEXT|QUERY)"
)
_NGINX = (
    rf"^(?P<timestamp>[0-9]{{4}}/[0-9]{{2}}/[0-9]{{2}} {_HMS}) \[(?P<level>[a-z]+)\] "
    r"(?P<pid>[0-9]+)#(?P<tid>[0-9]+): "
)
_PAIR = rf'[^\s="]+=(?:"{_QUOTED}"|[^\s"]*)'
_TIME = (  # what {timestamp} in a template may be: the layouts above that hold blanks, else a word
    rf"(?:{_ISO}(?:[.,][0-9]+)?(?: ?[+-][0-9:]{{2,6}}|Z| UTC| GMT)?|[0-9]{{4}}/[0-9/]{{5}} {_HMS}"
    rf"|{_BSD}|[0-9/]{{6,8}} [0-9:]{{6,8}}|[A-Z][a-z]{{2}} {_BSD}(?:\.[0-9]+)? [0-9]{{4}}"
    rf"|[0-9]{{1,2}} [A-Z][a-z]{{2}} [0-9]{{4}} {_HMS}(?:\.[0-9]+)?|[0-9-]{{5}} {_HMS}\S*"
    r"|[0-9]{2}/[A-Z][a-z]{2}/[0-9:]{13} [+-][0-9]{4}|\S+)"
)


@dataclass(frozen=True)
class Format:
    """One layout of log lines: what a line must look like and what its parts mean.

    Attributes:
        name: The text that names it everywhere: `python`, `template:{date} …`, `regex:…`.
        patterns: Rust regexes with named groups, one for each variant of the format. No
            line may fit two of them in different ways: their order is not kept.
        level_from: The raw column that tells the level: a word, an HTTP status, a syslog PRI.
        reader: For formats that are no regex: lines -> frame of `_fits` and raw String columns.
        typed: Whether the format's own columns have known meanings: `-` is null there and
            the columns in `INTEGERS` are numbers. Not so for templates and regexes.
    """

    name: str
    patterns: tuple[str, ...] = ()
    level_from: Literal["level", "status", "pri"] = "level"
    reader: Callable[[pl.Series], pl.DataFrame] | None = None
    typed: bool = True

    def extract(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Add `_fits` (Boolean) and the format's raw String columns to a frame with `line`.

        Rows and their order stay. A line that does not fit has null in the new columns.
        """
        got = self.read(frame["line"])
        frame = frame.drop(MARKS, strict=False).with_columns(got["_fits"])
        return _beside(frame, got.drop("_fits").get_columns())

    def normalise(self, frame: pl.DataFrame, *, now: datetime | None = None) -> pl.DataFrame:
        """Turn the raw columns into the normal ones, followed by the format's own.

        JSON and logfmt: values that do not convert (a `ts` that is no time, a `status` that
        is no number) stay as text in a column of their own; nothing is lost.

        Args:
            frame: What `extract` returned.
            now: Decides the year of times that have none: the latest year that puts them no
                more than a day after it. The clock's time if not given.
        """
        left, raw = _split(frame)
        normal = {
            name: pl.repeat(None, len(frame), dtype=dtype, eager=True)
            for name, dtype in NORMAL.items()
        }
        own = _told_level(raw if self.reader else _date_and_time(raw), self.level_from)
        for name, aliases in (KEYED if self.reader else NAMED).items():
            for alias in [a for a in aliases if a in own]:
                text = own.pop(alias)
                got = _converted(name, text, now or datetime.now(UTC))
                used = normal[name].is_null() & got.is_not_null()
                normal[name] = normal[name].fill_null(got)
                if self.reader and (text.is_not_null() & ~used).any():
                    own[alias] = text.set(used, None)
        columns = [column.alias(name) for name, column in normal.items()]
        for name, text in own.items():
            columns += self._typed(name, text)
        return _beside(frame.select(left), columns)

    def read(self, lines: pl.Series) -> pl.DataFrame:
        """Return `_fits` and the raw columns alone, one row for each of the lines."""
        if self.reader:
            return self.reader(lines)
        few = lines.gather_every(max(1, len(lines) // 32))
        patterns = sorted(self.patterns, key=lambda p: -_matches(few, p))
        got = _cascade(lines, [partial(_groups, pattern=p) for p in patterns])
        absent = [pl.lit(None, pl.String).alias(g) for g in self.groups if g not in got.columns]
        return got.with_columns(absent).select("_fits", *self.groups)

    @property
    def groups(self) -> list[str]:
        """Names of the raw columns; empty for JSON and logfmt, where the lines tell."""
        return list(dict.fromkeys(_safe(g) for p in self.patterns for g in _group_names(p)))

    def score(self, lines: pl.Series) -> int:
        """Count the lines that fit."""
        if self.reader:
            return int(self.reader(lines)["_fits"].sum())
        return sum(_matches(lines, p) for p in self.patterns)

    def _typed(self, name: str, text: pl.Series) -> list[pl.Series]:
        if not self.typed or text.dtype != pl.String:
            return [text.alias(name)]
        if not self.reader:
            text = text.set(text.is_in(["-", ""]), None)
        if name not in INTEGERS:
            return [text.alias(name)]
        number = text.cast(pl.Int64, strict=False).alias(name)
        rest = text.set(number.is_not_null(), None).alias(f"{name}_text")
        return [number, rest] if self.reader and rest.count() else [number]


def get_format(spec: str) -> Format:
    """Return a named format, or make one of `template:…` or `regex:…`.

    Raises:
        FormatError: If there is no such format, or the template or regex cannot be used.
    """
    kind, colon, _ = spec.partition(":")
    if colon and kind in ("template", "regex"):
        return _custom(spec)
    if spec in FORMATS:
        return FORMATS[spec]
    hint = did_you_mean(spec, [*FORMATS, "template:…", "regex:…"])
    message = f"unknown format {spec!r}{hint}"
    raise FormatError(message)


def detect(lines: pl.Series) -> Format | None:
    """Return the format that most lines fit, or None if less than half of them do.

    Looks at up to 200 lines, evenly taken; blank lines do not count. Of formats that fit
    equally well the earlier in `FORMATS` wins: the ones that ask more of a line come first.
    Apache's and nginx's access logs look the same; they are called nginx_access.
    """
    sample = _sample(lines)
    score, best = max(_scores(sample), key=lambda pair: pair[0])
    return best if score and 2 * score >= len(sample) else None


def parse(frame: pl.DataFrame, spec: str | None = None) -> pl.DataFrame:
    """Add `_fits` (Boolean), `format` (String: what the line fits) and the raw String columns.

    Without a spec, or with 'auto', every line gets the first format in `FORMATS` that it fits;
    formats that no line of a sample fits are tried last, on the lines that are left. Rows and
    their order stay; the raw columns are those of all formats found.

    Raises:
        FormatError: If the spec names no format.
    """
    frame = frame.drop(MARKS, strict=False)
    lines = frame["line"]
    if spec in (None, "auto"):
        formats = [form for _, form in sorted(_scores(_sample(lines)), key=lambda x: not x[0])]
    else:
        formats = [get_format(str(spec))]
    got = _cascade(lines, [partial(_tagged, form=form) for form in formats])
    if "format" not in got.columns:
        got = got.with_columns(format=pl.lit(None, pl.String))
    return _beside(frame.hstack(got.select(MARKS)), got.drop(MARKS).get_columns())


def normalise(frame: pl.DataFrame, *, now: datetime | None = None) -> pl.DataFrame:
    """Give a frame that went through `parse` the normal columns, each line by its format.

    See `Format.normalise`. Rows and their order stay; lines without a format get nulls.

    Raises:
        FormatError: If the frame has no column `format`, or an unknown format in it.
    """
    if "format" not in frame.columns:
        message = "no column 'format' to normalise by; parse the frame first"
        raise FormatError(message)
    names = frame["format"].drop_nulls().unique(maintain_order=True).to_list() or ["json"]
    if len(names) == 1:
        return get_format(names[0]).normalise(frame, now=now)
    left, raw = _split(frame.with_row_index(ROW))
    parts = []
    for name in [*names, None]:
        part = frame.with_row_index(ROW).filter(pl.col("format").eq_missing(pl.lit(name)))
        form = get_format(name or "json")
        mine = [s.name for key, s in raw.items()
                if key in form.groups or part[s.name].null_count() < len(part)]  # fmt: skip
        parts.append(form.normalise(part.select(*left, *mine), now=now))
    return pl.concat(parts, how="diagonal_relaxed").sort(ROW).drop(ROW)


def _sample(lines: pl.Series) -> pl.Series:
    lines = lines.gather_every(max(1, len(lines) // (4 * SAMPLE)))
    lines = lines.filter(lines.str.contains(r"\S"))
    return lines.gather_every(-(-len(lines) // SAMPLE) or 1)


def _scores(sample: pl.Series) -> list[tuple[int, Format]]:
    return [(form.score(sample), form) for form in FORMATS.values()]


def _matches(lines: pl.Series, pattern: str) -> int:
    return int(lines.str.contains(pattern).sum())


def _tagged(lines: pl.Series, form: Format) -> pl.DataFrame:
    got = form.read(lines)
    name = pl.when("_fits").then(pl.lit(form.name)).alias("format")
    return got.select("_fits", name, pl.exclude("_fits"))


def _cascade(
    lines: pl.Series, readers: Sequence[Callable[[pl.Series], pl.DataFrame]]
) -> pl.DataFrame:
    """Let each reader have the lines that those before it left; put the rows back in order."""
    rows = pl.int_range(len(lines), eager=True).alias(ROW)
    found: list[tuple[pl.DataFrame, pl.Series]] = []
    for read in readers:
        got = read(lines)
        fits = got["_fits"]
        if len(readers) == 1 or fits.all():
            found.append((got, rows))
            break
        if fits.any():
            found.append((got, rows))
            lines, rows = lines.filter(~fits), rows.filter(~fits)
    if len(found) == 1:  # mostly one reader takes all it can: no order to restore
        return found[0][0]
    parts = [part.with_columns(at).filter("_fits") for part, at in found]
    rest = pl.DataFrame({ROW: rows, "_fits": _none_fit(rows)})
    done = bool(found) and found[-1][0]["_fits"].all()
    return pl.concat([*parts, *([] if done else [rest])], how="diagonal").sort(ROW).drop(ROW)


def _none_fit(lines: pl.Series) -> pl.Series:
    return pl.repeat(value=False, n=len(lines), eager=True).alias("_fits")


def _beside(frame: pl.DataFrame, columns: Iterable[pl.Series]) -> pl.DataFrame:
    """Add columns to the right; one whose name is taken gets `_` at its end."""
    taken = {*frame.columns, "format"}
    added = []
    for column in columns:
        name = _free(column.name, taken)
        taken.add(name)
        added.append(column.alias(name))
    return frame.hstack(added)


def _free(name: str, taken: Iterable[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _safe(key: str) -> str:
    """Keep a key from looking like one of ours: columns that begin with `_` are etl's own."""
    return f"field{key or '_'}" if key[:1] in ("", "_") else f"{key}_" if key == "format" else key


def _split(frame: pl.DataFrame) -> tuple[list[str], dict[str, pl.Series]]:
    """Return the names of the line's columns, and the format's columns by their first names."""
    names = frame.columns
    cut = 1 + max((names.index(m) for m in (*MARKS, "line") if m in names), default=-1)
    left = names[:cut]
    raw = {}
    for name in names[cut:]:
        stem = name.rstrip("_")
        renamed = (stem in left or stem == "format") and stem not in raw
        raw[stem if renamed else name] = frame[name]
    return left, raw


def _groups(lines: pl.Series, pattern: str) -> pl.DataFrame:
    # The empty group tells whether a line fits: the others may be null in one that does.
    found = lines.str.extract_groups(f"{pattern}()").struct.unnest()
    fits = found.to_series(-1).is_not_null().alias("_fits")
    return pl.DataFrame([fits, *(found[g].alias(_safe(g)) for g in _group_names(pattern))])


@lru_cache(maxsize=256)
def _group_names(pattern: str) -> tuple[str, ...]:
    dtype = pl.Series([], dtype=pl.String).str.extract_groups(pattern).dtype
    return tuple(f.name for f in getattr(dtype, "fields", ()) if not f.name.isdigit())


def _date_and_time(raw: Mapping[str, pl.Series]) -> dict[str, pl.Series]:
    if not {"date", "time"} <= set(raw):
        return dict(raw)
    rest = {name: column for name, column in raw.items() if name not in ("date", "time")}
    return {"date time": raw["date"] + " " + raw["time"]} | rest


def _told_level(raw: dict[str, pl.Series], level_from: str) -> dict[str, pl.Series]:
    """Derive `level` (and for syslog `facility`) where a number tells it."""
    if level_from not in raw or level_from == "level":
        return raw
    number = raw[level_from].cast(pl.Int64, strict=False)
    if level_from == "status":
        return {"level": _mapped(number // 100, dict(enumerate(STATUSES, 1))), **raw}
    rest = {name: column for name, column in raw.items() if name != "pri"}
    rest["message"] = rest["message"].str.strip_prefix("\ufeff")  # RFC 5424 marks UTF-8 so
    level = _mapped(number % 8, dict(enumerate(SEVERITIES)))
    return {"level": level, **rest, "facility": _mapped(number // 8, dict(enumerate(FACILITIES)))}


def _mapped(column: pl.Series, words: Mapping[int, str] | Mapping[str, str]) -> pl.Series:
    return column.replace_strict(dict(words), default=None, return_dtype=pl.String)


def _converted(name: str, text: pl.Series, now: datetime) -> pl.Series:
    if name == "timestamp":
        return _times(text, now)
    if name == "pid":
        return text.cast(pl.Int64, strict=False)
    text = text.cast(pl.String, strict=False)
    return _mapped(text, LEVELS) if name == "level" else text


def _times(text: pl.Series, now: datetime, used: frozenset[str] = frozenset()) -> pl.Series:
    """Parse with a layout that a sample has, then what is left with the layouts it has."""
    if text.dtype == pl.Datetime:
        return text.cast(pl.Datetime("us", "UTC"))
    text = text.cast(pl.String, strict=False)
    known = text.drop_nulls()
    some = known.gather_every(max(1, len(known) // 50)).str.slice(0, 80)
    # Eleven is a good day, month, hour, minute and year.
    shapes = some.str.replace_all("[0-9]", "1").unique(maintain_order=True)
    best = next((x for x in map(_layout, shapes) if x and x not in used), None)
    if best is None:
        return pl.repeat(None, len(text), dtype=pl.Datetime("us", "UTC"), eager=True)
    times = _time(text, best, now)
    missed = times.is_null() & text.is_not_null()
    if missed.any():
        rest = _times(text.filter(missed), now, used | {best})
        times = times.scatter(missed.arg_true(), rest)
    return times


@lru_cache(maxsize=4096)
def _layout(shape: str) -> str | None:
    example = pl.Series([shape])
    now = datetime.now(UTC)
    return next((layout for layout in LAYOUTS if _time(example, layout, now)[0]), None)


def _time(text: pl.Series, layout: str, now: datetime) -> pl.Series:
    if layout == "epoch":
        return _epoch(text)
    if layout.startswith("%a "):  # the date tells the weekday
        return _time(text.str.slice(4), layout.removeprefix("%a "), now)
    if layout == "zone":
        text = text.str.replace_many(ZONES)
        layout = "%Y-%m-%d %H:%M:%S%.f%z"
    if "%Y" not in layout and "%y" not in layout:
        return _yearless(text, layout, now)
    times = text.str.to_datetime(layout, strict=False, time_unit="us")
    return times.dt.replace_time_zone("UTC") if times.dtype == pl.Datetime("us") else times


def _yearless(text: pl.Series, layout: str, now: datetime) -> pl.Series:
    limit = now.astimezone(UTC) + timedelta(days=1)
    times = pl.repeat(None, len(text), dtype=pl.Datetime("us", "UTC"), eager=True)
    for year in range(limit.year, limit.year - 9, -1):  # 29 February may be eight years ago
        got = _time(pl.Series([f"{year} "]) + text, f"%Y {layout}", now)
        times = times.fill_null(got.set(got > limit, None))
        if times.null_count() == text.null_count():
            break
    return times


def _epoch(text: pl.Series) -> pl.Series:
    """Read seconds, ms, µs or ns since 1970, told apart by size: 1973 to 2286 in each unit."""
    number = text.cast(pl.Float64, strict=False).alias("n").to_frame()
    n = pl.col("n")
    micros = [
        pl.when(n.is_between(1e8 * k, 1e10 * k)).then(n * (1e6 / k)) for k in (1, 1e3, 1e6, 1e9)
    ]
    whole = pl.coalesce(micros).round().cast(pl.Int64)
    return number.select(whole.cast(pl.Datetime("us", "UTC")).alias("n"))["n"]


def _read_json(lines: pl.Series) -> pl.DataFrame:
    """Read one JSON object a line; numbers and nested values become their JSON text."""
    counts = Counter(key for line in _sample(lines) for key in _object(line) or ())
    keys = [key for key, _ in counts.most_common(MAX_KEYS)]
    return _cascade(lines, [partial(_json_at_once, keys=keys), partial(_json_each, known=keys)])


def _json_at_once(lines: pl.Series, keys: list[str]) -> pl.DataFrame:
    """Read the plain lines.

    The others are left to `_json_each`: Polars makes NUL of half a surrogate and forgets
    the backslashes in nested values.
    """
    ready = lines.str.starts_with("{") & ~lines.str.contains(r"\n|\\u[dD]|\x22:\s*[\[{]")
    ready = ready.fill_null(value=False)
    if not keys or not ready.any():
        return pl.DataFrame({"_fits": _none_fit(lines)})
    got = _decode(lines.filter(ready), dict(zip(keys, _columns(keys), strict=True)))
    if ready.all():
        return got
    at = (ready.cum_sum().cast(pl.Int64) - 1).set(~ready, None)
    return got.select(pl.all().gather(at)).with_columns(pl.col("_fits").fill_null(value=False))


def _decode(text: pl.Series, names: Mapping[str, str]) -> pl.DataFrame:
    """Decode all lines at once, or block by block when one is broken; fit if nothing is lost.

    Nothing is lost if a line has as many `":` as values were found, nulls aside. Text that
    looks like a key counts as one, so the check may fail too often, never too rarely.
    """
    got = _in_blocks(text, names)
    count = partial(text.str.count_matches, literal=True)
    asked = count('":').cast(pl.Int64) - count('":null') - count('": null')
    found = got.select(pl.sum_horizontal(pl.exclude("_fits").is_not_null())).to_series()
    fits = got["_fits"] & (asked == found)
    return got.select(fits, pl.when(fits).then(pl.exclude("_fits")))


def _in_blocks(text: pl.Series, names: Mapping[str, str]) -> pl.DataFrame:
    try:
        source = io.BytesIO((text.str.join("\n")[0] or "").encode())
        got = pl.read_ndjson(source, schema=dict.fromkeys(names, pl.String))
    except pl.exceptions.ComputeError:
        got = pl.DataFrame()
    if len(got) == len(text):
        got.columns = list(names.values())
        return got.insert_column(0, ~_none_fit(text))
    if len(text) > BLOCK:
        blocks = [text[i : i + BLOCK] for i in range(0, len(text), BLOCK)]
        return pl.concat([_in_blocks(block, names) for block in blocks])
    nulls = pl.repeat(None, len(text), dtype=pl.String, eager=True)
    return pl.DataFrame([_none_fit(text), *(nulls.alias(name) for name in names.values())])


def _json_each(lines: pl.Series, known: list[str]) -> pl.DataFrame:
    found = [_object(line) for line in lines]
    counts = Counter(key for fields in found for key in fields or ())
    new = [key for key, _ in counts.most_common() if key not in set(known)]
    return _keyed(found, [*known, *new], counts)


def _keyed(
    found: list[dict[str, str | None] | None], keys: list[str], counts: Mapping[str, int]
) -> pl.DataFrame:
    """Make columns of the first `MAX_KEYS` keys, and `extra` (JSON text) of the others."""
    columns = [pl.Series("_fits", [fields is not None for fields in found], pl.Boolean)]
    names = _columns([*keys[:MAX_KEYS], "extra"])
    for key, name in zip(keys[:MAX_KEYS], names, strict=False):
        if key in counts:
            values = [fields.get(key) if fields else None for fields in found]
            columns.append(pl.Series(name, values, pl.String))
    if others := set(keys[MAX_KEYS:]):
        rest = [{k: v for k, v in (fields or {}).items() if k in others} for fields in found]
        texts = [_encode_json(fields) if fields else None for fields in rest]
        columns.append(pl.Series(names[-1], texts, pl.String))
    return pl.DataFrame(columns)


def _columns(keys: Iterable[str]) -> list[str]:
    names: dict[str, None] = {}
    for key in keys:
        names[_free(_safe(key), names)] = None
    return list(names)


def _object(line: str | None) -> dict[str, str | None] | None:
    if not line or not line.lstrip().startswith("{"):
        return None
    try:
        return {_clean(k): _text(v) for k, v in _decode_json(line).items()}
    except (ValueError, RecursionError):
        return None


def _text(value: object) -> str | None:
    if value is None:
        return None
    return _clean(value if isinstance(value, str) else _encode_json(value))


def _clean(text: str) -> str:
    """Replace half surrogates, which JSON may hold and UTF-8 may not."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _read_logfmt(lines: pl.Series) -> pl.DataFrame:
    """Read lines that are `key=value` from end to end, two pairs or more.

    As in https://brandur.org/logfmt: a value with blanks is quoted, with JSON's escapes for
    quote, backslash, newline and tab. A key without `=` is not read: prose would fit too.
    """
    fits = lines.str.contains(rf"^\s*{_PAIR}(?:\s+{_PAIR})+\s*$").fill_null(value=False)
    at = pl.DataFrame({ROW: fits.arg_true(), "pair": lines.filter(fits).str.extract_all(_PAIR)})
    pairs = at.explode("pair").with_columns(
        pl.col("pair").str.splitn("=", 2).struct.rename_fields(["key", "value"])
    )
    pairs = pairs.unnest("pair").with_columns(_unquoted(pl.col("value")))
    keys = pairs["key"].value_counts(sort=True)["key"].to_list()
    by_key = pairs.partition_by("key", as_dict=True)
    blank = pl.repeat(None, len(lines), dtype=pl.String, eager=True)
    columns = [fits.alias("_fits")]
    names = _columns([*keys[:MAX_KEYS], "extra"])
    for key, name in zip(keys[:MAX_KEYS], names, strict=False):
        mine = by_key[(key,)]
        columns.append(blank.clone().scatter(mine[ROW], mine["value"]).alias(name))
    if others := keys[MAX_KEYS:]:
        extra: dict[int, dict[str, str]] = {}
        for row, key, value in pairs.filter(pl.col("key").is_in(others)).iter_rows():
            extra.setdefault(row, {})[key] = value
        texts = [_encode_json(fields) for fields in extra.values()]
        columns.append(blank.scatter(list(extra), texts).alias(names[-1]))
    return pl.DataFrame(columns)


def _unquoted(value: pl.Expr) -> pl.Expr:
    escapes = {"\\\\": "\\", '\\"': '"', "\\n": "\n", "\\t": "\t", "\\r": "\r"}
    inner = value.str.slice(1, value.str.len_chars() - 2).str.replace_many(escapes)
    return pl.when(value.str.starts_with('"')).then(inner).otherwise(value)


@lru_cache(maxsize=256)
def _custom(spec: str) -> Format:
    kind, _, text = spec.partition(":")
    patterns = _template(text) if kind == "template" else (text,)
    try:
        names = [_safe(name) for name in _group_names(patterns[0])]
    except pl.exceptions.ComputeError as error:
        message = f"regex {text!r} does not compile: {_why(str(error))}"
        raise FormatError(message) from error
    if not names or len(set(names)) < len(names):
        message = f"regex {text!r} needs named groups, each another: write (?P<name>…)"
        raise FormatError(message)
    return Format(spec, patterns if kind == "template" else (_wrapped(text),), typed=False)


def _wrapped(pattern: str) -> str:
    try:
        _group_names(whole := f"(?:{pattern})")
    except pl.exceptions.ComputeError:  # it ends in a comment: (?x)… # why
        return f"(?:{pattern}\n)"
    return whole


def _why(error: str) -> str:
    """Say in one line what Rust's regex parser shows on several: the reason and a caret."""
    reason = error.rpartition("error: ")[2].strip()
    shown = error.splitlines()
    for line, caret in pairwise(shown):
        if caret.strip(" ^") == "" and "^" in caret:
            start = caret.index("^")
            indent = 4 if line.startswith("    ") else line.index(":") + 2
            return f"{reason}, at position {start - indent} ({line[start:][:20]!r})"
    return reason


def _template(text: str) -> tuple[str, ...]:
    """Compile a template to a quick pattern, and one for the lines that are not so simple.

    The quick one says that a field does not hold the character after it; where it fits, it
    finds what the other finds. A run of blanks stands for any run, except before the last
    field, whose own blanks are its own.
    """
    parts, tail = _split_template(text)
    quick = simple = "^"
    for i, (literal, name) in enumerate(parts, 1):
        is_last = i == len(parts)
        words = pl.escape_regex(literal)
        words = words if is_last else re.sub(" +", " +", words)
        fast, slow = _field(name, tail if is_last else parts[i][0], is_last=is_last)
        quick, simple = quick + words + fast, simple + words + slow
    end = pl.escape_regex(tail) + "$"
    return tuple(dict.fromkeys((quick + end, simple + end)))


def _split_template(text: str) -> tuple[list[tuple[str, str]], str]:
    """Return each field with the text before it, and the text after the last."""
    parts: list[tuple[str, str]] = []
    before, wrong = "", ""
    try:
        for literal, name, spec, conversion in string.Formatter().parse(text):
            before += literal
            if name is None:
                continue
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or spec or conversion:
                wrong = f"the field {name!r} is no plain word"
            elif name in [n for _, n in parts]:
                wrong = f"the field {name!r} is there twice"
            elif parts and not before:
                wrong = f"there is no text between {parts[-1][1]!r} and {name!r}"
            parts.append((before, name))
            before = ""
    except ValueError as error:
        wrong = f"{error}, and braces are written {{{{ and }}}}"
    if wrong or not parts:
        message = f"template {text!r} does not work: {wrong or 'it has no {field}'}"
        raise FormatError(message)
    return parts, before


def _field(name: str, after: str, *, is_last: bool) -> tuple[str, str]:
    if name in ("timestamp", "datetime"):
        body = (_TIME, _TIME)
    elif name == "pid":
        body = ("[0-9]+", "[0-9]+")
    elif is_last:
        body = ("(?s:.*)", "(?s:.*)")
    elif after.isspace():
        body = (r"\S+", r"\S+")
    else:
        stop = rf"\x{{{ord(after[0]):x}}}"
        single = (rf"[^{stop}\s]*", r"\S*?")
        body = single if len(after) == 1 else (rf"(?:[^{stop}\s][^{stop}]*)?", "(?s:.*?)")
    return f"(?P<{name}>{body[0]})", f"(?P<{name}>{body[1]})"


FORMATS: Mapping[str, Format] = {
    form.name: form
    for form in (
        Format("json", reader=_read_json),
        Format(
            "syslog5424",  # RFC 5424; rsyslog leaves a second blank before the message
            (
                (
                    r"^<(?P<pri>[0-9]{1,3})>[0-9]{1,2} (?P<timestamp>\S+) (?P<host>\S+) "
                    r"(?P<app>\S+) (?P<pid>\S+) (?P<msgid>\S+) "
                    rf'(?P<data>-|(?:\[(?:[^\]\\"]|"{_QUOTED}")*\])+)'
                    r"(?: +(?P<message>(?:[^ ](?s:.*))?))?$"
                ),
            ),
            "pri",
        ),
        *(
            Format(
                name,  # httpd.apache.org/docs/2.4/logs.html: common and combined, nginx's default
                (
                    _CLF
                    + r'"(?P<method>[A-Z]+) (?P<path>[^\s"]+)(?: (?P<protocol>[^\s"]+))?"'
                    + _REPLY,
                    # a request that is none: empty, or a TLS hello
                    _CLF
                    + rf'"(?P<path>[^\s"]*|[^A-Z"]{_QUOTED}|[A-Z]*[^A-Z" ]{_QUOTED})"'
                    + _REPLY,
                ),
                "status",
            )
            for name in ("nginx_access", "apache_access")
        ),
        Format(
            "apache_error",  # 2.2, and 2.4 with module, pid and thread
            (
                (
                    rf"^\[(?P<timestamp>[A-Z][a-z]{{2}} {_BSD}(?:\.[0-9]+)? [0-9]{{4}})\] "
                    r"\[(?:(?P<logger>[^\]:]*):)?(?P<level>[a-z]+[0-9]?)\] "
                    r"(?:\[pid (?P<pid>[0-9]+)(?::tid (?P<tid>[0-9]+))?\] )?"
                    rf"(?:\[client (?P<client>[^\]]*)\] )?{_REST}"
                ),
            ),
        ),
        Format(
            "nginx_error",
            (
                _NGINX + rf"\*(?P<connection>[0-9]+) {_REST}",
                _NGINX + r"(?P<message>(?:(?:[^*]|\*[^0-9])(?s:.*))?)$",
            ),
        ),
        Format(
            "postgres",  # log_line_prefix '%m [%p] %q%u@%d ', Debian's and the default
            (
                _POSTGRES + rf"{_LEVEL_PG}:  {_REST}",
                _POSTGRES + rf"(?P<user>[^\s@]+)@(?P<database>\S+) {_LEVEL_PG}:  {_REST}",
            ),
        ),
        Format(
            "redis",  # src/server.c, serverLogRaw: role is M, S, C or X
            (
                (
                    r"^(?P<pid>[0-9]+):(?P<role>[A-Z]) (?P<timestamp>[0-9]{1,2} [A-Z][a-z]{2} "
                    rf"[0-9]{{4}} {_HMS}(?:\.[0-9]+)?) (?P<level>[.*#-]) {_REST}"
                ),
            ),
        ),
        Format(
            "dpkg",  # dpkg(1), --log
            (
                _DPKG + r"(?P<action>status) (?P<state>\S+) (?P<package>\S+) (?P<version>\S*))$",
                _DPKG + r"(?P<action>install|upgrade|configure|trigproc|remove|purge|disappear) "
                r"(?P<package>\S+) (?P<old_version>\S+)(?: (?P<version>\S+))?)$",
                _DPKG + r"(?P<action>startup|conffile) (?P<state>[^\n]*))$",
            ),
        ),
        Format(
            "python",
            (
                rf"^(?P<timestamp>{_ISO}(?:[.,][0-9]+)?) {_PYTHON} +(?P<logger>[^\s:]+): {_REST}",
                rf"^(?P<timestamp>{_ISO}(?:[.,][0-9]+)?) - (?P<logger>\S+) - {_PYTHON} - {_REST}",
                rf"^{_PYTHON}:(?P<logger>[^\s:]*):{_REST}",
            ),
        ),
        Format(
            "log4j",  # and logback, Spring Boot, Hadoop, Spark, HDFS
            (
                rf"^(?P<timestamp>{_ISO}[.,][0-9]+) +{_JAVA} +\[(?P<thread>[^\]]*)\] {_BY}{_REST}",
                rf"^(?P<timestamp>{_ISO}[.,][0-9]+) +\[(?P<thread>[^\]]*)\] +{_JAVA} +{_BY}{_REST}",
                (
                    rf"^(?P<timestamp>{_ISO}\S*) +{_JAVA} (?P<pid>[0-9]+) --- (?:\[[^\]]*\] )?"
                    rf"\[ *(?P<thread>[^\]]*)\] (?P<logger>\S+) *: {_REST}"
                ),
                rf"^(?P<timestamp>[0-9]{{2}}/[0-9]{{2}}/[0-9]{{2}} {_HMS}) {_JAVA} +{_BY}{_REST}",
                rf"^(?P<timestamp>{_ISO}[.,][0-9]+) {_JAVA} +{_BY}{_REST}",
                rf"^(?P<timestamp>[0-9]{{6}} [0-9]{{6}}) (?P<pid>[0-9]+) {_JAVA} +{_BY}{_REST}",
            ),
        ),
        Format(
            "syslog3164",  # RFC 3164 and rsyslog's lines with a full timestamp
            (
                _SYSLOG + rf"{_TAG}: {_REST}",
                _SYSLOG + rf"{_TAG}:(?P<message>(?:[^ ](?s:.*))?)$",
                _SYSLOG + r"(?P<message>(?:[^\s:\[]+(?:\s|\[[^0-9]|$)|[:\[])(?s:.*))$",  # no tag
            ),
            "pri",
        ),
        Format("logfmt", reader=_read_logfmt),
    )
}
