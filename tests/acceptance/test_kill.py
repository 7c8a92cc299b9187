"""Processes killed at any instruction: nothing is lost, nothing is there twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from pathlib import Path

import polars as pl
import pytest

from etl.analysis import metrics

KILLS = 50 if os.environ.get("ETL_CHAOS_ROUNDS") else 4
"""In `make chaos`, and in `make test`."""

LINES = 80_000
BLANK = LINES // 400


def each_line_once(site, *, lines, lost=0):
    """Check that numbers 0 to `lines` are in the output or dead, once; `lost` at most by kills."""
    dead = site.dead_letters()
    dead_lines = dead.select(number=pl.col("line").str.extract(r"line (\d+)", 1).cast(pl.Int64))
    written = site.rows().select("number")
    numbers = pl.concat([written, dead_lines.drop_nulls()])["number"].sort()
    assert numbers.to_list() == list(range(lines))
    assert dead.filter(pl.col("code") == "worker_lost").height <= lost
    assert written.height == site.queue.stats().done


def pause_by_chance(process, most):
    """Let some time pass in which the process must not end."""
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(random.uniform(0, most))


def hidden(site):
    return set(site.out.glob(".*"))


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.timeout(200)
def test_a_worker_killed_again_and_again_loses_no_line_and_doubles_none(site):
    lines = [f"line {n} {'poison' if n % 97 == 5 else 'well'}" for n in range(LINES)]
    for start in range(0, LINES, 400):
        site.put([*lines[start : start + 400], ""], of=401)
    for _ in range(KILLS):
        size = random.choice((401, 1203))
        arguments = (*site.pipeline("numbered"), "--batch-lines", size)
        worker = site.start("work", *arguments, env={"DELAY": "0.02"})
        assert site.busy(worker)
        pause_by_chance(worker, 0.15)
        site.kill(worker)
    assert not site.queue.stats().idle
    site.etl("work", "--drain", *site.pipeline("numbered"))
    dead = site.dead_letters()
    lost = dead.filter(pl.col("code") == "worker_lost")
    blank = BLANK - lost.filter(pl.col("line") == "").height
    site.settled(done=LINES + BLANK - dead.height - blank, filtered=blank, dead=dead.height)
    each_line_once(site, lines=LINES, lost=KILLS)
    assert site.received("pace") == LINES + BLANK - lost.height
    assert counted(site) == site.queue.stats().done


def counted(site):
    """Return how many lines the committed state of `count` knows of, each value once."""
    counts = [json.loads(row["state"]) for row in site.queue.read("states")]
    assert all(value == 1 for count in counts for value in count.values())
    return sum(map(len, counts))


def test_what_a_killed_worker_had_not_committed_is_removed(site, until):
    site.put([f"line {n}" for n in range(6_000)], of=1_000)
    killed = set()
    for _ in range(2):
        worker = site.start("work", *site.pipeline("lingering"), env={"DELAY": "60"})
        until(lambda killed=killed: hidden(site) - killed)
        killed = hidden(site)
        site.kill(worker)
    site.etl("work", "--drain", *site.pipeline("lingering"))
    site.settled(done=6_000)
    each_line_once(site, lines=6_000)
    assert hidden(site) == set()


def test_a_run_killed_with_its_workers_resumes_where_it_was(site, big_log):
    arguments = ("run", big_log, *site.pipeline("light"))
    for _ in range(5):
        run = site.start(*arguments, env={"DELAY": "0.4"})
        if not site.busy(run):
            break
        pause_by_chance(run, 0.6)
        site.kill(run, group=True)
    site.etl(*arguments)
    site.settled(done=400_000)
    each_line_once(site, lines=400_000)


def test_a_run_killed_without_its_workers_resumes_beside_them(site, big_log):
    arguments = ("run", big_log, *site.pipeline("light"))
    run = site.start(*arguments, env={"DELAY": "0.4"}, stdout=subprocess.DEVNULL)
    assert site.busy(run)
    pause_by_chance(run, 0.3)
    site.kill(run)
    site.etl(*arguments)
    site.settled(done=400_000)
    each_line_once(site, lines=400_000)


def workers_of(site):
    """Return the process ids of all workers that have processed something."""
    names = metrics.processors(site.queue, by_worker=True)["worker"]
    return {int(name.split("-")[-2]) for name in names}


def test_workers_are_threads_of_a_run_if_no_processor_is_python(site, big_log):
    run = site.start("run", big_log, *site.pipeline("in_threads"))
    site.ended(run)
    site.settled(done=400_000)
    each_line_once(site, lines=400_000)
    assert workers_of(site) == {run.pid}
    run = site.start("run", big_log, *site.pipeline("in_threads"), "--workers", 1, "--reread")
    site.ended(run)
    assert run.pid not in workers_of(site)
    assert len(workers_of(site)) == 2


def test_what_a_killed_run_of_threads_left_is_processed_by_processes(site, big_log):
    arguments = ("run", big_log, *site.pipeline("in_threads"))
    run = site.start(*arguments, env={"DELAY": "0.4"})
    assert site.busy(run)
    pause_by_chance(run, 0.3)
    site.kill(run)
    again = site.start(*arguments)
    site.ended(again)
    site.settled(done=400_000)
    each_line_once(site, lines=400_000)
    assert again.pid not in workers_of(site)


def test_a_killed_worker_whose_parent_has_not_noticed_keeps_no_lease(site):
    site.put([f"line {n}" for n in range(1_000)], of=1_000)
    worker = site.start("work", "--lease", 3600, *site.pipeline("light"), env={"DELAY": "60"})
    assert site.busy(worker)
    os.kill(worker.pid, signal.SIGKILL)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    site.etl("work", "--drain", *site.pipeline("light"), timeout=20)
    site.settled(done=1_000)
    each_line_once(site, lines=1_000)


def test_a_run_replaces_a_worker_that_is_killed(site, big_log):
    run = site.start("run", big_log, *site.pipeline("light"), env={"DELAY": "0.3"})
    for _ in range(3):
        if not site.busy(run):
            break
        os.kill(random.choice(children(run.pid)), signal.SIGKILL)
        pause_by_chance(run, 0.4)
    site.ended(run)
    site.settled(done=400_000)
    each_line_once(site, lines=400_000)


def test_workers_replace_one_of_them_that_is_killed(site):
    site.put([f"line {n}" for n in range(10_000)], of=200)
    arguments = ("--workers", 2, "--drain", "--batch-lines", 200, *site.pipeline("light"))
    work = site.start("work", *arguments, env={"DELAY": "0.05"})
    for _ in range(3):
        assert site.busy(work)
        os.kill(random.choice(children(work.pid)), signal.SIGKILL)
        pause_by_chance(work, 0.2)
    site.ended(work)
    site.settled(done=10_000)
    each_line_once(site, lines=10_000)


def test_a_put_that_is_killed_is_started_again_and_puts_the_rest(site, big_log):
    for chunks in (1, 2, 3):
        put = site.start("put", big_log)
        site.seen(lambda stats, least=chunks: stats.accepted >= least * 50_000)
        site.kill(put)
    assert 0 < site.queue.stats().waiting < 400_000
    site.etl("put", big_log)
    assert site.queue.stats().waiting == 400_000
    site.etl("work", "--drain", *site.pipeline("light"))
    site.settled(done=400_000)
    each_line_once(site, lines=400_000)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_asked_to_end_finishes_its_batch(site, workers, number):
    site.put([f"line {n}" for n in range(2_000)], of=100)
    arguments = ("--workers", workers, "--batch-lines", 100, *site.pipeline("light"))
    work = site.start("work", *arguments, env={"DELAY": "0.1"})
    assert site.busy(work)
    work.send_signal(number)
    site.ended(work)
    stats = site.queue.stats()
    assert stats.conserved
    assert stats.leased == 0
    assert stats.done > 0
    assert stats.waiting > 0
    assert stats.done + stats.waiting == 2_000
    assert site.rows().height == stats.done
    assert site.queue.read("workers") == []


@pytest.mark.parametrize("pipeline", ["light", "in_threads"])
def test_a_run_that_is_interrupted_says_so_and_is_started_again(site, big_log, pipeline):
    run = site.start("run", big_log, *site.pipeline(pipeline), env={"DELAY": "0.3"})
    assert site.busy(run)
    run.send_signal(signal.SIGINT)
    text, _ = run.communicate(timeout=60)
    assert run.returncode not in (0, 2)
    assert "Traceback" not in text
    assert site.queue.stats().leased == 0
    site.etl("run", big_log, *site.pipeline(pipeline))
    site.settled(done=400_000)
    each_line_once(site, lines=400_000)
