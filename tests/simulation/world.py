"""One machine in one process: its time, its disk, its store, and processes that take turns.

Each process is a greenlet that gives way before every access to the store or to a file. There it
may be killed, stopped for a while, or met by an error; all of that is drawn from one seed.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from random import Random
from types import SimpleNamespace
from unittest.mock import patch

from greenlet import getcurrent, greenlet
from simulation.disk import Disk, Files

from etl.errors import EtlError, StoreFull, StoreUnavailable
from etl.queue.database import Database, Transaction
from etl.queue.process import Host
from etl.queue.sqlite import SqliteDatabase, SqliteQueue
from etl.queue.urls import IN_MEMORY
from etl.queue.writes import DatabaseQueue
from etl.workers.worker import Worker

__all__ = ["Faults", "Killed", "Process", "World"]

START = 1_800_000_000.0

READS = ("read", "pread", "fstat", "stat", "exists", "find")
"""Accesses that change nothing, and at which others take a turn only sometimes."""


class Killed(BaseException):
    """A process was killed: what unwinds of it can change nothing more."""


class Faults:
    """What goes wrong in a world, each with its chance at an access."""

    def __init__(self, random: Random) -> None:
        def sometimes(chance: float) -> float:
            return chance if random.random() < 0.4 else 0.0

        self.kill = sometimes(0.02) or 0.004
        self.stall = sometimes(0.03)
        self.power_cut = sometimes(0.3)
        self.store_full = sometimes(0.02)
        self.no_answer = sometimes(0.03)
        self.lost_answer = sometimes(0.15)
        self.disk_error = sometimes(0.03)
        self.disk_full = sometimes(0.05)
        self.jump = sometimes(0.01)
        self.bit_flip = sometimes(0.3)

    def __repr__(self) -> str:
        return ", ".join(f"{name} {chance}" for name, chance in vars(self).items() if chance)


class Process:
    """A program that runs, until it ends or is killed."""

    def __init__(self, world: World, role: str, main: Callable[[Process], object]) -> None:
        self.world, self.role = world, role
        self.pid = world.next_pid()
        self.name = f"{role}-{self.pid}"
        self.alive = True
        self.ended = False  # by itself, and well
        self.error: BaseException | None = None
        self.stopping = False
        self.began_healed = world.healed
        self.asleep_until = 0.0
        self.worker: Worker | None = None
        self.files = Files(world.disk, self.file_gate)
        self.queue = ProcessQueue(self)
        self.tasks: list[Task] = []
        self.start(main)

    def start(self, main: Callable[[Process], object], *, main_task: bool = True) -> None:
        """Run something in this process, beside what runs already."""
        self.tasks.append(Task(self, main, ends_process=main_task))

    def kill(self) -> None:
        """End it at once, wherever it is."""
        self.alive = False
        for task in self.tasks:
            task.end()
        self.tasks.clear()

    def gate(self, what: str, *, seconds: float = 0.0) -> None:
        """Give way to others, for some time; raise Killed if this process lives no more."""
        if not self.alive:
            raise Killed
        task = getcurrent()
        assert isinstance(task, Task)
        task.doing = what
        task.asleep_until = self.world.now + seconds
        task.parent.switch()
        if not self.alive:
            raise Killed

    def file_gate(self, what: str) -> None:
        """Give way before an access to a file; raise what goes wrong with it."""
        verb = what.split(maxsplit=1)[0]
        if verb not in READS or self.world.random.random() < 0.2:
            self.gate(what)
        elif not self.alive:
            raise Killed
        changes = verb in ("write", "mkdir") or (verb == "open" and not what.endswith(" rb"))
        if changes and self.world.happens("disk_full"):
            raise self._error(errno.ENOSPC, what)
        if verb not in ("exists", "find") and self.world.happens("disk_error"):
            raise self._error(errno.EIO, what)

    def _error(self, number: int, what: str) -> OSError:
        self.world.note(f"{self.name}: {os.strerror(number)} at {what}")
        return OSError(number, os.strerror(number))


class Task(greenlet):
    """A thread of a process."""

    def __init__(
        self, process: Process, main: Callable[[Process], object], *, ends_process: bool
    ) -> None:
        super().__init__(self._main, parent=process.world.hub)
        self.process, self.doing, self.asleep_until = process, "start", 0.0
        self._what, self._ends_process = main, ends_process

    def _main(self) -> None:
        process = self.process
        try:
            self._what(process)
            process.ended |= self._ends_process
        except Killed:
            return
        except Exception as error:  # noqa: BLE001 - the process ends with it
            process.error = error
        if process.alive:
            process.tasks.remove(self)
        if self._ends_process or process.error:
            process.alive = False

    def end(self) -> None:
        """Unwind it."""
        if self:
            self.throw(Killed)


class ProcessDatabase(SqliteDatabase):
    """The store as one process uses it."""

    def __init__(self, process: Process) -> None:
        world = process.world
        Database.__init__(self, "the store", lambda: world.now)
        self._process = process
        self._writer = self._reader = world.connection
        self._read_lock = self._lock
        self._changes, self._closed, self._path = 0, False, None

    def version(self) -> object:
        return self._process.world.changes

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Transaction]:
        """Run a transaction; what goes wrong does before it, or after it."""
        process, world = self._process, self._process.world
        process.gate("durable" if durable else "write")
        if world.happens("store_full"):
            world.note(f"{process.name}: store full")
            raise StoreFull("the store is full")
        if world.happens("no_answer"):
            world.note(f"{process.name}: store away")
            raise StoreUnavailable("the store is away")
        with super().write(durable=durable) as db:
            yield db
        world.changes += 1
        world.committed(durable=durable)
        if durable and world.happens("lost_answer"):
            world.note(f"{process.name}: no answer to what was committed")
            raise StoreUnavailable("the store does not answer")

    @contextmanager
    def read(self, *, snapshot: bool = False) -> Iterator[Transaction]:
        if self._process.world.random.random() < 0.3:
            self._process.gate("read")
        if self._process.world.happens("no_answer"):
            raise StoreUnavailable("the store is away")
        with super().read(snapshot=snapshot) as db:
            yield db

    def wait(self, since: object, timeout: float) -> bool:  # noqa: ARG002 - a turn of the others
        self._process.gate("wait")
        return True


class ProcessHost(Host):
    """The machine and its processes."""

    name = "machine"  # type: ignore[assignment]

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def process(self) -> int:
        return self._process.pid

    def alive(self, pid: int, *_born: str) -> bool:
        return any(one.pid == pid and one.alive for one in self._process.world.processes)

    def began_after(self, pid: int, at: float) -> bool:  # noqa: ARG002 - no number is used twice
        return False


class ProcessQueue(DatabaseQueue):
    """A queue over the one store."""

    url = secret_url = IN_MEMORY

    def __init__(self, process: Process) -> None:
        super().__init__(ProcessDatabase(process), host=ProcessHost(process))


@cache
def _empty_store() -> bytes:
    queue = SqliteQueue(None)
    try:
        return queue._database._writer.serialize()
    finally:
        queue.close()


def _store_of(data: bytes) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.deserialize(data)
    return connection


class World:
    """A machine, and all that happens on it, from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = START
        self.steps: list[str] = []
        self.happened: Counter[str] = Counter()
        self.faults = Faults(self.random)
        self.healed = False
        self.disk = Disk(self.random, lambda: self.now)
        self.hub = getcurrent()
        self.processes: list[Process] = []
        self.errors: Counter[str] = Counter()
        self.changes = 0
        self._durable = _empty_store()
        self.connection = _store_of(self._durable)
        self._pid = 0

    def next_pid(self) -> int:
        self._pid += 1
        return self._pid

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Let ids, chance and waiting of the engine come from this world."""
        random, clock = (
            self.random,
            SimpleNamespace(
                time_ns=lambda: round(self.now * 1e9),
                time=lambda: self.now,
                monotonic=lambda: self.now,
                perf_counter=time.perf_counter,
                sleep=lambda seconds: getcurrent().process.gate("sleep", seconds=seconds),
            ),
        )
        ids = SimpleNamespace(token_hex=lambda size: random.randbytes(size).hex())
        with ExitStack() as stack:
            for module, name, value in (
                ("etl.records.batch", "secrets", ids),
                ("etl.records.batch", "time", clock),
                ("etl.queue.writes", "time", clock),
                ("etl.queue.writes", "random", random),
                ("etl.workers.worker", "random", random),
                ("etl.sources.ingest", "time", clock),
                ("etl.sources.moved", "_last_found", {}),
            ):
                stack.enter_context(patch(f"{module}.{name}", value))
            yield

    def happens(self, fault: str) -> bool:
        """Return whether something goes wrong now."""
        chance = 0.0 if self.healed else getattr(self.faults, fault)
        if chance and self.random.random() < chance:
            self.happened[fault] += 1
            return True
        return False

    def note(self, text: str) -> None:
        self.steps.append(f"{self.now - START:8.2f} {text}")

    def committed(self, *, durable: bool) -> None:
        if durable:
            self._durable = self.connection.serialize()

    def start(self, role: str, main: Callable[[Process], object]) -> Process:
        """Start a process."""
        process = Process(self, role, main)
        self.processes.append(process)
        self.note(f"{process.name} starts")
        return process

    def kill(self, process: Process) -> None:
        doing = ", ".join(task.doing for task in process.tasks)
        self.note(f"{process.name} killed at {doing}")
        self.happened["killed"] += 1
        process.kill()

    def power_cut(self) -> None:
        """End all processes, and forget what was not durable."""
        self.note("power cut")
        self.happened["power cuts"] += 1
        for process in self.alive():
            process.kill()
        self.disk.power_cut()
        if self.random.random() < 0.5:
            self.connection.close()
            self.connection = _store_of(self._durable)
        self.changes += 1

    def flip_bit(self) -> None:
        """Change one bit of a payload that waits."""
        rows = self.connection.execute("SELECT id, data FROM payloads ORDER BY id").fetchall()
        if rows:
            id, data = self.random.choice(rows)
            damaged = bytearray(data)
            damaged[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
            self.note(f"a bit of payload {id} flips")
            self.happened["bit flips"] += 1
            self.connection.execute("UPDATE payloads SET data = ? WHERE id = ?", (damaged, id))

    def alive(self, role: str = "") -> list[Process]:
        return [one for one in self.processes if one.alive and one.role.startswith(role)]

    def turn(self) -> bool:
        """Let one task of one process go on to its next access; return False if none can."""
        ready = [
            task
            for process in self.alive()
            if process.asleep_until <= self.now
            for task in process.tasks
            if task.asleep_until <= self.now
        ]
        if not ready:
            return False
        task = self.random.choice(ready)
        process = task.process
        if self.happens("kill"):
            self.kill(process)
            return True
        if self.happens("stall"):
            process.asleep_until = self.now + self.random.choice([2.0, 8.0, 40.0, 70.0])
            self.note(f"{process.name} stalls at {task.doing}")
            return True
        self.note(f"{process.name}: {task.doing}")
        task.switch()
        if process.error:
            kind = f"{process.role}: {process.error!r}"[:150]
            self.errors[kind] += 1
            self.note(f"{process.name} failed: {process.error!r}")
            if not isinstance(process.error, EtlError | OSError):
                raise process.error
            for other in process.tasks:
                other.end()
        elif not process.alive:
            self.note(f"{process.name} ended")
        return True

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        self.connection.close()


OUT = Path("/out")
