"""Where processed lines end: files, standard output, databases, lakes, servers.

A sink stages a batch's rows before the commit and publishes them after it, so
that nobody sees a row of a batch that was not committed.
"""

from etl.sinks.bucket import Bucket
from etl.sinks.database import DatabaseTable
from etl.sinks.delta import Delta
from etl.sinks.http import Elasticsearch, HttpLines, Loki
from etl.sinks.jsonl import JsonLines
from etl.sinks.lake import DuckLake
from etl.sinks.parquet import Parquet
from etl.sinks.stdout import Stdout
from etl.sinks.topic import Topic

__all__ = [
    "Bucket",
    "DatabaseTable",
    "Delta",
    "DuckLake",
    "Elasticsearch",
    "HttpLines",
    "JsonLines",
    "Loki",
    "Parquet",
    "Stdout",
    "Topic",
]
