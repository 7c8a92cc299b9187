"""Lines over HTTP into the durable queue: how many a second, and how long a client waits.

    python ingest.py posts DB     single-line POSTs from 32 connections, as fast as they go
    python ingest.py paced DB     the same at half of the target, evenly spread
    python ingest.py ndjson DB    one NDJSON body, streamed
    python ingest.py stats DB     GET /stats, while a worker runs flat out on what was streamed

DB is a path for a new SQLite store. Server and client are processes of their own on this
machine, and share its cores. The client writes ready-made requests to plain sockets, so that
little of what is measured is its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

CONNECTIONS = 32
SECONDS = 10.0
HALF = 750
"""POSTs a second: half of what is promised."""

NDJSON_LINES = 3_000_000
LOOKS = 200
LINE = "2026-11-21 10:11:12,345 INFO benchmark: one line of a usual length, sent alone"
CHUNKS = 50


def chunk(seed: int) -> bytes:
    """Return 1,000 events of about 130 bytes, no two alike."""
    chance = random.Random(seed)
    return b"".join(
        b'{"time": "2026-11-21T10:11:12.%06dZ", "level": "INFO", "request": "%016x", "ms": %d, '
        b'"message": "GET /items/%d"}\n'
        % (number, chance.getrandbits(64), chance.randrange(900), chance.randrange(10**6))
        for number in range(1000)
    )


class Client:
    """One connection, which sends a request and waits for its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> Client:
        """Connect to the server."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, request: bytes, status: bytes = b"202") -> bytes:
        """Return the answer's body; another status ends the benchmark."""
        self.writer.write(request)
        return await self.answer(status)

    async def answer(self, status: bytes) -> bytes:
        """Read an answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        if head.split(b" ")[1] != status:
            raise SystemExit(f"refused: {body.decode()}")
        return body


def post(kind: str, body: bytes, length: int | None = None) -> bytes:
    """Return a ready-made POST; its body may follow."""
    head = f"POST /logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {length or len(body)}\r\n\r\n".encode() + body


async def posts(port: int) -> dict[str, float]:
    """Send single lines as fast as they are answered."""
    request = post("application/json", json.dumps({"line": LINE}).encode())
    times: list[float] = []
    ended = time.perf_counter() + SECONDS

    async def one() -> None:
        client = await Client.connect(port)
        while (begun := time.perf_counter()) < ended:
            await client.send(request)
            times.append(time.perf_counter() - begun)

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return {"per_second": len(times) / SECONDS, **shares(times)}


async def paced(port: int) -> dict[str, float]:
    """Send single lines at times that were fixed before; waiting for a turn counts."""
    request = post("application/json", json.dumps({"line": LINE}).encode())
    times: list[float] = []
    begun = time.perf_counter() + 0.1

    async def one(number: int) -> None:
        client = await Client.connect(port)
        for due in range(number, int(HALF * SECONDS), CONNECTIONS):
            moment = begun + due / HALF
            await asyncio.sleep(moment - time.perf_counter())
            await client.send(request)
            times.append(time.perf_counter() - moment)

    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
    return {"per_second": len(times) / (time.perf_counter() - begun), **shares(times)}


async def ndjson(port: int) -> dict[str, float]:
    """Stream one body and return how many of its lines became durable a second."""
    client = await Client.connect(port)
    chunks = [chunk(seed) for seed in range(CHUNKS)] * (NDJSON_LINES // CHUNKS // 1000)
    begun = time.perf_counter()
    client.writer.write(post("application/x-ndjson", b"", sum(map(len, chunks))))
    for one in chunks:
        client.writer.write(one)
        await client.writer.drain()
    answer = json.loads(await client.answer(b"202"))
    seconds = time.perf_counter() - begun
    if answer["accepted"] != NDJSON_LINES:
        raise SystemExit(f"sent {NDJSON_LINES} lines, but {answer['accepted']} were accepted")
    return {"per_second": NDJSON_LINES / seconds, "seconds": seconds}


async def stats(port: int) -> dict[str, float]:
    """Look at /stats while a worker has lines to do."""
    await ndjson(port)
    client = await Client.connect(port)
    times = []
    for _ in range(LOOKS):
        begun = time.perf_counter()
        answer = await client.send(b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n", b"200")
        times.append(time.perf_counter() - begun)
        await asyncio.sleep(0.01)
    if json.loads(answer)["waiting"] == 0:
        raise SystemExit("the worker had done all lines before the looks ended")
    return shares(times)


def shares(times: list[float]) -> dict[str, float]:
    """Return p50 and p99, in seconds."""
    times = sorted(times)
    return {"p50": times[len(times) // 2], "p99": times[int(len(times) * 0.99)]}


@contextlib.contextmanager
def server(db: Path, *options: str) -> Iterator[int]:
    """Run a server on a free port."""
    command = [sys.executable, "-m", "etl", "serve", "--store", str(db), "--port", "0", *options]
    log = db.with_suffix(".log").open("wb")
    with log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            yield int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.terminate()
            process.communicate()


PARTS: dict[str, tuple[Callable[[int], Awaitable[dict[str, float]]], tuple[str, ...]]] = {
    "posts": (posts, ()),
    "paced": (paced, ()),
    "ndjson": (ndjson, ()),
    "stats": (stats, ("--work",)),
}

if __name__ == "__main__":
    part, options = PARTS[sys.argv[1]]
    with server(Path(sys.argv[2]), *options) as port:
        print(json.dumps(asyncio.run(part(port))))
