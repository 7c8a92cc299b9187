"""pytest runs the cases in `*.etl.toml` files; fixtures for tests of pipelines.

    etl_queue              an empty queue in memory; afterwards no line is missing in it
    etl_golden             `testing.assert_golden`; `--etl-update-golden` rewrites the files

pytest loads this in every run, so it imports nothing of etl until it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from etl.queue import Queue
    from etl.testing.cases import Case

__all__ = ["CaseFile", "CaseItem", "etl_golden", "etl_queue"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--etl-update-golden`."""
    parser.getgroup("etl").addoption(
        "--etl-update-golden",
        action="store_true",
        help="rewrite golden files with the present output of the pipelines",
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> CaseFile | None:
    """Collect files of cases."""
    if not file_path.name.endswith(".etl.toml"):
        return None
    return CaseFile.from_parent(parent, path=file_path)


class CaseFile(pytest.File):
    """A file of cases."""

    def collect(self) -> Iterable[CaseItem]:
        """Yield an item for each case."""
        from etl.errors import UsageError
        from etl.testing.cases import read_cases

        try:
            cases = read_cases(self.path)
        except UsageError as error:
            raise self.CollectError(str(error)) from None
        text = self.path.read_text(encoding="utf-8")
        head = re.compile(r"[ \t]*\[\[[ \t]*case[ \t]*\]\]")
        places = [place for place, line in enumerate(text.split("\n")) if head.match(line)]
        known = places if len(places) == len(cases) else [None] * len(cases)
        for case, place in zip(cases, known, strict=True):
            yield CaseItem.from_parent(self, name=case.name, case=case, place=place)


class CaseItem(pytest.Item):
    """One case, as a test."""

    def __init__(self, *, case: Case, place: int | None, **rest: Any) -> None:
        super().__init__(**rest)
        self._case = case
        self._place = place

    def runtest(self) -> None:
        """Check the case."""
        self._case.check()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return what differs, without the traceback through etl."""
        from etl.errors import EtlError

        if isinstance(excinfo.value, AssertionError | EtlError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return the case's file and line."""
        return self.path, self._place, f"case: {self.name}"


@pytest.fixture
def etl_queue() -> Iterator[Queue]:
    """Yield an empty queue in memory; fail the test if a line is missing in it at the end."""
    from etl.queue import open_queue

    queue = open_queue("sqlite://")
    yield queue
    stats = queue.stats()
    queue.close()
    if not stats.conserved:
        pytest.fail(f"lines are missing or counted twice: {stats}", pytrace=False)


@pytest.fixture
def etl_golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return `etl.testing.assert_golden`, which rewrites the file with `--etl-update-golden`."""
    from etl.testing.assertions import assert_golden

    return partial(assert_golden, update=request.config.getoption("--etl-update-golden"))
