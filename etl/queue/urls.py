"""How a store is named: by a path or a URL, and what of that may be shown and kept."""

from __future__ import annotations

from pathlib import Path

from etl.text import POSTGRES, without_secrets

__all__ = ["IN_MEMORY", "POSTGRES", "file_of", "url_of", "without_secrets"]

IN_MEMORY = "sqlite://"


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
