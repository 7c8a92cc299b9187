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

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from etl.errors import UsageError, did_you_mean
from etl.pipeline.load import load_pipeline
from etl.pipeline.pipeline import Pipeline
from etl.pipeline.plan import INPUT
from etl.records.context import DEFAULT, Context
from etl.records.result import UNREAD
from etl.testing.assertions import assert_dead, assert_line
from etl.text import printable

__all__ = ["Case", "append_case", "case_of", "read_cases"]

SHARED: dict[str, type] = {"pipeline": str, "format": str}
"""Keys of a case that may stand above all cases instead."""

LINE_KEYS: dict[str, type] = {"state": str, "rows": int, "fields": dict}
"""Keys that are options of `assert_line` only."""

DEAD_KEYS: dict[str, type] = dict.fromkeys(("processor", "code", "error", "message"), str)
"""Keys of `dead`, which are options of `assert_dead`."""

KEYS: dict[str, type] = SHARED | LINE_KEYS
KEYS |= {"name": str, "line": str, "line_hex": str, "path": list, "dead": dict, "context": dict}

CONTEXT_KEYS: dict[str, type] = {"header": str, "modified": int, "timezone": str, "year": int}
CONTEXT_KEYS |= {"unmatched": str}
"""Keys of `context`: what of a line's source decides how it is read."""

KINDS = {str: "a string", list: "a list of strings", int: "a whole number", dict: "a table"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One line and how it must end.

    Attributes:
        name: Shown by pytest; different from the file's other names.
        line: The line, as bytes if it is not UTF-8.
        pipeline: `module:attr` or `path/to/file.py:attr`.
        format: Name of the line's format, or None.
        context: What is known of the line's source.
        expected: Options of `assert_line`, or of `assert_dead`.
        dead: Whether the line must become a dead letter.
    """

    name: str
    line: str | bytes
    pipeline: str
    format: str | None = None
    context: Context = DEFAULT
    expected: Mapping[str, Any] = field(default_factory=dict)
    dead: bool = False

    def check(self, pipeline: Pipeline | None = None) -> None:
        """Run the line through its pipeline, or the given one, and compare.

        Raises:
            AssertionError: If the line ends otherwise.
            UsageError: If there is no such pipeline, processor or format.
        """
        __tracebackhide__ = True
        check = assert_dead if self.dead else assert_line
        pipeline = pipeline or load_pipeline(self.pipeline)
        check(pipeline, self.line, format=self.format, context=self.context, **self.expected)


def read_cases(path: str | Path) -> list[Case]:
    """Return the cases of a file.

    Raises:
        UsageError: If it cannot be read, or a key or value in it is not allowed;
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
    """Return a dead letter as the TOML text of a case: its line must not fail again.

    Args:
        dead_letter: A row of `DeadLetters.frame()`.
        pipeline: What the line runs through, if the file does not name it for all cases.
        name: The case's name; by default the line's source and number.
        fields: Fields that the fixed pipeline must give the line, which are text, numbers,
            booleans, times or lists.
        dead: The line must fail again, in the same processor, for the same reason:
            for lines that are wrong themselves.

    Raises:
        UsageError: If the dead letter is a range without lines, or a field cannot be written.
    """
    if dead_letter["processor"] == INPUT and dead_letter["code"] in UNREAD:
        raise UsageError(
            f"dead letter {dead_letter['id']} stands for {dead_letter['lines']:,} lines that "
            "could not be read"
        )
    source = os.path.basename(dead_letter["source"])  # noqa: PTH119 - any text may be a source
    raw, format = dead_letter["raw"], dead_letter["format"]
    text = {
        "name": name or f"{source} line {dead_letter['line_number']}",
        "pipeline": pipeline,
        "format": format if isinstance(format, str) else None,
        "line_hex": raw.hex() if isinstance(raw, bytes) else None,
        "line": None if isinstance(raw, bytes) else dead_letter["line"],
    }
    case = tomlkit.table()
    case.update({key: value for key, value in text.items() if value is not None})
    known = asdict(Context.decode(dead_letter.get("context") or "{}"))
    if re.search(r"\b(?:19|20)[0-9]{2}", dead_letter["line"][:200]):
        known["modified"] = None  # which is for times without a year
    for key in CONTEXT_KEYS:
        if known[key] != getattr(DEFAULT, key):
            case.append(tomlkit.key(["context", key]), known[key])
    for field_name, value in (fields or {}).items():
        try:
            case.append(tomlkit.key(["fields", field_name]), value)
        except TOMLKitError as error:
            why = f"fields.{field_name} = {value!r} cannot be written in a case"
            raise UsageError(f"{why}; give text, a number, a time or a list") from error
    for key in ("processor", "code") if dead else ():
        case.append(tomlkit.key(["dead", key]), dead_letter[key])
    return f"[[case]]\n{_toml(case)}"


def append_case(
    path: str | Path,
    dead_letter: Mapping[str, Any],
    *,
    pipeline: str,
    name: str | None = None,
    fields: Mapping[str, Any] | None = None,
    dead: bool = False,
) -> str:
    """Add a dead letter to a file of cases, and return the case's text; see `case_of`.

    Args:
        path: The file, which is made if it does not exist; its name ends in `.etl.toml`.
        dead_letter: A row of `DeadLetters.frame()`.
        pipeline: `module:attr`, or `path/to/file.py:attr` as seen from here.
        name: As for `case_of`, like the following.
        fields: Fields that the line must have.
        dead: The line must fail again.

    Raises:
        UsageError: If the file's name ends otherwise, or it holds something else,
            or this very case.
    """
    path = Path(path)
    if not path.name.endswith(".etl.toml"):
        raise UsageError(f"cases are kept in *.etl.toml, not in {path.name!r}; name such a file")
    pipeline = _relocated(
        pipeline, lambda file: Path(os.path.relpath(file, path.parent)).as_posix()
    )
    start, before, own = _toml({"pipeline": pipeline}), "", None
    if path.exists():
        read_cases(path)
        start, before = "", path.read_text(encoding="utf-8")
        own = None if tomllib.loads(before).get("pipeline") == pipeline else pipeline
    text = case_of(dead_letter, pipeline=own, name=name, fields=fields, dead=dead)
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
        raise UsageError(f"{where}: a case has one line; give it as 'line' or as 'line_hex'")
    if "pipeline" not in case:
        raise UsageError(f'{where}: no pipeline; add pipeline = "shop.py:pipeline"')
    if "dead" in case:
        _check_keys(f"{where}, dead", case["dead"], DEAD_KEYS)
        for key in sorted(case.keys() & LINE_KEYS):
            raise UsageError(f"{where}: a dead line has no {key!r}; take out that or 'dead'")
    _check_keys(f"{where}, context", case.get("context", {}), CONTEXT_KEYS)
    try:
        line = bytes.fromhex(case["line_hex"]) if "line_hex" in case else case["line"]
    except ValueError as error:
        raise UsageError(f"{where}: line_hex: {error}") from error
    expected = {key: case[key] for key in (*LINE_KEYS, "path") if key in case}
    return Case(
        name=case.get("name", ""),
        line=line,
        pipeline=_relocated(case["pipeline"], lambda file: str(folder / file)),
        format=case.get("format"),
        context=Context(**case.get("context", {})),
        expected=expected | case.get("dead", {}),
        dead="dead" in case,
    )


def _relocated(pipeline: str, move: Callable[[str], str]) -> str:
    """Return a pipeline's name with the path of its file moved, if it is in a file."""
    file, colon, attribute = pipeline.rpartition(":")
    return f"{move(file)}{colon}{attribute}" if file.endswith(".py") else pipeline


def _check_keys(where: str, found: Mapping[str, Any], known: Mapping[str, type]) -> None:
    for key, value in found.items():
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}{did_you_mean(key, known)}")
        strings = not isinstance(value, list) or all(isinstance(one, str) for one in value)
        if not isinstance(value, known[key]) or isinstance(value, bool) or not strings:
            raise UsageError(f"{where}: {key} = {value!r} is not {KINDS[known[key]]}")


def _toml(content: Mapping[str, Any]) -> str:
    """Return TOML in which nothing is hidden: what cannot be printed is escaped."""
    text = tomlkit.dumps(content)
    return "".join(
        char if char.isprintable() or char == "\n" else f"\\U{ord(char):08X}" for char in text
    )
