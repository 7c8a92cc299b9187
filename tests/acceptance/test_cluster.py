"""Three real NATS nodes, and what may happen to them and to their clients.

After each: what was accepted is done, filtered or dead, each line once, in the
Parquet files, in the metrics and among the dead letters.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import nats
import nats_servers
import polars as pl
import pytest
from nats_servers import Node, Proxy

from etl import Batch, open_queue
from etl.errors import StoreAway


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> Iterator[Sequence[Node]]:
    """Run three nodes that write every message to the disk before they say so."""
    started = nats_servers.cluster(tmp_path_factory.mktemp("cluster"))
    yield started
    for node in started:
        node.kill()


@pytest.fixture
def cluster(site, nodes):
    """Give a site whose store is a new one on the cluster, kept on all three nodes."""
    site.store = url(nodes, secrets.token_hex(8))
    site.out = site.folder / "out"
    wait_for_cluster(site)
    yield site
    for node in nodes:
        node.revive()


def url(nodes: Sequence[Node], name: str) -> str:
    return f"nats://{','.join(f'127.0.0.1:{node.port}' for node in nodes)}/{name}"


def wait_for_cluster(site) -> None:
    """Open the store, as soon as the nodes have found each other."""
    deadline = time.monotonic() + 60
    while True:
        try:
            site._queue = open_queue(site.store, replicas=3)
            return
        except StoreAway:
            assert time.monotonic() < deadline


def leader(site, nodes: Sequence[Node]) -> Node:
    """Return the node that leads the store's journal."""

    async def ask() -> str:
        alive = [node.url for node in nodes if node.process]
        client = await nats.connect(alive)
        info = await client.jetstream().stream_info(f"etl-{site.store.rpartition('/')[2]}-journal")
        await client.close()
        return info.cluster.leader

    return nodes[int(asyncio.run(ask()).removeprefix("node"))]


def work(site, *arguments, store: str | None = None, delay: float = 0.05, name="numbered"):
    """Start a worker process that takes small batches."""
    given = ["--out", site.out, "--batch-lines", 100, *site.pipeline(name), *arguments]
    given += ["--store", store] if store else []
    return site.start("work", *given, env={"DELAY": str(delay)})


def put(site, lines: int, *, start: int = 0) -> None:
    """Put numbered lines in batches of 100, every 97th of them poison."""
    numbers = range(start, start + lines)
    site.put([f"line {n} {'poison' if n % 97 == 5 else 'well'}" for n in numbers], of=100)


def all_well(site, lines: int, *, lost: int = 0) -> None:
    """Work off the rest, and check that each line is in one place, once."""
    site.seen(lambda stats: stats.idle and not site.queue.unpublished(), 90.0)
    letters = site.letters()
    dead = letters.select(number=pl.col("line").str.extract(r"line (\d+)", 1).cast(pl.Int64))
    written = site.rows().select("number")
    assert pl.concat([written, dead])["number"].sort().to_list() == list(range(lines))
    poison = letters.filter(pl.col("code") == "poison").height
    assert letters.height - poison <= lost
    site.settled(done=lines - letters.height, dead=letters.height)
    assert site.received("pace") == lines - (letters.height - poison)
    states = [json.loads(row["state"]) for row in site.queue.records("states")]
    assert sum(map(len, states)) == written.height
    again = open_queue(site.store)  # folded anew, from the journal and its snapshot
    assert again.stats() == site.queue.stats()
    again.close()


def test_a_worker_killed_in_mid_batch_loses_no_line_and_doubles_none(cluster):
    put(cluster, 3_000)
    for _ in range(6):
        worker = work(cluster)
        assert cluster.busy(worker)
        time.sleep(random.uniform(0, 0.1))
        cluster.kill(worker)
    cluster.etl("work", "--drain", "--out", cluster.out, *cluster.pipeline("numbered"))
    all_well(cluster, 3_000, lost=3)


def test_the_leader_is_killed_under_load(cluster, nodes):
    put(cluster, 2_000)
    workers = [work(cluster) for _ in range(2)]
    cluster.seen(lambda stats: stats.done > 300)
    first = leader(cluster, nodes)
    first.kill()
    put(cluster, 500, start=2_000)
    cluster.seen(lambda stats: stats.done > 1_000)
    first.start()
    all_well(cluster, 2_500)
    for worker in workers:
        cluster.end(worker)


@pytest.mark.timeout(200)
def test_one_node_after_the_other_is_killed_for_twenty_rounds(cluster, nodes):
    workers = [work(cluster, delay=0.01) for _ in range(2)]
    for number in range(20):
        node = nodes[number % 3]
        node.kill()
        put(cluster, 200, start=number * 200)
        least = number * 190
        cluster.seen(lambda stats, least=least: stats.done + stats.dead >= least, 60)
        node.start()
        in_step(cluster, nodes)
    all_well(cluster, 4_000)
    for worker in workers:
        cluster.end(worker)


def in_step(site, nodes: Sequence[Node]) -> None:
    """Wait until every node has all of the store: another may be killed then."""

    async def look() -> None:
        client = await nats.connect([node.url for node in nodes if node.process])
        streams = client.jetstream()
        name = site.store.rpartition("/")[2]
        for stream in (f"etl-{name}-journal", f"etl-{name}-blobs"):
            while True:
                with suppress(nats.errors.Error):  # no one leads at this moment
                    found = (await streams.stream_info(stream)).cluster
                    if found.leader and all(one.current for one in found.replicas):
                        break
                await asyncio.sleep(0.05)
        await client.close()

    asyncio.run(asyncio.wait_for(look(), 60))


def test_a_node_is_stopped_and_goes_on_later(cluster, nodes):
    put(cluster, 2_000)
    workers = [work(cluster) for _ in range(2)]
    cluster.seen(lambda stats: stats.done > 200)
    stopped = leader(cluster, nodes)
    stopped.signal(signal.SIGSTOP)
    cluster.seen(lambda stats: stats.done > 1_500, 60)
    stopped.signal(signal.SIGCONT)
    all_well(cluster, 2_000)
    for worker in workers:
        cluster.end(worker)


def test_a_worker_cut_off_for_longer_than_its_lease_doubles_nothing(cluster, proxy):
    put(cluster, 200)
    through = f"nats://{proxy.place}/{cluster.store.rpartition('/')[2]}"
    far = work(cluster, "--lease", 2, store=through, delay=4)
    assert cluster.busy(far)
    proxy.cut()
    near = work(cluster, "--lease", 2)
    all_well(cluster, 200)
    proxy.whole = True
    put(cluster, 300, start=200)
    all_well(cluster, 500)
    text = cluster.end(far)
    assert "cannot be reached" in text
    assert "can be reached again" in text
    cluster.end(near)


def test_the_whole_cluster_is_stopped_and_started(cluster, nodes):
    put(cluster, 1_500)
    workers = [work(cluster) for _ in range(2)]
    cluster.seen(lambda stats: stats.done > 300)
    for node in nodes:
        node.kill()
    with pytest.raises(StoreAway, match="cannot be reached"):
        cluster.queue.put(Batch.from_lines(["no"], source="none"), block=False)
    late = threading.Thread(target=put, args=(cluster, 500), kwargs={"start": 1_500})
    late.start()
    for node in nodes:
        node.start()
    late.join(60)
    assert not late.is_alive()
    all_well(cluster, 2_000)
    for worker in workers:
        cluster.end(worker)


@pytest.fixture
def proxy(nodes: Sequence[Node]) -> Iterator[Proxy]:
    one = Proxy(nodes[0].port)
    yield one
    one.close()
