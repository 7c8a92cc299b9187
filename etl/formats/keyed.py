"""Lines of keys and values: JSON objects and logfmt.

A reader takes a Series of lines and returns `_fits` and a String column for each key;
numbers and nested values become their JSON text. The 200 most common keys get columns,
the others go to the column `extra` as one JSON object.
"""

import io
import json
from collections import Counter
from functools import partial
from typing import Any

import polars as pl

from etl.formats.columns import ROW, cascade, safe, sample

__all__ = ["read_json", "read_logfmt"]

MAX_KEYS = 200
# What Polars reads as Python does. It makes NUL of half a surrogate (\uD…), forgets the
# backslashes in nested values and rounds long numbers; those lines are read one by one.
STRING = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-cefA-CEF][0-9a-fA-F]{3})*"'
VALUE = rf"(?:{STRING}|-?(?:0|[1-9][0-9]{{0,17}})(?:\.[0-9]{{1,9}})?|true|false|null)"
FLAT = rf"^\{{(?: ?{STRING}: ?{VALUE}(?:,|\}}$))+$"
# https://brandur.org/logfmt; a key without `=` is not read: prose would fit too
PAIR = r'[^\s="]+=(?:"(?:[^"\\]|\\.)*"|[^\s"]*)'
ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n", "\\t": "\t", "\\r": "\r"}

_decode = json.JSONDecoder(strict=False).decode
_encode = json.JSONEncoder(ensure_ascii=False).encode


def read_json(lines: pl.Series) -> pl.DataFrame:
    """Read one JSON object a line: flat ones at once, the others one by one."""
    counts = Counter(key for line in sample(lines) for key in _object(line) or ())
    keys = [key for key, _ in counts.most_common(MAX_KEYS)]
    return cascade(lines, [partial(_at_once, keys=keys), partial(_one_by_one, known=keys)])


def read_logfmt(lines: pl.Series) -> pl.DataFrame:
    """Read lines that are `key=value` from end to end, two pairs or more."""
    fits = lines.str.contains(rf"^\s*{PAIR}(?:\s+{PAIR})+\s*$").fill_null(value=False)
    found = pl.DataFrame({ROW: fits.arg_true(), "pair": lines.filter(fits).str.extract_all(PAIR)})
    pair = pl.col("pair").str.splitn("=", 2).struct.rename_fields(["key", "value"])
    value = pl.col("value")
    inner = value.str.slice(1, value.str.len_chars() - 2).str.replace_many(ESCAPES)
    pairs = found.explode("pair").with_columns(pair).unnest("pair")
    pairs = pairs.with_columns(pl.when(value.str.starts_with('"')).then(inner).otherwise(value))
    keys = pairs["key"].value_counts(sort=True)["key"].to_list()
    by_key = pairs.partition_by("key", as_dict=True)
    blank = pl.repeat(None, len(lines), dtype=pl.String, eager=True)
    columns = {"_fits": fits}
    for key in keys[:MAX_KEYS]:
        mine = by_key[(key,)]
        columns[safe(key)] = blank.clone().scatter(mine[ROW], mine["value"])
    if others := keys[MAX_KEYS:]:
        extra: dict[int, dict[str, str]] = {}
        for row, key, text in pairs.filter(pl.col("key").is_in([*others, "extra"])).iter_rows():
            extra.setdefault(row, {})[key] = text
        columns["extra"] = blank.scatter(list(extra), list(map(_encode, extra.values())))
    return pl.DataFrame(columns)


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
    filled = [fields or {} for fields in found]
    counts = Counter(key for fields in filled for key in fields)
    keys = list(dict.fromkeys([*known, *(key for key, _ in counts.most_common())]))
    for key in keys[:MAX_KEYS]:
        if key in counts:
            columns[safe(key)] = [fields.get(key) for fields in filled]
    if others := {*keys[MAX_KEYS:]}:
        others.add("extra")
        rests = [{k: v for k, v in fields.items() if k in others} for fields in filled]
        columns["extra"] = [_encode(rest) if rest else None for rest in rests]
    schema = dict.fromkeys(columns, pl.String) | {"_fits": pl.Boolean}
    return pl.DataFrame(columns, schema)


def _object(line: str | None) -> dict[str, str | None] | None:
    try:
        if line and line.lstrip().startswith("{"):
            return {_clean(key): _clean(value) for key, value in _decode(line).items()}
    except (ValueError, RecursionError):
        pass
    return None


def _clean(value: object) -> Any:
    # half surrogates may be in JSON, but not in UTF-8
    text = value if isinstance(value, str) else _encode(value)
    return None if value is None else text.encode(errors="replace").decode()
