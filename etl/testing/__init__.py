"""Tests of your own pipelines; see `etl.testing.assertions`. Names are loaded when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etl.testing.assertions import assert_dead, assert_golden, assert_line, drain, run_from

__all__ = ["assert_dead", "assert_golden", "assert_line", "drain", "run_from"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'etl.testing' has no attribute {name!r}")
    return getattr(importlib.import_module("etl.testing.assertions"), name)
