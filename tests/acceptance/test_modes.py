"""Who may read what etl writes: its owner, unless a folder was named or was there before."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

LINES = "2026-11-22 09:00:00,000 INFO shop: ready\n2026-11-22 09:00:01,000 ERROR shop: total=-1\n"
READABLE = stat.S_IRWXG | stat.S_IRWXO


@pytest.fixture
def run_as(tmp_path: Path):
    """Run commands with a umask, in a folder with a log."""
    (tmp_path / "app.log").write_text(LINES)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ETL_")}

    def run(umask: int, *arguments: object) -> None:
        command = [sys.executable, "-m", "etl", *map(str, arguments)]
        options = {"cwd": tmp_path, "env": environment, "umask": umask, "timeout": 100}
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
        assert done.returncode == 0, done.stderr

    return run


def modes(folder: Path) -> dict[str, int]:
    """Return the modes of a folder, and of all that is in it."""
    found = [folder, *folder.rglob("*")]
    return {str(path.relative_to(folder.parent)): path.stat().st_mode & 0o777 for path in found}


def test_a_run_is_for_its_owner_whatever_the_umask(run_as, tmp_path: Path):
    run_as(0, "run", "app.log")
    found = modes(tmp_path / "data")
    assert {Path(name).suffix for name in found} >= {".db", ".json", ".parquet"}
    assert {name: oct(mode) for name, mode in found.items() if mode & READABLE} == {}


def test_a_batch_is_for_its_owner_and_so_are_its_notebook_and_report(run_as, tmp_path: Path):
    run_as(0, "batch", "app.log", "-p", "workers=1")
    found = modes(tmp_path / "data")
    assert {Path(name).name for name in found} >= {"run.ipynb", "report.html", "console.txt"}
    assert {name: oct(mode) for name, mode in found.items() if mode & READABLE} == {}


def test_a_store_that_is_named_is_private_and_a_folder_that_is_named_follows_the_umask(
    run_as, tmp_path: Path
):
    run_as(0o022, "put", "app.log", "--store", "q.db")
    assert modes(tmp_path / "q.db") == {"q.db": 0o600}
    run_as(0o022, "work", "--drain", "--store", "q.db")
    assert modes(tmp_path / "out")["out"] == 0o700
    run_as(0o022, "run", "app.log", "--store", "r.db", "--out", "named")
    found = modes(tmp_path / "named")
    assert set(found.values()) == {0o755, 0o644}


def test_what_is_there_keeps_its_mode(run_as, tmp_path: Path):
    run_as(0, "store", "init", "q.db")
    (tmp_path / "q.db").chmod(0o640)
    (tmp_path / "out").mkdir(0o750)
    run_as(0o022, "put", "app.log", "--store", "q.db")
    run_as(0o022, "work", "--drain", "--store", "q.db")
    assert modes(tmp_path / "q.db") == {"q.db": 0o640}
    found = modes(tmp_path / "out")
    assert found.pop("out") == 0o750
    assert set(found.values()) == {0o644}
