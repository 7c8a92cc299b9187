"""Lines of keys and values: JSON objects and logfmt.

A reader takes a Series of lines and returns `_fits` and a column for each key: String, or
Int64 or Float64 where all values of a sample are numbers and none would change. Nested objects
are flattened with dots. The 200 most common keys get columns; the others, and values of a key
that is there again, go to the column `rest` as one JSON object.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import polars as pl

from etl.formats.columns import ROW, cascade, safe, sample
from etl.formats.dialects import ALIASES, DIALECTS

__all__ = ["is_json", "is_logfmt", "read_json", "read_logfmt"]

MAX_KEYS = 200
MAX_PAIRS = 300  # in a line that is taken for logfmt unasked
# What Polars reads as Python does. It makes NUL of half a surrogate (\uD…), forgets the
# backslashes in nested values and rounds long numbers; those lines are read one by one.
STRING = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-cefA-CEF][0-9a-fA-F]{3})*"'
VALUE = rf"(?:{STRING}|-?(?:0|[1-9][0-9]{{0,17}})(?:\.[0-9]{{1,9}})?|true|false|null)"
FLAT = rf"^\{{(?: ?{STRING}: ?{VALUE}(?:,|\}}$))+$"
# https://brandur.org/logfmt; a key without `=` is not read: prose would fit too
KEY = r"[A-Za-z_@][A-Za-z0-9_.@/-]*"
PAIR = rf'{KEY}=(?:"(?:[^"\\]|\\.)*"|[^\s"]*)'
AUDIT = r"^(?:node=\S+ )?type=\S+ msg=audit\("
"""What begins a line of Linux audit, which is no logfmt although it looks so."""

LOGFMT = rf"^\s*{PAIR}(?:\s+{PAIR})+\s*$"
_MEANT = {key for table in (ALIASES, DIALECTS) for keys in table.values() for key in keys}
_ONE_MEANT = (
    r"(?i)(?:^|\s)(?:"
    + "|".join(sorted(re.escape(key) for key in _MEANT if len(key) > 1 and key != "error"))
    + ")="
)
ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n", "\\t": "\t", "\\r": "\r"}
INTEGER = r"^-?(?:0|[1-9][0-9]{0,18})$"
NUMBER = r"^-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,2})?$"


class _Number(str):
    """A number as its text, so that no digit is lost."""

    __slots__ = ()


class _Object(dict[str, Any]):
    """A JSON object, and beside it the earlier values of the keys that are in it twice."""

    twice: Sequence[tuple[str, Any]] = ()


def _pairs(pairs: list[tuple[str, Any]]) -> _Object:
    found = _Object(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice: list[tuple[str, Any]] = []
        for key, value in reversed(pairs):
            if key in seen:
                twice.insert(0, (key, value))
            seen.add(key)
        found.twice = twice
    return found


_decode = json.JSONDecoder(
    strict=False, object_pairs_hook=_pairs, parse_int=_Number, parse_float=_Number,
    parse_constant=_Number,
).decode  # fmt: skip
_quote = json.JSONEncoder(ensure_ascii=False).encode


def is_json(line: str) -> bool:
    """Return whether a line is a JSON object."""
    return _object(line) is not None


def is_logfmt(line: str) -> bool:
    """Return whether a line is logfmt: sane keys, one of which has a meaning."""
    one = pl.Series([line])  # Rust's regexes take no longer than the line is long
    sane = "=" in line and one.str.contains(LOGFMT)[0] and not one.str.contains(AUDIT)[0]
    return bool(sane and one.str.contains(_ONE_MEANT)[0]) and line.count("=") <= MAX_PAIRS


def read_json(lines: pl.Series) -> pl.DataFrame:
    """Read one JSON object a line: flat ones at once, the others one by one."""
    some = [fields for line in sample(lines) if (fields := _object(line))]
    counts = Counter(key for fields in some for key in fields)
    keys = [key for key, _ in counts.most_common(MAX_KEYS)]
    got = cascade(lines, [partial(_at_once, keys=keys), partial(_one_by_one, known=keys)])
    quoted = {k for fields in some for k, v in fields.items() if v and not isinstance(v, _Number)}
    return _typed(got, [safe(key) for key in keys if key not in quoted])


def read_logfmt(lines: pl.Series) -> pl.DataFrame:
    """Read lines that are `key=value` from end to end, two pairs or more."""
    audit = lines.str.contains(AUDIT)
    fits = (lines.str.contains(LOGFMT) & ~audit).fill_null(value=False)
    found = pl.DataFrame({ROW: fits.arg_true(), "pair": lines.filter(fits).str.extract_all(PAIR)})
    pair = pl.col("pair").str.splitn("=", 2).struct.rename_fields(["key", "value"])
    value = pl.col("value")
    inner = value.str.slice(1, value.str.len_chars() - 2).str.replace_many(ESCAPES)
    quoted = value.str.starts_with('"')
    pairs = found.explode("pair").with_columns(pair).unnest("pair").with_columns(quoted=quoted)
    pairs = pairs.with_columns(pl.when(quoted).then(inner).otherwise(value))
    keys = pairs["key"].value_counts(sort=True)["key"].to_list()
    by_key = pairs.partition_by("key", as_dict=True)
    blank = pl.repeat(None, len(lines), dtype=pl.String, eager=True)
    columns = {"_fits": fits}
    bare = []
    twice = False
    for key in keys[:MAX_KEYS]:
        values = by_key[(key,)]
        twice |= bool((values[ROW].diff() == 0).any())
        columns[safe(key)] = blank.clone().scatter(values[ROW], values["value"])
        bare += [safe(key)] if not values["quoted"].any() else []
    others = [*keys[MAX_KEYS:], *({"rest"} & by_key.keys())]
    if others or twice:
        is_last = pairs.select(pl.struct(ROW, "key").is_last_distinct()).to_series()
        extra = pairs.filter(pl.col("key").is_in([*others, "rest"]) | ~is_last)
        rest: dict[int, dict[str, str]] = {}
        for row, key, text, _ in extra.iter_rows():
            mine = rest.setdefault(row, {})
            mine[_free(key, mine)] = text
        columns["rest"] = blank.clone().scatter(list(rest), list(map(_quote, rest.values())))
    return _typed(pl.DataFrame(columns), bare)


def _typed(got: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Make numbers of columns whose every value stays the number that it is."""
    for name in names:
        if name not in got.columns or name == "rest" or got[name].dtype != pl.String:
            continue
        for pattern, dtype in ((INTEGER, pl.Int64), (NUMBER, pl.Float64)):
            text = got[name]
            if text.count() and text.drop_nulls().head(20).str.contains(pattern).all():
                if not text.str.contains(pattern).all():
                    continue
                number = text.cast(dtype, strict=False)
                if number.null_count() == text.null_count():
                    got = got.with_columns(number)
                    break
    return got


def _at_once(texts: pl.Series, keys: list[str]) -> pl.DataFrame:
    """Read the lines that are flat; they fit if no value was lost.

    No value was lost if a line has as many `":` as values were found, nulls aside. Text that
    looks like a key counts as one, so the check may fail too often, never too rarely.
    """
    flat = (texts.str.contains(FLAT) & texts.str.ends_with("}")).fill_null(value=False)
    if not keys or not flat.any():
        return pl.DataFrame({"_fits": pl.repeat(value=False, n=len(texts), eager=True)})
    texts = texts.set(~flat, "{}")
    source = io.BytesIO(texts.str.join("\n")[0].encode())
    got = pl.read_ndjson(source, schema=dict.fromkeys(keys, pl.String))
    count = partial(texts.str.count_matches, literal=True)
    asked = count('":') - count('":null') - count('": null')
    fits = flat & (asked == got.select(pl.sum_horizontal(pl.all().is_not_null())).to_series())
    got.columns = [safe(key) for key in keys]
    return got.select(fits.alias("_fits"), pl.when(fits).then(pl.all()))


def _one_by_one(lines: pl.Series, known: list[str]) -> pl.DataFrame:
    found = [_object(line) for line in lines]
    columns: dict[str, list[object]] = {"_fits": [fields is not None for fields in found]}
    filled = [fields or _Object() for fields in found]
    counts = Counter(key for fields in filled for key in fields)
    keys = list(dict.fromkeys([*known, *(key for key, _ in counts.most_common())]))
    kept = [key for key in keys[:MAX_KEYS] if key in counts]
    for key in kept:
        columns[safe(key)] = [fields.get(key) for fields in filled]
    others = counts.keys() - set(kept)
    if others or any(fields.twice for fields in filled):
        others |= {"rest"} & counts.keys()
        columns["rest"] = [_rest(fields, others) for fields in filled]
    schema = dict.fromkeys(columns, pl.String) | {"_fits": pl.Boolean}
    return pl.DataFrame(columns, schema)


def _rest(fields: _Object, others: set[str]) -> str | None:
    rest = {key: value for key, value in fields.items() if key in others}
    for key, value in fields.twice:
        rest[_free(key, rest)] = value
    return _quote(rest) if rest else None


def _free(key: str, taken: dict[str, Any]) -> str:
    while key in taken:
        key += "_"
    return key


def _object(line: str | None) -> _Object | None:
    """Return the flattened object of a line, texts or nulls, or None if it is none."""
    try:
        if line and (text := line.strip()).startswith("{"):
            if text[-1] in ",]":  # an element of a list
                text = text.rstrip("], \r\n\t") if text[-1] == "]" else text[:-1]
            fields = _Object()
            twice: list[tuple[str, Any]] = []
            fields.twice = twice
            _flatten("", _only(_decode(text)), fields, twice)
            return fields
    except (ValueError, RecursionError):
        pass
    return None


def _only(found: _Object) -> _Object:
    """Return an object that holds no more than a list of objects as the first of them."""
    key, value = next(iter(found.items()), ("", None))
    if len(found) > 1 or found.twice or not (isinstance(value, list) and value):
        return found
    first, *others = value
    if not isinstance(first, _Object):
        return found
    return _pairs([*first.twice, *first.items(), *([(key, others)] if others else [])])


def _flatten(
    prefix: str,
    found: _Object,
    fields: dict[str, str | None],
    twice: list[tuple[str, Any]],
) -> None:
    for key, value in (*found.twice, *found.items()):
        name = f"{prefix}{_clean(key)}"
        if isinstance(value, _Object) and value:
            _flatten(f"{name}.", value, fields, twice)
            continue
        if name in fields:
            twice.append((name, fields[name]))
        if name == "MESSAGE" and isinstance(value, list):
            value = _bytes(value)  # journald's, of text that is not printable  # noqa: PLW2901
        number = isinstance(value, _Number)
        fields[name] = value if number else None if value is None else _clean(_text(value))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _encode(value)


def _encode(value: Any) -> str:
    if isinstance(value, _Number):
        return value
    if isinstance(value, _Object):
        pairs = (f"{_quote(key)}: {_encode(one)}" for key, one in (*value.twice, *value.items()))
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_encode, value)) + "]"
    return _quote(value)


def _bytes(value: list[Any]) -> Any:
    try:
        return bytes(map(int, value)).decode(errors="replace")
    except (ValueError, TypeError):
        return value


def _clean(text: str) -> str:
    # half surrogates may be in JSON, but not in UTF-8
    return text.encode(errors="replace").decode()
