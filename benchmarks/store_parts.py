"""What `stores.py` measures, each as a function from a kind of store to a row of numbers.

Clients are processes (`client.py`) that begin at the same moment, when all of them are ready.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from json import loads
from pathlib import Path
from statistics import median

import psutil
import psycopg
from client import LINES, batch
from ingest import shares
from measure import measure
from postgresql import Server
from programs import ONE_EACH, REGEX, etl
from rounds import Scratch, complaint, grown, warm
from small import LINE
from sql_alone import leases_and_commits

from etl import Batch, Pipeline, Worker, each, open_queue
from etl.queue import DeadLetterFilter, Queue
from etl.queue.urls import file_of

HERE = Path(__file__).resolve().parent
WAIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        clients: Numbers of processes.
        put_seconds: How long they put.
        batches: What they process, all in all.
        puts: Batches of which the time from put to done is taken.
        workers: Processes that wait for those, a worker in each.
        idle: Processes and workers in each while the server should be idle.
        idle_seconds: How long its CPU time is taken.
        lines: What `etl run` reads.
        rounds: How often it does.
        dead: Dead letters of a large store.
        waiting: Batches that wait in it.
        reads: How often each of its reads is done.
    """

    clients: Sequence[int] = (1, 4, 16)
    put_seconds: float = 5.0
    batches: int = 3_000
    puts: int = 300
    workers: int = 16
    idle: tuple[int, int] = (5, 10)
    idle_seconds: float = 20.0
    lines: int = 1_000_000
    rounds: int = 3
    dead: int = 1_000_000
    waiting: int = 400_000
    reads: int = 5


QUICK = Sizes(
    clients=(1, 2),
    put_seconds=0.3,
    batches=60,
    puts=5,
    workers=2,
    idle=(1, 2),
    idle_seconds=1.0,
    lines=20_000,
    rounds=1,
    dead=2_000,
    waiting=1_000,
    reads=1,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of store.

    Attributes:
        name: What the tables call it.
        folder: For inputs and outputs.
        store: Makes an empty one, for the length of a `with`, and gives its URL.
        server: Its server, if it has one.
    """

    name: str
    folder: Path
    store: Callable[[], AbstractContextManager[str]]
    server: Server | None = None


Row = dict[str, float]
"""Numbers by the name of their column."""


@contextmanager
def clients(number: int, *arguments: object) -> Iterator[list[subprocess.Popen[str]]]:
    """Start processes that use a store, and wait until all of them are ready."""
    command = [sys.executable, str(HERE / "client.py"), *map(str, arguments)]
    environment = os.environ | {"POLARS_MAX_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, env=environment, **pipes) for _ in range(number)]
    try:
        for one in started:
            if one.stdout.readline() != "ready\n":
                raise RuntimeError(f"a client ended with code {one.wait()}")
        yield started
    finally:
        for one in started:
            one.kill()
            one.wait()
            one.stdin.close()
            one.stdout.close()


def answers(started: Sequence[subprocess.Popen[str]]) -> list:
    """Let processes begin, or end what they do, and return what each of them answers."""
    for one in started:
        one.stdin.write("\n")
        one.stdin.close()
    said = [one.stdout.readline() for one in started]
    if not all(said):
        raise RuntimeError("a client ended without an answer")
    return [loads(one) for one in said]


def per_clients(kind: Kind, sizes: Sizes, rate: Callable[[str, int], float]) -> Row:
    """Return how many a second each number of clients did, on an empty store each time."""
    row: Row = {}
    for number in sizes.clients:
        with kind.store() as url:
            row[f"{number}"] = rate(url, number)
    *_, some, many = row
    return row | {f"{many} : {some}": row[many] / row[some]}


def puts(kind: Kind, sizes: Sizes) -> Row:
    """Put small batches."""

    def rate(url: str, number: int) -> float:
        with clients(number, "puts", url, sizes.put_seconds) as started:
            return sum(answers(started))

    return per_clients(kind, sizes, rate)


def work(kind: Kind, sizes: Sizes, do: str = "drain") -> Row:
    """Lease, process and commit; or only lease and commit."""

    def rate(url: str, number: int) -> float:
        with clients(number, do, url) as started, closing(open_queue(url)) as queue:
            queue.put(*map(batch, range(sizes.batches)))
            begun = time.monotonic()
            ended = max(answers(started))
            if queue.stats().done != sizes.batches * LINES:
                raise RuntimeError(f"not all is done: {queue.stats()}")
        return sizes.batches / (ended - begun)

    return per_clients(kind, sizes, rate)


def sql(kind: Kind, sizes: Sizes) -> Row:
    """Lease and commit by pgbench."""
    if kind.server is None:
        return {}
    rate = partial(leases_and_commits, kind.server.bin, count=sizes.batches)
    return per_clients(kind, sizes, lambda url, number: rate(url, clients=number))


def latency(kind: Kind, sizes: Sizes) -> Row:
    """Put ten times a second while workers wait."""
    with (
        kind.store() as url,
        closing(open_queue(url)) as queue,
        clients(sizes.workers, "idle", url, 1) as started,
    ):
        found = shares(put_to_done(queue, started, number=sizes.puts, pause=0.1))
    return {f"{name}, ms": seconds * 1000 for name, seconds in found.items()}


def put_to_done(
    queue: Queue, started: Sequence[subprocess.Popen[str]], *, number: int, pause: float
) -> list[float]:
    """Return the seconds from put to done of single lines, and end the workers."""
    put: dict[str, float] = {}
    goal = queue.stats().done + number
    due = time.monotonic()
    for _ in range(number):
        due += pause * random.uniform(0.5, 1.5)  # so that it is not in step with who looks
        time.sleep(max(0.0, due - time.monotonic()))
        one = Batch.from_lines([LINE])
        put[one.id] = time.monotonic()
        queue.put(one)
    deadline = time.monotonic() + WAIT_SECONDS
    while queue.stats().done < goal:
        if time.monotonic() > deadline:
            raise RuntimeError(f"not all is done: {queue.stats()}")
        time.sleep(0.1)
    done = {id: moment for answer in answers(started) for id, moment in answer.items()}
    return [done[id] - moment for id, moment in put.items()]


def lines(kind: Kind, sizes: Sizes) -> Row:
    """Run `etl run` on a file, whose lines are stored by reference, and on a stream."""
    source = grown(kind.folder, sizes.lines)
    warm(source)
    return {
        name: median(
            sizes.lines / run_seconds(kind, source, stdin=name == "inline")
            for _ in range(sizes.rounds)
        )
        for name in ("by reference", "inline")
    }


def run_seconds(kind: Kind, source: Path, *, stdin: bool) -> float:
    """Return the seconds of one `etl run`, from start to exit."""
    with kind.store() as url, Scratch(kind.folder / "out") as out:
        command = etl(*REGEX, *ONE_EACH, stdin=stdin, store=url)(source, out)
        sample = measure(command, cwd=out, stdin=source if stdin else None)
    if sample.code:
        raise RuntimeError(f"etl run: {complaint(sample)}")
    return sample.wall


def idle(kind: Kind, sizes: Sizes) -> Row:
    """Take the CPU time while workers wait; then put, now and again."""
    processes, workers = sizes.idle
    with (
        kind.store() as url,
        closing(open_queue(url)) as queue,
        clients(processes, "idle", url, workers) as started,
    ):
        time.sleep(min(2.0, sizes.idle_seconds))  # they have only just connected
        before, begun = used(kind, started), time.monotonic()
        time.sleep(sizes.idle_seconds)
        after, spent = used(kind, started), time.monotonic() - begun
        times = put_to_done(queue, started, number=min(10, sizes.puts), pause=1.0)
    row = {name: (after[name] - before[name]) / spent * 100 for name in after}
    return row | {"put to done, ms": median(times) * 1000}


def used(kind: Kind, started: Sequence[subprocess.Popen[str]]) -> Row:
    """Return the CPU seconds of a server and of its clients until now."""
    times = [psutil.Process(one.pid).cpu_times() for one in started]
    row = {}
    if kind.server is not None:
        row["server, % of a core"] = kind.server.processor_seconds()
    return row | {"workers, % of a core": sum(one.user + one.system for one in times)}


def reads(kind: Kind, sizes: Sizes) -> Row:
    """Look at a store with many dead letters and waiting batches, and control it."""
    with kind.store() as url:
        fill(url, dead=sizes.dead, waiting=sizes.waiting)
        with closing(open_queue(url)) as queue:
            calls: dict[str, Callable[[], object]] = {
                "stats": queue.stats,
                "20 dead letters": lambda: queue.dead_letters(DeadLetterFilter(limit=20)),
                "groups": lambda: queue.dead_letter_groups(DeadLetterFilter()),
                "pause": queue.pause,
                "resume": queue.resume,
            }
            rounds = [  # in turn, since a second pause changes nothing
                {f"{name}, ms": seconds(call) * 1000 for name, call in calls.items()}
                for _ in range(sizes.reads)
            ]
        return {name: median(one[name] for one in rounds) for name in rounds[0]}


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def fill(url: str, *, dead: int, waiting: int, kinds: int = 20) -> None:
    """Fill a store with copies, made in SQL, of dead letters of some kinds and of a batch."""

    def fail(_row: dict) -> dict:
        raise ValueError("it cannot be processed")

    with closing(open_queue(url)) as queue:
        queue.put(*(Batch.from_lines([LINE], source=f"{n}.log") for n in range(kinds)))
        Worker(queue, Pipeline("fill").add("fail", each(fail))).drain()
        queue.put(Batch.from_lines([LINE]))
    file = file_of(url)
    connect = partial(psycopg.connect, url, autocommit=True) if file is None else None
    with closing(connect() if connect else sqlite3.connect(file)) as db:
        copy(db, "dead_letters", dead // kinds, id=None)
        copy(db, "batches", waiting, seq=None, id="id || '-' || number")
        if connect:
            db.execute("VACUUM ANALYZE")  # as it does by itself, a little later
        db.commit()


def copy(
    db: psycopg.Connection | sqlite3.Connection, table: str, times: int, **new: str | None
) -> None:
    """Insert copies of the rows of a table.

    Args:
        db: The database.
        table: Its name.
        times: How many rows there are of each row afterwards.
        new: What columns have that differ; None for those that the database numbers.
    """
    columns = [one[0] for one in db.execute(f"SELECT * FROM {table} LIMIT 0").description]
    values = {name: new.get(name, f'"{name}"') for name in columns}
    kept = {f'"{name}"': value for name, value in values.items() if value}
    db.execute(
        f"INSERT INTO {table} ({', '.join(kept)}) "
        "WITH RECURSIVE numbers (number) AS "
        f"(SELECT 2 UNION ALL SELECT number + 1 FROM numbers WHERE number < {times}) "
        f"SELECT {', '.join(kept.values())} FROM {table} CROSS JOIN numbers"
    )
