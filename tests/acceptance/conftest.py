"""A site: an empty folder in which a test uses etl as a person does, with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl import Batch, open_queue
from etl.queue import DeadLetterFilter, Queue, Stats
from etl.records.batch import new_id

ROOT = Path(__file__).parents[2]
ACTIVATED = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
"""The path of a shell in which the environment of these tests is activated."""

PIPELINES = Path(__file__).with_name("pipelines.py")


class Site:
    """A folder with a store, its output, and the processes that a test started there."""

    def __init__(self, folder: Path, store: str | None = None) -> None:
        self.folder = folder
        self.store = store or folder / "s" / "store.db"
        self.out = folder / "s" / "out"
        self.data = ROOT / "data"
        self._started: list[subprocess.Popen[str]] = []
        self._queue: Queue | None = None

    # Processes

    def command(self, verb: str, *arguments: object) -> list[str]:
        """Return an `etl` command; its store is this site's unless another is named."""
        given = [*verb.split(), *map(str, arguments)]
        bare = verb in (
            "batch",
            "check",
            "detect",
            "formats",
            "graph",
            "prune",
            "runs",
            "store init",
        )
        own = [] if bare or "--store" in given else ["--store", str(self.store)]
        return [sys.executable, "-m", "etl", *given, *own]

    def options(self, **more: Any) -> dict[str, Any]:
        environment = (
            {name: value for name, value in os.environ.items() if name != "ETL_RUNS"}
            | {"COLUMNS": "160", "NO_COLOR": "1", "PATH": ACTIVATED}
            | more.pop("env", {})
        )
        return {"cwd": self.folder, "env": environment, "text": True} | more

    def etl(self, verb: str, *arguments: object, code: int = 0, **more: Any) -> str:
        """Run a command to its end and return what it printed; it must exit with `code`."""
        done = self.finish(verb, *arguments, **more)
        assert done.returncode == code, f"exit code {done.returncode}: {done.stderr or done.stdout}"
        return done.stdout

    def finish(
        self, verb: str, *arguments: object, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever that is."""
        options = self.options(**({"timeout": 100, "capture_output": True} | more))
        return subprocess.run(self.command(verb, *arguments), check=False, **options)

    def json(self, verb: str, *arguments: object, **more: Any) -> dict[str, Any]:
        """Run a command with --json and return the one object that it prints."""
        return json.loads(self.etl(verb, *arguments, "--json", **more))

    def refused(self, verb: str, *arguments: object, code: int = 2, **more: Any) -> str:
        """Run a command that must fail, and return the one line that says why."""
        done = self.finish(verb, *arguments, **more)
        assert done.returncode == code, f"exit code {done.returncode}: {done.stderr}{done.stdout}"
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("etl: ")
        return lines[0]

    def start(self, verb: str, *arguments: object, **more: Any) -> subprocess.Popen[str]:
        """Start a command in a process group of its own."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | more
        options |= {"start_new_session": True}
        process = subprocess.Popen(self.command(verb, *arguments), **self.options(**options))
        self._started.append(process)
        return process

    def kill(self, process: subprocess.Popen[str], *, group: bool = False) -> None:
        """Kill a process as nothing else does: SIGKILL."""
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
        process.communicate()

    def end(self, process: subprocess.Popen[str], *, code: int = 0) -> str:
        """Ask a process to end, and return what it had printed."""
        process.send_signal(signal.SIGTERM)
        return self.ended(process, code=code)

    def ended(self, process: subprocess.Popen[str], *, code: int = 0) -> str:
        """Wait for a process to end, and return what it had printed."""
        text, _ = process.communicate(timeout=100)
        assert process.returncode == code, f"exit code {process.returncode}: {text}"
        return text

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()
        if self._queue:
            self._queue.close()

    # Files

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def pipeline(self, name: str) -> tuple[str, str]:
        """Return the option that chooses a pipeline of pipelines.py."""
        return "--pipeline", f"{PIPELINES}:{name}"

    # The store

    @property
    def queue(self) -> Queue:
        """The store, open in this process."""
        if self._queue is None:
            self._queue = open_queue(str(self.store))
        return self._queue

    def put(self, lines: list[str], *, of: int) -> None:
        """Put lines, so many of them in a batch."""
        for start in range(0, len(lines), of):
            batch = Batch.from_lines(lines[start : start + of], source="test")
            self.queue.put(batch)

    def seen(self, wanted: Callable[[Stats], bool], timeout: float = 30.0) -> Stats:
        """Wait until the store's totals are as wanted; each look at them must be conserved."""
        deadline = time.monotonic() + timeout
        while True:
            since = self.queue.version()
            stats = self.queue.stats()
            assert stats.conserved, f"lines are missing: {stats}"
            if wanted(stats):
                return stats
            assert time.monotonic() < deadline, f"waited {timeout:g} s in vain: {stats}"
            self.queue.wait(since, 1.0)

    def busy(self, process: subprocess.Popen[str]) -> bool:
        """Wait until a worker process of this group has a batch; say False if it ended first."""

        def has_batch(_stats: Stats) -> bool:
            workers = self.queue.read("workers")
            busy = any(one["batch"] and _group(one["pid"]) == process.pid for one in workers)
            return busy or process.poll() is not None

        self.seen(has_batch, 60.0)
        return process.poll() is None

    def settled(self, *, done: int, filtered: int = 0, dead: int = 0) -> Stats:
        """Check that all that was accepted is done, filtered or dead: just so many of each."""
        stats = self.queue.stats()
        assert stats.conserved, f"lines are missing: {stats}"
        found = (stats.done, stats.filtered, stats.dead, stats.leased, stats.waiting)
        assert found == (done, filtered, dead, 0, 0)
        assert stats.accepted == done + filtered + dead
        return stats

    def dead_letters(self, **wanted: Any) -> pl.DataFrame:
        """Return the dead letters."""
        return self.queue.dead_letters(DeadLetterFilter(**wanted))

    def rows(self) -> pl.DataFrame:
        """Return all rows of the Parquet output."""
        files = sorted(self.out.glob("*.parquet"))
        return pl.concat([pl.read_parquet(file) for file in files], how="diagonal_relaxed")

    def received(self, processor: str) -> int:
        """Return how many rows the metrics say a processor was given."""
        found = self.queue.read("processors")
        return sum(row["received"] for row in found if row["processor"] == processor)


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Give an empty site; afterwards every store in it must be conserved."""
    one = Site(tmp_path)
    yield one
    one.close()
    for path in tmp_path.rglob("store.db"):
        queue = open_queue(str(path))
        stats = queue.stats()
        queue.close()
        assert stats.conserved, f"lines are missing in {path}: {stats}"


@pytest.fixture
def site_at(tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    """Return a function that makes a site whose new store is on a server."""
    made: list[Site] = []

    def make(url: str) -> Site:
        made.append(Site(tmp_path, url))
        made[-1].etl("store init", url)
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give a site for all tests of a file."""
    one = Site(tmp_path_factory.mktemp("shared"))
    yield one
    one.close()


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait for a condition that no event tells of."""

    def wait(condition: Callable[[], object], timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout:g} s in vain"
            time.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def big_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a file of 400,000 numbered lines, about 40 MB."""
    path = tmp_path_factory.mktemp(new_id()) / "big.log"
    filler = "and so it goes on, and on, and on, and on"
    with path.open("w") as file:
        file.writelines(
            f"2026-11-21 10:00:00,000 INFO app.main: line {number:08} {filler}\n"
            for number in range(400_000)
        )
    return path
