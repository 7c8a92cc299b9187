"""The record of a run: the small file by which a folder is known for that of a run.

`etl.runs.registry` writes it; `etl.sources` reads no logs from a folder that has one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["FILE", "Record", "read"]

FILE = "run.json"

Record = dict[str, Any]
"""What is known of a run; see `etl.runs.registry.runs` for its keys."""


def read(folder: Path) -> Record | None:
    """Return the record in a run's folder, or None if there is none that can be read."""
    try:
        found = json.loads((folder / FILE).read_bytes())
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and {"state", "started_at", "pid"} <= set(found)
    return found if whole else None
