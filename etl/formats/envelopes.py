"""Lines that hold the line of another program: container logs, prefixes, syslog.

`unfold` makes one envelope of a record of several; `peel` reads again what is inside.
"""

import json
import re
from collections.abc import Callable
from functools import partial

import polars as pl

from etl.formats.catalogue import ENVELOPES, PATTERNS
from etl.formats.columns import ungrouped
from etl.formats.dialects import ALIASES, DIALECTS, MESSAGES, bare
from etl.formats.keyed import read_json
from etl.formats.levels import WORDS

__all__ = [
    "DOCKER",
    "HEADS",
    "SYSLOG_FROM",
    "SYSLOG_HEAD",
    "docker_partial",
    "docker_text",
    "peel",
    "read_docker",
    "unfold",
]

DOCKER = r'^\{ ?"log": ?"(?:[^"\\]|\\.)*", ?"(?:stream|attrs|time)": ?'
"""What docker's json-file driver writes (docs.docker.com/engine/logging/drivers/json-file)."""
_DOCKER_TEXT = r'^\{ ?"log": ?"((?:[^"\\]|\\.)*)"'
HEADS = {  # of envelopes that a record may have on each of its lines
    name: str(PATTERNS[name]).partition("(?P<message>")[0]
    for name in ("cri", "compose", "kubectl", "heroku")
}
_SYSLOG_TIME = (
    r"^(?:<[0-9]{1,3}>)?(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}"
    r"(?:\.[0-9]+)?(?:Z|[+-][0-9:]{4,5})) "
)
_SYSLOG_TAG = r"[\w.:%@/-]+ [^\s:\[\]|=]+(?:\[[0-9]+\])?:"
SYSLOG_HEAD = f"{_SYSLOG_TIME}{_SYSLOG_TAG} ?"
"""What is before the message of a syslog line with a tag."""
SYSLOG_FROM = f"{_SYSLOG_TIME}({_SYSLOG_TAG})"
"""The same, with a group for host and tag."""
_SYSLOG = ["syslog5424", "syslog3164", "syslog_pri"]
_TEXTS = ("message", "msg", "log", "MESSAGE")
_CLOCK = r"^[\[(]?[0-9]{2,4}[-/.][0-9]{2}[-/.][0-9]{2,4}[ T,]"
_WORD = "|".join(WORDS)
_LEVEL = rf"^(?:[\w./-]+(?:\([^()]*\))?(?:<[^<>]*>)*: )?[\s\[(<]*((?i:{_WORD}))(?:[\])>:|]| - )"
_LEVEL_UPPER = rf"^[\s\[(<]*((?:{_WORD.upper()}))\b"
_LEVEL_FIRST = rf"^((?:{_WORD})) [\w.-]+\[[0-9]+\] "  # VMware's
_LEVEL_KEY = r"\b(?:level|severity|lvl|at)=\"?(\w+)"


def unfold(lines: pl.Series) -> tuple[pl.Series, pl.Series | None]:
    """Make one envelope of each record of several.

    Returns:
        The lines, each with the text of all its envelopes, and the heads of the later ones
        where they differ from the first; None if there are none.
    """
    several = lines.str.contains("\n", literal=True).fill_null(value=False)
    if not several.any():
        return lines, None
    found: dict[int, tuple[str, str | None]] = {}
    for name, head in (*HEADS.items(), ("syslog", SYSLOG_HEAD)):
        where = several & lines.str.contains(ungrouped(head)).fill_null(value=False)
        if where.any():
            one = partial(_unfolded, head=re.compile(head), name=name)
            found |= zip(where.arg_true(), map(one, lines.filter(where)), strict=True)
    where = several & lines.str.contains(DOCKER).fill_null(value=False)
    if where.any():
        found |= zip(where.arg_true(), map(_one_docker, lines.filter(where)), strict=True)
    if not found:
        return lines, None
    texts, heads = zip(*found.values(), strict=True)
    rest = pl.repeat(None, len(lines), dtype=pl.String, eager=True)
    return lines.scatter(list(found), texts), rest.scatter(list(found), heads)


def _unfolded(record: str, head: re.Pattern[str], name: str) -> tuple[str, str | None]:
    """Join what is behind the heads of a record's lines; CRI's partial lines without a break."""
    text, whole, heads = "", True, [""]
    for number, line in enumerate(record.split("\n")):
        found = head.match(line)
        inner = line[found.end() :] if found else line
        heads += [found[0].strip()] if found and number and found[0] != heads[0] else []
        heads[0] = found[0] if found and not number else heads[0]
        text += ("" if not number else "\n" if whole else "") + inner
        whole = name != "cri" or not found or found["flags"][0] == "F"
    return heads[0] + text, "\n".join(heads[1:]) or None


def _one_docker(record: str) -> tuple[str, str | None]:
    lines = record.split("\n")
    try:
        found = [json.loads(line) for line in lines]
        text = "".join(str(one.pop("log")) for one in found)
    except (ValueError, KeyError, TypeError, AttributeError):
        return record, None
    heads = [json.dumps(one, ensure_ascii=False) for one in found[1:] if one != found[0]]
    first = json.dumps({"log": text} | found[0], ensure_ascii=False)
    return first, "\n".join(heads) or None


def read_docker(lines: pl.Series) -> pl.DataFrame:
    """Read docker's json-file: `log` is the message, `time` the time."""
    fits = lines.str.contains(DOCKER).fill_null(value=False)
    if not fits.any():
        return pl.DataFrame({"_fits": fits})
    got = read_json(lines.set(~fits, None))
    got = got.rename({"log": "message", "time": "timestamp"}, strict=False)
    if "message" not in got.columns:
        return pl.DataFrame({"_fits": pl.repeat(value=False, n=len(lines), eager=True)})
    message = pl.col("message").cast(pl.String).str.strip_suffix("\n").str.strip_suffix("\r")
    return got.with_columns(message, _fits=fits & got["_fits"])


def docker_text(lines: pl.Series) -> pl.Series:
    """Return what is inside of docker's lines, as far as a record's beginning needs it."""
    text = lines.str.extract(_DOCKER_TEXT).fill_null(lines)
    return text.str.strip_suffix("\\n").str.replace_all("\\t", "\t", literal=True)


def docker_partial(lines: pl.Series) -> pl.Series:
    """Return where a line goes on in the next one: it lacks its line break."""
    text = lines.str.extract(_DOCKER_TEXT)
    return (text.is_not_null() & ~text.str.ends_with("\\n")).fill_null(value=False)


def peel(got: pl.DataFrame, read: Callable[..., pl.DataFrame]) -> pl.DataFrame:
    """Read what is inside of envelopes again, and merge it with what the envelope says.

    Where both have a column, the inner one wins and the other is kept as `outer_…`. What is
    inside a syslog line and of no known format stays the whole message; only its level is
    looked for.
    """
    names = set(got["format"].unique())
    if ENVELOPES.isdisjoint(names) and names.isdisjoint(("json", "generic")):
        return got
    text, where = _inside(got)
    if not where.any():
        return got
    text, outer = text.filter(where), got["format"].filter(where)
    by_syslog = outer.is_in([*_SYSLOG, "otlp"])
    inner = read(text, generic=not by_syslog.all() or bool(text.str.contains(_CLOCK).any()))
    known = (inner["format"] != "generic").fill_null(value=False)
    inner_format = inner["format"]
    inner = inner.drop("_fits", "format")
    for name in ("message", "timestamp"):
        if name not in inner.columns:
            inner = inner.with_columns(pl.lit(None, pl.String).alias(name))
    cut = (inner["message"] != text).fill_null(value=True)  # the reader found a head
    timed = inner["timestamp"].is_not_null()
    if (outer == "generic").any():  # where the object has no message, all of it is the message
        named = [name for name in inner.columns if bare(name) in MESSAGES]
        known &= (outer != "generic") | inner.select(
            pl.any_horizontal(pl.col(named).is_not_null())
        ).to_series()
    taken = known | (cut & (timed | ~(by_syslog | (outer == "json"))))
    taken &= known | (outer != "generic")
    inner = inner.select(pl.when(taken).then(pl.all()))
    if not taken.any():  # the usual of syslog: nothing is in the way of the outer ones
        same = [name for name in ("message", "timestamp") if got.schema.get(name) == pl.String]
        inner = inner.drop(same)
    plain = ~taken & ((by_syslog & (outer != "otlp")) | (outer == "heroku"))
    if plain.any():
        inner = inner.with_columns(_level(inner, text.set(~plain, None)))
    form = outer.zip_with(~(known & (outer != "json")), inner_format)
    form = form.set(taken & ~known & outer.is_in(["compose", "kubectl"]), "generic")
    return _merged(got.with_columns(format=got["format"].scatter(where.arg_true(), form)),
                   inner, where, taken, known | timed)  # fmt: skip


def _inside(got: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    """Return the text inside of envelopes, and the rows that have some."""
    form = got["format"]
    where = form.is_in(list(ENVELOPES))
    if "message" in got.columns and (form == "generic").any():  # an object behind a head
        inside = got["message"].cast(pl.String)
        if inside.str.starts_with("{").any():
            where |= (form == "generic") & inside.str.contains(r'^\{\s*"(?s:.*)\}\s*$')
    text = got["message"].cast(pl.String) if "message" in got.columns else form.clear(len(got))
    if "app" in got.columns:  # CEF and LEEF begin as a tag does
        tag = got["app"].cast(pl.String)
        marked = tag.is_in(["CEF", "LEEF"]).fill_null(value=False)
        text = text.zip_with(~marked, tag + ":" + text) if marked.any() else text
    if (form == "json").any() and not _has_level(got):
        for key in (key for key in _TEXTS if key in got.columns):
            inside = got[key].cast(pl.String)
            line = (form == "json") & inside.str.contains(_CLOCK)
            text = text.zip_with(~line.fill_null(value=False), inside)
            where |= line
            break
    return text, (where & text.is_not_null() & (text != "")).fill_null(value=False)


def _has_level(got: pl.DataFrame) -> bool:
    known = {*ALIASES["level"], *DIALECTS["level"]}
    return any(name.lower().removeprefix("field") in known for name in got.columns)


def _level(inner: pl.DataFrame, text: pl.Series) -> pl.Series:
    level = inner["level"].cast(pl.String) if "level" in inner.columns else text.clear(len(text))
    for pattern in (_LEVEL, _LEVEL_UPPER, _LEVEL_FIRST):
        level = level.fill_null(text.str.extract(pattern))
    if text.str.contains("(?:level|severity|at)=").any():
        level = level.fill_null(text.str.extract(_LEVEL_KEY))
    return level.alias("level")


def _merged(
    got: pl.DataFrame, inner: pl.DataFrame, where: pl.Series, taken: pl.Series, timed: pl.Series
) -> pl.DataFrame:
    """Put the inner columns over the outer ones; `timed` are rows whose time is the inner one."""
    rows = where.arg_true()
    columns = {name: got[name] for name in got.columns}
    moved: dict[str, pl.Series] = {}
    if "timestamp" in columns:
        outer = columns["timestamp"]
        mine = pl.repeat(value=False, n=len(got), eager=True).scatter(rows, timed)
        moved["outer_timestamp"] = outer.set(~mine, None)
        columns["timestamp"] = outer.set(mine, None)
    for name in inner.columns:
        part = inner[name]
        if name in columns and columns[name].dtype != part.dtype:
            columns[name], part = columns[name].cast(pl.String), part.cast(pl.String)
        full = pl.repeat(None, len(got), dtype=part.dtype, eager=True).scatter(rows, part)
        if name not in columns:
            columns[name] = full
        elif name == "message":
            mine = pl.repeat(value=False, n=len(got), eager=True).scatter(rows, taken)
            columns[name] = columns[name].zip_with(~mine, full)
        else:
            lost = columns[name].is_not_null() & full.is_not_null() & (columns[name] != full)
            moved.setdefault(f"outer_{name}", columns[name].set(~lost, None))
            columns[name] = full.fill_null(columns[name])
    names = {name: column for name, column in moved.items() if column.count()}
    return pl.DataFrame([column.alias(name) for name, column in (columns | names).items()])
