"""A PostgreSQL server of the benchmark's own, and a synchronous standby of it.

Its settings are PostgreSQL's defaults, so that every commit is synced to the disk; only
`max_connections` is higher. It listens on a free port of this machine and ends with the block.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psutil
import psycopg

from etl import open_queue

START_SECONDS = 60.0
USER = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}
"""PostgreSQL refuses to run as root."""


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, which Debian keeps off the path, if there is one.

    Of several versions, the newest.
    """
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(installed, key=lambda path: float(path.parent.name), reverse=True)
    return next((path for path in folders if (path / "pg_basebackup").exists()), None)


class Server:
    """A server that runs.

    Args:
        bin: The folder of PostgreSQL's programs.
        data: The folder of its data.
    """

    def __init__(self, bin: Path, data: Path) -> None:
        self.bin = bin
        self.data = data
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        settings |= {"max_connections": "200"}
        command = [bin / "postgres", "-D", data, "-p", str(self.port)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self.log = data.with_suffix(".log")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **USER)
        try:
            self.wait_until_ready()
        except BaseException:  # interrupted, too
            self.stop()
            raise

    def wait_until_ready(self) -> None:
        """Wait until it takes connections."""
        ready = [self.bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(ready, check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"PostgreSQL does not start: {self.log.read_text()}")
            time.sleep(0.05)

    def url(self, database: str = "postgres") -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://etl@127.0.0.1:{self.port}/{database}"

    def execute(self, sql: str) -> list[tuple]:
        """Run a statement outside a transaction and return its rows."""
        with psycopg.connect(self.url(), autocommit=True) as db:
            answer = db.execute(sql)
            return answer.fetchall() if answer.description else []

    def processor_seconds(self) -> float:
        """Return the CPU seconds of its processes until now, with those that have ended."""
        root = psutil.Process(self.process.pid)
        used = 0.0
        for process in (root, *root.children(recursive=True)):
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue  # it has ended, and counts as the root's from now on
            used += times.user + times.system + times.children_user + times.children_system
        return used

    def stop(self) -> None:
        """End it, and its connections."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(START_SECONDS)


@contextmanager
def running(bin: Path, folder: Path) -> Iterator[Server]:
    """Run a new server until the block ends.

    Args:
        bin: The folder of PostgreSQL's programs.
        folder: A new folder for its data.
    """
    folder.mkdir()
    if USER:
        os.chown(folder, pwd.getpwnam(USER["user"]).pw_uid, -1)
    data = folder / "primary"
    make = [bin / "initdb", "-D", data, "-U", "etl", "-A", "trust", "-E", "UTF8"]
    subprocess.run([*make, "--locale=C.UTF-8"], check=True, stdout=subprocess.DEVNULL, **USER)
    server = Server(bin, data)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def standby(primary: Server) -> Iterator[None]:
    """Run a standby until the block ends; what the primary commits is on the disks of both."""
    data = primary.data.with_name("standby")
    copy = [primary.bin / "pg_basebackup", "-d", primary.url(), "-D", data, "-R", "-X", "stream"]
    subprocess.run([*copy, "--checkpoint=fast"], check=True, **USER)
    server = Server(primary.bin, data)
    try:
        _set_synchronous(primary, "*")
        deadline = time.monotonic() + START_SECONDS
        while not primary.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"):
            if time.monotonic() > deadline:
                raise SystemExit(f"the standby does not follow: {server.log.read_text()}")
            time.sleep(0.05)
        yield
    finally:
        _set_synchronous(primary, "")
        server.stop()


def _set_synchronous(server: Server, names: str) -> None:
    server.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
    server.execute("SELECT pg_reload_conf()")


_numbers = count()


@contextmanager
def store(server: Server) -> Iterator[str]:
    """Make an empty store in a database of its own, and drop it when the block ends."""
    name = f"store_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name}")
    try:
        open_queue(server.url(name), create=True).close()
        yield server.url(name)
    finally:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")
