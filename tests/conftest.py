"""Fixtures that more than one kind of test needs."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings

from etl import open_queue
from etl.queue import Queue
from etl.queue.postgres import PostgresQueue

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
def store_url(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Return a function that names an empty store of a kind."""

    def name(kind: str) -> str:
        if kind == "postgres":
            return str(request.getfixturevalue("postgres_url"))
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


@pytest.fixture(scope="session")
def parse_command() -> Callable[[Sequence[str]], None]:
    """Parse the words after `etl` as the command line does, and run nothing."""
    from typer.main import get_command

    from etl.cli.app import app

    def parse(words: Sequence[str]) -> None:
        command, left = get_command(app), list(words)
        while hasattr(command, "commands"):
            command = command.commands[left.pop(0)]
        command.make_context(command.name, left)

    return parse


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """Return the folder of PostgreSQL's programs, which Debian keeps off the path."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "postgres").exists():
            return folder
    pytest.skip("PostgreSQL's programs are not installed: apt-get install postgresql")


def _start_postgres(
    programs: Path, folder: Path, port: int, **more: str
) -> subprocess.Popen[bytes]:
    """Start a server on what is in a folder; PostgreSQL refuses to run as root."""
    user = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}
    data = folder / "data"
    if not data.exists():
        if user:
            os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        make = [programs / "initdb", "-D", data, "-U", "etl", "-A", "trust", "-E", "UTF8"]
        subprocess.run(
            [*make, "--no-sync", "--locale=C.UTF-8"], check=True, capture_output=True, **user
        )
    options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    options |= {"autovacuum": "off", "max_connections": "200"} | more
    command = [programs / "postgres", "-D", data, "-p", str(port)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, **user)
    ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    deadline = time.monotonic() + 60
    while subprocess.run(ready, check=False).returncode:
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.fixture(scope="session")
def start_postgres() -> Callable[..., subprocess.Popen[bytes]]:
    return _start_postgres


@pytest.fixture(scope="session")
def postgres_server(postgres_programs: Path) -> Iterator[str]:
    """Start a real PostgreSQL server for this session, and return the URL of its database."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = _start_postgres(postgres_programs, Path(folder), port)
        try:
            yield f"postgresql://etl@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


@pytest.fixture(scope="session")
def postgres_schema(postgres_server: str) -> Iterator[Callable[[], str]]:
    """Return a function that returns the URL of an empty schema: a database to etl."""
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        numbers = itertools.count()

        def make() -> str:
            name = f"store_{next(numbers)}"
            admin.execute(f"CREATE SCHEMA {name}")
            return f"{postgres_server}?options=-csearch_path%3D{name}"

        yield make


@pytest.fixture
def postgres_url(postgres_schema: Callable[[], str]) -> str:
    """Return the URL of an empty store of its own."""
    url = postgres_schema()
    PostgresQueue(url, create=True).close()
    return url
