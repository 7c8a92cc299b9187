"""Where records begin: what `records.record_start` found, applied to lines.

What begins a record is text that travels with the file: a Rust regex, or one of the marks
below, which need more than one line to be looked at.
"""

import polars as pl

from etl.formats.columns import cleaned, ungrouped
from etl.formats.envelopes import (
    DOCKER,
    HEADS,
    SYSLOG_FROM,
    SYSLOG_HEAD,
    docker_partial,
    docker_text,
)

__all__ = [
    "CRI_PARTIAL",
    "CSV",
    "INSIDE",
    "NOT",
    "PARTIAL",
    "SLOW",
    "SYSLOG",
    "TRACE",
    "cuts",
    "goes_on",
    "of_neighbours",
    "starts",
]

CSV = ":csv "
"""A record ends where its quotes are closed; behind it the regex of lines that begin one
whatever was open before, if there is one: a stray quote costs one record then."""
PARTIAL = ":partial "
"""A record is a chain of partial lines; behind it the regex of what begins inside, if any."""
SLOW = ":slow"
"""MySQL's slow log: `# Time:`, or `# User@Host:` without it."""
NOT = ":not "
"""Behind it the regex of lines that go on: Rust's regexes cannot look ahead."""
INSIDE = ":inside "
"""Behind it an envelope's name, a blank, and the regex of what begins a record inside of it."""
SYSLOG = ":syslog"
"""A line of syslog goes on if it is part of a trace and has the tag of the line before."""

CRI_PARTIAL = r"^\S+ (?:stdout|stderr) P(?::\w+)* "
TRACE = (  # what a line of a trace looks like that has a head of its own
    r"(?:(?:\t| {2,})+(?:at |from |File \"|\.\.\. [0-9]+ more)|Caused by: |Traceback \(most recent"
    r"|(?:[a-z_$][\w$]*\.)+[\w$]*(?:Exception|Error)\b|[A-Z]\w*(?:Error|Exception): "
    r"|goroutine [0-9]+ \[|#[0-9]+ +(?:0x|/|\{main\}|[\w\\]+->)|\t\S+\.go:[0-9]+)"
)


def starts(lines: pl.Series, start: str | None) -> pl.Series:
    """Return a Boolean for each line: whether a record begins there.

    The first line is taken as a beginning, as the first of a file or of a batch is.
    """
    if start is None:
        return pl.repeat(value=True, n=len(lines), eager=True)
    lines = lines.fill_null("")
    found = _found(cleaned(lines), start) if start.startswith(":") else _begins(lines, start)
    if len(found):
        found = found.scatter(0, values=True)
    return found


def cuts(lines: pl.Series, start: str | None) -> pl.Series:
    """Return a Boolean for each line: whether all records before it are whole.

    That is where `starts` is true, but for partial lines of containers: those of one stream
    may be between those of another.
    """
    found = starts(lines, start)
    if start is None or not start.startswith(PARTIAL):
        return found
    lines = lines.fill_null("")
    stream, _ = goes_on(lines)
    partial = docker_partial(lines) if _is_docker(lines) else lines.str.contains(CRI_PARTIAL)
    for name in stream.unique():
        mine = partial.set(stream != name, None).shift(1)
        found &= ~mine.fill_null(strategy="forward").fill_null(value=False)
    return found


def of_neighbours(start: str) -> bool:
    """Return whether a line and the one before it decide whether a record begins there."""
    return not start.startswith((CSV, PARTIAL))


def _begins(lines: pl.Series, start: str) -> pl.Series:
    """Return where a regex fits; lines are cleaned only if it does not fit them all."""
    found = lines.str.contains(start)
    if found.all() or (clean := cleaned(lines)) is lines:
        return found
    return clean.str.contains(start)


def _is_docker(lines: pl.Series) -> bool:
    return bool(lines.head(1).str.contains(DOCKER).any())


def _found(lines: pl.Series, start: str) -> pl.Series:
    """Return where records begin, by a regex or by one of the marks."""
    for mark, read in _BY_MARK.items():
        if start.startswith(mark):
            return read(lines, start.removeprefix(mark))
    return lines.str.contains(start)


def _outside_quotes(lines: pl.Series, head: str) -> pl.Series:
    odd = lines.str.count_matches('"', literal=True).cast(pl.Int64) % 2
    heads = lines.str.contains(head or r"[^\s\S]")
    quotes = pl.DataFrame({"odd": odd, "part": heads.cum_sum()})
    opened = quotes.select(pl.col("odd").cum_sum().over("part") - pl.col("odd")).to_series()
    return heads | (opened % 2 == 0)


def _behind_partial(lines: pl.Series, inner: str) -> pl.Series:
    found = ~goes_on(lines)[1]
    if not inner:
        return found
    if _is_docker(lines):
        return found & _found(docker_text(lines), inner)
    text = lines.str.replace(r"^\S+ (?:stdout|stderr) [FP](?::\w+)* ?", "")
    return found & _found(text, inner)


def _inside_of(lines: pl.Series, name_and_inner: str) -> pl.Series:
    name, _, inner = name_and_inner.partition(" ")
    if name == "docker":
        return _found(docker_text(lines), inner)
    return _found(lines.str.replace(ungrouped(HEADS[name]) + " ?", ""), inner)


def _slow_block(lines: pl.Series, _: str) -> pl.Series:
    time = lines.str.starts_with("# Time: ")
    return time | (lines.str.starts_with("# User@Host: ") & ~time.shift(1, fill_value=False))


def _no_trace(lines: pl.Series, _: str) -> pl.Series:
    tag = lines.str.extract(SYSLOG_FROM)
    more = lines.str.contains(SYSLOG_HEAD + TRACE) & (tag == tag.shift(1))
    return ~more.fill_null(value=False) & ~lines.str.contains(r"^\s")


def _none_of(lines: pl.Series, regex: str) -> pl.Series:
    return ~lines.str.contains(regex)


_BY_MARK = {
    CSV: _outside_quotes,
    PARTIAL: _behind_partial,
    INSIDE: _inside_of,
    SLOW: _slow_block,
    SYSLOG: _no_trace,
    NOT: _none_of,
}


def goes_on(lines: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return each line's stream, and whether the line before in that stream was partial."""
    if _is_docker(lines):
        stream = lines.str.extract(r'"stream": ?"(\w+)"')
        partial = docker_partial(lines)
    else:
        stream = lines.str.extract(r"^\S+ (stdout|stderr) [FP]")
        partial = lines.str.contains(CRI_PARTIAL)
    frame = pl.DataFrame({"stream": stream.fill_null(""), "partial": partial})
    before = frame.select(pl.col("partial").shift(1).over("stream").fill_null(value=False))
    return frame["stream"], before.to_series()
