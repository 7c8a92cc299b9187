"""Records that are blocks of lines, each a key and its value.

journalctl -o export and -o verbose, events of Windows as text, PowerShell's lists, apt's
history. What has no key goes on with the value above it.
"""

import re
from collections.abc import Iterator

import polars as pl

from etl.formats.columns import safe
from etl.formats.dialects import ALIASES, DIALECTS, TIME_KEY
from etl.formats.levels import LEVELS

__all__ = ["block_start", "is_block", "read_blocks"]

KEY = (
    r"^[ \t]*(?:(?P<name>[A-Z_][A-Z0-9_]*)=(?P<value>.*)"
    r"|(?P<name2>[A-Za-z][\w.()/-]*(?: [\w.()/-]+){0,3})[ \t]*:(?:[ \t]+(?P<value2>.*))?)$"
)
VERBOSE = (
    r"^(?P<time>[A-Z][a-z]{2} [0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]+ \S+) \[(?P<cursor>[^\]]*)\]$"
)
LEAST = 3  # keys of a block
MOST = 200
_KEY = re.compile(KEY)
_VERBOSE = re.compile(VERBOSE)
_TEXT = {"message", "description", "msg"}
_TELLING = {*ALIASES["timestamp"], *DIALECTS["timestamp"]}


def _key(line: str) -> tuple[str, str] | None:
    found = _KEY.match(line)
    if not found:
        return None
    name = found["name"] or found["name2"]
    return (name, found["value"] or found["value2"] or "") if name not in LEVELS else None


def _is_telling(name: str) -> bool:
    bare = name.lower()
    return bare in _TELLING or bool(re.search(TIME_KEY, bare))


def block_start(lines: list[str]) -> str | None:
    """Return what begins a block, if the lines are such: the first key, which comes again."""
    verbose = bool(lines) and _VERBOSE.match(lines[0])
    first = [_key(line) for line in lines[:MOST]]
    names = [found[0] if found else None for found in first]
    if verbose:
        return VERBOSE.replace("(?P<time>", "(?:").replace("(?P<cursor>", "(?:")
    if len(names) < LEAST or None in names[:LEAST]:
        return None
    at = [i for i, name in enumerate(names) if name == names[0]]
    alike = sum(names[i : i + LEAST] == names[:LEAST] for i in at)
    end = at[1] if len(at) > 1 else len(names)
    telling = any(name and _is_telling(name) for name in names[:end])
    if end < LEAST or not telling or alike < len(at) - 1 or len(set(names[:LEAST])) < LEAST:
        return None
    return rf"^{re.escape(names[0] or '')}[ \t]*[:=]"


def is_block(record: str) -> bool:
    """Return whether a record is a block: its first lines have keys, one of them a time's."""
    if "\n" not in record:
        return False
    lines = record.split("\n", MOST)
    if _VERBOSE.match(lines[0]):
        return True
    found = [_key(line) for line in lines]
    return (
        all(found[:LEAST])
        and len(found) >= LEAST
        and any(one and _is_telling(one[0]) for one in found)
    )


def read_blocks(records: pl.Series) -> pl.DataFrame:
    """Return `_fits` and a String column for each key."""
    likely = records.str.contains(rf"(?m)\A{KEY[1:]}|\A{VERBOSE[1:]}").fill_null(value=False)
    found = [
        dict(_pairs(record)) if like and record and is_block(record) else None
        for record, like in zip(records, likely, strict=True)
    ]
    names = list(dict.fromkeys(name for pairs in found if pairs for name in pairs))
    columns = {
        safe(name): [pairs.get(name) if pairs else None for pairs in found] for name in names
    }
    fits = pl.Series("_fits", [pairs is not None for pairs in found], dtype=pl.Boolean)
    return pl.DataFrame([fits, *(pl.Series(n, c, dtype=pl.String) for n, c in columns.items())])


def _pairs(record: str) -> Iterator[tuple[str, str]]:
    """Yield keys and values; a key that is there again gets `_` at its end."""
    lines = record.split("\n")
    taken: set[str] = set()
    at = 0
    if verbose := _VERBOSE.match(lines[0]):
        yield from (("timestamp", verbose["time"]), ("cursor", verbose["cursor"]))
        taken, at = {"timestamp", "cursor"}, 1
    while at < len(lines):
        name, value = _key(lines[at]) or ("rest", lines[at])
        at += 1
        text = name.lower() in _TEXT and not value
        more = []
        while at < len(lines) and (text or not _key(lines[at])):
            more.append(lines[at])
            at += 1
        while name in taken:
            name += "_"
        taken.add(name)
        yield name, "\n".join([value, *more] if value else more)
