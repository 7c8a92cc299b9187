"""Targets in real processes: whoever is killed when, each line is loaded once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from confluent_kafka import Consumer, TopicPartition
from targets import BulkServer, bulk_server, rows_of

from etl import Delta, DuckLake

PIPELINES = Path(__file__).with_name("deadly.py")
LINES = 700

PLACES = ("stage", "commit", "publish", "load", "loaded", "forget")
"""Where deadly.py can let a process die."""

PLACES_OF_A_LOAD = ("load", "loaded")
"""Those that are not the same for all targets."""


def worker(site, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a worker process until nothing waits, in the queue or for the target."""
    options = {"out": str(site.out), "pipeline": f"{PIPELINES}:pipeline", "drain": True}
    options["batch_lines"] = LINES // 7
    command = [sys.executable, "-m", "etl.workers.main", json.dumps(options)]
    given = {"ETL_STORE": str(site.store), **environment}
    return subprocess.run(
        command, **site.options(env=given), capture_output=True, check=False, timeout=60
    )


@pytest.fixture
def server() -> Iterator[BulkServer]:
    with bulk_server() as server:
        yield server


class Place:
    """A target of a kind.

    Args:
        kind: As `deadly.TARGETS` calls it; of a database, its scheme.
        site: Where it is.
        request: Gives the server that it needs.
    """

    def __init__(self, kind: str, site, request: pytest.FixtureRequest) -> None:
        self.kind = kind
        self._request = request
        if kind in ("sqlite", "duckdb"):
            self.url = f"{kind}:///{site.folder / 't.db'}"
        elif kind == "postgresql":
            self.url = request.getfixturevalue("postgres_schema")()
        elif kind == "bucket":
            self.url = f"s3://{request.getfixturevalue('bucket')}/lines"
        elif kind == "topic":
            producer, broker = request.getfixturevalue("cluster")
            self.url = f"kafka://{broker}/{site.folder.name}"
            producer.list_topics(site.folder.name, timeout=10)
        elif kind in ("lines", "index", "loki"):
            self.url = request.getfixturevalue("server").url
        else:
            self.url = str(site.folder / kind)

    @property
    def environment(self) -> dict[str, str]:
        kind = "database" if self.kind in ("sqlite", "duckdb", "postgresql") else self.kind
        return {"KIND": kind, "TARGET": self.url}

    def numbers(self) -> list[int]:
        """Return the numbers of the lines that it holds, each as often as it does."""
        if self.kind == "bucket":
            s3 = self._request.getfixturevalue("s3")
            files = s3.glob(f"{self.url}/*.parquet")
            return [n for one in files for n in pl.read_parquet(s3.cat(one))["number"]]
        if self.kind in ("topic", "lines", "index", "loki"):
            return [row["number"] for row in self._of_server().values()]
        target = {"lake": lambda: DuckLake(self.url, "lines"), "delta": lambda: Delta(self.url)}
        make = target.get(self.kind)
        return rows_of(self.url, make() if make else None)["number"].to_list()

    def _of_server(self) -> dict[object, dict[str, int]]:
        """Return rows by what the server knows a repeat by, as the docs say."""
        if self.kind == "topic":
            return {id: json.loads(value) for id, value in self._messages()}
        found: dict[object, dict[str, int]] = {}
        for _, headers, body in self._request.getfixturevalue("server").requests:
            if self.kind == "lines":
                rows = enumerate(map(json.loads, body.splitlines()))
                found |= {(headers["Idempotency-Key"], place): row for place, row in rows}
            elif self.kind == "index":
                heads, documents = body.splitlines()[::2], body.splitlines()[1::2]
                ids = (json.loads(head)["index"]["_id"] for head in heads)
                found |= dict(zip(ids, map(json.loads, documents), strict=True))
            else:
                for one in json.loads(body)["streams"]:
                    (entry,) = one["values"]
                    labels = json.dumps(one["stream"])
                    found[labels, entry[0], entry[1]] = {"number": int(entry[2]["number"])}
        return found

    def _messages(self) -> Iterator[tuple[bytes, bytes]]:
        name = self.url.rpartition("/")[2]
        broker = self._request.getfixturevalue("cluster")[1]
        options = {"bootstrap.servers": broker, "group.id": name, "enable.partition.eof": True}
        consumer = Consumer(options | {"auto.offset.reset": "earliest"})
        left = consumer.list_topics(name, timeout=10).topics[name].partitions.keys()
        consumer.assign([TopicPartition(name, number, 0) for number in left])
        ended = 0
        while ended < len(left):
            (message,) = consumer.consume(1, timeout=10)
            if message.error():
                ended += 1
            else:
                yield dict(message.headers())["etl_row"], message.value()
        consumer.close()


@pytest.mark.parametrize(
    "kind",
    [
        *("sqlite", "duckdb", "postgresql", "lake", "delta", "bucket"),
        *("topic", "lines", "index", "loki"),
    ],
)
def test_a_line_is_loaded_once_wherever_its_worker_was_killed(site, request, kind):
    place = Place(kind, site, request)
    site.put([f"line {n}" for n in range(LINES)], of=LINES // 7)
    for step in PLACES if kind == "sqlite" else PLACES_OF_A_LOAD:
        died = worker(site, DIE_AT=step, **place.environment)
        assert died.returncode == -signal.SIGKILL, f"{step}: {died.stderr}"
    ended = worker(site, **place.environment)
    assert ended.returncode == 0, ended.stderr
    site.settled(done=LINES)
    assert sorted(place.numbers()) == list(range(LINES))
    assert site.queue.targets() == site.queue.outputs() == []
    assert [path.name for path in site.out.rglob("*") if path.is_file()] == [".lock"]


def test_two_processes_that_are_killed_fill_one_lake(site, request):
    place = Place("lake", site, request)
    site.put([f"line {n}" for n in range(LINES)], of=LINES // 7)
    command = ("work", "--drain", "--pipeline", f"{PIPELINES}:pipeline", "--batch-lines", 1)
    both = [site.start(*command, env=place.environment) for _ in range(2)]
    assert site.busy(both[0])
    site.kill(both[0])
    site.ended(both[1])
    site.etl(*command, env=place.environment)
    site.settled(done=LINES)
    assert sorted(place.numbers()) == list(range(LINES))


def test_a_run_whose_target_fails_says_what_is_left_and_is_resumed(site, server):
    server.always = (503, {}, b"")
    log = site.write("app.log", "one\ntwo\n")
    url = server.url
    run = ("run", log, "--pipeline", f"{PIPELINES}:pipeline")
    environment = {"KIND": "lines", "TARGET": url.replace("//", "//me:s3cret@")}
    said = site.refused(*run, code=1, env=environment)
    assert f"2 lines wait for {url}, which has failed since 20" in said
    assert "HTTP 503 Service Unavailable; see to it and run again with --store" in said
    assert f"2 lines wait for {url}, which has failed since 20" in site.etl("status")
    (state,) = site.json("status")["targets"]
    assert (state["files"], state["lines"], state["name"]) == (1, 2, url)

    server.always, server.pause = (200, {}, b""), 2.0  # longer than it may fail: it does not
    assert "nothing new" in site.etl(*run, env=environment)
    assert site.json("status")["targets"] == []
    assert b"s3cret" not in site.store.read_bytes()
