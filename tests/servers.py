"""Servers for tests: PostgreSQL and PgBouncer, started, killed, stopped and started again.

PostgreSQL's and PgBouncer's programs refuse to run as root: they run as `nobody` then.
"""

from __future__ import annotations

import os
import pwd
import random
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg

USER: dict[str, Any] = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}
"""Options of `subprocess` for programs that refuse to run as root."""


def free_port() -> int:
    """Return a port on which nothing listens, and which no client is given as its own.

    A client that tries again and again to reach a port between 32768 and 60999 on which nothing
    listens is given that port itself one day, and is connected to itself.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def give(folder: Path) -> None:
    """Let such programs write in a folder."""
    if USER:
        os.chown(folder, pwd.getpwnam(USER["user"]).pw_uid, -1)


def start_postgres(
    programs: Path, folder: Path, port: int, *, make: Sequence[str] = (), **more: str
) -> subprocess.Popen[bytes]:
    """Start a server on what is in a folder, and wait until it answers.

    Args:
        programs: Folder of PostgreSQL's programs.
        folder: Folder for its data, which are made if they are not there, and its log.
        port: Its port.
        make: Options of `initdb`.
        more: Settings.
    """
    data = folder / "data"
    give(folder)
    if not data.exists():
        initdb = [programs / "initdb", "-D", data, "-U", "etl", "-A", "trust", "-E", "UTF8"]
        initdb += ["--no-sync", "--locale=C.UTF-8", *make]
        subprocess.run(initdb, check=True, capture_output=True, **USER)
    options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    options |= {"autovacuum": "off", "max_connections": "200"} | more
    command = [programs / "postgres", "-D", data, "-p", str(port)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, **USER)
    assert answers(programs, process, port), (folder / "log").read_text()
    return process


def answers(programs: Path, process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until a server answers; return False if it ends instead."""
    url = f"postgresql://etl@127.0.0.1:{port}/postgres"
    ready = [programs / "pg_isready", "-q", "-d", url]
    deadline = time.monotonic() + 60
    while subprocess.run(ready, check=False).returncode:
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return True


SHAPE = """SELECT relname, relkind, relnatts, relhastriggers FROM pg_class
WHERE relnamespace = current_schema()::regnamespace"""
"""Returns the tables, indexes and sequences of a store."""


def empty(url: str) -> list[Any] | None:
    """Empty a store, as if it were new, and return what is made of it is made; None if it is held.

    A store in which a test has changed more than rows is another one.
    """
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SET lock_timeout = '1s'")
        shape = db.execute(SHAPE).fetchall()
        tables = sorted(name for name, kind, *_ in shape if kind == "r" and name != "etl_store")
        again = [f"SELECT setval('{name}', 1, false)" for name, kind, *_ in shape if kind == "S"]
        try:  # batches come before their payloads
            db.execute("; ".join([*(f"DELETE FROM {name}" for name in tables), *again]))
        except psycopg.errors.LockNotAvailable:
            return None
        return [*sorted(shape), *db.execute("TABLE etl_store").fetchall()]


class Server:
    """A PostgreSQL server of a test's own, which writes to disk as a real one does.

    Args:
        programs: Folder of PostgreSQL's programs.
        folder: Folder for its data and its log.
        wal: Folder for its write-ahead log, if that is to be elsewhere.
    """

    def __init__(self, programs: Path, folder: Path, wal: Path | None = None) -> None:
        self.port = free_port()
        self.url = f"postgresql://etl@127.0.0.1:{self.port}/postgres"
        self.programs = programs
        self.folder = folder
        self._make: list[str] = []
        if wal:
            wal.mkdir(exist_ok=True)
            give(wal)
            self._make = [f"--waldir={wal / 'wal'}", "--wal-segsize=1"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        """Start it on the data that it had, and wait until it answers."""
        self._process = start_postgres(
            self.programs, self.folder, self.port, make=self._make, fsync="on"
        )
        return self

    def recovers(self) -> bool:
        """Wait until it answers after an error that ended its sessions; False if it has ended."""
        assert self._process is not None
        return answers(self.programs, self._process, self.port)

    def kill(self) -> None:
        """Kill all of its processes with SIGKILL, and wait until they have ended."""
        if self._process is None or self._process.poll() is not None:
            return
        processes = self._stop_all()
        handles = [os.pidfd_open(one.pid) for one in processes]
        _send(processes, signal.SIGKILL)
        for handle in handles:
            assert select.select([handle], [], [], 60)[0]
            os.close(handle)
        self._process.wait(60)

    def freeze(self) -> None:
        """Stop all of its processes with SIGSTOP; connections stay, and nothing answers."""
        self._stop_all()

    def thaw(self) -> None:
        """Let them continue."""
        _send(self._processes()[::-1], signal.SIGCONT)

    def vacuum(self) -> None:
        """Give the room of deleted rows back."""
        with closing(psycopg.connect(self.url, autocommit=True)) as db:
            db.execute("VACUUM FULL")

    def back_up(self, standby: Server) -> None:
        """Make another server this one's synchronous standby; what it had is deleted."""
        shutil.rmtree(standby.folder / "data", ignore_errors=True)
        give(standby.folder)
        copy = [self.programs / "pg_basebackup", "-d", self.url, "-D", standby.folder / "data"]
        subprocess.run(
            [*copy, "-R", "-X", "stream", "-c", "fast", "-N"],
            check=True,
            capture_output=True,
            **USER,
        )
        standby.start()
        with closing(psycopg.connect(self.url, autocommit=True)) as db:
            db.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            db.execute("SELECT pg_reload_conf()")
            in_step = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
            deadline = time.monotonic() + 60
            while db.execute(f"{in_step} AND state = 'streaming'").fetchone() is None:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def promote(self) -> None:
        """Make this standby take changes."""
        with closing(psycopg.connect(self.url, autocommit=True)) as db:
            assert db.execute("SELECT pg_promote()").fetchone() == (True,)

    def _stop_all(self) -> list[psutil.Process]:
        """Stop the first process, which starts the others, and then those; return all."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        processes = self._processes()
        _send(processes, signal.SIGSTOP)
        return processes

    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]


def _send(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


class Bouncer:
    """PgBouncer in transaction mode in front of a server, with fewer sessions than clients.

    Args:
        program: Its program.
        folder: Folder for its configuration and log.
        server: What it connects to.
    """

    def __init__(self, program: Path, folder: Path, server: Server) -> None:
        port = free_port()
        self.url = f"postgresql://etl@127.0.0.1:{port}/postgres"
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n"
            f"postgres = host=127.0.0.1 port={server.port} user=etl\n"
            f"[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\n"
            f"listen_port = {port}\n"
            f"unix_socket_dir =\n"
            f"auth_type = any\n"
            f"pool_mode = transaction\n"
            f"default_pool_size = 2\n"
        )
        give(folder)
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, configuration], stdout=log, stderr=log, **USER
            )
        assert answers(server.programs, self._process, port), (folder / "log").read_text()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(60)
