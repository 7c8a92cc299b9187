"""The committed notebooks: executed, free of traces of a machine, and saying the same again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

RUN_ID = re.compile(r"\b\d{8}-\d{6}-[0-9a-f]{4}\b")
"""What a run is called, by the time of its start."""

ids = [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_it_was_executed_from_top_to_bottom(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    counts = [cell.execution_count for cell in cells if cell.cell_type == "code"]

    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_it_holds_no_path_of_a_machine_and_no_saved_widgets(path: Path):
    text = path.read_text()

    assert re.findall(r"/(?:home|root|tmp|work|Users)/[^\s\"]*", text) == []
    assert "widgets" not in nbformat.read(path, as_version=4).metadata
    assert len(text) < 200_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_it_holds_no_time_and_nothing_that_a_run_put_in(path: Path):
    notebook = nbformat.read(path, as_version=4)
    tags = {tag for cell in notebook.cells for tag in cell.metadata.get("tags", ())}

    assert not {"injected-parameters", "papermill-error-cell-tag"} & tags
    assert "papermill" not in notebook.metadata
    assert [
        cell.id for cell in notebook.cells if {"papermill", "execution"} & set(cell.metadata)
    ] == []
    assert RUN_ID.findall(path.read_text()) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_it_begins_with_a_title_a_promise_and_literal_parameters(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    tagged = [one for one in cells if "parameters" in one.metadata.get("tags", ())]

    assert re.match(r"# .+\n\n> .+", cells[0].source)
    assert len(tagged) == 1
    assert all(re.match(r"\w+ = .+#", line) for line in tagged[0].source.splitlines())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_it_runs_unattended_and_says_the_same_again(path: Path, tmp_path: Path):
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q", str(path)]
    command += ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path)]
    unset = ("JPY_SESSION_NAME", "SERVER_SOFTWARE", "ETL_STORE")
    clean = {key: value for key, value in os.environ.items() if key not in unset}
    clean["ETL_RUNS"] = str(tmp_path / "runs")
    done = subprocess.run(
        command, env=clean, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240
    )

    assert done.returncode == 0, done.stdout[-3000:]
