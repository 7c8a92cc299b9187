"""A notebook-native log ETL workbench: durable queue, pipeline, dead letters, metrics, traces.

Names are loaded when they are first used, so that `import etl` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etl.analysis import figures as figures
    from etl.analysis import metrics as metrics
    from etl.analysis import traces as traces
    from etl.dlq import DeadLetters as DeadLetters
    from etl.errors import EtlError as EtlError
    from etl.pipeline import Pipeline as Pipeline
    from etl.processors import Count as Count
    from etl.processors import Parse as Parse
    from etl.processors import Retry as Retry
    from etl.processors import drop as drop
    from etl.processors import each as each
    from etl.processors import mask as mask
    from etl.processors import normalise as normalise
    from etl.processors import reject as reject
    from etl.processors import upper as upper
    from etl.queue import Queue as Queue
    from etl.queue import open_queue as open_queue
    from etl.records.batch import Batch as Batch
    from etl.runs.compare import compare as compare
    from etl.runs.run import run as run
    from etl.sinks.bucket import Bucket as Bucket
    from etl.sinks.database import DatabaseTable as DatabaseTable
    from etl.sinks.delta import Delta as Delta
    from etl.sinks.http import Elasticsearch as Elasticsearch
    from etl.sinks.http import HttpLines as HttpLines
    from etl.sinks.http import Loki as Loki
    from etl.sinks.jsonl import JsonLines as JsonLines
    from etl.sinks.lake import DuckLake as DuckLake
    from etl.sinks.parquet import Parquet as Parquet
    from etl.sinks.parquet import read_output as read_output
    from etl.sinks.stdout import Stdout as Stdout
    from etl.sinks.topic import Topic as Topic
    from etl.store import Store as Store
    from etl.store import open as open  # noqa: A004 - `etl.open` is what users write
    from etl.workers.worker import Worker as Worker

__version__ = "0.2.0"

_HOME = {
    "Batch": "records.batch",
    "Bucket": "sinks.bucket",
    "Count": "processors",
    "DatabaseTable": "sinks.database",
    "DeadLetters": "dlq",
    "Delta": "sinks.delta",
    "DuckLake": "sinks.lake",
    "Elasticsearch": "sinks.http",
    "EtlError": "errors",
    "HttpLines": "sinks.http",
    "JsonLines": "sinks.jsonl",
    "Loki": "sinks.http",
    "Parquet": "sinks.parquet",
    "Parse": "processors",
    "Pipeline": "pipeline",
    "Queue": "queue",
    "Retry": "processors",
    "Stdout": "sinks.stdout",
    "Topic": "sinks.topic",
    "Store": "store",
    "Worker": "workers.worker",
    "compare": "runs.compare",
    "drop": "processors",
    "each": "processors",
    "mask": "processors",
    "normalise": "processors",
    "open": "store",
    "open_queue": "queue",
    "read_output": "sinks.parquet",
    "reject": "processors",
    "run": "runs.run",
    "upper": "processors",
}

_MODULES = {"figures": "analysis", "metrics": "analysis", "traces": "analysis"}

__all__ = list(_HOME | _MODULES)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"etl.{_MODULES[name]}.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"etl.{_HOME[name]}"), name)
    raise AttributeError(f"module 'etl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
