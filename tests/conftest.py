"""Fixtures that more than one kind of test needs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from etl import open_queue
from etl.queue import Queue

ROOT = Path(__file__).parent.parent
DATA = ROOT / "data"

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the browser last: its driver keeps an event loop, in which no other can run."""
    items.sort(key=lambda item: "browser" in item.path.parts)


def without_runs() -> dict[str, str]:
    """Return the environment of a user who has not named a folder of runs."""
    return {name: value for name, value in os.environ.items() if name != "ETL_RUNS"}


@pytest.fixture(scope="session", autouse=True)
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Record the runs of this process elsewhere than in the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETL_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield


STORES = ["file", "memory"]


@pytest.fixture
def store_url(tmp_path: Path) -> Callable[[str], str]:
    """Return a function that names an empty store of a kind."""

    def name(kind: str) -> str:
        return f"sqlite:///{tmp_path / 'store.db'}" if kind == "file" else "sqlite://"

    return name


@pytest.fixture(params=STORES)
def queue(request: pytest.FixtureRequest, store_url: Callable[[str], str]) -> Iterator[Queue]:
    """Give an empty queue, once for every store."""
    opened = open_queue(store_url(request.param))
    yield opened
    stats = opened.stats()
    opened.close()
    assert stats.conserved, f"lines are missing: {stats}"


@pytest.fixture
def etl(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line as a user does, in an empty folder."""

    def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "etl", *map(str, arguments)]
        environment = without_runs() | {"COLUMNS": "160", "NO_COLOR": "1"}
        settings = {"cwd": tmp_path, "env": environment, "timeout": 120} | options
        return subprocess.run(command, capture_output=True, text=True, check=False, **settings)  # type: ignore[call-overload]

    return run
