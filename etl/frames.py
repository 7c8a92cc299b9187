"""Rows as pandas frames whose columns and dtypes are the same however many rows there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TIME", "frame_of"]

TIME = "datetime64[us, UTC]"
"""The dtype of a column whose rows hold Unix seconds."""


def frame_of(rows: Iterable[Mapping[str, Any]], dtypes: Mapping[str, str]) -> pd.DataFrame:
    """Return a frame with exactly these columns; keys that are not named are left out."""
    import pandas as pd  # half a second that the command line does without

    frame = pd.DataFrame(list(rows), columns=list(dtypes))
    for name, dtype in dtypes.items():
        if dtype == TIME:
            seconds = frame[name].astype("float64")
            frame[name] = pd.to_datetime(seconds, unit="s", utc=True).astype(TIME)
        else:
            frame[name] = frame[name].astype(dtype)
    return frame
