"""How a store is named: by a path or a URL, and what of that may be shown and kept."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

__all__ = ["IN_MEMORY", "POSTGRES", "file_of", "url_of", "without_secrets"]

IN_MEMORY = "sqlite://"

POSTGRES = ("postgresql", "postgres")
"""Schemes of URLs of PostgreSQL."""

HOST = r"(\[[\w:.%]*\]|[^:@/,\[]*)(:\d*)?"
HOSTS = re.compile(rf"{HOST}(,{HOST})*(/|$)")
"""What a URL of PostgreSQL has before its database, if it is one: else it may be a password."""


def file_of(store: str) -> Path | None:
    """Return the file that a store is, by its path or URL; None if it is no file."""
    scheme, mark, rest = store.partition("://")
    if not mark:
        return Path(store)
    return Path(rest.removeprefix("/")) if scheme == "sqlite" and rest else None


def url_of(store: str) -> str:
    """Return a store's URL as an open queue has it: with the whole path, if it is a file."""
    file = file_of(store)
    return store if file is None else f"sqlite:///{file.absolute()}"


def without_secrets(url: str) -> str:
    """Return a URL without the name, password and query in it; a path as it is."""
    parts = urlsplit(url)
    if "://" not in url or parts.scheme == "sqlite":
        return url
    if parts.scheme in POSTGRES:  # there a password may hold a `?` or, wrongly, a `/`
        rest = url.partition("://")[2]
        rest = rest[rest.partition("/")[0].rfind("@") + 1 :].partition("?")[0]
        shown = rest.rpartition("@")[2]
        return f"{parts.scheme}://{shown if HOSTS.match(shown) else '…'}"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
