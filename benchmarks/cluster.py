"""The same work on a NATS cluster and on an SQLite file, in turn, on one machine.

Three nodes on this machine, every message kept by all three and synced before it counts; two
workers. Each output must be that of Polars. All compete for the same cores and one disk: on three
machines of its own a cluster is faster.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from run import HERE, Bench, Contender, Target, arguments
from work import PATTERN

from etl import Batch, Queue, open_queue

sys.path.append(str(HERE.parent / "tests"))  # nats_servers.py

ETL = (sys.executable, "-m", "etl")
STARTS = 5
PUTS = 300
PIPELINE = f"{HERE / 'pipeline.py'}:pipeline"


def contender(name: str, store: Callable[[Path], str], *, stdin: bool) -> Contender:
    """Return `etl run` with two workers on a store."""

    def command(source: Path, out: Path) -> Sequence[str]:
        given = ["-" if stdin else str(source), "--pipeline", PIPELINE, "--regex", PATTERN]
        given += ["--workers", "2", "--json", "--out", str(out), "--store", store(out)]
        return [*ETL, "run", *given]

    return Contender(name, command, stdin=stdin)


def contenders(servers: str) -> list[Contender]:
    """Return both stores, each with references and with lines inside."""

    def file(out: Path) -> str:
        return str(out / "run.db")

    def cluster(_out: Path) -> str:
        return f"{servers}/{secrets.token_hex(8)}"

    return [
        contender(f"{name}, {way}", store, stdin=way == "inline")
        for way in ("by reference", "inline")
        for name, store in (("sqlite", file), ("nats", cluster))
    ]


def starts(servers: str, folder: Path, messages: int) -> float:
    """Return the seconds from a worker's start to its first batch, behind so many messages."""
    store = f"{servers}/{secrets.token_hex(8)}"
    queue = open_queue(store)
    for _ in range(messages):
        queue.put(Batch.from_lines(["x"]))
    found = []
    for _ in range(STARTS):
        before = queue.stats().finished
        started = time.perf_counter()
        command = [*ETL, "work", "--store", store, "--out", str(folder), "--batch-lines", "1"]
        worker = subprocess.Popen([*command, "--pipeline", "etl.default:pipeline"])
        while queue.stats().finished == before:
            queue.wait(queue.changes(), 1.0)
        found.append(time.perf_counter() - started)
        worker.terminate()
        worker.wait()
    queue.close()
    return median(found)


def puts(servers: str, clients: int) -> float:
    """Return how many puts of one line become durable a second, by so many clients at once."""
    store = f"{servers}/{secrets.token_hex(8)}"
    queues = [open_queue(store) for _ in range(clients)]

    def put_all(queue: Queue) -> None:
        for _ in range(PUTS):
            queue.put(Batch.from_lines(["x"]))

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(put_all, queues))
    seconds = time.perf_counter() - started
    for queue in queues:
        queue.close()
    return clients * PUTS / seconds


def rates(bench: Bench) -> dict[str, float]:
    """Return the median lines a second of everyone who was right."""
    return {
        name: bench.given.lines / median(sample.wall for sample in samples)
        for name, samples in bench.samples.items()
        if name not in bench.problems
    }


def report(found: dict[str, float]) -> Iterator[Target]:
    """Yield how fast the cluster is, with the file's speed as 1."""
    for way in ("by reference", "inline"):
        nats, sqlite = (found.get(f"{name}, {way}") for name in ("nats", "sqlite"))
        if nats and sqlite:
            yield Target(f"nats, {way}, speed of sqlite = 1", nats / sqlite, ">=", 0.5)


def main() -> None:
    """Run the benchmark and print its results."""
    import nats_servers

    given = arguments()
    bench = Bench(given)
    bench.prepare()
    folder = bench.folder / "cluster"
    shutil.rmtree(folder, ignore_errors=True)
    nodes = nats_servers.cluster(folder)
    servers = f"nats://{','.join(node.url.removeprefix('nats://') for node in nodes)}"
    try:
        for number in range(given.rounds):
            for one in contenders(servers):
                if one.name not in bench.problems:
                    print(f"round {number + 1}: {one.name}", file=sys.stderr)
                    bench.once(one)
        for name, rate in rates(bench).items():
            print(f"{name:30}{rate:>14,.0f} lines/s")
        for name, problem in bench.problems.items():
            print(f"{name}: {problem}")
        print(*report(rates(bench)), sep="\n")
        for clients in (1, 4, 16):
            print(f"puts of one line, {clients} clients: {puts(servers, clients):,.0f} a second")
        for messages in (10, 5_000):
            seconds = starts(servers, folder, messages)
            print(Target(f"start to first batch, {messages} messages, s", seconds, "<", 1.0))
    finally:
        for node in nodes:
            node.kill()
    if any(problem.startswith("WRONG") for problem in bench.problems.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
