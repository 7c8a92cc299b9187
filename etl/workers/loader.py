"""Load what is spooled into the targets: a thread for each target of a worker's pipeline.

A file of a spool is of a committed batch. It is loaded, then forgotten by the store, then removed:
whoever is killed in between leaves a file that the target's ledger says to be loaded, or one that
is not. One loader at a time works on a spool of this machine; where that cannot be kept, as on some
network file systems, the ledger still lets only one succeed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from etl.errors import OutputsChanged, StoreError, TargetUnavailable
from etl.filesystem import DISK, FileSystem
from etl.pipeline.plan import Plan
from etl.queue import Queue
from etl.queue.writes import pause_before
from etl.records.result import Output
from etl.sinks.target import SpooledFile, Target, TryLater
from etl.text import counted

__all__ = ["Loaders", "targets_of"]

log = logging.getLogger("etl")

MAX_TRANSACTION_BYTES = 16 << 20
"""Compressed bytes that are loaded in one transaction, at most; or one file."""

MAX_TRANSACTION_FILES = 200
"""Files that are loaded in one transaction, at most."""

MAX_SPOOLED_FILES = 10_000
"""Files that may wait for a target before workers lease nothing more."""

POLL_SECONDS = 1.0
"""Seconds between looks at a spool into which other processes may have published."""

BUSY_SECONDS = 0.1
"""The same while another loader has the spool: what comes just as it ends is not left for long."""

STOP_SECONDS = 10.0
"""Seconds for which a transaction that has begun is waited for at the end."""

MAX_ASKED_SECONDS = 60.0
"""Seconds for which a target is left alone that asks for it, at most."""

LOCK = ".lock"
"""File of a spool that the loader which works on it has locked."""


def targets_of(plan: Plan) -> dict[str, Target]:
    """Return the targets of a pipeline by the folders of their spools."""
    found = (node.processor for node in plan.nodes.values())
    return {one.spool: one for one in found if isinstance(one, Target)}


class Loaders:
    """The loaders of one worker.

    Args:
        queue: The store, which knows the files.
        files: Where spools are.
        says: Whether failures are logged; they are kept in the store in any case.
    """

    def __init__(self, queue: Queue, files: FileSystem = DISK, *, says: bool = True) -> None:
        self._queue = queue
        self._files = files
        self._says = says
        self._loaders: dict[str, Loader] = {}
        self._plan: Plan | None = None

    def use(self, plan: Plan, out: Path) -> None:
        """Load what is spooled for the targets of a pipeline, and what will be."""
        if plan is self._plan:
            return
        for spool, target in targets_of(plan).items():
            if spool not in self._loaders:
                loader = Loader(self._queue, target, out, self._files, says=self._says)
                self._loaders[spool] = loader
                loader.start()
        self._plan = plan

    def wake(self) -> None:
        """Look at the spools at once: something was published."""
        for loader in self._loaders.values():
            loader.wake()

    @property
    def full(self) -> bool:
        """Whether so much waits for a target that nothing is to be leased."""
        return any(loader.full for loader in self._loaders.values())

    @property
    def idle(self) -> bool:
        """Whether nothing waits for any target."""
        return not any(loader.waiting() for loader in self._loaders.values())

    def check(self) -> None:
        """Raise TargetUnavailable if a target has failed for longer than it may."""
        for loader in self._loaders.values():
            loader.check()

    def finish(self, *, room: bool = False) -> None:
        """Wait until nothing waits, or there is room for more.

        Raises:
            TargetUnavailable: If a target fails for longer than it may.
        """
        while self.full if room else not self.idle:
            self.check()
            for loader in self._loaders.values():
                loader.wait(POLL_SECONDS / 10)

    def stop(self) -> None:
        """End the loaders after the transactions that have begun."""
        loaders, self._loaders, self._plan = self._loaders, {}, None
        for loader in loaders.values():
            loader.request_stop()
        for loader in loaders.values():
            loader.join()


class Loader:
    """Loads the spool of one target in a thread of its own, until it is stopped.

    Args:
        queue: The store.
        target: What is loaded.
        out: The output root.
        files: Where it is.
        says: Whether failures are logged.
    """

    def __init__(
        self, queue: Queue, target: Target, out: Path, files: FileSystem, *, says: bool
    ) -> None:
        self._queue = queue
        self._target = target
        self._out = out
        self._files = files
        self._says = says
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._turn = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="etl-loader", daemon=True)
        self._failing: tuple[float, str] | None = None  # since when, and why
        self._tries: dict[str, int] = {}  # how often files were tried in vain, by id
        self._known = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Look at once."""
        self._awake.set()

    def request_stop(self) -> None:
        """End after the transaction that has begun."""
        self._stopping.set()
        self._awake.set()

    def join(self) -> None:
        """Wait for the end; a transaction that takes longer is left, and so rolled back."""
        self._thread.join(STOP_SECONDS)

    def waiting(self) -> list[SpooledFile]:
        """Return the files that wait."""
        return self._target.waiting(self._out, self._files)

    def wait(self, timeout: float) -> None:
        """Wait until something was loaded, or a try has failed."""
        with self._turn:
            self._turn.wait(timeout)

    @property
    def full(self) -> bool:
        """Whether nothing more should be spooled."""
        files = self.waiting()
        size = sum(one.size for one in files)
        return size > self._target.max_spool_bytes or len(files) > MAX_SPOOLED_FILES

    def check(self) -> None:
        """Raise TargetUnavailable if the target has failed for longer than it may."""
        failing = self._failing
        if failing and time.monotonic() - failing[0] > self._target.timeout:
            raise TargetUnavailable(
                f"{counted(len(self.waiting()), 'file')} of rows could not be loaded into "
                f"{self._target.name} within {self._target.timeout:g} s: {failing[1]}; they are "
                "kept, and loaded by the next worker of this pipeline"
            )

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._awake.clear()
            try:
                done = self._load_all()
            except Exception as error:  # noqa: BLE001 - whatever a driver raises: it is tried again
                self._failed(error)
                asked = error.seconds if isinstance(error, TryLater) else 0.0
                pause = max(pause_before(failures), min(asked, MAX_ASKED_SECONDS))
                failures += 1
            else:
                if done:
                    self._succeeded()
                failures, pause = 0, POLL_SECONDS if done else BUSY_SECONDS
            with self._turn:
                self._turn.notify_all()
            if failures:
                self._stopping.wait(pause)
            else:
                self._awake.wait(pause)

    def _load_all(self) -> bool:
        """Load all that waits; return False if another loader does, or this one is to end."""
        if not self.waiting():
            return True
        with self._locked() as alone:
            if not alone:
                return False
            if not (files := self.waiting()):
                return True
            with self._target.session() as session:
                while files and not self._stopping.is_set():
                    group = self._next(files)
                    ids = [one.id for one in group]
                    try:
                        known = set(session.loaded(ids))
                        if new := [one for one in group if one.id not in known]:
                            session.load(new)
                    except BaseException:
                        for id in ids:
                            self._tries[id] = self._tries.get(id, 0) + 1
                        raise
                    self._forget(group)
                    files = self.waiting()
        return not files

    def _next(self, files: Sequence[SpooledFile]) -> list[SpooledFile]:
        """Return the files of the next transaction: more than one only if none of them failed.

        Those that failed most come last, so that they keep no others waiting.
        """
        group: list[SpooledFile] = []
        size = 0
        for file in sorted(files, key=lambda one: self._tries.get(one.id, 0)):
            size += file.size
            most = MAX_TRANSACTION_FILES if self._target.together else 1
            over = size > MAX_TRANSACTION_BYTES or len(group) == most
            if group and (over or file.id in self._tries):
                break
            group.append(file)
            if file.id in self._tries:
                break
        return group

    def _forget(self, loaded: Sequence[SpooledFile]) -> None:
        """Let the store forget files that are loaded, and remove them."""
        for group in ([*loaded], *([one] for one in loaded)):
            outputs = [Output(str(one.path), str(one.path)) for one in group]
            try:
                self._queue.replace_outputs(outputs, [])
            except OutputsChanged:  # one is forgotten already, by a loader that was killed then
                continue
            if len(group) == len(loaded):
                break
        for one in loaded:
            self._files.unlink(one.path)
            self._tries.pop(one.id, None)
        self._queue.wake()
        with self._turn:
            self._turn.notify_all()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Keep other loaders of this machine off the spool; yield whether that could be."""
        path = self._out / self._target.spool / LOCK
        if self._files is not DISK:
            yield True
            return
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            yield _lock(handle)
        finally:
            os.close(handle)

    def _failed(self, error: Exception) -> None:
        why = self._target.address.hide(error)
        first, self._failing = (
            self._failing is None,
            (
                self._failing[0] if self._failing else time.monotonic(),
                why,
            ),
        )
        if first and self._says:
            log.warning("target %s cannot be loaded: %s; trying again", self._target.name, why)
        if not isinstance(error, StoreError):
            with contextlib.suppress(StoreError):  # the next try says it again
                self._queue.note_target(self._target.spool, self._target.name, why)
                self._known = True

    def _succeeded(self) -> None:
        was, self._failing = self._failing, None
        if was and self._says:
            log.warning("target %s is loaded again", self._target.name)
        if was or not self._known:
            with contextlib.suppress(StoreError):  # said after the next try
                self._queue.note_target(self._target.spool, self._target.name, "")
                self._known = True


def _lock(handle: int) -> bool:
    """Return whether a file could be locked, or cannot be on this system or file system."""
    if os.name == "nt":
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)
    return True
