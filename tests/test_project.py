"""The files around the package say the same as it does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import etl

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ("notebook", "server", "otlp", "postgres", "dask", "kafka", "remote", "docs", "test")
TARGETS = ("databases", "delta", "http", "lake")


def requirement(text: str) -> tuple[str, str]:
    name, version = re.fullmatch(r"([\w.-]+)(?:\[\w+\])?\s*([^;]*?)\s*(?:;.*)?", text).groups()
    return name, version


CONDA = {"isal": "python-isal"}
"""What packages are called there, where that differs."""


def test_conda_users_get_the_same_packages():
    text = (ROOT / "environment.yml").read_text()
    listed = dict(
        requirement(line) for line in re.findall(r"^ +- ([\w.-]+ [<>=][^#\n]*)", text, re.MULTILINE)
    )
    wanted = [*PROJECT["dependencies"]]
    for extra in EXTRAS:
        wanted += PROJECT["optional-dependencies"][extra]
    expected = {CONDA.get(name, name): version for name, version in map(requirement, wanted)}
    expected["python"] = PROJECT["requires-python"]
    assert listed == expected


def test_the_version_is_said_once_and_the_same_everywhere():
    assert PROJECT["version"] == etl.__version__
    assert f"## {etl.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_name_versions_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.+!-]+", pin)] == []


def test_constraints_pin_every_package_the_project_asks_for():
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    asked = {requirement(text)[0] for text in PROJECT["dependencies"]}
    for extra in (*EXTRAS, *TARGETS):
        asked |= {requirement(text)[0] for text in PROJECT["optional-dependencies"][extra]}
    assert asked - pinned == set()


def test_no_path_of_a_machine_stands_in_the_repository():
    told = [
        path
        for path in (*ROOT.glob("*.*"), *ROOT.glob("etl/**/*.py"), *ROOT.glob("data/*"))
        if path.is_file() and re.search(rb"/(root|home|Users)/\w", path.read_bytes())
    ]
    assert told == []


def test_the_part_of_plotly_that_reports_carry_is_of_its_version():
    from plotly.offline import get_plotlyjs_version

    from etl.notebook.batch.report import VENDORED

    head = VENDORED.read_text("utf-8")[:200]
    assert f"plotly.js (basic - minified) v{get_plotlyjs_version()}" in head
    assert "MIT License" in VENDORED.with_name("LICENSE").read_text()
