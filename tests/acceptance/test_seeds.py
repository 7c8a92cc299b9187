"""The two demos that this project began with, exactly."""

from __future__ import annotations

import anyio
import anyio.to_thread
import pytest

from etl import Batch, Worker, open_queue
from etl.demo import dashboard
from etl.queue import DeadLetterFilter

GOOD = ("INFO: user logged in", "WARNING: disk space low", "ERROR: no connection")
POISON = "CRITICAL: core meltdown"


@pytest.fixture
def store(tmp_path):
    queue = open_queue(str(tmp_path / "store.db"))
    yield queue
    stats = queue.stats()
    queue.close()
    assert stats.conserved, f"lines are missing: {stats}"


def counts(queue):
    """Return the committed counts by level, over all workers."""
    from etl.analysis.metrics import state_totals

    return {level: int(count) for level, count in state_totals(queue)["count"].items()}


@pytest.mark.anyio
async def test_log_ingestion(store):
    await anyio.to_thread.run_sync(store.put, Batch.from_lines(GOOD[:1], source="button"))
    stats = store.stats()
    assert (stats.accepted, stats.waiting, stats.conserved) == (1, 1, True)
    waiting = store.peek()
    assert waiting["line"].to_list() == [GOOD[0]]
    assert waiting["source"].to_list() == ["button"]


@pytest.mark.anyio
async def test_worker_processing_success(store):
    for line in GOOD:
        store.put(Batch.from_lines([line]))
    await Worker(store, dashboard, drain=True).run()
    stats = store.stats()
    assert (stats.accepted, stats.done, stats.dead, stats.conserved) == (3, 3, 0, True)
    assert counts(store) == {"INFO": 1, "WARNING": 1, "ERROR": 1}


@pytest.mark.anyio
async def test_worker_dlq_failure(store):
    store.put(Batch.from_lines([GOOD[0], POISON, GOOD[1]]))
    await Worker(store, dashboard, drain=True).run()
    stats = store.stats()
    assert (stats.accepted, stats.done, stats.dead, stats.conserved) == (3, 2, 1, True)
    assert counts(store) == {"INFO": 1, "WARNING": 1}
    dead_letter = store.dead_letters(DeadLetterFilter()).row(0, named=True)
    assert (dead_letter["line"], dead_letter["line_number"]) == (POISON, 2)
    assert (dead_letter["processor"], dead_letter["code"]) == ("check", "poison")


@pytest.mark.anyio
async def test_worker_pause_and_resume(store):
    worker = Worker(store, dashboard, lease_seconds=0.3, drain=True)
    store.pause()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        for line in GOOD:
            store.put(Batch.from_lines([line]))
            await heart_beats(store)
        stats = store.stats()
        assert (stats.paused, stats.waiting, stats.done, stats.conserved) == (True, 3, 0, True)
        store.resume()
    stats = store.stats()
    assert (stats.paused, stats.done, stats.waiting, stats.conserved) == (False, 3, 0, True)
    assert counts(store) == {"INFO": 1, "WARNING": 1, "ERROR": 1}


async def heart_beats(queue):
    """Wait until the worker has said again that it lives."""

    def last():
        return [row["heartbeat_at"] for row in queue.read("workers")]

    before = last()
    with anyio.fail_after(10):
        while not last() or last() == before:
            since = queue.version()
            await anyio.to_thread.run_sync(queue.wait, since, 0.05)


def test_the_second_seeds_four_lines_come_out_in_brackets_and_in_order(site):
    text = site.etl("run", site.data / "boot.log", "--pipeline", "etl.demo:levels", "--trace")
    assert text.splitlines()[:4] == [
        "[info: system booted]",
        "[WARN: DISK SPACE LOW]",
        "[error: failed to connect]",
        "[info: user login]",
    ]
    rows = [line.split("  ") for line in text.splitlines()[4:] if " → " in line]
    paths = [next(cell.strip() for cell in row if "→" in cell) for row in rows]
    assert paths == ["start → end", "start → warn → end", "start → error → end", "start → end"]
    site.settled(done=4)


def test_the_traces_are_lists_of_processors_for_a_script(site):
    boot = site.data / "boot.log"
    result = site.json("run", boot, "--pipeline", "etl.demo:levels", "--trace")
    assert [trace["path"] for trace in result["traces"]] == [
        ["start", "end"],
        ["start", "warn", "end"],
        ["start", "error", "end"],
        ["start", "end"],
    ]
    assert result["processors"]["warn"]["received"] == 1
    site.settled(done=4)


def test_the_first_seeds_pipeline_buries_what_is_critical(site):
    log = site.write("app.log", "\n".join((*GOOD, POISON)) + "\n")
    result = site.json("run", log, "--pipeline", "etl.demo:dashboard")
    assert (result["done"], result["dead"]) == (3, 1)
    groups = site.json("dlq list")["groups"]
    assert [(group["code"], group["sample"]) for group in groups] == [("poison", POISON)]
    site.settled(done=3, dead=1)
