"""What Docker keeps of a container beside its log, `ID-json.log`: its name, image and service."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

__all__ = ["columns_of", "is_beside_log"]

log = logging.getLogger("etl")

ID_LENGTH = 64
LOG = re.compile(r"(?P<id>[0-9a-f]{64})-json\.log\b")
CONFIG = "config.v2.json"
MAX_CONFIG_BYTES = 1 << 20

COLUMNS = {
    "docker.container": ("Name",),
    "docker.image": ("Config", "Image"),
    "docker.project": ("Config", "Labels", "com.docker.compose.project"),
    "docker.service": ("Config", "Labels", "com.docker.compose.service"),
}
"""Where the texts of columns are in the file."""


def columns_of(path: Path) -> tuple[tuple[str, str], ...]:
    """Return what is known of the container whose log a file is, by names of columns.

    Args:
        path: The log, perhaps by a link, or rotated. Of any other file, nothing is known.
    """
    path = path.resolve()
    found = LOG.match(path.name)
    if not found or path.parent.name != found["id"]:
        return ()
    config = path.with_name(CONFIG)
    try:
        if not config.is_file():  # which a pipe is not: it might be waited for without end
            return ()
        with config.open("rb") as file:
            known = json.loads(file.read(MAX_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        log.warning(
            "%r cannot be read, and columns of its container are missing: %s", config, error
        )
        return ()
    texts = {name: _at(known, keys).removeprefix("/") for name, keys in COLUMNS.items()}
    return tuple((name, text) for name, text in texts.items() if text)


def is_beside_log(path: Path) -> bool:
    """Return whether a file is one of those that Docker keeps beside the log of a container."""
    id = path.parent.name
    return (
        len(id) == ID_LENGTH
        and not LOG.match(path.name)
        and path.with_name(f"{id}-json.log").exists()
    )


def _at(found: object, keys: tuple[str, ...]) -> str:
    """Return the text at some keys; empty if there is none."""
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    # JSON may have halves of characters, which no store takes
    return found.encode(errors="replace").decode() if isinstance(found, str) else ""
