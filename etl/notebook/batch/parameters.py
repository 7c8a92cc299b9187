"""The parameters of a batch: their defaults and types, for `etl batch -p` and plain papermill.

    parse(["max_dead=0"])          values by name, of the types of the defaults
    checked(globals())             in the notebook: what papermill has put there, converted

papermill guesses the type of what follows `-p`, makes a number of the run id 20240305, and accepts
names that the notebook does not have. Here every value has the type of its default, or is refused.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from etl.errors import UsageError, did_you_mean
from etl.records.context import AS_FOUND, ReadOptions
from etl.settings import Settings

__all__ = ["DEFAULTS", "check_limits", "checked", "convert", "parse", "read_options"]

DEFAULTS: Mapping[str, Any] = {
    "source": "",
    "pipeline": Settings.pipeline,
    "format": "",
    "multiline": AS_FOUND.multiline,
    "timezone": AS_FOUND.timezone,
    "year": 0,
    "unmatched": AS_FOUND.unmatched,
    "store": "",
    "out": "",
    "workers": 2,
    "max_dead_ratio": 0.05,
    "max_dead": -1,
    "max_generic_ratio": 1.0,
    "min_lines": 1,
    "expect_columns": [],
    "run_id": "",
    "interactive": False,
}
"""Every parameter; the notebook has the same in its cell of parameters."""

TEXTS = {"source"}
"""Parameters that are a text, or a list of texts."""

LEAST = {"workers": 1, "max_dead": -1, "min_lines": 0}

SHARES = ("max_dead_ratio", "max_generic_ratio")

TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

KINDS = {bool: "true or false", int: "a whole number", float: "a number", list: "a list of texts"}

INJECTED = "# Parameters"
"""How the cell begins that papermill puts in."""


def parse(texts: Sequence[str], defaults: Mapping[str, Any] = DEFAULTS) -> dict[str, Any]:
    """Return the values of `name=value` texts, each of the type of the parameter's default.

    A list is written with commas between, or as JSON.

    Raises:
        UsageError: If a name is unknown, or a value of another type.
    """
    found = {}
    for text in texts:
        name, mark, value = text.partition("=")
        if not mark:
            raise UsageError(f"-p {text} is no name=value")
        _refuse_unknown([name], defaults)
        found[name] = convert(name, value, defaults)
    return found


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters as a notebook has them, converted to the types of their defaults.

    Args:
        given: The notebook's global names, among them `In`, the cells that were run.

    Raises:
        UsageError: If papermill was given a name that is unknown, or a value cannot be used.
    """
    for cell in given.get("In", ()):
        if cell.startswith(INJECTED):
            _refuse_unknown(_assigned(cell), DEFAULTS)
    found = {name: convert(name, given[name]) for name in DEFAULTS}
    check_limits(found)
    return found


def convert(name: str, value: Any, defaults: Mapping[str, Any] = DEFAULTS) -> Any:
    """Return a value as the type of a parameter's default.

    Raises:
        UsageError: If it cannot be one.
    """
    if name in TEXTS and isinstance(value, list | tuple):
        return [convert(name, one, defaults) for one in value]
    kind = type(defaults[name])
    try:
        return READERS[kind](value)
    except (KeyError, TypeError, ValueError):
        if kind is str:
            raise UsageError(
                f"{name} must be text, got {value!r}; give it to papermill with -r"
            ) from None
        raise UsageError(f"parameter {name} has to be {KINDS[kind]}, not {value!r}") from None


def check_limits(given: Mapping[str, Any]) -> None:
    """Raise UsageError if a parameter has the right type and a value that cannot be used."""
    for name, least in LEAST.items():
        if given.get(name, least) < least:
            raise UsageError(f"{name} must be >= {least}, got {given[name]}")
    for name in SHARES:
        if not 0 <= given.get(name, 0) <= 1:
            raise UsageError(f"{name} must be from 0 to 1, got {given[name]}")
    read_options(given)


def read_options(given: Mapping[str, Any]) -> ReadOptions:
    """Return how lines are read, as a batch's parameters say.

    Raises:
        UsageError: If one of them cannot be used.
    """
    empty = {"format": "", "year": 0}
    names = {one.name for one in fields(ReadOptions)} & given.keys()
    return ReadOptions(**{name: given[name] for name in names if given[name] != empty.get(name)})


def _refuse_unknown(names: Sequence[str], defaults: Mapping[str, Any]) -> None:
    for name in names:
        if name not in defaults:
            raise UsageError(f"unknown parameter {name!r}{did_you_mean(name, defaults)}")


def _assigned(cell: str) -> list[str]:
    """Return the names to which a cell assigns values."""
    nodes = [node for node in ast.parse(cell).body if isinstance(node, ast.Assign)]
    targets = [target for node in nodes for target in node.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _text(value: Any) -> str:
    """Return a text that `papermill -p` may have made a whole number of: `20240305`."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError
    return str(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise TypeError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def _truth(value: Any) -> bool:
    return TRUTHS[str(value).lower()]


def _list(value: Any) -> list[str]:
    if isinstance(value, str):
        comma = [one.strip() for one in value.split(",") if one.strip()]
        value = json.loads(value) if value.startswith("[") else comma
    return [_text(one) for one in list(value)]


READERS: Mapping[type, Callable[[Any], Any]] = {
    str: _text,
    int: _whole,
    float: _number,
    bool: _truth,
    list: _list,
}
