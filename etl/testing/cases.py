"""Tests of a pipeline as TOML: cases that anyone can read, and add to from a dead letter.

    pipeline = "shop.py:pipeline"       # a path is seen from this file's folder

    [[case]]
    name = "a total is cents"
    line = "ERROR order 7 total=12.50"
    path = ["parse", "...", "loud", "out"]
    fields.cents = 1250

    [[case]]
    line = "rubbish"
    dead = {processor = "parse", code = "no_format"}

The file's name ends in `.etl.toml`; pytest collects it. Keys of a case: `line`
(or `line_hex`, its bytes, if it is not UTF-8), `name`, `pipeline` and `format`
(here, or once above for all), `fields`, `path`, `rows` and `state` as in
`testing.assert_line`, or `dead` with the options of `testing.assert_dead`.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from etl.errors import UsageError, did_you_mean
from etl.pipeline.load import load_pipeline
from etl.pipeline.pipeline import Pipeline
from etl.pipeline.plan import INPUT
from etl.records.result import UNREAD
from etl.testing.assertions import assert_dead, assert_line
from etl.text import printable

__all__ = ["Case", "append_case", "case_of", "read_cases"]

SHARED: dict[str, type] = {"pipeline": str, "format": str}


KEYS: dict[str, type] = SHARED | {
    "name": str,
    "line": str,
    "line_hex": str,
    "state": str,
    "path": list,
    "rows": int,
    "fields": dict,
    "dead": dict,
}


DEAD_KEYS: dict[str, type] = {"processor": str, "code": str, "error": str, "message": str}


KINDS = {str: "a string", list: "a list of strings", int: "a whole number", dict: "a table"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One line and what must become of it.

    Attributes:
        name: Shown by pytest; different from the file's other names.
        line: The line, as bytes if it is not UTF-8.
        pipeline: `module:attr` or `path/to/file.py:attr`.
        format: Name of the line's format, or None.
        expected: Options of `assert_line`, or of `assert_dead`.
        dead: Whether the line must die.
    """

    name: str
    line: str | bytes
    pipeline: str
    format: str | None = None
    expected: Mapping[str, Any] = field(default_factory=dict)
    dead: bool = False

    def check(self, pipeline: Pipeline | None = None) -> None:
        """Run the line and compare; through another pipeline than the named one, if given.

        Raises:
            AssertionError: If something else becomes of the line.
            UsageError: If there is no such pipeline, processor or format.
        """
        __tracebackhide__ = True
        run = assert_dead if self.dead else assert_line
        run(
            pipeline or load_pipeline(self.pipeline), self.line, format=self.format, **self.expected
        )


def read_cases(path: str | Path) -> list[Case]:
    """Read the cases of a file.

    Raises:
        UsageError: If it cannot be read, or a key or value in it cannot be;
            the message names the file, the case and the key.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    cases = content.pop("case", None)
    _check_keys(str(path), content, SHARED | {"case": list})
    if not isinstance(cases, list) or not all(isinstance(case, dict) for case in cases):
        raise UsageError(f"{path}: there are no cases; add one that begins with [[case]]")
    made: list[Case] = []
    for number, case in enumerate(cases, 1):
        one = _case(f"{path}: case {number}", content | case, path.parent)
        name = one.name or f"{number} {printable(str(case.get('line', 'bytes')))[:40]}"
        taken = {other.name for other in made}
        made.append(replace(one, name=f"{name} ({number})" if name in taken else name))
    return made


def case_of(
    dead_letter: Mapping[str, Any],
    *,
    pipeline: str | None = None,
    name: str | None = None,
    fields: Mapping[str, Any] | None = None,
    dead: bool = False,
) -> str:
    """Return a dead letter as the TOML text of a case: its line must not die again.

    Args:
        dead_letter: A row of `DeadLetters.frame()`.
        pipeline: What the line runs through, if the file does not say it once for all.
        name: The case's name; by default it is made of where the line is from.
        fields: Fields that the mended pipeline must give the line: strings,
            numbers and booleans.
        dead: The line must die again, in the same place, for the same reason:
            for lines that are bad indeed.

    Raises:
        UsageError: If the letter stands for a range without lines, or a field cannot be written.
    """
    if dead_letter["processor"] == INPUT and dead_letter["code"] in UNREAD:
        raise UsageError(
            f"dead letter {dead_letter['id']} stands for {dead_letter['lines']:,} lines that "
            "could not be read"
        )
    source = os.path.basename(dead_letter["source"])  # noqa: PTH119 - any text may be a source
    raw = dead_letter["raw"]
    text: dict[str, Any] = {"name": name or f"{source} line {dead_letter['line_number']}"}
    text |= {"pipeline": pipeline} if pipeline else {}
    text |= {"format": dead_letter["format"]} if isinstance(dead_letter["format"], str) else {}
    text |= {"line_hex": raw.hex()} if isinstance(raw, bytes) else {"line": dead_letter["line"]}
    text |= {f"fields.{_key(key)}": value for key, value in (fields or {}).items()}
    if dead:
        text |= {"dead.processor": dead_letter["processor"], "dead.code": dead_letter["code"]}
    return "[[case]]\n" + "".join(f"{key} = {_toml(key, value)}\n" for key, value in text.items())


def append_case(
    path: str | Path, dead_letter: Mapping[str, Any], *, pipeline: str, **rest: Any
) -> str:
    """Add a dead letter to a file of cases, which is made if it is not there; see `case_of`.

    Args:
        path: The file; its name ends in `.etl.toml`.
        dead_letter: A row of `DeadLetters.frame()`.
        pipeline: `module:attr`, or `path/to/file.py:attr` as seen from here.
        **rest: Further options of `case_of`.

    Returns:
        The case's text.

    Raises:
        UsageError: If the file's name ends otherwise, or it holds something else,
            or this very case.
    """
    path = Path(path)
    if not path.name.endswith(".etl.toml"):
        raise UsageError(f"cases are kept in *.etl.toml, not in {path.name!r}; name such a file")
    file, colon, attribute = pipeline.rpartition(":")
    if file.endswith(".py"):
        pipeline = Path(os.path.relpath(file, path.parent)).as_posix() + colon + attribute
    if not path.exists():
        start, before, own = f"pipeline = {_quote(pipeline)}\n", "", None
    else:
        read_cases(path)
        start, before = "", path.read_text(encoding="utf-8")
        own = None if tomllib.loads(before).get("pipeline") == pipeline else pipeline
    text = case_of(dead_letter, pipeline=own, **rest)
    if f"{text}\n" in f"{before}\n":
        raise UsageError(f"{path.name!r} holds this case already; pytest runs it")
    try:
        with path.open("a", encoding="utf-8", newline="\n") as out:
            out.write(f"{start}\n{text}")
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be written: {error.strerror}") from error
    return text


def _case(where: str, case: dict[str, Any], folder: Path) -> Case:
    _check_keys(where, case, KEYS)
    if ("line" in case) == ("line_hex" in case):
        raise UsageError(f"{where}: give it a line, as 'line' or as 'line_hex'")
    if "pipeline" not in case:
        raise UsageError(f'{where}: which pipeline? say pipeline = "shop.py:pipeline"')
    if not all(isinstance(name, str) for name in case.get("path", ())):
        raise UsageError(f"{where}: path = {case['path']!r} is not a list of strings")
    dead = "dead" in case
    if dead:
        _check_keys(f"{where}, dead", case["dead"], DEAD_KEYS)
        for key in ("fields", "rows", "state"):
            if key in case:
                raise UsageError(f"{where}: a dead line has no {key!r}; take out that or 'dead'")
    try:
        line = bytes.fromhex(case["line_hex"]) if "line_hex" in case else case["line"]
    except ValueError as error:
        raise UsageError(f"{where}: line_hex: {error}") from error
    file, colon, attribute = case["pipeline"].rpartition(":")
    if file.endswith(".py"):
        file = str(folder / file)
    wanted = {key: case[key] for key in ("path", "rows", "fields", "state") if key in case}
    return Case(
        name=case.get("name", ""),
        line=line,
        pipeline=f"{file}{colon}{attribute}",
        format=case.get("format"),
        expected=wanted | case.get("dead", {}),
        dead=dead,
    )


def _check_keys(where: str, found: Mapping[str, Any], known: Mapping[str, type]) -> None:
    for key, value in found.items():
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}{did_you_mean(key, known)}")
        if not isinstance(value, known[key]) or isinstance(value, bool):
            raise UsageError(f"{where}: {key} = {value!r} is not {KINDS[known[key]]}")


def _toml(key: str, value: Any) -> str:
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, bool | int | float):
        return json.dumps(value) if isinstance(value, bool | int) else repr(float(value))
    raise UsageError(f"{key} = {value!r} cannot be written as a case; give text or a number")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quote(name)


def _quote(text: str) -> str:
    """Return a TOML string in which nothing is hidden: what cannot be printed is escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08X}" for char in quoted)
