"""Targets for tests: a server that takes rows over HTTP, and what a table holds."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import polars as pl
import psycopg

from etl import Delta, DuckLake


class BulkServer(ThreadingHTTPServer):
    """A server that keeps what it was sent, and answers as it is told to, after `pause` seconds."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str], bytes] | None] = []
        self.always: tuple[int, dict[str, str], bytes] = (200, {}, b"{}")
        self.pause = 0.0
        self.seen = threading.Condition()
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: BulkServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.seen:
            self.server.requests.append((self.path, dict(self.headers), body))
            answer = self.server.answers.pop(0) if self.server.answers else self.server.always
            self.server.seen.notify_all()
        if answer is None:  # dies after it has taken the rows
            self.connection.close()
            self.close_connection = True
            return
        time.sleep(self.server.pause)
        status, headers, said = answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(said)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def bulk_server() -> Iterator[BulkServer]:
    """Give a server while the block runs."""
    with BulkServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def rows_of(place: str, target: Any) -> pl.DataFrame:
    """Return what a table called `lines` holds, by other means than those that loaded it."""
    if isinstance(target, Delta):
        return pl.read_delta(target.address.secret)
    if isinstance(target, DuckLake):
        with target.session() as session:
            return session._connection.sql("FROM lines").pl()
    if place.startswith("postgres"):
        with psycopg.connect(place) as connection:
            return pl.read_database("SELECT * FROM lines", connection)
    if place.startswith("sqlite"):
        with closing(sqlite3.connect(place.removeprefix("sqlite:///"))) as connection:
            return pl.read_database("SELECT * FROM lines", connection)
    import duckdb

    with duckdb.connect(place.removeprefix("duckdb:///")) as connection:
        return connection.sql("FROM lines").pl()
