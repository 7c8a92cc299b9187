"""Formats of a user's own: `template:{date} {time} …` and `regex:(?P<name>…)`."""

import re
from functools import lru_cache
from itertools import pairwise

import polars as pl

from etl.errors import FormatError
from etl.formats.catalogue import TIME
from etl.formats.columns import closed, group_names
from etl.formats.splits import Split
from etl.text import wrong_with_regex

__all__ = ["compile_spec", "split_of"]

OWN = {"timestamp": TIME, "datetime": TIME, "pid": "[0-9]+"}
"""What fields of these names hold; the others hold what is up to the text behind them."""
FIELD = re.compile(r"((?:[^{}]|\{\{|\}\})*)\{([A-Za-z_]\w*)\}", re.ASCII)


@lru_cache(maxsize=256)
def compile_spec(spec: str) -> tuple[str, ...]:
    """Compile a template or regex to patterns, as in `Format`.

    Raises:
        FormatError: If it cannot be used.
    """
    kind, _, text = spec.partition(":")
    if kind == "template":
        parts = _parts(text)
        return tuple(dict.fromkeys(_pattern(parts, quick=quick) for quick in (True, False)))
    try:
        names = group_names(text)
    except pl.exceptions.ComputeError as error:
        why = wrong_with_regex(error)
        raise FormatError(f"regex {text!r} does not compile: {why}") from error
    if not names:
        raise FormatError(f"regex {text!r} needs named groups: write (?P<name>…)")
    return (closed(text),)


def split_of(spec: str) -> Split | None:
    """Return how to read the usual lines of a template; None for a regex."""
    kind, _, text = spec.partition(":")
    if kind != "template":
        return None
    parts = _parts(text)
    fields = [(name, after) for (_, name), (after, _) in pairwise(parts)]
    if fields[-1][0] in OWN:
        return None
    times = [field for field in fields[:-1] if OWN.get(field[0]) == TIME]
    pattern = _pattern([*parts[:-1], ("", "")], quick=True)
    return Split(pattern, tuple(times), after=fields[-1][1])


def _parts(text: str) -> list[tuple[str, str]]:
    """Return the fields of a template with the text before each, and the text behind them.

    Raises:
        FormatError: If it cannot be used.
    """
    parts = [*FIELD.findall(text), (FIELD.sub("", text), "")]
    befores, names = zip(*parts, strict=True)
    odd = re.search("[{}]", re.sub(r"\{\{|\}\}", "", befores[-1]))
    if odd or len(parts) < 2 or len(set(names)) < len(parts) or "" in befores[1:-1]:
        message = "it needs two or more {fields} of different names, with text between them"
        raise FormatError(
            f"template {text!r} does not work: {message}; write a brace as {{{{ or }}}}"
        )
    return [(before.replace("{{", "{").replace("}}", "}"), name) for before, name in parts]


def _pattern(parts: list[tuple[str, str]], *, quick: bool) -> str:
    """Return the regex of a template: a quick one, or one for lines that are not so simple.

    The quick one says that a field does not hold the character after it; where it fits, it
    finds what the other finds. A run of blanks stands for any run, except before the last
    field, whose own blanks are its own.
    """
    pattern = "^"
    for i, ((before, name), (after, _)) in enumerate(pairwise(parts), 2):
        is_last = i == len(parts)
        literal = pl.escape_regex(before)
        pattern += literal if is_last else re.sub(" +", " +", literal)
        pattern += f"(?P<{name}>{_body(name, '' if is_last else after, quick=quick)})"
    return pattern + pl.escape_regex(parts[-1][0]) + "$"


def _body(name: str, after: str, *, quick: bool) -> str:
    if name in OWN:
        return OWN[name]
    if not after:
        return "(?s:.*)"
    if after.isspace():
        return r"\S+"
    stop = rf"\x{{{ord(after[0]):x}}}"
    if len(after) == 1:
        return rf"[^{stop}\s]*" if quick else r"\S*?"
    is_message = name == "message"  # which may go on in the next line, as the last field may
    if not quick:
        return "(?s:.*?)" if is_message else ".*?"
    text = rf"[^{stop}\s][^{stop}]*" if is_message else rf"[^{stop}\s][^{stop}\x{{a}}]*"
    # Were a field empty before a blank, there would be two ways to read the blanks.
    return text if after[0] == " " else f"(?:{text})?"
