"""Lease batches, run them, commit their results.

`Worker.work` processes batches in the calling thread until it is stopped, while
heartbeats renew the lease. `start` and `stop` run it in a background thread, for
notebooks; `run` does as a coroutine (asyncio or trio). `step` and `drain` end by
themselves, for tests and batch runs. Pause, resume, drain and stop act through the
store, from any process. Not here: workers as processes (`processes.py`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from etl.errors import (
    EtlError,
    LeaseLost,
    OutputFull,
    PayloadDamaged,
    PipelineError,
    ProcessorStop,
    QueueClosed,
    SourceChanged,
    SourceUnavailable,
    StoreError,
    StoreFull,
    StoreLost,
    StoreUnavailable,
    TargetUnavailable,
    UsageError,
    WorkerFailed,
    is_echo,
    is_interrupt,
)
from etl.execution.batch_run import Runner
from etl.execution.bisect import Watchdog, message_of, no_watchdog
from etl.execution.records import batch_of, parts_of, records_of
from etl.execution.result_builder import all_dead
from etl.filesystem import DISK, FileSystem
from etl.outputs.compact import set_aside
from etl.pipeline.pipeline import Pipeline
from etl.pipeline.plan import INPUT
from etl.queue import Hang, Queue
from etl.queue.urls import POSTGRES
from etl.queue.writes import pause_before
from etl.records.batch import Lease, new_id
from etl.records.result import BatchResult, Output
from etl.settings import Settings
from etl.sinks.publish import make_folder, publish_files, remove_old_staged, remove_staged
from etl.workers.background import in_background
from etl.workers.compaction import BackgroundCompaction, try_to_compact
from etl.workers.loader import Loaders

__all__ = ["Worker", "lost_outputs", "reclaim", "recover_outputs", "sweep"]

log = logging.getLogger("etl")

SPLIT_AT = 3
"""The delivery at which a batch is no longer run but split: it may be what kills workers."""

GIVE_UP_AT = 5
"""The delivery at which a single record is taken for what kills workers."""

IDLE_SECONDS = (0.1, 1.0)
"""Seconds between looks for work while none is announced: the first, and at most."""

TURN_SECONDS = 0.001
"""Seconds by which the worker of the next lower slot may look first for what is announced."""

MAX_TURN_SECONDS = 0.05
"""Seconds for which it does so at most."""

AWAY_SECONDS = 30.0
"""Seconds for which a source that cannot be read here is left to others."""

RECLAIM_SECONDS = 1.0
"""Seconds between searches for dead workers while nothing waits."""

SWEEP_SECONDS = 3600.0
"""Seconds between searches for old staged files while nothing waits."""

WAITED_FOR = (OutputFull, TargetUnavailable)
"""Why a worker that others will not replace gives its batch back and waits."""

MAX_FAILURES = 8
"""Errors of the store in a row, other than that it is away or full, that end a worker."""


class Worker:
    """Runs batches of a queue through a pipeline until it is stopped.

    Args:
        queue: Where batches come from and results go.
        pipeline: What they run through; may be changed while the worker runs.
        name: Shown in metrics and traces, and of no other worker that runs; by default host,
            process and a number.
        out: Folder that sinks write below; by default the store's output root, or data/out.
        batch_lines: Small batches are taken together up to this many lines.
        interval: Seconds for which a batch is held before it is processed; 0 for full speed.
        lease_seconds: How long a batch stays leased if this worker is killed.
        run: Name of the run, kept with dead letters.
        drain: End once nothing waits.
        own_sources: Nobody else will read what this worker cannot: end with an error, rather
            than wait, if nothing else is left.
        watch: Called with each batch that is committed, and its result.
        watchdog: Ends the process if a call hangs that has a timeout; only for one that another
            looks after.
        files: Where what is referred to is read, and sinks write.
        clock: Returns seconds that only grow.
        compacts: Whether to join small files of the output while working, and in the end; the
            worker of the first slot does.
    """

    def __init__(
        self,
        queue: Queue,
        pipeline: Pipeline,
        *,
        name: str | None = None,
        out: Path | str | None = None,
        batch_lines: int = Settings.batch_lines,
        interval: float = 0.0,
        lease_seconds: float = Settings.lease_seconds,
        run: str = "",
        drain: bool = False,
        own_sources: bool = False,
        watch: Callable[[Lease, BatchResult], object] = lambda _lease, _result: None,
        watchdog: Callable[[Hang], AbstractContextManager[object]] | None = None,
        files: FileSystem = DISK,
        clock: Callable[[], float] = time.monotonic,
        compacts: bool = True,
    ) -> None:
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{new_id()[-4:]}"
        self.batch_lines = batch_lines
        self.interval = interval
        self._queue = queue
        self._pipeline = pipeline
        self._out = Path(out or "data/out").resolve()
        self._out_given = out is not None
        self._agreed = False  # with the store, that this is the folder
        self._unpublished: set[str] = set()  # outputs that were said not to be
        self._lease_seconds = lease_seconds
        self._run = run
        self._drain = drain
        self._own_sources = own_sources or drain
        self._says = not own_sources  # else the run whose worker it is says what goes wrong
        self._watch = watch
        self._watchdog = watchdog
        self._files = files
        self._clock = clock
        self._compacts = compacts and not own_sources  # else the run does, in the end
        self._compaction: BackgroundCompaction | None = None
        self._runner: Runner | None = None
        self._owner = 0
        self._lease: Lease | None = None
        self._requests_before = (0, 0)
        self._ready = threading.Event()
        self._reclaimed_at = 0.0
        self._swept_at = float("-inf")
        self._stopping = threading.Event()
        self._future: Future[None] | None = None
        self._stale = False  # whether the states must be read from the store again
        self._unsure: Lease | None = None  # whose commit got no answer
        self._loaders = Loaders(queue, files, says=self._says)
        self._away: dict[str, tuple[float, str]] = {}  # sources: until when, and why
        self._idle = IDLE_SECONDS[0]
        self._slot = 0
        self._known = False  # whether the store may have this worker

    def __repr__(self) -> str:
        return f"<Worker {self.name} on {self._queue.url}>"

    @property
    def running(self) -> bool:
        """Whether `start` was called and the worker has not ended."""
        return self._future is not None and not self._future.done()

    def step(self) -> BatchResult | None:
        """Return the result of one batch, processed in this thread; None if none waits."""
        with self._registered():
            return self._next_batch()

    def drain(self) -> int:
        """Process until no batch can be leased, and return how many lines that was.

        Raises:
            ProcessorStop: If a processor, or a mistake in the pipeline, has paused the queue.
            SourceUnavailable: If what is left cannot be read on this machine.
            TargetUnavailable: If a database or server cannot be loaded within its timeout.
        """
        lines = 0
        with self._registered():
            while True:
                while (result := self._next_batch()) is not None:
                    lines += result.done + result.filtered + result.dead
                if not self._loaders.full:
                    break
                self._loaders.finish(room=True)
            self._loaders.finish()
        if failure := self._queue.control().failure:
            raise ProcessorStop(failure)
        self._check_sources()
        return lines

    def start(self) -> Worker:
        """Return this worker, which runs in a background thread until `stop`.

        Raises:
            PipelineError: If the pipeline cannot run.
            UsageError: If another live worker has its name.
        """
        self._pipeline.plan()
        if not self.running:
            self._stopping.clear()
            self._ready.clear()
            self._future = in_background(self.work, name=self.name)
            self._future.add_done_callback(lambda _future: self._ready.set())
            self._ready.wait()
            if self._future.done() and isinstance(self._future.exception(), UsageError):
                self.stop()
        return self

    def stop(self, timeout: float = 60.0) -> None:
        """End after the current batch, and wait for that.

        Raises:
            WorkerFailed: If the batch takes longer than `timeout` seconds.
            Exception: What ended the worker, if it had ended on its own.
        """
        self.request_stop()
        if self._future is None:
            return
        if wait([self._future], timeout).not_done:
            raise WorkerFailed(
                f"worker {self.name!r} still processes its batch after {timeout:g} s; "
                "it ends when the batch does"
            )
        ended, self._future = self._future, None
        ended.result()

    def request_stop(self) -> None:
        """Ask the worker to end after its batch, without waiting."""
        self._stopping.set()
        self._queue.wake()

    async def run(self) -> None:
        """Do the same as `work`, as a coroutine; one that is cancelled finishes its batch."""
        import anyio.to_thread  # which takes 0.07 s of a command that has no event loop

        working = in_background(self.work, name=self.name)
        try:
            await anyio.to_thread.run_sync(working.result, abandon_on_cancel=True)
        finally:
            with anyio.CancelScope(shield=True):
                if not working.done():
                    self.request_stop()
                    await anyio.to_thread.run_sync(wait, [working])
                    self._stopping.clear()

    def work(self) -> None:
        """Process batches until stopped, or, once a drain is asked for, until none waits.

        A store that cannot be reached is waited for, with growing pauses, and so is room on the
        disk of the store or of the output.
        """
        self._requests_before = self._requests()
        failures = 0
        with self._registered(), self._compacting():
            self._ready.set()
            while not self._stopping.is_set():
                try:
                    ended, pause = self._guarded_turn(), 0.0
                    if failures and self._says:
                        log.warning("worker %s: it works again", self.name)
                    failures = 0
                except (StoreError, *WAITED_FOR) as error:
                    passing = isinstance(error, StoreUnavailable | StoreFull | ProcessorStop)
                    lost = isinstance(error, StoreLost | QueueClosed)
                    if lost or (failures >= MAX_FAILURES and not passing):
                        raise
                    if not failures and self._says:
                        log.warning("worker %s: %s; trying again", self.name, error)
                    ended, pause = False, pause_before(failures)
                    failures += 1
                if ended:
                    return
                self._stopping.wait(pause)

    def _requests(self) -> tuple[int, int]:
        """Return how often workers were asked to drain and to stop."""
        control = self._queue.control()
        return control.drains, control.stops

    def _guarded_turn(self) -> bool:
        """Do a turn; what is no Exception, and would end an event loop, is raised as one."""
        try:
            return self._turn()
        except Exception:
            raise
        except BaseException as error:
            raise WorkerFailed(
                f"worker {self.name!r} ended with {type(error).__name__}: {message_of(error)}"
            ) from error

    def _turn(self) -> bool:
        """Do one batch, or wait for one; return whether to end."""
        since = self._queue.work_version()
        worked = self._next_batch() is not None
        drains, stops = self._requests()
        drains_before, stops_before = self._requests_before
        if stops > stops_before:
            return True
        if worked:
            self._idle = IDLE_SECONDS[0]
            return False
        if (self._drain or drains > drains_before) and self._queue.stats().idle:
            self._loaders.check()
            if self._loaders.idle:
                return True
        if self._own_sources or drains > drains_before:
            self._check_sources()
        if self._clock() - self._reclaimed_at > RECLAIM_SECONDS:
            self._reclaimed_at = self._clock()
            reclaim(self._queue, self._out, self._files)
            self._recover()
            self._queue.prune_slice()
        if self._clock() - self._swept_at > SWEEP_SECONDS:
            self._swept_at = self._clock()
            sweep(self._queue, self._out)
        self._wait_for_work(since)
        return False

    def _wait_for_work(self, since: object) -> None:
        """Wait until work is announced, or for a time that grows while there is none."""
        seconds = self._idle * random.uniform(0.7, 1.0)
        self._idle = min(IDLE_SECONDS[1], self._idle * 2)
        if not self._stopping.is_set() and self._queue.wait_for_work(since, seconds):
            self._stopping.wait(min(self._slot * TURN_SECONDS, MAX_TURN_SECONDS))

    def _check_sources(self) -> None:
        """Raise SourceUnavailable if all that is left is from sources that cannot be read here."""
        if self._away:
            control, stats = self._queue.control(), self._queue.stats()
            if control.can_lease and not stats.leased and stats.waiting:
                why = "; ".join(why for _, why in self._away.values())
                raise SourceUnavailable(
                    f"{why}; bring back what is missing and process the {stats.waiting:,} lines "
                    "that wait, or work on them on a machine that has it; nothing is lost"
                )

    @contextlib.contextmanager
    def _registered(self) -> Iterator[None]:
        """Be known to the store, with a slot and a heartbeat."""
        if self._runner is not None:
            if self._owner != threading.get_ident():
                raise UsageError(
                    f"worker {self.name!r} is running in another thread; stop() it first, or "
                    "make another Worker"
                )
            yield
            return
        self._owner = threading.get_ident()
        try:
            self._runner = self._register()
        except (StoreUnavailable, StoreFull):  # the first turn registers, or the one after it
            self._stale = True
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(ended,), name="etl-heart", daemon=True)
        beat.start()
        try:
            yield
        finally:
            self._runner = None
            self._loaders.stop()
            ended.set()
            beat.join()
            if self._known:
                with contextlib.suppress(StoreError):  # its heartbeat will be missed
                    self._queue.unregister(self.name)
                    self._known = False

    @contextlib.contextmanager
    def _compacting(self) -> Iterator[None]:
        """Join files in the background, and once more in the end."""
        if not self._compacts:
            yield
            return
        self._compaction = BackgroundCompaction(self._queue)
        try:
            yield
        finally:
            self._compaction.stop()
            self._compaction = None
            if self._slot == 0:
                try_to_compact(self._queue, effort="small", files=self._files)

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(min(5.0, self._lease_seconds / 3)):
            with contextlib.suppress(StoreError, LeaseLost):
                self._heartbeat()

    def _heartbeat(self) -> None:
        lease = self._lease
        self._queue.heartbeat(self.name)
        if lease:
            self._queue.renew(lease, seconds=self._lease_seconds)

    def _register(self) -> Runner:
        """Take a slot with its states, and publish what a killed worker had committed."""
        self._agreed = False
        if self._out_given:
            self._queue.use_output_root(self._out, keep=False)
        else:
            self._out = self._queue.output_root() or self._out
        try:
            self._slot = slot = self._queue.register(self.name, again=self._known)
        except UsageError:  # another has the name
            self._known = False
            raise
        except StoreUnavailable:
            self._known = True  # perhaps it took place
            raise
        self._known = True
        states = self._queue.states(slot)
        self._recover()
        self._load_targets()
        return Runner(
            self._pipeline,
            states=states,
            out=self._out,
            slot=slot,
            run=self._run,
            files=self._files,
            remember=self._remember,
        )

    def _remember(self, folder: Path, columns: Mapping[str, str]) -> Mapping[str, str]:
        """Keep the columns of a data set in the store, by its place below the output root.

        Which is kept first, once it is there.

        Raises:
            ProcessorStop: If the output root cannot be made.
        """
        if not self._agreed:
            make_folder(self._out, self._files)
        self._agree_on_out()
        return self._queue.agree_on_columns(folder, columns)

    def _agree_on_out(self) -> None:
        """Raise UsageError if the store keeps another output root."""
        if not self._agreed:
            self._queue.use_output_root(self._out)
            self._agreed = True

    def _recover(self) -> None:
        """Publish what is committed and not published; say, once, what of that cannot be."""
        for path, problem in recover_outputs(self._queue, self._files).items():
            if path not in self._unpublished:
                self._unpublished.add(path)
                log.error("worker %s: %s", self.name, problem)

    def _load_targets(self) -> None:
        """Let what is spooled for the pipeline's targets be loaded meanwhile."""
        with contextlib.suppress(PipelineError):  # whoever runs a batch finds that out, too
            self._loaders.use(self._pipeline.plan(), self._out)

    def _watchdog_of(self, lease: Lease) -> Watchdog:
        """Return what watches the calls that run a lease, if anything does."""
        if (watchdog := self._watchdog) is None:
            return no_watchdog
        hang = partial(Hang, self.name, lease.token, lease.batches[0].id, lease.lines)
        return lambda processor, timeout: watchdog(hang(processor, timeout))

    def _next_batch(self) -> BatchResult | None:
        """Lease, run and commit one batch; return None if none waits."""
        if self._unsure:
            self._resolve(self._unsure)
        if self._stale:
            self._runner, self._stale = self._register(), False
        self._load_targets()
        if self._loaders.full:  # the queue is where lines wait, not the disk
            return None
        now = self._clock()
        lease = self._queue.lease(
            self.name,
            lines=self.batch_lines,
            seconds=self._lease_seconds,
            without=[source for source, (until, _) in self._away.items() if until > now],
        )
        if lease is None:
            return None
        self._lease = lease
        try:
            if self.interval:  # who watches sees each line for so long
                self._stopping.wait(self.interval)
            return self._process(self._runner or self._register(), lease)
        except StoreUnavailable:
            self._unsure = lease
            raise
        except KeyboardInterrupt as error:
            if not is_echo(error):
                raise
            self._unsure = lease  # it is the main thread that is to end, or not
            with contextlib.suppress(StoreError):  # else before anything else is done
                self._resolve(lease)
            return BatchResult()
        except LeaseLost:  # this machine slept so long that the slot may be another's, too
            with contextlib.suppress(LeaseLost):
                self._queue.release(lease)
            self._runner = self._register()
            return BatchResult()
        finally:
            self._lease = None

    def _resolve(self, lease: Lease) -> None:
        """Find out whether a commit that got no answer took place; if not, give the batch back."""
        with contextlib.suppress(LeaseLost):  # it took place, or another has the batch
            self._queue.release(lease)
        self._runner = self._register()  # with the states, and the files, of what took place
        pending = {output.staged for output in self._queue.pending_outputs()}
        remove_staged(self._out, [lease.token], self._files, but=pending)
        self._unsure, self._stale = None, False

    def _without_text(self, lease: Lease, error: SourceChanged | PayloadDamaged) -> BatchResult:
        """Dead-letter a batch whose text is damaged; leave one that has no file here to others.

        Nothing of that source is leased for a time.
        """
        if isinstance(error, PayloadDamaged):
            return self._dead_letter(lease, "unreadable", str(error), readable=False)
        if not isinstance(error, SourceUnavailable):
            return self._dead_letter(lease, "source_changed", str(error), readable=False)
        source = lease.batches[0].source
        if source not in self._away and not self._own_sources:  # else the end says so
            log.warning("worker %s: %s; its lines are left to others", self.name, error)
        self._away[source] = (self._clock() + AWAY_SECONDS, str(error))
        self._queue.release(lease)
        return BatchResult()

    def _process(self, runner: Runner, lease: Lease) -> BatchResult:
        """Run and commit a batch; one that cannot be run is split, dead-lettered or released."""
        try:
            if lease.deliveries >= SPLIT_AT:
                parts = parts_of(lease, files=self._files)
                if sum(map(len, parts)) > 1:
                    self._queue.split(lease, parts)
                    return BatchResult()
                if given_up := self._give_up(lease):
                    return given_up
            result = self._run_batch(runner, lease)
        except (SourceChanged, PayloadDamaged) as error:
            runner.rollback()
            return self._without_text(lease, error)
        except (LeaseLost, StoreError):
            raise
        except (ProcessorStop, PipelineError) as error:
            runner.rollback()
            return self._stopped(lease, error)
        except BaseException as error:  # a bad batch never stops a worker
            if is_echo(error):
                raise
            runner.rollback()
            if is_interrupt(error):
                self._queue.release(lease)
                raise
            said = f"{type(error).__name__}: {message_of(error)}"
            return self._dead_letter(lease, "error", said)
        self._commit(runner, lease, result)
        self._away.pop(lease.batches[0].source, None)
        return result

    def _run_batch(self, runner: Runner, lease: Lease) -> BatchResult:
        batch, watchdog = batch_of(lease, self._files), self._watchdog_of(lease)
        try:
            return runner.run(batch, token=lease.token, watchdog=watchdog)
        except PayloadDamaged:
            raise
        except StoreError:  # a sink has asked it: the batch is given back before anything else
            runner.rollback()
            self._unsure = lease
            raise

    def _give_up(self, lease: Lease) -> BatchResult | None:
        """Dead-letter a record in which a worker hung, or with which too many were lost."""
        for row in self._queue.read("errors"):
            alone = (row["batch"], row["lines"]) == (lease.batches[0].id, lease.lines)
            if alone and row["error"] == Hang.ERROR:
                name, message = row["processor"], row["message"]
                return self._dead_letter(lease, "timeout", message, processor=name)
        if lease.deliveries < GIVE_UP_AT:
            return None
        lost = f"{lease.deliveries - 1} workers were lost while they had this line"
        return self._dead_letter(lease, "worker_lost", lost)

    def _stopped(self, lease: Lease, error: EtlError) -> BatchResult:
        """Give a batch back and pause the store; where only room is missing, raise instead."""
        if isinstance(error, WAITED_FOR) and not self._own_sources:
            self._queue.release(lease)
            raise error
        self._queue.pause(str(error), by="worker")
        self._queue.release(lease)
        return BatchResult()

    def _commit(self, runner: Runner, lease: Lease, result: BatchResult) -> None:
        try:
            if result.outputs:
                self._agree_on_out()
            self._queue.commit(lease, result)
        except StoreFull:  # also of a commit that could not be synced, and is there after a crash
            self._unsure = lease
            with contextlib.suppress(StoreError):  # else before anything else is done
                self._resolve(lease)
            raise
        except StoreUnavailable:  # whether it took place is found out before anything else
            raise
        except StoreError:  # it did not take place; another delivery, or another worker, may do it
            self._stale = True
            raise
        except Exception:
            runner.rollback()
            raise
        except BaseException:  # interrupted: perhaps after all was committed
            staged = {output.staged for output in result.outputs}
            if not staged & {output.staged for output in self._queue.pending_outputs()}:
                runner.rollback()
            raise
        self._publish(runner, result)
        self._notify(lease, result)

    def _publish(self, runner: Runner, result: BatchResult) -> None:
        """Publish what is committed; what cannot be now is by whoever looks for it next."""
        try:
            runner.publish()
        except OSError as error:
            log.warning("worker %s: output cannot be published yet: %s", self.name, error)
            return
        if result.outputs:
            with contextlib.suppress(StoreError):  # the batch is done; who registers next does it
                self._queue.mark_published(result.outputs)
            self._loaders.wake()
            if self._compaction and self._slot == 0:
                self._compaction.note_outputs(len(result.outputs))

    def _dead_letter(
        self,
        lease: Lease,
        code: str,
        message: str,
        *,
        readable: bool = True,
        processor: str = INPUT,
    ) -> BatchResult:
        """Commit a batch as dead letters: one a record, or one in all if it cannot be read."""
        rows = None
        if readable:
            try:
                rows = records_of(batch_of(lease, self._files), self._files)
            except Exception as error:  # noqa: BLE001 - a bad batch never stops a worker
                code, message = "unreadable", f"{type(error).__name__}: {message_of(error)}"
        if rows is None and len(lease.batches) > 1:  # only one of them may be to blame
            self._queue.split(lease, [batch.parts(1) for batch in lease.batches])
            return BatchResult()
        result = all_dead(
            lease,
            code,
            message,
            rows,
            plan=self._pipeline.plan(),
            run=self._run,
            processor=processor,
        )
        self._queue.commit(lease, result)
        self._notify(lease, result)
        return result

    def _notify(self, lease: Lease, result: BatchResult) -> None:
        with contextlib.suppress(Exception):  # an observer changes nothing
            self._watch(lease, result)


def reclaim(queue: Queue, out: Path, files: FileSystem = DISK) -> list[str]:
    """Take back what dead workers of this machine had leased, and remove what they had staged.

    Returns:
        The tokens of the leases.
    """
    tokens = queue.reclaim()
    remove_staged(out, tokens, files)
    return tokens


def recover_outputs(queue: Queue, files: FileSystem = DISK) -> dict[str, str]:
    """Publish what is committed and not published; return what cannot be, and what to say of it."""
    pending, published = queue.pending_outputs(), []
    problems: dict[str, str] = {}
    for output in pending:
        try:
            publish_files([output], files)  # also one that is renamed, perhaps not durably
        except FileNotFoundError:
            continue
        except OSError as error:
            problems[output.final] = f"output {output.final!r} cannot be published yet: {error}"
        else:
            published.append(output)
    if published:
        queue.mark_published(published)
    with contextlib.suppress(OSError):  # who comes next tries again
        set_aside(queue, files)
    lost = lost_outputs(queue, files) if len(published) < len(pending) else ()
    return problems | {
        one.final: f"output {one.final!r} was committed and is lost, and so is {one.staged!r}; put "
        "it back from a copy, or process its lines again with another store; see etl check"
        for one in lost
    }


def lost_outputs(queue: Queue, files: FileSystem = DISK) -> list[Output]:
    """Return outputs that were committed and are there under neither of their names.

    Those of a store on a server may be on another machine: they are not known to be lost
    unless its output root is on this one.
    """
    lost = [one for one in queue.pending_outputs() if _is_lost(one, files)]
    if not lost:
        return []
    if queue.url.partition("://")[0] in POSTGRES:
        root = queue.output_root()
        if root is None or not files.exists(root):
            return []
    pending = set(queue.pending_outputs())  # without those that were published in the meantime
    return [one for one in lost if one in pending]


def _is_lost(output: Output, files: FileSystem) -> bool:
    # In this order: one that is published in the meantime is seen under one name or both.
    return not files.exists(Path(output.staged)) and not files.exists(Path(output.final))


def sweep(queue: Queue, out: Path) -> None:
    """Remove what was staged long ago by workers of which the store knows nothing any more."""
    pending = {output.staged for output in queue.pending_outputs()}
    remove_old_staged(out, queue.lease_tokens() | pending)
