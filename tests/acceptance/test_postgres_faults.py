"""A PostgreSQL server and its clients are killed, stopped, cut off: nothing is lost or doubled.

Each fault happens `ETL_CHAOS_ROUNDS` times: once, or as often as `make chaos` says.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from etl import Batch, open_queue, read_output
from etl.errors import StoreFull, StoreUnavailable
from etl.queue import Queue

ROUNDS = int(os.environ.get("ETL_CHAOS_ROUNDS", "1"))

SIZE = 20
"""Lines of a batch; workers lease one batch at a time."""

pytestmark = pytest.mark.timeout(120 + 20 * ROUNDS)


def numbered(number: int, filler: Callable[[], str] = str) -> Batch:
    """Return batch `number`: lines with numbers that no other batch has; two are poison."""
    lines = [
        f"line {n} {'poison' if n % 10 == 3 else 'well'} {filler()}"
        for n in range(number * SIZE, (number + 1) * SIZE)
    ]
    return replace(Batch.from_lines(lines, source="test"), id=f"batch-{number:06}")


def put_until_stored(queue: Queue, batch: Batch) -> None:
    """Put a batch again while the store cannot be reached, or has no room."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return queue.put(batch, timeout=60)
        except (StoreUnavailable, StoreFull):
            assert time.monotonic() < deadline
            time.sleep(0.05)  # no event tells that a server is back


def put_until_refused(queue: Queue, numbers: Iterator[int]) -> int:
    """Put large batches until the server has no room for one, and return its number."""
    for number in numbers:
        try:
            queue.put(numbered(number, lambda: random.randbytes(2000).hex()), block=False)
        except (StoreUnavailable, StoreFull):
            return number
    raise AssertionError


def work(site: Any, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start workers."""
    return site.start("work", *options(site), *arguments, env=environment)


def work_to_the_end(site: Any, *arguments: object) -> None:
    """Process all that waits or is leased."""
    site.etl("work", *options(site), "--drain", *arguments)


def finish(site: Any, workers: subprocess.Popen[str]) -> None:
    """Wait until nothing waits, and end the workers; what they say is shown if they failed."""
    site.seen(lambda stats: stats.idle or workers.poll() is not None, 60)
    site.end(workers)


def options(site: Any) -> tuple[object, ...]:
    return "--out", site.out, "--batch-lines", SIZE, "--lease", 1, *site.pipeline("numbered")


def runs_on(process: subprocess.Popen[str], seconds: float) -> None:
    """Let some time pass in which a process must not end."""
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(seconds)


def each_once(site: Any, batches: int) -> None:
    """Check that every line of so many batches is done or dead, once, wherever it is counted."""
    lines = batches * SIZE
    dead = site.dead_letters()
    site.settled(done=lines - lines // 10, dead=lines // 10)
    written = read_output(site.out)
    assert numbers_of(written, dead) == list(range(lines))
    assert set(dead["code"]) == {"poison"}
    assert site.received("pace") == lines
    history = site.queue.read("processor_history")
    assert sum(row["received"] for row in history if row["processor"] == "pace") == lines
    counts = [json.loads(row["state"]) for row in site.queue.read("states")]
    counted = [number for count in counts for number in count]
    assert sorted(map(int, counted)) == (numbers_of(written) if counts else [])
    assert all(times == 1 for count in counts for times in count.values())


def numbers_of(*frames: pl.DataFrame) -> list[int]:
    """Return the numbers of all lines, sorted."""
    text = pl.concat([frame["line"] for frame in frames])
    return text.str.extract(r"line (\d+)", 1).cast(pl.Int64).sort().to_list()


def produce(url: str, ended: threading.Event) -> int:
    """Put batches until told to end, and return how many."""
    with closing(open_queue(url, max_lines=20 * SIZE)) as queue:
        number = 0
        while not ended.is_set():
            put_until_stored(queue, numbered(number))
            number += 1
    return number


@contextmanager
def load(site: Any) -> Iterator[Callable[[], None]]:
    """Run a producer and two workers, and check at the end what they did.

    Yields:
        A function that waits until the workers have done some more.
    """
    workers = work(site, "--workers", 2, DELAY="0.05")
    ended = threading.Event()

    def goes_on() -> None:
        enough = site.queue.stats().finished + 5 * SIZE
        site.seen(lambda stats: stats.finished > enough, 60)
        runs_on(workers, random.uniform(0, 0.2))

    with ThreadPoolExecutor(1) as pool:
        batches = pool.submit(produce, site.store, ended)
        try:
            goes_on()
            yield goes_on
        finally:
            ended.set()
    finish(site, workers)
    each_once(site, batches.result())


# Workers


@pytest.mark.parametrize(("machine", "lease"), [("", 3600), ("elsewhere", 1)])
def test_the_batch_of_a_worker_that_is_killed_is_processed_by_another(
    server, site_at, machine, lease
):
    """One of this machine is known to have ended; that of another has a lease that runs out."""
    site = site_at(server.url)
    for number in range(ROUNDS):
        site.queue.put(numbered(2 * number), numbered(2 * number + 1))
        killed = work(site, "--lease", lease, GATE="never", MACHINE=machine)
        assert site.busy(killed)
        site.kill(killed)
        work_to_the_end(site)
    each_once(site, 2 * ROUNDS)


def test_a_worker_that_was_cut_off_for_longer_than_its_lease_changes_nothing(server, site_at):
    site = site_at(server.url)
    for number in range(ROUNDS):
        gate = site.folder / f"gate-{number}"
        site.queue.put(numbered(number))
        cut_off = work(site, GATE=str(gate))
        assert site.busy(cut_off)
        cut_off.send_signal(signal.SIGSTOP)
        work_to_the_end(site)
        before = what_commits_change(site)
        gate.touch()
        cut_off.send_signal(signal.SIGTERM)
        cut_off.send_signal(signal.SIGCONT)
        site.ended(cut_off)
        assert what_commits_change(site) == before
    each_once(site, ROUNDS)


def what_commits_change(site: Any) -> list[object]:
    tables = ("processors", "latency", "processor_history", "errors", "traces", "states")
    files = sorted((path.name, path.stat().st_ino) for path in site.out.glob("*.parquet"))
    return [
        site.queue.stats(),
        site.dead_letters().to_dicts(),
        files,
        *(site.queue.read(table) for table in tables),
    ]


# Servers


def test_a_server_that_is_killed_and_started_again_loses_no_line(server, site_at):
    with load(site_at(server.url)) as goes_on:
        for _ in range(ROUNDS):
            server.kill()
            server.start()
            goes_on()


def test_a_synchronous_standby_takes_over_from_a_server_that_is_killed(new_server, site_at):
    primary, standby = new_server(), new_server(start=False)
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    site = site_at(f"postgresql://etl@{hosts}/postgres?target_session_attrs=read-write")
    with load(site) as goes_on:
        for _ in range(ROUNDS):
            primary.back_up(standby)
            goes_on()
            primary.kill()
            standby.promote()
            primary, standby = standby, primary
            goes_on()


def test_a_server_that_stands_still_for_longer_than_a_lease_loses_no_line(server, site_at):
    site = site_at(server.url)
    with load(site) as goes_on:
        for _ in range(ROUNDS):
            server.freeze()
            threading.Event().wait(1.5)  # a lease is 1 s
            server.thaw()
            goes_on()


@pytest.mark.parametrize("on_it", ["data", "wal"])
def test_a_server_whose_disk_is_full_refuses_lines_and_loses_none(
    new_server, small_disk, folder, site_at, on_it
):
    """Without room for data it refuses statements; without room for its log it breaks down."""
    elsewhere = folder / "large"
    server = new_server(**{"data": elsewhere, "wal": elsewhere, on_it: small_disk})
    site = site_at(server.url)
    fill = small_disk / "fill"
    batches = itertools.count()
    for _ in range(ROUNDS):
        gate = site.folder / f"gate-{next(batches)}"
        site.queue.put(numbered(int(gate.name[5:])))
        many = ("--batch-lines", 50 * SIZE, *site.pipeline("uncounted"))
        worker = work(site, *many, GATE=str(gate))
        assert site.busy(worker)
        space = os.statvfs(small_disk)
        with fill.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - 2**20)
        refused = put_until_refused(site.queue, batches)
        gate.touch()
        fill.unlink()
        if not server.recovers():
            server.start()
        put_until_stored(site.queue, numbered(refused))
        finish(site, worker)
        server.vacuum()
    each_once(site, next(batches))


def test_pgbouncer_in_transaction_mode_stands_between(bouncer, site_at):
    site = site_at(bouncer.url)
    for number in range(ROUNDS):
        batches = [numbered(10 * number + n) for n in range(10)]
        site.etl("pause")
        site.queue.put(*batches)
        workers = work(site, "--workers", 2)
        site.seen(lambda _stats: len(site.queue.read("workers")) == 2)
        site.queue.step()
        finished = number * 10 * SIZE
        site.seen(lambda stats, before=finished: stats.finished > before)
        assert site.queue.stats().finished == finished + SIZE
        site.etl("resume")
        finish(site, workers)
    each_once(site, 10 * ROUNDS)
    site.etl("dlq replay", "--all")
    work_to_the_end(site, *site.pipeline("unnumbered"))
    site.settled(done=10 * ROUNDS * SIZE)
    assert numbers_of(read_output(site.out)) == list(range(10 * ROUNDS * SIZE))


# Answers that got lost


@pytest.mark.parametrize("processed", [False, True])
def test_a_put_whose_answer_got_lost_stores_its_batch_once(server, proxy, site_at, processed):
    """It is put again: while it waits, or after a worker has committed it."""
    site = site_at(server.url)
    with closing(open_queue(proxy.url)) as queue, ThreadPoolExecutor(1) as pool:
        for number in range(ROUNDS):
            proxy.lose_answer(lambda n=number: site.queue.stats().accepted > n * SIZE)
            put = pool.submit(put_until_stored, queue, numbered(number))
            try:
                assert proxy.lost.wait(30)
                if processed:
                    work_to_the_end(site)
            finally:
                proxy.reconnect()
            put.result()
    work_to_the_end(site)
    each_once(site, ROUNDS)


def test_a_file_is_put_once_although_an_answer_got_lost(server, proxy, site_at):
    site = site_at(server.url)
    for number in range(ROUNDS):
        log = site.write(f"{number}.log", numbered(number).payload)
        proxy.lose_answer(lambda n=number: site.queue.stats().accepted > n * SIZE)
        put = site.start("put", log, "--store", proxy.url)
        assert proxy.lost.wait(30)
        proxy.reconnect()
        put.communicate(timeout=60)
        site.etl("put", log)
    work_to_the_end(site)
    each_once(site, ROUNDS)


def test_a_commit_whose_answer_got_lost_is_published_before_other_work(server, proxy, site_at):
    site = site_at(server.url)
    gate = site.folder / "gate"
    worker = work(site, "--store", proxy.url, "--lease", 30, GATE=str(gate))
    for number in range(0, 2 * ROUNDS, 2):
        site.queue.put(numbered(number))
        assert site.busy(worker)
        proxy.lose_answer(lambda n=number: site.queue.stats().finished > n * SIZE)
        site.queue.put(numbered(number + 1))
        gate.touch()
        assert proxy.lost.wait(30)
        gate.unlink()
        proxy.reconnect()
        assert site.busy(worker)
        written = numbers_of(read_output(site.out), site.dead_letters())
        assert written == list(range((number + 1) * SIZE))
        gate.touch()
        site.seen(lambda stats: stats.idle, 60)
        gate.unlink()
    site.end(worker)
    each_once(site, 2 * ROUNDS)
