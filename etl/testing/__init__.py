"""Tests of your own pipelines; see `etl.testing.assertions`. Names are loaded when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etl.testing.assertions import assert_dead as assert_dead
    from etl.testing.assertions import assert_golden as assert_golden
    from etl.testing.assertions import assert_line as assert_line
    from etl.testing.assertions import drain as drain
    from etl.testing.assertions import run_from as run_from

__all__ = ["assert_dead", "assert_golden", "assert_line", "drain", "run_from"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'etl.testing' has no attribute {name!r}")
    return getattr(importlib.import_module("etl.testing.assertions"), name)
