"""Workers on a Dask cluster: a real scheduler, real Dask workers, a real PostgreSQL server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from distributed import Client, LocalCluster

from etl.errors import UsageError, WorkerFailed
from etl.workers import on_dask

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT),
    "DELAY": "0.1",
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",  # a task that loses its machine fails
}
SLOTS = 3


class Cluster:
    """A scheduler, and three Dask worker processes of one slot each."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.log = folder / "log"
        self.folder = folder
        self.start()

    def start(self) -> None:
        place = ("--host", "127.0.0.1", "--port", str(self.port), "--dashboard-address", ":0")
        slots = ("--nworkers", str(SLOTS), "--nthreads", "1", "--local-directory", "scratch")
        self.scheduler = self._run("scheduler", *place)
        self.workers = self._run("worker", self.address, *slots, "--memory-limit", "0")

    def _run(self, part: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{part}", *arguments]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*command, "--no-dashboard"],
                cwd=self.folder, env=ENVIRONMENT, stdout=log, stderr=log,
            )  # fmt: skip

    def close(self) -> None:
        for process in (self.workers, self.scheduler):
            for one in psutil.Process(process.pid).children(recursive=True):
                one.kill()
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("dask"))
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    with Client(running.address, timeout=30, set_as_default=False) as client:
        client.wait_for_workers(SLOTS, timeout=30)
    return running


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with Client(cluster.address, set_as_default=False) as opened:
        yield opened


@pytest.fixture
def site(site, postgres_url):
    """Give a site whose store is on PostgreSQL."""
    site.store = postgres_url
    yield site
    assert site.queue.stats().conserved


def work(site, cluster, *options):
    arguments = ("--on", cluster.address, "--store", site.store, "--out", site.out)
    return site.start("work", *arguments, "--batch-lines", "100", *options)


def at_work(site, count, until):
    """Wait until so many workers are known to the store; return their process ids."""
    until(lambda: len(site.queue.read("workers")) == count, 60)
    return {one["pid"] for one in site.queue.read("workers")}


def each_line_once(site, *, lines):
    site.settled(done=lines)
    assert site.rows()["number"].sort().to_list() == list(range(lines))


def test_a_machine_that_is_lost_costs_no_line_and_its_worker_goes_on_elsewhere(
    site, cluster, client, until
):
    site.put([f"line {n}" for n in range(4_000)], of=100)
    process = work(site, cluster, *site.pipeline("light"), "--workers", 2, "--drain")
    worker = psutil.Process(at_work(site, 2, until).pop())
    site.seen(lambda stats: stats.done > 300)
    dask = worker.parent()
    assert dask.pid in client.run(os.getpid).values()
    dask.kill()
    worker.kill()
    site.queue.pause()
    until(lambda: len({one["pid"] for one in site.queue.read("workers")} - {worker.pid}) == 2)
    assert 0 < site.queue.stats().done < 4_000
    site.queue.resume()
    text = site.ended(process)
    assert f"etl: workers asked for on {cluster.address}: 2; machines: 1, slots: 3" in text
    each_line_once(site, lines=4_000)


def test_a_scheduler_that_is_lost_ends_its_workers_after_their_batch_and_the_next_goes_on(
    site, cluster, until
):
    site.put([f"line {n}" for n in range(4_000)], of=100)
    process = work(site, cluster, *site.pipeline("light"), "--workers", 3)
    at_work(site, 3, until)
    site.seen(lambda stats: stats.done > 300)
    cluster.scheduler.kill()
    text = site.ended(process, code=1)
    assert "the scheduler is gone" in text
    assert "Traceback" not in text
    at_work(site, 0, until)
    stats = site.queue.stats()
    assert stats.leased == 0
    assert 0 < stats.waiting < 4_000
    cluster.scheduler.wait()
    cluster.workers.wait(30)
    cluster.start()
    site.ended(work(site, cluster, *site.pipeline("light"), "--workers", 3, "--drain"))
    each_line_once(site, lines=4_000)


def test_ctrl_c_and_the_end_of_a_command_end_its_own_workers_only(site, cluster, until):
    own = work(site, cluster, *site.pipeline("light"), "--workers", 1)
    (pid,) = at_work(site, 1, until)
    other = work(site, cluster, *site.pipeline("light"), "--workers", 1)
    both = at_work(site, 2, until)
    own.send_signal(signal.SIGINT)
    site.ended(own)
    assert at_work(site, 1, until) == both - {pid}
    site.kill(other)
    at_work(site, 0, until)


def test_a_stop_through_the_store_also_counts_for_workers_that_wait_for_a_slot(site, client, until):
    futures = on_dask(client, site.store, site.pipeline("light")[1], workers=5)
    at_work(site, 3, until)
    site.queue.stop()
    for future in futures:
        future.result(30)


def test_a_worker_process_that_dies_leaves_dask_as_it_is(site, client, until):
    before = client.run(os.getpid)
    (future,) = on_dask(client, site.store, site.pipeline("light")[1])
    (pid,) = at_work(site, 1, until)
    os.kill(pid, signal.SIGKILL)
    until(lambda: {one["pid"] for one in site.queue.read("workers")} not in (set(), {pid}))
    assert client.run(os.getpid) == before
    future.cancel()
    at_work(site, 0, until)


def test_a_machine_that_is_given_back_ends_its_worker_and_another_has_it(site, client, until):
    (future,) = on_dask(client, site.store, site.pipeline("light")[1])
    (first,) = at_work(site, 1, until)
    (address,) = [where for where, keys in client.processing().items() if keys]
    client.run(
        lambda dask_worker: dask_worker.loop.add_callback(
            dask_worker.close_gracefully, restart=True
        ),
        workers=[address],
    )
    until(lambda: {one["pid"] for one in site.queue.read("workers")} not in (set(), {first}))
    at_work(site, 1, until)
    assert not future.done()
    future.cancel()
    at_work(site, 0, until)


def test_machines_are_added_for_workers_and_given_back_when_the_queue_is_empty(site, until):
    site.put([f"line {n}" for n in range(2_000)], of=100)
    site.queue.pause()
    with (
        LocalCluster(
            n_workers=0, threads_per_worker=1, dashboard_address=":0", memory_limit="1GB"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        cluster.adapt(minimum=0, maximum=2, interval="100ms", target_duration="500ms")
        options = {"out": site.out, "batch_lines": 100, "drain": True}
        futures = on_dask(client, site.store, site.pipeline("light")[1], workers=2, **options)
        at_work(site, 2, until)
        site.queue.resume()
        while futures:
            futures.pop().result(60)
        until(lambda: not client.nthreads())
    each_line_once(site, lines=2_000)


# What is said


def test_a_password_is_in_no_log_and_no_answer_of_dask(site, cluster, client, tmp_path):
    (tmp_path / "once.py").write_text(ONCE)
    url = site.store.replace("//etl@", "//etl:s3cret@")
    pipeline = f"{tmp_path / 'once.py'}:pipeline"
    (future,) = on_dask(client, url, pipeline)
    with pytest.raises(WorkerFailed, match=r"a worker process gave up: .*there is no file"):
        future.result(30)
    told = f"{client.get_worker_logs()} {client.get_scheduler_logs()} {cluster.log.read_text()}"
    assert "gave up" in told
    told += f"{future!r} {future.key} {client.get_events()} {client.processing()}"
    assert "s3cret" not in told


ONCE = """
from pathlib import Path
from etl import Pipeline
Path(__file__).unlink()
pipeline = Pipeline("once").add("keep", None)
"""
"""A pipeline that only the machine that asks for workers can load."""


@pytest.mark.parametrize("store", ["sqlite://", "sqlite:///s.db", "s.db"])
def test_a_store_of_one_machine_is_refused(store, client):
    with pytest.raises(UsageError, match=f"store '{store}' is for one machine; use postgresql://"):
        on_dask(client, store)


@pytest.mark.parametrize(
    ("address", "code", "why"),
    [("tcp://127.0.0.1:9", 1, "cannot be reached: Timed out"), ("nonsense", 2, "is no address: ")],
)
def test_a_scheduler_that_is_not_there_is_told_in_a_sentence(site, address, code, why):
    done = site.finish("work", "--store", site.store, "--on", address)
    assert done.returncode == code
    _, line = done.stderr.splitlines()
    assert line.startswith(f"etl: scheduler '{address}' {why}")


def test_the_extra_that_is_missing_is_named():
    code = "import sys; sys.modules['distributed'] = None; from etl.workers import on_dask"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UsageError: workers on Dask need distributed" in done.stderr
    assert done.stderr.endswith("install it: pip install 'etl[dask]'\n")
