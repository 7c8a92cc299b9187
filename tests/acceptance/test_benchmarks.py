"""Parts of the benchmarks that a change of the package may break unseen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OFF = "traces,metrics,checksums,statistics,sync"


def python(program: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / program), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_etl_without_its_features_writes_the_same_lines(tmp_path):
    source = tmp_path / "app.log"
    source.write_text("2026-11-21 10:11:12,345 WARNING shop: a line\nno such layout\n")
    place = ("--out", tmp_path / "out", "--store", tmp_path / "run.db", "--format", "python")

    done = python("without.py", OFF, "run", source, "--multiline", "off", "--json", *place)

    counts = json.loads(done.stdout)
    assert (counts["done"], counts["dead"]) == (1, 1)
    assert pl.read_parquet(tmp_path / "out" / "*.parquet")["message"].to_list() == ["a line"]
    assert counts["processors"] == {}


def test_a_feature_that_cannot_be_switched_off_is_named():
    done = python("without.py", "retries", "run", "app.log")

    assert done.returncode == 1
    assert done.stderr.startswith("unknown feature 'retries'; there are traces, metrics")


def test_features_that_are_measured_are_those_that_can_be_switched_off():
    program = "import features, without; print(features.FEATURES, *without.FEATURES, sep=chr(10))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    measured, *switches = done.stdout.splitlines()

    assert measured == str(tuple(switches))
