"""Records: a line and those that belong to it.

`record_start` finds in a sample what begins a record, as text that travels with the file;
`starts` tells it of each line, `join_records` joins.

What goes on: stack traces, indented lines, anything below a head with a time in a file whose
lines have one. Quoted line breaks in CSV and partial lines of containers are counted.
"""

import re
from collections import Counter

import polars as pl

from etl.formats.access import ACCESS
from etl.formats.blocks import block_start
from etl.formats.columns import ROW, cleaned, ungrouped
from etl.formats.envelopes import DOCKER, HEADS, SYSLOG_HEAD, docker_partial, docker_text
from etl.formats.format import FORMATS
from etl.formats.heads import FIELDS, header_of, is_postgres_csv
from etl.formats.levels import WORDS
from etl.formats.scan import head_pattern
from etl.formats.starts import (
    CRI_PARTIAL,
    CSV,
    INSIDE,
    NOT,
    PARTIAL,
    SLOW,
    SYSLOG,
    TRACE,
    goes_on,
    starts,
)

__all__ = ["MAX_BYTES", "MAX_LINES", "join_records", "record_start", "start_in_words"]

MAX_LINES = 10_000
MAX_BYTES = 4 << 20
SAMPLE = 1000
HEADS_OF = 400  # lines whose heads are looked at
MOST_HEADS = 4
LOOK = 1000  # characters of a line
BANNER = 20  # lines that may be above the first block

_ONE_LINE = (*ACCESS, "auditd", "logfmt")
"""Formats of which no line goes on."""
_BLOCKS = (  # programs that write blocks: what begins one
    r"^--[0-9a-f]+-A--",  # ModSecurity
    r"^__CURSOR=",  # journalctl -o export
    r"^Start-Date: ",  # apt's history
    r"^=[A-Z ]+ REPORT==== ",  # old Erlang
    r"^\[\*\*\] ",  # Snort's full alerts
    r"^\*\* Alert [0-9]+\.[0-9]+: ",  # OSSEC's
    r"^<(?:log4j:event|record|Event)\b",  # log4j's and java.util.logging's XML, Windows' events
    r'^Started [A-Z]+ "',  # Rails in development
)
_LEVEL = "|".join(WORDS)
_BY_LEVEL = (
    rf"^(?:(?i:{_LEVEL})(?:\[[0-9]+\])?[:|]|[\[(<](?i:{_LEVEL}) *[\])>]|(?:{_LEVEL.upper()})\b)"
)
# What no time is before though other lines have one: panics of Go and Rust, sanitizers, what
# AWS Lambda writes around a request, a JVM's own lines
_SIGNAL = "^[0-9]+:signal-handler "  # Redis's, where it may not format a time
_BARE = (
    r"^(?:(?:panic|fatal error): |thread '[^']*' panicked at |==[0-9]+==ERROR: "
    r"|(?:START|END|REPORT) RequestId: |\[[0-9]+[.,][0-9]{3}s\]\[[a-z]+ *\]\[)"
)
_BY_BRACKET = rf"^\[(?:{'|'.join(WORDS).upper()})\][ \t]"
_TRACEBACK = r"^Traceback \(most recent call last\)"
_GOES_ON = (  # what a line that goes on looks like, indented or not
    r"^(?:\s|[})\]]|Caused by: |Suppressed: |Traceback \(most recent call last\)|\.\.\. [0-9]+ more"
    r"|During handling of the above|The above exception was|goroutine [0-9]+ \[|Stack trace:"
    r"|#[0-9]+ |--- End of |(?:[a-z_$][\w$]*\.)+[\w$]*(?:Exception|Error)\b"
    r"|[A-Z]\w*(?:Error|Exception)(?::|$)|\w+(?:\.\(?[\w*]+\)?)+\(.*\)$"
    r"|exit status [0-9]|created by |$)"
)


def record_start(sample: pl.Series) -> str | None:
    """Return what begins a record in consecutive lines, or None if every line is one."""
    lines = cleaned(sample.drop_nulls().head(SAMPLE)).str.slice(0, LOOK)
    solid = lines.filter(lines.str.contains(r"\S"))
    if not len(solid):
        return None
    if solid.str.contains(DOCKER).mean() > 0.9:  # type: ignore[operator]
        return _inside(docker_text(solid), "docker", partial=docker_partial(solid).any())
    opened = solid.str.contains(r'^\{\s*"')
    whole = solid.str.contains(r"\}\s*,?$") | (solid.str.len_chars() == LOOK)
    if opened[0] and 2 * (opened & ~whole).sum() >= opened.sum():
        return r"^\{"  # objects of several lines
    if solid.str.contains(r"^\s*\{.*\}\s*,?$").mean() > 0.9:  # type: ignore[operator]
        return None
    for name, head in HEADS.items():
        plain = ungrouped(head)
        if solid.str.contains(plain).mean() > 0.9:  # type: ignore[operator]
            partial = name == "cri" and bool(solid.str.contains(f"{CRI_PARTIAL}").any())
            return _inside(solid.str.replace(f"{plain} ?", ""), name, partial=partial)
    return _start(lines, solid)


def _inside(text: pl.Series, name: str, *, partial: bool) -> str | None:
    inner = _start(text, text.filter(text.str.contains(r"\S"))) if len(text) else None
    if partial:
        return PARTIAL + (inner or "")
    return f"{INSIDE}{name} {inner}" if inner else None


def _start(lines: pl.Series, solid: pl.Series) -> str | None:
    if _never_goes_on(solid):
        return None
    return (
        _by_quotes(lines, solid)
        or _by_block(solid)
        or block_start(solid.to_list())
        or _by_syslog(solid)
        or _pretty(lines)
        or _by_heads(solid)
        or _by_indent(solid)
    )


def _never_goes_on(solid: pl.Series) -> bool:
    """Return whether nearly all lines are of formats of which no line goes on."""
    some = solid.gather_every(-(-len(solid) // 30) or 1).to_list()
    fit = sum(any(FORMATS[name].accepts(line) for name in _ONE_LINE) for line in some)
    return 10 * fit > 9 * len(some) or bool(solid.str.contains(FIELDS).any())


def _by_quotes(lines: pl.Series, solid: pl.Series) -> str | None:
    """Return the mark of CSV, if a table has lines whose quotes are not closed."""
    odd = solid.str.count_matches('"', literal=True) % 2 == 1
    if not odd.any() or not (header_of(lines) or is_postgres_csv(solid[0])):
        return None
    heads = Counter(head_pattern(line) for line in solid[1:].head(HEADS_OF)).most_common(1)
    timed = heads and heads[0][0] and heads[0][0][0] == ""
    return CSV + (f"^{heads[0][0][1]}" if timed and heads[0][0] else "")


def _by_syslog(solid: pl.Series) -> str | None:
    """Return the mark of syslog, if its lines have parts of a trace."""
    if not solid.str.contains(SYSLOG_HEAD + TRACE).any():
        return None
    return SYSLOG if solid.str.contains(SYSLOG_HEAD).mean() > 0.8 else None  # type: ignore[operator]


def _by_block(solid: pl.Series) -> str | None:
    """Return what begins a block of a program that writes such."""
    if solid.str.contains("^# User@Host: ").any():
        return SLOW
    least = 2 if len(solid) > 20 else 1
    first = solid.head(BANNER)
    found = (b for b in _BLOCKS if first.str.contains(b).any())
    return next((b for b in found if solid.str.contains(b).sum() >= least), None)


def _pretty(lines: pl.Series) -> str | None:
    """Return what begins a record of pretty-printed JSON: a brace alone, or in a list."""
    opened = lines.filter(lines.str.contains(r"^\s*\{\s*$"))
    if not len(opened) or not lines.str.contains(r'^\s+"[^"]*": ').any():
        return None
    indents = opened.str.extract(r"^(\s*)\{").unique()
    indent = min(indents.drop_nulls().to_list(), key=len)
    known = lines.str.contains(
        r'^\s*(?:[{}\[\]],?|"[^"]*": .*|[\]}],?|-?[0-9.]+,?|".*",?|true,?|false,?|null,?)\s*$'
    )
    if known.mean() < 0.8:  # type: ignore[operator]
        return None
    return rf"^{indent}\{{"


_Head = tuple[str, str]
"""The regexes of what is before a line's time, and of the time."""
_EPOCH = r"\[0-9\]\{(?:10|13|16|19)\}"
"""The beginning of the regex of a time that is a number since 1970."""


def _by_heads(solid: pl.Series) -> str | None:
    """Return the regex of lines that have a time as most heads have it."""
    some = solid.head(HEADS_OF).to_list()
    heads_of = [(line, pattern) for line in some if (pattern := head_pattern(line))]
    # indented lines go on, unless all heads are indented
    found = [pattern for line, pattern in heads_of if not line[0].isspace()]
    found = found or [pattern for _, pattern in heads_of]
    flush = sum(not re.match(_GOES_ON, line) for line in some)
    found = _but_numbers(found, heads_of, flush)
    few = 5 * len(found) < flush or len(found) < 2 < len(some) - 1
    if not found or 20 * len(found) < flush or (few and not head_pattern(some[0])):
        return None
    heads = list(dict.fromkeys(rf"^{before}{stamp}" for before, stamp in found))
    if len(heads) > MOST_HEADS or any("(?:" in before for before, _ in found):
        # what is before the time may differ in lines that are not in the sample
        most = Counter(stamp for _, stamp in found).most_common(MOST_HEADS)
        heads = [rf"^[^\n]{{0,100}}?{stamp}" for stamp, count in most if 50 * count >= len(found)]
    objects = sum(line.startswith('{"') and line.endswith("}") for line in some)
    heads += [r'^\{"'] if 50 * objects >= flush and objects else []
    heads += [_BARE] if any(re.match(_BARE, line) for line in some) else []
    heads += [_SIGNAL] if any(FORMATS["redis"].accepts(line) for line, _ in heads_of[:5]) else []
    if any(re.match(_BY_BRACKET, line) for line, _ in heads_of):
        heads += [_BY_BRACKET]
    return "|".join(heads)


def _but_numbers(found: list[_Head], heads_of: list[tuple[str, _Head]], flush: int) -> list[_Head]:
    """Return heads without those that may be numbers behind words, unless most lines have one.

    The id of an order may look like seconds since 1970: a few of them begin no records.
    """
    behind_words = {
        head
        for line, head in heads_of
        if re.match(_EPOCH, head[1]) and not re.match(rf"[^A-Za-z]*{head[1]}", line)
    }
    if 5 * sum(head in behind_words for head in found) >= 4 * flush:
        return found
    return [head for head in found if head not in behind_words]


def _by_indent(solid: pl.Series) -> str | None:
    """Return what begins a record in a file without times: a level, or a line that is flush."""
    goes_on = solid.str.contains(_GOES_ON)
    if not goes_on.any() or solid.str.contains(r"^\s").all():
        return None
    for first in (_TRACEBACK, _BARE):
        if re.match(first, solid[0]):
            return first
    by_level = int(solid.str.contains(_BY_LEVEL).sum())
    if by_level and 2 * by_level >= int((~goes_on).sum()):
        return _BY_LEVEL
    return NOT + _GOES_ON


def start_in_words(start: str | None) -> str:
    """Return in words what begins a record, of what `record_start` returned."""
    if start is None:
        return "every line"
    if start.startswith(INSIDE):
        name, _, inner = start.removeprefix(INSIDE).partition(" ")
        return f"{start_in_words(inner)}, inside of {name}"
    for mark, words in (
        (CSV, "a line after closed quotes"),
        (PARTIAL, "a line that completes no partial one"),
        (SYSLOG, "a line of syslog that goes on with no trace"),
        (SLOW, "a line with # Time: or # User@Host:"),
        (NOT, "a line that is not indented and goes on with nothing"),
        (_BY_LEVEL, "a line with a level"),
        (_TRACEBACK, "the first line of a traceback"),
        (_BARE, "the first line of a trace"),
    ):
        if start.startswith(mark):
            return words
    if start in _BLOCKS:
        return "the first line of a block"
    return "an opening brace" if re.fullmatch(r"\^\s*\\\{", start) else "a line with a time"


def join_records(
    frame: pl.DataFrame,
    start: str | None,
    *,
    max_lines: int = MAX_LINES,
    max_bytes: int = MAX_BYTES,
) -> pl.DataFrame:
    r"""Return a row for each record: its lines with `\n` between them, and `line_count` Int64.

    `line_number` and the other columns are those of the record's first line; `raw`, where a
    line has it, is the bytes of all its lines. A record over a limit is cut: each piece but
    the last has `is_cut` True, a column that is there only if something was cut.

    Args:
        frame: Lines, in the column `line`.
        start: What `record_start` returned for the file.
        max_lines: Lines of a record, at most.
        max_bytes: UTF-8 bytes of a record, at most; a longer line is a record of its own.
    """
    if "line_count" not in frame.columns:
        frame = frame.with_columns(line_count=pl.lit(1, pl.Int64))
    if start is None:
        return frame
    lines = frame["line"]
    begins = starts(lines, start)
    if begins.all():
        return frame
    group = begins.cum_sum()
    if start.startswith(PARTIAL):  # lines of another stream may be between
        stream = goes_on(lines.fill_null(""))[0]
        own = pl.DataFrame({"group": group.set(~begins, None), "stream": stream})
        group = own.select(pl.col("group").forward_fill().over("stream")).to_series()
        group = group.fill_null(strategy="backward").fill_null(1)
    rows = frame.with_columns(group.alias(ROW))
    piece = _pieces(rows, max_lines, max_bytes)
    keys = [ROW] if piece is None else [ROW, "__piece"]
    if piece is not None:
        rows = rows.with_columns(piece.alias("__piece"))
    others = [name for name in frame.columns if name not in ("line", "raw", "line_count")]
    joined = rows.group_by(keys, maintain_order=True).agg(
        *([pl.col("line").str.join("\n")]),
        *(pl.col(name).first() for name in others),
        *([_raw()] if "raw" in frame.columns else []),
        pl.col("line_count").sum(),
    )
    if piece is not None:
        last = joined.select(pl.col(ROW) != pl.col(ROW).shift(-1)).to_series().fill_null(value=True)
        joined = joined.with_columns(is_cut=~last)
    return joined.select(*frame.columns, pl.exclude(*frame.columns, *keys))


def _raw() -> pl.Expr:
    """Return the bytes of a record that has a line which is not UTF-8; null for the others."""
    lines = pl.coalesce("raw", pl.col("line").cast(pl.Binary)).implode()
    joined = lines.map_elements(b"\n".join, return_dtype=pl.Binary)
    return pl.when(pl.col("raw").is_not_null().any()).then(joined.first()).alias("raw")


def _pieces(rows: pl.DataFrame, max_lines: int, max_bytes: int) -> pl.Series | None:
    """Return which piece of its record a line is in, or None if no record is over a limit."""
    sizes = rows.select(
        pl.len().over(ROW).alias("lines"),
        (pl.col("line").str.len_bytes() + 1).sum().over(ROW).alias("bytes"),
    )
    if not ((sizes["lines"] > max_lines) | (sizes["bytes"] > max_bytes)).any():
        return None
    at = pl.int_range(pl.len()).over(ROW)
    size = pl.col("line").str.len_bytes().fill_null(0).cast(pl.Int64) + 1
    before = size.cum_sum().over(ROW) - size
    return rows.select(at // max_lines + before // max_bytes).to_series()
