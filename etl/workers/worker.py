"""Lease, run, commit; and what an operator may do to that from any process.

`Worker.run` is a coroutine (asyncio or trio) around synchronous work: batches
run in a thread, while heartbeats renew the lease. `start` and `stop` run it in
a background thread, for notebooks; `step` and `drain` do the work right here,
for tests and batch runs. `WorkerProcesses` runs several as processes, so that
a processor that kills its process takes only itself along.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import polars as pl

from etl.errors import (
    LeaseLost,
    PipelineError,
    ProcessorStop,
    SourceChanged,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UsageError,
    WorkerFailed,
)
from etl.execution.batch_run import Runner
from etl.execution.result_builder import fingerprint
from etl.pipeline.pipeline import Pipeline
from etl.pipeline.plan import INPUT
from etl.queue import Queue
from etl.records.batch import Lease, new_id
from etl.records.result import DEAD_LETTER_SCHEMA, BatchResult, FailureKind
from etl.settings import Settings
from etl.sinks.publish import publish_files, remove_staged

__all__ = ["Worker", "recover_outputs"]

SPLIT_AT = 3
"""The delivery at which a batch is no longer run but cut: it may be what kills workers."""


GIVE_UP_AT = 5
"""The delivery at which a single line is taken for what kills workers."""


IDLE_POLL_SECONDS = 0.05
"""Seconds between looks at the control values while nothing else changes."""


class Worker:
    """Takes batches from a queue through a pipeline until it is stopped.

    Args:
        queue: Where batches come from and outcomes go.
        pipeline: What they run through; may be changed while the worker runs.
        name: Shown in metrics and traces; by default host, process and a number.
        out: Folder that sinks write below.
        batch_lines: Small batches are taken together up to this many lines.
        interval: Seconds to wait after each batch; 0 for full speed.
        lease_seconds: How long a batch is ours if we die; renewed in time if not.
        run: Name of the run, kept with dead letters.
        drain: End once nothing waits.
        watch: Told of each batch that is committed, and what became of it.
    """

    def __init__(
        self,
        queue: Queue,
        pipeline: Pipeline,
        *,
        name: str | None = None,
        out: Path | str = "data/out",
        batch_lines: int = Settings.batch_lines,
        interval: float = 0.0,
        lease_seconds: float = Settings.lease_seconds,
        run: str = "",
        drain: bool = False,
        watch: Callable[[Lease, BatchResult], None] = lambda _lease, _outcome: None,
    ) -> None:
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{new_id()[-4:]}"
        self.batch_lines = batch_lines
        self.interval = interval
        self._queue = queue
        self._pipeline = pipeline
        self._out = Path(out)
        self._lease_seconds = lease_seconds
        self._run = run
        self._drain = drain
        self._watch = watch
        self._runner: Runner | None = None
        self._owner = 0
        self._lease: Lease | None = None
        self._asked_before = (0, 0)
        self._ready = threading.Event()
        self._took_over = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._stale = False  # states are those of the store only after it is asked again

    def __repr__(self) -> str:
        return f"<Worker {self.name} on {self._queue.url}>"

    @property
    def running(self) -> bool:
        """Whether `start` was called and the worker has not ended."""
        return self._thread is not None and self._thread.is_alive()

    def step(self) -> BatchResult | None:
        """Lease, run and commit one batch in this thread; return None if none waits."""
        with self._registered():
            return self._once()

    def drain(self) -> int:
        """Process until nothing waits that may be had, and return how many lines that was.

        Raises:
            ProcessorStop: If a processor, or the pipeline as it is now, has paused the queue.
        """
        lines = 0
        with self._registered():
            while True:
                outcome = self._once()
                if outcome is None:
                    break
                lines += outcome.done + outcome.filtered + outcome.dead
        if failure := self._queue.control().failure:
            raise ProcessorStop(failure)
        return lines

    def start(self) -> Worker:
        """Run in a background thread until `stop`; return this worker.

        Raises:
            PipelineError: If the pipeline cannot run.
        """
        self._pipeline.plan()
        if not self.running:
            self._failure = None
            self._stopping.clear()
            self._ready.clear()
            self._thread = threading.Thread(target=self._background, name=self.name, daemon=True)
            self._thread.start()
            self._ready.wait()
        return self

    def stop(self, timeout: float = 60.0) -> None:
        """End after the current batch, and wait for that.

        Raises:
            WorkerFailed: If the batch takes longer than `timeout` seconds.
            Exception: What ended the worker, if it had ended on its own.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise WorkerFailed(
                    f"worker {self.name!r} is still in its batch after {timeout:g} s; "
                    "it ends when the batch does"
                )
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def request_stop(self) -> None:
        """Ask for the end after the current batch, without waiting."""
        self._stopping.set()

    def _background(self) -> None:
        try:
            anyio.run(self.run)
        except BaseException as error:  # noqa: BLE001 - raised again by stop()
            self._failure = error
            self._ready.set()

    async def run(self) -> None:
        """Process batches until stopped, or, once a drain is asked for, until none waits.

        A store that cannot be reached is waited for, with growing pauses.
        """
        self._asked_before = self._asked()
        self._ready.set()
        with self._registered():
            await self._work()

    def _asked(self) -> tuple[int, int]:
        """Return how often workers were asked to drain and to stop."""
        control = self._queue.control()
        return control.drains, control.stops

    async def _work(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                ended, pause = await anyio.to_thread.run_sync(self._turn)
                failures = 0
            except StoreUnavailable:  # it says so itself
                failures = min(failures + 1, 8)
                ended, pause = False, min(5.0, 0.1 * 2**failures)
            except StoreError:
                failures += 1
                if failures > 8:
                    raise
                ended, pause = False, min(5.0, 0.1 * 2**failures)
            if ended:
                return
            if pause:
                await anyio.to_thread.run_sync(self._stopping.wait, pause, abandon_on_cancel=True)

    def _turn(self) -> tuple[bool, float]:
        """Do one batch, or wait for one; return whether to end, and seconds to pause."""
        since = self._queue.version()
        worked = self._once() is not None
        drains, stops = self._asked()
        draining = self._drain or drains > self._asked_before[0]
        if stops > self._asked_before[1] or (draining and not worked and self._queue.stats().idle):
            return True, 0.0
        if not worked:
            self._take_over()
            self._queue.wait(since, IDLE_POLL_SECONDS)
        return False, self.interval if worked else 0.0

    def _heartbeat(self) -> None:
        lease = self._lease
        self._queue.heartbeat(self.name)
        if lease:
            self._queue.renew(lease, seconds=self._lease_seconds)

    @contextlib.contextmanager
    def _registered(self) -> Iterator[None]:
        """Be known to the store, with a slot and a heartbeat."""
        if self._runner is not None:
            if self._owner != threading.get_ident():
                raise UsageError(
                    f"worker {self.name!r} works elsewhere at this moment; stop() it first, or "
                    "make another Worker"
                )
            yield
            return
        self._owner = threading.get_ident()
        try:
            self._runner = self._enter()
        except StoreUnavailable:  # the first turn enters, or the one after it
            self._stale = True
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(ended,), name="etl-heart", daemon=True)
        beat.start()
        try:
            yield
        finally:
            self._runner = None
            ended.set()
            beat.join()
            with contextlib.suppress(StoreUnavailable):  # it will be missed by its heartbeat
                self._queue.unregister(self.name)

    def _take_over(self) -> None:
        """About once a second, take back what workers that have died here held."""
        if time.monotonic() - self._took_over > 1.0:
            self._took_over = time.monotonic()
            remove_staged(self._out, self._queue.reclaim())

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(min(5.0, self._lease_seconds / 3)):
            with contextlib.suppress(StoreError, LeaseLost):
                self._heartbeat()

    def _enter(self) -> Runner:
        """Take a slot with its states, and finish what a killed worker left half done."""
        slot = self._queue.register(self.name)
        runner = Runner(
            self._pipeline,
            states=self._queue.states(slot),
            out=self._out,
            slot=slot,
            run=self._run,
        )
        recover_outputs(self._queue)
        return runner

    def _once(self) -> BatchResult | None:
        if self._stale:
            self._runner, self._stale = self._enter(), False
        lease = self._queue.lease(self.name, lines=self.batch_lines, seconds=self._lease_seconds)
        if lease is None:
            return None
        self._lease = lease
        try:
            return self._process(self._runner or self._enter(), lease)
        except LeaseLost:
            self._start_afresh(lease)
            return BatchResult()
        finally:
            self._lease = None

    def _start_afresh(self, lease: Lease) -> None:
        """After a sleep so long that our lease or slot went to another: take a new slot."""
        with contextlib.suppress(LeaseLost):
            self._queue.release(lease)
        self._runner = self._enter()

    def _process(self, runner: Runner, lease: Lease) -> BatchResult:
        if lease.deliveries >= SPLIT_AT and lease.lines > 1:
            self._queue.split(lease)
            return BatchResult()
        try:
            if lease.deliveries >= GIVE_UP_AT:
                lost = f"{lease.deliveries - 1} workers were lost while they had this line"
                return self._bury(lease, "worker_lost", lost)
            outcome = runner.run(lease.batch, token=lease.token)
        except (LeaseLost, StoreError):
            raise
        except SourceChanged as error:
            return self._bury_unread(lease, "source_changed", str(error))
        except (ProcessorStop, PipelineError) as error:
            runner.rollback()
            self._queue.pause(str(error), by="worker")
            self._queue.release(lease)
            return BatchResult()
        except Exception as error:  # noqa: BLE001 - a bad batch never stops a worker
            runner.rollback()
            return self._bury(lease, "error", f"{type(error).__name__}: {error}")
        except BaseException:
            runner.rollback()
            self._queue.release(lease)
            raise
        return self._commit(runner, lease, outcome)

    def _commit(self, runner: Runner, lease: Lease, outcome: BatchResult) -> BatchResult:
        try:
            self._queue.commit(lease, outcome)
        except LeaseLost:
            runner.rollback()
            raise
        except StoreFull:  # the batch is not to blame, so that this delivery does not count
            runner.rollback()
            with contextlib.suppress(StoreError, LeaseLost):
                self._queue.release(lease)
            raise
        except StoreError:  # it may have taken place: whoever works next will know
            self._stale = True
            raise
        except Exception:
            runner.rollback()
            raise
        except BaseException:  # interrupted: perhaps after all was committed
            staged = {output.staged for output in outcome.outputs}
            if not staged & {output.staged for output in self._queue.pending_outputs()}:
                runner.rollback()
            raise
        runner.publish()
        if outcome.outputs:
            self._queue.mark_published(outcome.outputs)
        self._tell(lease, outcome)
        return outcome

    def _bury(self, lease: Lease, code: str, message: str) -> BatchResult:
        """Dead-letter a whole lease without running it: a letter for each line."""
        try:
            rows = lease.batch.frame().drop("source")
        except Exception as error:  # noqa: BLE001 - what cannot even be read never stops a worker
            return self._bury_unread(lease, "unreadable", f"{type(error).__name__}: {error}")
        return self._dead(lease, code, message, rows, lines=1)

    def _bury_unread(self, lease: Lease, code: str, message: str) -> BatchResult:
        """Dead-letter a batch whose lines cannot be had: one letter for all of them."""
        if len(lease.batches) > 1:  # only one of them may be to blame
            self._queue.split(lease, parts=1)
            return BatchResult()
        rows = pl.DataFrame({"line": [message], "line_number": [lease.batches[0].first_line]})
        return self._dead(lease, code, message, rows, lines=lease.lines)

    def _dead(
        self, lease: Lease, code: str, message: str, rows: pl.DataFrame, *, lines: int
    ) -> BatchResult:
        """Commit a lease as dead; each row is a letter for so many lines."""
        dead_letters = rows.with_columns(
            failure=pl.lit(0, pl.UInt32),
            message=pl.lit(message),
            lines=pl.lit(lines, pl.Int64),
            attempts=pl.lit(max(1, lease.deliveries - 1), pl.Int64),
        )
        empty = pl.DataFrame(schema=DEAD_LETTER_SCHEMA)
        failure = FailureKind(fingerprint(INPUT, code), INPUT, code, "", "", (INPUT,))
        outcome = BatchResult(
            dead=lease.lines,
            dead_letters=pl.concat([empty, dead_letters], how="diagonal").select(empty.columns),
            failures=[failure],
            errors=[(INPUT, code, message, lease.lines, "dead")],
            version=self._pipeline.version,
            run=self._run,
        )
        self._queue.commit(lease, outcome)
        self._tell(lease, outcome)
        return outcome

    def _tell(self, lease: Lease, outcome: BatchResult) -> None:
        with contextlib.suppress(Exception):  # whoever watches changes nothing
            self._watch(lease, outcome)


def recover_outputs(queue: Queue) -> None:
    """Finish what killed workers had committed and not yet published."""
    pending_outputs = queue.pending_outputs()
    if pending_outputs:
        publish_files(one for one in pending_outputs if Path(one.staged).exists())
        queue.mark_published([one for one in pending_outputs if Path(one.final).exists()])
