"""The pytest plugin: what a user sees of it, and that it costs those nothing who do not use it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from etl.testing import pytest_plugin

pytest_plugins = "pytester"

ROOT = Path(__file__).parents[2]

PIPELINE = """
import polars as pl
from etl import Parquet, Pipeline, reject

def price(frame):
    cents = pl.col("line").str.extract(r"total=(-?\\d+)").cast(pl.Int64) * 100
    return reject(frame.with_columns(cents=cents), cents.is_null(), "no_price", "it has no price")

pipeline = Pipeline("shop").add("price", price).add("end", Parquet())
"""

CASES = """
pipeline = "shop.py:pipeline"

[[case]]
name = "a total is cents"
line = "total=12"
fields.cents = 1200

[[case]]
line = "gratis \\u001b[31m"
dead.code = "no_price"
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder in which pytest runs with our plugin and no other."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.plugins = ["etl.testing.pytest_plugin"]
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\nfilterwarnings = ['error']")
    (pytester.path / "shop.py").write_text(PIPELINE)
    return pytester


def run(project: pytest.Pytester, cases: str, *options: str) -> pytest.RunResult:
    (project.path / "shop.etl.toml").write_text(cases)
    return project.runpytest_subprocess(*options)


def test_each_case_is_a_test_with_a_name(project: pytest.Pytester):
    result = run(project, CASES, "-v")

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "shop.etl.toml::a total is cents PASSED*",
            "shop.etl.toml::2 gratis \\x1b[[]31m PASSED*",
        ]
    )


def test_cases_are_picked_by_name_and_by_file(project: pytest.Pytester):
    run(project, CASES, "-k", "gratis").assert_outcomes(passed=1, deselected=1)
    run(project, CASES, "shop.etl.toml::a total is cents").assert_outcomes(passed=1)


def test_a_failure_says_what_differs_where_and_shows_the_hops(project: pytest.Pytester):
    result = run(project, CASES.replace("1200", "1300"))

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*case: a total is cents*",
            "the line is not as expected:",
            "  cents: expected 1300, found 1200",
            "'total=12' → done",
            "  price",
            "    cents: None → 1200",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*testing.py*")


def test_a_mistake_in_the_file_names_it_with_a_suggestion(project: pytest.Pytester):
    result = run(project, CASES.replace("fields.cents", "feilds.cents"))

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*shop.etl.toml: case 1: unknown key 'feilds'; did you mean 'fields'?"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("shop.py:", "shopp.py:", "*there is no file*shopp.py*"),
        (":pipeline", ":pipelin", "*has no 'pipelin'; did you mean 'pipeline'?"),
        (
            "fields.cents = 1200",
            "path = ['prise', '...']",
            "*unknown processor 'prise'; did you mean 'price'?",
        ),
    ],
)
def test_a_wrong_name_in_a_case_is_reported_in_one_line(project: pytest.Pytester, old, new, said):
    result = run(project, CASES.replace(old, new))

    assert result.parseoutcomes()["failed"] >= 1
    result.stdout.fnmatch_lines([said])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_golden_files_are_written_when_asked_and_held_afterwards(project: pytest.Pytester):
    (project.path / "shop.log").write_text("total=1\ntotal=2\n")
    project.makepyfile("""
        from shop import pipeline

        def test_output(etl_golden):
            etl_golden(pipeline, "shop.log", "shop.jsonl")
    """)
    options = ("-o", "pythonpath=.")
    first = project.runpytest_subprocess(*options)
    first.assert_outcomes(failed=1)
    first.stdout.fnmatch_lines(["*there is no golden file 'shop.jsonl'*--etl-update-golden*"])
    project.runpytest_subprocess(*options, "--etl-update-golden").assert_outcomes(passed=1)
    project.runpytest_subprocess(*options).assert_outcomes(passed=1)
    (project.path / "shop.log").write_text("total=1\ntotal=3\n")
    last = project.runpytest_subprocess(*options)
    last.assert_outcomes(failed=1)
    last.stdout.fnmatch_lines(["*line 2: cents: 200 → 300"])


def test_the_queue_is_empty_and_checked_afterwards(project: pytest.Pytester):
    project.makepyfile("""
        from etl import Batch, Pipeline
        from etl.testing import drain

        def test_drain(etl_queue):
            assert etl_queue.stats().accepted == 0
            etl_queue.put(Batch.from_lines(["a", "b"]))
            assert drain(etl_queue, Pipeline().add("pass", None)).done == 2

        def test_loss(etl_queue):
            etl_queue.put(Batch.from_lines(["a"]))
            with etl_queue._database.write() as db:
                db.connection.execute("UPDATE totals_by_slot SET accepted = 5")
    """)
    result = project.runpytest_subprocess()

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["lines are missing or counted twice: 5 accepted = *"])


def test_nothing_is_imported_until_a_case_is_collected():
    code = (
        "import sys, pytest; pytest.main(['--co', '-q', '-p', 'etl.testing.pytest_plugin', '-p',"
        " 'no:cacheprovider', sys.argv[1]]);"
        "heavy = ('polars', 'pandas', 'anyio', 'etl.testing.assertions', 'etl.testing.cases');"
        "print([name for name in heavy if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(ROOT / "data" / "boot.log")]
    env = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=env, cwd=ROOT / "data", capture_output=True, text=True, check=False
    )

    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_pytest_finds_the_plugin_by_itself():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["entry-points"]["pytest11"] == {"etl": pytest_plugin.__name__}


def test_what_the_plugin_adds_has_names_of_its_own():
    fixtures = [name for name in pytest_plugin.__all__ if name.islower()]

    assert fixtures == ["etl_golden", "etl_queue"]
