r"""Formats of a user's own, by name, from a TOML file.

    # etl-formats.toml
    [shop]
    template = "{timestamp} {level} [{thread}] {logger}: {message}"
    about = "what the shop writes"

    [legacy]
    regex = '^(?P<timestamp>\S+) (?P<message>.*)$'

The file is the one that `ETL_FORMATS` names, or `etl-formats.toml` in the working directory. A
name is resolved where a user gives it, to a spec that needs no file: `shop=template:{timestamp} …`.
So a batch is read alike by a worker on another machine, and by a replay after the file has changed.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from etl.errors import FormatError, did_you_mean
from etl.formats.about import ABOUT, format_hint
from etl.formats.format import FORMATS, NAME, SPEC, get_format
from etl.settings import Settings, settings

__all__ = ["UserFormat", "resolve_format", "user_formats"]

AUTO = "auto"
KINDS = ("template", "regex")
KEYS = (*KINDS, "about")
EXAMPLE = "template = \"{timestamp} {level} {message}\" or regex = '(?P<message>.*)'"


@dataclass(frozen=True)
class UserFormat:
    """A format of a user's own.

    Attributes:
        name: What it is called, also in the column `format`.
        spec: Name and layout in one text: `shop=template:…` or `shop=regex:…`.
        about: What writes it, in the user's words; may be empty.
        file: The TOML file that it is in.
    """

    name: str
    spec: str
    about: str
    file: str


def user_formats() -> Mapping[str, UserFormat]:
    """Return the formats of the user's TOML file by name; none if there is no file.

    Raises:
        FormatError: If the file cannot be read, or an entry in it cannot be used; the message
            names the file, the entry and the value.
    """
    named = settings().formats
    path = named or Settings.formats_file
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        if named is None:
            return {}
        raise FormatError(
            f"ETL_FORMATS names {str(path)!r}, which is not there; write the file or unset it"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise FormatError(f"the file of formats {str(path)!r} cannot be read: {reason}") from error
    return _read(text, str(path))


def resolve_format(name: str | None) -> str | None:
    """Return a format's name as a spec that needs no file, or None if no format is named.

    Ours and 'auto' stay as they are, as do `template:…`, `regex:…` and `shop=template:…`; the
    name of a user's own format becomes its spec.

    Raises:
        FormatError: If there is no such format, or it cannot be used.
    """
    if not name:
        return None
    if name == AUTO or name in FORMATS:
        return name
    if spec := SPEC.fullmatch(name):
        if spec[1] and _is_taken(spec[1]):
            raise FormatError(f"{spec[1]!r} is a format of etl's own; take another name")
        get_format(name)
        return name
    own = user_formats()
    if name in own:
        return own[name].spec
    known = {one.name: one.about for one in own.values()} | ABOUT
    raise FormatError(f"unknown format {name!r}{format_hint(name, known)}")


def _is_taken(name: str) -> bool:
    return name in FORMATS or name == AUTO


@lru_cache(maxsize=16)
def _read(text: str, file: str) -> Mapping[str, UserFormat]:
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FormatError(f"{file} is not TOML: {error}") from error
    return {name: _entry(name, entry, file) for name, entry in entries.items()}


def _entry(name: str, entry: Any, file: str) -> UserFormat:
    where = f"{file}: [{name}]"
    if not re.fullmatch(NAME, name):
        raise FormatError(
            f"{where}: {name!r} is no name; use lower-case letters, digits and _, a letter first"
        )
    if _is_taken(name):
        raise FormatError(f"{where}: {name!r} is a format of etl's own; take another name")
    if not isinstance(entry, dict):
        raise FormatError(f"{file}: {name} = {entry!r} is no format; write [{name}] and {EXAMPLE}")
    for key, value in entry.items():
        if key not in KEYS:
            raise FormatError(f"{where}: unknown key {key!r}{did_you_mean(key, KEYS)}")
        if not isinstance(value, str):
            raise FormatError(f"{where}: {key} = {value!r} is no text; put it in quotes")
    given = [kind for kind in KINDS if entry.get(kind)]
    if len(given) != 1:
        found = "both template and regex" if given else "neither template nor regex"
        raise FormatError(f"{where} has {found}; give one: {EXAMPLE}")
    spec = f"{name}={given[0]}:{entry[given[0]]}"
    try:
        get_format(spec)
    except FormatError as error:
        raise FormatError(f"{where}: {error}") from error
    return UserFormat(name, spec, entry.get("about", ""), file)
