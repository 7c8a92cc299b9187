"""A notebook-native log ETL workbench: durable queue, pipeline, dead letters, metrics, traces.

Names are loaded when they are first used, so that `import etl` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etl.dlq import DeadLetters as DeadLetters
    from etl.errors import EtlError as EtlError
    from etl.lines import Batch as Batch
    from etl.lines import Outcome as Outcome
    from etl.pipeline import Pipeline as Pipeline
    from etl.processors import Count as Count
    from etl.processors import Parse as Parse
    from etl.processors import Retry as Retry
    from etl.processors import drop as drop
    from etl.processors import each as each
    from etl.processors import normalise as normalise
    from etl.processors import reject as reject
    from etl.processors import upper as upper
    from etl.queue import Queue as Queue
    from etl.queue import open_queue as open_queue
    from etl.runs import run as run
    from etl.sinks import Console as Console
    from etl.sinks import JsonLines as JsonLines
    from etl.sinks import Parquet as Parquet
    from etl.worker import Worker as Worker

__version__ = "0.1.0"

_HOME = {
    "Batch": "lines",
    "Console": "sinks",
    "Count": "processors",
    "DeadLetters": "dlq",
    "EtlError": "errors",
    "JsonLines": "sinks",
    "Outcome": "lines",
    "Parquet": "sinks",
    "Parse": "processors",
    "Pipeline": "pipeline",
    "Queue": "queue",
    "Retry": "processors",
    "Worker": "worker",
    "drop": "processors",
    "each": "processors",
    "normalise": "processors",
    "open_queue": "queue",
    "reject": "processors",
    "run": "runs",
    "upper": "processors",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'etl' has no attribute {name!r}")
    return getattr(importlib.import_module(f"etl.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
