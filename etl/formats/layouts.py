"""Formats of a user's own: `template:{date} {time} …` and `regex:(?P<name>…)`."""

import re
from functools import lru_cache
from itertools import pairwise

import polars as pl

from etl.errors import FormatError
from etl.formats.catalogue import TIME
from etl.formats.columns import group_names

__all__ = ["compile_spec"]

FIELD = re.compile(r"((?:[^{}]|\{\{|\}\})*)\{([A-Za-z_]\w*)\}", re.ASCII)


@lru_cache(maxsize=256)
def compile_spec(spec: str) -> tuple[str, ...]:
    """Compile a template or regex to patterns, as in `Format`.

    Raises:
        FormatError: If it cannot be used.
    """
    kind, _, text = spec.partition(":")
    if kind == "template":
        return _template(text)
    try:
        names = group_names(pattern := f"(?:{text})")
    except pl.exceptions.ComputeError as error:
        reason = str(error).rpartition("error: ")[2].strip()
        raise FormatError(f"regex {text!r} does not compile: {reason}") from error
    if not names:
        raise FormatError(f"regex {text!r} needs named groups: write (?P<name>…)")
    return (pattern,)


def _template(text: str) -> tuple[str, ...]:
    """Compile a template to a quick pattern, and one for the lines that are not so simple.

    The quick one says that a field does not hold the character after it; where it fits, it
    finds what the other finds. A run of blanks stands for any run, except before the last
    field, whose own blanks are its own.
    """
    parts = [*FIELD.findall(text), (FIELD.sub("", text), "")]
    befores, names = zip(*parts, strict=True)
    odd = re.search("[{}]", re.sub(r"\{\{|\}\}", "", befores[-1]))
    if odd or len(parts) < 2 or len(set(names)) < len(parts) or "" in befores[1:-1]:
        message = "it needs two or more {fields} of different names, with text between them"
        raise FormatError(
            f"template {text!r} does not work: {message}; write a brace as {{{{ or }}}}"
        )
    parts = [(before.replace("{{", "{").replace("}}", "}"), name) for before, name in parts]
    return tuple(dict.fromkeys(_pattern(parts, quick=quick) for quick in (True, False)))


def _pattern(parts: list[tuple[str, str]], *, quick: bool) -> str:
    pattern = "^"
    for i, ((before, name), (after, _)) in enumerate(pairwise(parts), 2):
        is_last = i == len(parts)
        literal = pl.escape_regex(before)
        pattern += literal if is_last else re.sub(" +", " +", literal)
        pattern += f"(?P<{name}>{_body(name, '' if is_last else after, quick=quick)})"
    return pattern + pl.escape_regex(parts[-1][0]) + "$"


def _body(name: str, after: str, *, quick: bool) -> str:
    if name in ("timestamp", "datetime"):
        return TIME
    if name == "pid":
        return "[0-9]+"
    if not after:
        return "(?s:.*)"
    if after.isspace():
        return r"\S+"
    stop = rf"\x{{{ord(after[0]):x}}}"
    if len(after) == 1:
        return rf"[^{stop}\s]*" if quick else r"\S*?"
    return rf"(?:[^{stop}\s][^{stop}]*)?" if quick else "(?s:.*?)"
