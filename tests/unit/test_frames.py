"""What is done with frames in many places."""

from __future__ import annotations

import polars as pl
import pytest

from etl.records.frames import without

FRAME = pl.DataFrame({"line": ["a", "b"], "_row": [0, 1]})


@pytest.mark.parametrize(
    ("names", "left"),
    [((), ["line", "_row"]), (("_row", "other"), ["line"]), ({"line", "_row"}, [])],
)
def test_a_frame_without_columns_keeps_its_rows(names: tuple[str, ...], left: list[str]):
    rest = without(FRAME, names)
    assert (rest.columns, rest.height) == (left, 2)
    assert FRAME.columns == ["line", "_row"]
