"""Files whose head says what their columns are: W3C and IIS, Zeek, CSV and TSV; CEF and LEEF.

A head is the text of the lines that name the columns; the lines before the first head of a
frame need the one that came before it in the file, which the caller hands in.
"""

import csv
import io
import re
from collections.abc import Iterable
from functools import partial

import polars as pl

from etl.formats.columns import Reader, cascade, safe, sample
from etl.formats.dialects import ALIASES, DIALECTS, MESSAGES, TIME_KEY, bare
from etl.formats.extract import extract

__all__ = [
    "TABLES",
    "header_of",
    "is_postgres_csv",
    "read_cef",
    "read_headed",
    "read_leef",
    "read_postgres_csv",
]

TABLES = ("csv", "w3c", "zeek")
"""The formats whose head names their columns."""
DIRECTIVES = (
    r"^#(?:Software|Version|Log-type|Date|Fields|Start-Date|End-Date|Remark|separator|set_separator"
    r"|empty_field|unset_field|path|open|close|fields|types)\b"
)
FIELDS = r"^#(?:Fields: *|fields[\t ])"
_SEPARATORS = "\t,;|"
_MEANT = {key for table in (ALIASES, DIALECTS) for keys in table.values() for key in keys}
# postgresql.org/docs/current/runtime-config-logging.html, csvlog
_POSTGRES = [
    "log_time",
    "user_name",
    "database_name",
    "process_id",
    "connection_from",
    "session_id",
    "session_line_num",
    "command_tag",
    "session_start_time",
    "virtual_transaction_id",
    "transaction_id",
    "error_severity",
    "sql_state_code",
    "message",
    "detail",
    "hint",
    "internal_query",
    "internal_query_pos",
    "context",
    "query",
    "query_pos",
    "location",
    "application_name",
    "backend_type",
    "leader_pid",
    "query_id",
]
_POSTGRES_LINE = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}\.[0-9]{3} [A-Z0-9+-]+,(?:\"[^\"]*\")?,(?:\"[^\"]*\")?,"
    r"[0-9]+,"
)
_CEF = (
    r"^CEF: ?(?P<cef_version>[0-9.]+)\|(?P<vendor>(?:\\.|[^|\\])*)\|(?P<product>(?:\\.|[^|\\])*)\|"
    r"(?P<product_version>(?:\\.|[^|\\])*)\|(?P<event_id>(?:\\.|[^|\\])*)\|"
    r"(?P<cef_name>(?:\\.|[^|\\])*)\|(?P<cef_severity>[^|]*)\|(?P<extension>(?s:.*))$"
)
_LEEF = (
    r"^LEEF: ?(?P<leef_version>[0-9.]+)\|(?P<vendor>[^|]*)\|(?P<product>[^|]*)\|"
    r"(?P<product_version>[^|]*)\|(?P<event_id>[^|]*)\|(?:(?P<delimiter>[^|=\t]{0,6})\|)?"
    r"(?P<extension>(?s:.*))$"
)


def header_of(lines: pl.Series) -> str | None:
    """Return the head that the first lines of a file are, or None if they are none."""
    first = lines.drop_nulls().head(30).to_list()
    for line in first:
        if re.match(FIELDS, line):
            return str(line)
    head = next((line for line in first if line.strip()), None)
    if head and (separator := _separator(head)):
        names = _names(head, separator)
        records = _records(first[first.index(head) + 1 :], separator)
        fit = sum(len(cells) in (len(names), len(names) + 1) for cells in records)
        if records and 2 * fit >= len(records):
            return str(head)
    return None


def _separator(head: str) -> str | None:
    """Return what separates the names in a head, or None if it is no head."""
    for separator in _SEPARATORS:
        names = _names(head, separator)
        plain = all(re.fullmatch(r"[A-Za-z_@#][\w .@/()\-]{0,60}", name) for name in names)
        meant = {bare(name) for name in names} & _MEANT
        meant |= {name for name in names if re.search(TIME_KEY, name.lower())}
        if plain and len(set(names)) == len(names) > 1 and (meant or len(names) > 4):
            return separator
    return None


def _names(head: str, separator: str) -> list[str]:
    return [name.strip() for name in _cells(head, separator)]


def _records(lines: list[str], separator: str) -> list[list[str]]:
    """Return the cells of records, in which quoted line breaks may be."""
    text = io.StringIO("\n".join(lines), newline="")
    try:
        return [cells for cells in csv.reader(text, delimiter=separator) if cells]
    except csv.Error:
        return []


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(line, newline=""), delimiter=separator), [])
    except csv.Error:
        return []


def read_headed(lines: pl.Series, header: str | None) -> list[Reader]:
    """Return readers for lines below heads, found here or handed in; none without a head."""
    hashes = lines.filter(lines.str.starts_with("#"))
    if hashes.str.contains(FIELDS).any() or (header and re.match(FIELDS, header)):
        return [partial(_by_fields, header=header)]
    header = header or header_of(lines)
    if header and (separator := _separator(header)):
        names = _names(header, separator)
        texts = {bare(name) for name in names} & MESSAGES - {"log"}
        more = [*names, "rest" if texts else "message"]
        return [  # Windows' Event Viewer does not name its last column; its `Log` is a log's name
            partial(_head, header=header),
            partial(read_cells, names=names, by=separator),
            partial(read_cells, names=more, by=separator),
        ]
    return []


def _head(lines: pl.Series, header: str) -> pl.DataFrame:
    fits = (lines == header).fill_null(value=False)
    message = lines.set(~fits, None).alias("message")
    return pl.DataFrame([fits.alias("_fits"), _named("csv", fits), message])


def _none(lines: pl.Series) -> pl.DataFrame:
    return pl.DataFrame({"_fits": pl.repeat(value=False, n=len(lines), eager=True)})


def _named(name: str, fits: pl.Series) -> pl.Series:
    return pl.select(pl.when(fits).then(pl.lit(name)).alias("format")).to_series()


def _by_fields(lines: pl.Series, header: str | None) -> pl.DataFrame:
    """Read lines by the `#Fields` above them, which may change; `#Date` is that of times."""
    heads = lines.set(~lines.str.contains(FIELDS).fill_null(value=False), None)
    directive = lines.str.contains(DIRECTIVES).fill_null(value=False)
    rows = pl.DataFrame(
        {
            "line": lines,
            "head": heads.fill_null(strategy="forward").fill_null(header or ""),
            "date": lines.str.extract(r"^#Date: *([0-9]{4}-[0-9]{2}-[0-9]{2})").forward_fill(),
            "directive": directive,
        }
    ).with_row_index("at")
    found = []
    for (head, is_directive), part in rows.group_by(["head", "directive"], maintain_order=True):
        if is_directive:
            got = _directives(part["line"])
        else:
            got = _w3c(part["line"], str(head), part["date"]) if head else _none(part["line"])
        found.append(got.with_columns(part["at"]))
    return pl.concat(found, how="diagonal_relaxed").sort("at").drop("at")


def _directives(lines: pl.Series) -> pl.DataFrame:
    zeek = pl.col("message").str.contains("^#[a-z]")
    return (
        lines.alias("message")
        .to_frame()
        .with_columns(
            pl.lit(value=True).alias("_fits"),
            pl.when(zeek).then(pl.lit("zeek")).otherwise(pl.lit("w3c")).alias("format"),
        )
    )


def _w3c(lines: pl.Series, head: str, date: pl.Series) -> pl.DataFrame:
    zeek = head.startswith("#f")
    text = re.sub(FIELDS, "", head).strip()
    by = "\t" if zeek or "\t" in text else "," if "," in text else " "
    names = text.split(by)
    if by == " " and lines.str.contains("\t", literal=True).mean() == 1:  # CloudFront's
        by = "\t"
    got = read_cells(lines, names=names, by=by)
    if not got["_fits"].all() and by == " ":  # blanks in quotes
        again = _slow(lines, names, by)
        got = max(got, again, key=lambda frame: int(frame["_fits"].sum()))
    unset = pl.col(pl.String).replace({"-": None, "(empty)": None})
    got = got.with_columns(unset).with_columns(_named("zeek" if zeek else "w3c", got["_fits"]))
    lower = {name.lower(): name for name in got.columns}
    if "time" in lower and "date" not in lower and date.count():
        got = got.with_columns(date.set(got[lower["time"]].is_null(), None).alias("date"))
    return got


def read_cells(lines: pl.Series, *, names: list[str], by: str) -> pl.DataFrame:
    """Read lines of cells; one fits if it has as many as there are names."""
    names = _unique(names)
    quoted = lines.str.contains('"', literal=True).fill_null(value=False)
    if quoted.any():
        return cascade(
            lines, [partial(_plain, names=names, by=by), partial(_slow, names=names, by=by)]
        )
    return _plain(lines, names=names, by=by)


def _unique(names: Iterable[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        free = name or "column"
        while free in found:
            free += "_"
        found.append(free)
    return found


def _plain(lines: pl.Series, names: list[str], by: str) -> pl.DataFrame:
    fits = lines.str.count_matches(by, literal=True) == len(names) - 1
    if by != " ":
        fits &= ~lines.str.contains('"', literal=True)
    fits = fits.fill_null(value=False)
    cells = lines.set(~fits, None).str.split_exact(by, len(names) - 1).struct.unnest()
    cells.columns = [safe(name) for name in names]
    filled = pl.when(pl.all() != "").then(pl.all())
    return cells.select(fits.alias("_fits"), _named("csv", fits), filled)


def _slow(lines: pl.Series, names: list[str], by: str) -> pl.DataFrame:
    """Read the lines that have quotes with Python's csv, which knows line breaks in them."""
    cells = [_cells(line or "", by) for line in lines]
    fits = pl.Series("_fits", [len(row) == len(names) for row in cells], dtype=pl.Boolean)
    blank = [None] * len(names)
    rows = [[c or None for c in row] if len(row) == len(names) else blank for row in cells]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    return pl.DataFrame(
        [fits, _named("csv", fits)]
        + [
            pl.Series(safe(n), list(c), dtype=pl.String)
            for n, c in zip(names, columns, strict=True)
        ]
    )


def is_postgres_csv(line: str) -> bool:
    """Return whether a line begins as one of PostgreSQL's csvlog does."""
    return bool(re.match(_POSTGRES_LINE, line))


def read_postgres_csv(lines: pl.Series) -> pl.DataFrame:
    """Read PostgreSQL's csvlog, which has no head: 22 columns to 9.0, 26 since 14."""
    likely = lines.str.contains(_POSTGRES_LINE).fill_null(value=False)
    readers = [partial(read_cells, names=_POSTGRES[:count], by=",") for count in (26, 24, 23, 22)]
    got = cascade(lines.set(~likely, None), readers)
    return got.with_columns(pl.col("_fits") & likely).drop("format", strict=False)


def read_cef(lines: pl.Series) -> pl.DataFrame:
    """Read ArcSight's Common Event Format."""
    return _extended(extract(lines, _CEF), r"[ \t]+")


def read_leef(lines: pl.Series) -> pl.DataFrame:
    """Read QRadar's Log Event Extended Format, whose pairs are separated by tabs or a mark."""
    got = extract(lines, _LEEF)
    mark = next(iter(got["delimiter"].drop_nulls()), "")
    if mark.startswith(("x", "0x")):
        mark = chr(int(mark.rpartition("x")[2], 16))
    return _extended(got, re.escape(mark) if mark else r"\t").drop("delimiter")


def _extended(got: pl.DataFrame, gap: str) -> pl.DataFrame:
    """Add a column for each key of `key=value …` that a sample has."""
    key = r"[A-Za-z_][\w.\[\]-]*"
    text = got["extension"]
    some = sample(text).str.extract_all(rf"(?:^|{gap}){key}=").explode(empty_as_null=True)
    keys = [k.strip(" \t^|").rstrip("=") for k in some.drop_nulls().unique(maintain_order=True)]
    for name in list(dict.fromkeys(re.sub(r"^[^A-Za-z_]+", "", k) for k in keys))[:100]:
        value = text.str.extract(
            rf"(?s)(?:^|{gap}){re.escape(name)}=((?:\\.|[^\\])*?)(?:{gap}{key}=|$)"
        )
        free = safe(name)
        while free in got.columns:
            free += "_"
        got = got.with_columns(value.alias(free))
    return got
