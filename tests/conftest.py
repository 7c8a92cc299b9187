"""Fixtures that more than one kind of test needs."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import settings
from proxy import Proxy
from servers import Bouncer, Server, empty, free_port
from servers import start_postgres as start_server
from xdist.scheduler import LoadFileScheduling

from etl import open_queue
from etl.queue import Queue
from etl.queue.postgres import PostgresQueue

if TYPE_CHECKING:
    from confluent_kafka import Producer

os.environ.setdefault("PYTEST_TIMEOUT", "300")
"""Seconds. No setting in pyproject.toml: a reader's own tests in a checkout may lack the plugin."""

ROOT = Path(__file__).parent.parent
DATA = ROOT / "data"

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with those that need a browser: they take longest."""
    items.sort(key=lambda item: "browser" not in item.path.parts)


class OneBrowser(LoadFileScheduling):  # type: ignore[misc]
    """Gives each process a file after the other, and one of them all that need a browser.

    A browser, JupyterLab and its kernels keep a core busy; most of the others wait for something.
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "browser" if file.startswith("tests/browser/") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> OneBrowser:
    """Share the files among the processes."""
    return OneBrowser(config, log)


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
BUCKETS = itertools.count(1)


@pytest.fixture
def store_url(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """Give a function that names an empty store of a kind."""
    with ExitStack() as ending:

        def name(kind: str) -> str:
            if kind == "postgres":
                return str(ending.enter_context(request.getfixturevalue("emptied_store")()))
            return f"sqlite:///{tmp_path / 'store.db'}" if kind == "file" else "sqlite://"

        yield name


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
def documentation_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site of the documentation in a folder of its own, and return where it is."""
    folder = tmp_path_factory.mktemp("documentation")
    shutil.copy(ROOT / "zensical.toml", folder)
    shutil.copytree(ROOT / "docs", folder / "docs")
    (folder / "etl").symlink_to(ROOT / "etl")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "site"


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


@pytest.fixture(scope="session")
def start_postgres() -> Callable[..., subprocess.Popen[bytes]]:
    """Return a function that starts a server on what is in a folder."""
    return start_server


@pytest.fixture(scope="session")
def postgres_server(postgres_programs: Path) -> Iterator[str]:
    """Start a real PostgreSQL server for this session, and return the URL of its database."""
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = start_server(postgres_programs, Path(folder), port)
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


def new_store(schema: Callable[[], str]) -> str:
    """Make an empty store on PostgreSQL, and return its URL."""
    url = schema()
    PostgresQueue(url, create=True).close()
    return url


@pytest.fixture
def postgres_url(postgres_schema: Callable[[], str]) -> str:
    """Return the URL of an empty store of its own."""
    return new_store(postgres_schema)


@pytest.fixture(scope="session")
def emptied_store(
    postgres_schema: Callable[[], str],
) -> Callable[[], AbstractContextManager[str]]:
    """Return what lends the URL of an empty store; the next test has it emptied.

    To make the tables of one takes a hundred times as long.
    """
    emptied: list[tuple[str, object]] = []

    @contextmanager
    def lend() -> Iterator[str]:
        if not emptied:
            url = new_store(postgres_schema)
            emptied.append((url, empty(url)))
        url, new = emptied.pop()
        yield url
        if empty(url) == new:
            emptied.append((url, new))

    return lend


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give an empty folder that programs which refuse to run as root can reach."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture
def new_server(postgres_programs: Path, folder: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server of the test's own, which the test may kill."""
    made: list[Server] = []

    def make(*, data: Path | None = None, wal: Path | None = None, start: bool = True) -> Server:
        where = data or folder / f"server-{len(made)}"
        where.mkdir(exist_ok=True)
        made.append(Server(postgres_programs, where, wal))
        return made[-1].start() if start else made[-1]

    yield make
    for server in made:
        server.kill()


@pytest.fixture
def server(new_server: Callable[..., Server]) -> Server:
    """Start a server of the test's own, which the test may kill."""
    return new_server()


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """Give a folder with room for 96 MB."""
    place = folder / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no file system of a fixed size can be mounted here: that takes root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def bouncer(server: Server, folder: Path) -> Iterator[Bouncer]:
    """Start PgBouncer in transaction mode in front of a server."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    (folder / "bouncer").mkdir()
    with closing(Bouncer(Path(program), folder / "bouncer", server)) as started:
        yield started


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """Start a proxy in front of a server that can lose an answer."""
    with closing(Proxy(server.port)) as started:
        yield started


@pytest.fixture(scope="session")
def cluster() -> tuple[Producer, str]:
    """Return a producer that keeps librdkafka's own cluster of Kafka, and the cluster's address."""
    from confluent_kafka import Producer

    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 3})
    brokers = producer.list_topics(timeout=10).brokers.values()
    return producer, ",".join(f"{one.host}:{one.port}" for one in brokers)


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """Give a client of an S3 server on this machine."""
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        S3FileSystem.clear_instance_cache()
        yield S3FileSystem(use_listings_cache=False)
        S3FileSystem.clear_instance_cache()
        server.stop()


@pytest.fixture
def bucket(s3: Any) -> str:
    """Return the name of an empty bucket."""
    name = f"logs-{next(BUCKETS)}"
    s3.mkdir(name)
    return name
