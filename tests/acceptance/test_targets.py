"""Targets in real processes: whoever is killed when, each line is loaded once."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from etl import DuckLake

PIPELINES = Path(__file__).with_name("deadly.py")
LINES = 700

PLACES = ("stage", "commit", "publish", "load", "loaded", "forget")
"""Where deadly.py can let a process die."""


def worker(site, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a worker process until nothing waits, in the queue or for the target."""
    options = {"out": str(site.out), "pipeline": f"{PIPELINES}:pipeline", "drain": True}
    options["batch_lines"] = LINES // 7
    command = [sys.executable, "-m", "etl.workers.main", json.dumps(options)]
    given = {"ETL_STORE": str(site.store), **environment}
    return subprocess.run(
        command, **site.options(env=given), capture_output=True, check=False, timeout=60
    )


def test_a_line_is_in_the_database_once_wherever_its_worker_was_killed(site):
    site.put([f"line {n}" for n in range(LINES)], of=LINES // 7)
    for place in PLACES:
        died = worker(site, DIE_AT=place)
        assert died.returncode == -signal.SIGKILL, f"{place}: {died.stderr}"
    assert worker(site).returncode == 0
    site.settled(done=LINES)
    with closing(sqlite3.connect(site.folder / "t.db")) as database:
        rows = database.execute("SELECT number FROM lines ORDER BY number").fetchall()
    assert rows == [(number,) for number in range(LINES)]
    assert site.queue.targets() == site.queue.outputs() == []
    assert [path.name for path in site.out.rglob("*") if path.is_file()] == [".lock"]


def test_two_processes_that_are_killed_fill_one_lake(site):
    site.put([f"line {n}" for n in range(LINES)], of=LINES // 7)
    command = ("work", "--drain", "--pipeline", f"{PIPELINES}:into_lake", "--batch-lines", 1)
    both = [site.start(*command, env={"LAKE": "lake.db"}) for _ in range(2)]
    assert site.busy(both[0])
    site.kill(both[0])
    site.ended(both[1])
    site.etl(*command, env={"LAKE": "lake.db"})
    site.settled(done=LINES)
    with DuckLake(str(site.folder / "lake.db"), "lines").session() as session:
        counted = session._connection.sql("SELECT count(*), count(DISTINCT number) FROM lines")
        assert counted.fetchall() == [(LINES, LINES)]


class Server(HTTPServer):
    status = 503


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def http() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_run_whose_target_fails_says_what_is_left_and_is_resumed(site, http):
    log = site.write("app.log", "one\ntwo\n")
    url = f"http://127.0.0.1:{http.server_port}"
    run = ("run", log, "--pipeline", f"{PIPELINES}:over_http")
    environment = {"SERVER": url.replace("//", "//me:s3cret@")}
    said = site.refused(*run, code=1, env=environment)
    assert f"2 lines wait for {url}, which has failed since 20" in said
    assert "HTTP 503 Service Unavailable; see to it and run again with --store" in said
    assert f"2 lines wait for {url}, which has failed since 20" in site.etl("status")
    (state,) = site.json("status")["targets"]
    assert (state["files"], state["lines"], state["name"]) == (1, 2, url)

    http.status = 200
    assert "nothing new" in site.etl(*run, env=environment)
    assert site.json("status")["targets"] == []
    assert b"s3cret" not in site.store.read_bytes()
