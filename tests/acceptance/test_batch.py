"""Batches as a scheduler runs them: by `etl batch` and by papermill, in real processes."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
PIPELINES = Path(__file__).with_name("pipelines.py")
NOTEBOOK = ROOT / "notebooks" / "02_batch_run.ipynb"

pytestmark = pytest.mark.timeout(300)


def numbered(first, last):
    return "".join(f"line {n}\n" for n in range(first, last))


def numbers(site):
    return sorted(site.rows()["number"].to_list())


def arguments(site, *sources, pipeline="light", **parameters):
    """Return the arguments of a batch whose folder is that of the site's store."""
    words = [*sources, "--out", site.store.parent, "-p", f"pipeline={PIPELINES}:{pipeline}"]
    return words + [word for name in parameters for word in ("-p", f"{name}={parameters[name]}")]


def batch(site, *sources, code=0, **parameters):
    """Run a batch to its end and return what it said, on both streams."""
    done = site.finish("batch", *arguments(site, *sources, **parameters))
    assert done.returncode == code, f"exit code {done.returncode}: {done.stderr}{done.stdout}"
    return done.stdout + done.stderr


def record(site):
    (row,) = site.json("runs")["runs"]
    return row


def executed(folder):
    return nbformat.read(folder / "run.ipynb", as_version=4)


def test_a_batch_leaves_its_output_its_notebook_and_its_report(site):
    log = site.write("app.log", numbered(0, 5_000))
    said = batch(site, log, expect_columns="number,source", workers=1)
    site.settled(done=5_000)
    assert numbers(site) == list(range(5_000))
    row = record(site)
    assert (row["kind"], row["state"], row["accepted"]) == ("batch", "finished", 5_000)
    assert row["run"] in said
    notebook = executed(site.store.parent)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert notebook.metadata.papermill.parameters.expect_columns == ["number", "source"]
    assert "widgets" not in notebook.metadata
    report = (site.store.parent / "report.html").read_text()
    assert report.count("Plotly.react(chart") == 1
    assert "5,000" in report


def test_a_failing_gate_is_told_after_all_is_written_and_can_be_met_later(site):
    log = site.write("app.log", numbered(0, 99) + "line 99 poison\n")
    said = batch(site, log, code=3, max_dead=0, expect_columns='["number", "level"]')
    assert "2 of 6 quality gates failed: dead lines: 1, not ≤ 0" in said
    assert "columns: no level" in said
    site.settled(done=99, dead=1)
    assert numbers(site) == list(range(99))
    assert record(site)["state"] == "gate"
    assert executed(site.store.parent).cells[-1].outputs[0].ename == "GateFailed"
    assert "quality gate failed" in (site.store.parent / "report.html").read_text()
    batch(site, log, max_dead=1, expect_columns='["number"]')
    site.settled(done=99, dead=1)
    assert record(site)["state"] == "finished"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("max_daed=1", "unknown parameter 'max_daed'; did you mean 'max_dead'?"),
        ("workers=two", "parameter workers has to be a whole number, not 'two'"),
        ("workers=0", "workers must be >= 1, got 0"),
        ("workers", "-p workers is no name=value"),
        ("pipeline=no:thing", "there is no module 'no'"),
        ("source=-", "a batch reads files"),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(site, given, why):
    log = site.write("app.log", numbered(0, 10))
    sources = [] if given.startswith("source") else [log]
    said = site.refused("batch", *sources, "--out", site.store.parent, "-p", given)
    assert why in said
    assert not site.store.parent.exists()


def test_a_batch_that_cannot_continue_keeps_its_notebook_and_resumes_when_fixed(site):
    log = site.write("app.log", numbered(0, 10) + "trouble\n")
    said = batch(site, log, code=1, pipeline="stops")
    assert "cannot stand trouble" in said
    assert record(site)["state"] == "failed"
    assert "cannot stand trouble" in (site.store.parent / "report.html").read_text()
    outputs = [one for cell in executed(site.store.parent).cells for one in cell.get("outputs", ())]
    assert [one.ename for one in outputs if one.output_type == "error"] == ["EtlError"]
    batch(site, log, pipeline="unnumbered")
    site.settled(done=11)


def test_a_finished_batch_started_again_says_so_and_changes_nothing(site):
    log = site.write("app.log", numbered(0, 100))
    batch(site, log)
    before = {path: path.stat().st_mtime_ns for path in site.out.iterdir()}
    log.write_text(numbered(0, 200))
    batch(site, log)
    assert {path: path.stat().st_mtime_ns for path in site.out.iterdir()} == before
    site.settled(done=100)
    assert "was finished before: nothing is changed" in nbformat.writes(executed(site.store.parent))
    other = site.write("other.log", numbered(0, 10))
    said = batch(site, other, code=2)
    assert "app.log; name another folder" in said
    site.settled(done=100)


def test_a_killed_batch_resumes_when_it_is_started_again(site, big_log, until):
    process = site.start("batch", *arguments(site, big_log), env={"DELAY": "2"})
    until(lambda: site.store.exists() and site.queue.stats().leased, 60)
    os.kill(record(site)["pid"], signal.SIGKILL)  # the kernel
    site.kill(process, group=True)
    assert record(site)["state"] == "killed"
    assert not site.queue.stats().idle
    batch(site, big_log)
    site.settled(done=400_000)
    assert numbers(site) == list(range(400_000))
    assert record(site)["state"] == "finished"


def test_two_batches_at_once_do_not_meet(site):
    started = []
    for name in ("a", "b"):
        log = site.write(f"{name}.log", numbered(0, 2_000))
        words = [log, "--out", site.folder / name, "-p", f"pipeline={PIPELINES}:light"]
        started.append(site.start("batch", *words))
    for process in started:
        site.ended(process)
    rows = site.json("runs")["runs"]
    assert [(row["state"], row["done"]) for row in rows] == [("finished", 2_000)] * 2


def test_a_batch_that_is_running_is_not_started_beside(site, until):
    log = site.write("app.log", numbered(0, 1_000))
    go = site.folder / "go"
    first = site.start("batch", *arguments(site, log), env={"GATE": str(go)})
    until(lambda: site.store.exists() and site.queue.stats().leased, 60)
    assert "is running in process" in batch(site, log, code=2)
    first.send_signal(signal.SIGINT)
    go.touch()
    text, _ = first.communicate(timeout=100)
    assert first.returncode not in (0, 3), text
    assert "Traceback" not in text
    until(lambda: record(site)["state"] in ("failed", "killed"))
    batch(site, log)
    site.settled(done=1_000)


def test_each_file_has_its_own_batch_and_a_summary_shows_all(site):
    site.write("logs/good.log", numbered(0, 100))
    site.write("logs/sub/bad.log", numbered(0, 9) + "line 9 poison\n")
    site.write("logs/broken.log.gz", gzip.compress(b"line 1\n" * 99)[:-9])
    words = ["logs/*.log*", "logs/sub/*.log", "--out", "day", "--each", "--jobs", 2]
    words += ["-p", f"pipeline={PIPELINES}:light"]
    found = site.json("batch", *words, code=3)["batches"]
    states = {one["folder"]: (one["state"], one["code"], one["done"], one["dead"]) for one in found}
    assert states == {
        "good.log": ("finished", 0, 100, 0),
        "bad.log": ("gate", 3, 9, 1),
        "broken.log.gz": ("gate", 3, 99, 0),
    }
    errors = {one["folder"]: one["error"] or "" for one in found}
    assert "broken.log.gz" in errors["broken.log.gz"]
    day = site.folder / "day"
    assert json.loads((day / "summary.json").read_text()) == found
    page = (day / "summary.html").read_text()
    assert all(f'href="{name}/report.html"' in page for name in states)
    assert all((day / name / "report.html").exists() for name in states)


def test_plain_papermill_runs_the_notebook(site):
    log = site.write("app.log", numbered(0, 50) + "line 50 poison\n")
    command = [sys.executable, "-m", "papermill", NOTEBOOK, "done.ipynb", "-p", "source", log]
    command += ["-p", "pipeline", f"{PIPELINES}:light", "-p", "out", site.store.parent]
    command += ["-p", "run_id", "20240305"]
    options = site.options(capture_output=True, timeout=100)
    done = subprocess.run([*map(str, command)], check=False, **options)
    assert done.returncode == 0, done.stderr
    site.settled(done=50, dead=1)
    assert record(site)["run"] == "20240305", "papermill makes a number of it"
    command += ["-p", "max_dead", "0"]
    done = subprocess.run([*map(str, command)], check=False, **options)
    assert done.returncode == 1
    assert "GateFailed" in done.stderr
