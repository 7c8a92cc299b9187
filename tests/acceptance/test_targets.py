"""Databases as targets: whoever is killed when, each line is loaded once."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

PIPELINE = f"{Path(__file__).with_name('deadly.py')}:pipeline"
LINES = 800

PLACES = ("stage", "commit", "publish", "load", "loaded", "forget", "remove")
"""Where deadly.py can let a process die."""


def numbers(connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT number FROM lines ORDER BY number")]


def test_a_line_is_in_the_database_once_wherever_its_worker_was_killed(site):
    site.put([f"line {n}" for n in range(LINES)], of=LINES // 8)
    work = ("work", "--drain", "--pipeline", PIPELINE, "--batch-lines", LINES // 8)
    for place in PLACES:
        died = site.finish(*work, env={"DIE_AT": place})
        assert died.returncode == -signal.SIGKILL, f"{place}: {died.stderr}"
    site.etl(*work)
    site.settled(done=LINES)
    with closing(sqlite3.connect(site.folder / "t.db")) as database:
        assert numbers(database) == list(range(LINES))
    assert site.queue.targets() == site.queue.outputs() == []
    assert [path for path in site.out.rglob("*") if path.is_file() and path.name != ".lock"] == []
