"""The store that a user holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import etl
from etl import Batch, Worker
from etl.demo import dashboard
from etl.store import Figures


@pytest.fixture
def store() -> etl.Store:
    """Give a store in which one line is done and one is dead."""
    with etl.open("sqlite://") as opened:
        opened.queue.put(Batch.from_lines(["INFO ready", "CRITICAL <b>poison</b>"], source="me"))
        Worker(opened.queue, dashboard).drain()
        yield opened


def test_a_store_shows_its_status_frames_and_figures(store: etl.Store):
    assert (store.status.done, store.status.dead, store.status.conserved) == (1, 1, True)
    assert store.dead_letters.groups()["lines"].tolist() == [1]
    assert store.metrics.processors()["processor"].tolist() == ["level", "check", "count"]
    assert store.metrics.state_totals() == {"count": {"INFO": 1}}
    assert store.traces.frame()["state"].tolist() == ["done", "dead"]


@pytest.mark.parametrize("name", [name for name in vars(Figures) if not name.startswith("_")])
def test_a_store_draws_each_of_its_figures(store: etl.Store, name: str):
    assert getattr(store.figures, name)(dark=True).data


def test_a_store_is_controlled_by_whoever_holds_it(store: etl.Store):
    store.pause("a look")
    assert store.queue.control().paused_by == "operator"
    assert "paused by operator: a look" in store._repr_html_()
    store.resume()
    assert not store.status.paused


def test_what_a_store_shows_of_itself_is_short_and_escaped(store: etl.Store):
    assert repr(store) == (
        "<Store sqlite://: 2 accepted = 1 done + 0 filtered + 1 dead + 0 processing + 0 waiting ✓>"
    )
    store.pause("<script>")
    assert "<script>" not in store._repr_html_()


def test_completion_shows_what_a_user_needs_and_not_what_workers_call():
    assert {"open", "run", "Pipeline", "Batch", "compare", "metrics"} <= set(dir(etl))
    assert not {"importlib", "TYPE_CHECKING", "annotations"} & set(dir(etl))
    shown = {name for name in dir(etl.open("sqlite://")) if not name.startswith("_")}
    assert not {"lease", "commit", "renew", "register", "heartbeat"} & shown


def test_importing_etl_takes_little_time_and_a_store_no_plotly(tmp_path: Path):
    code = (
        "import sys, etl; store = etl.open('sqlite://'); store.status;"
        "heavy = ('plotly', 'pandas', 'IPython', 'fastapi');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
