"""Ways to break the engine on purpose: a simulation that does not notice one is no proof."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import ANY, patch

from simulation.disk import Files

from etl.queue.writes import DatabaseQueue
from etl.workers.worker import Worker

__all__ = ["BROKEN"]


def published_before_the_commit() -> AbstractContextManager[object]:
    commit = Worker._commit

    def early(worker: Worker, runner: Any, lease: Any, result: Any) -> None:
        runner.publish()
        commit(worker, runner, lease, result)

    return patch.object(Worker, "_commit", early)


def leases_are_not_checked() -> AbstractContextManager[object]:
    return patch("etl.queue.writes._guard", lambda _rows, _lease: None)


def the_checkpoint_is_in_a_transaction_of_its_own() -> AbstractContextManager[object]:
    put = DatabaseQueue._try_put

    def twice(queue: Any, rows: Any, checkpoint: Any, expected: Any) -> Any:
        idle = put(queue, rows, None, "any")
        if checkpoint is not None:
            put(queue, [], checkpoint, expected)
        return idle

    return patch.object(DatabaseQueue, "_try_put", twice)


def files_are_not_synced() -> AbstractContextManager[object]:
    return patch.object(Files, "sync", lambda *_: None)


def an_answer_that_was_lost_is_taken_for_a_no() -> AbstractContextManager[object]:
    commit = Worker._commit

    def giving_up(worker: Worker, runner: Any, lease: Any, result: Any) -> None:
        from etl.errors import StoreError, StoreUnavailable

        try:
            commit(worker, runner, lease, result)
        except StoreUnavailable as error:
            runner.rollback()
            raise StoreError("it did not take place") from error

    return patch.object(Worker, "_commit", giving_up)


def what_killed_workers_committed_is_not_published() -> AbstractContextManager[object]:
    return patch("etl.workers.worker.recover_outputs", lambda *_: {})


def states_are_not_rolled_back() -> AbstractContextManager[object]:
    from etl.execution.batch_run import Runner

    def without_states(runner: Runner) -> None:
        for staged in runner._staged:
            staged.discard()
        runner._staged = []

    return patch.object(Runner, "rollback", without_states)


def checksums_are_not_looked_at() -> AbstractContextManager[object]:
    return patch("etl.records.batch.checksum_of_payload", lambda *_: ANY)


BROKEN: Mapping[str, Any] = {
    one.__name__: one
    for one in (
        published_before_the_commit,
        leases_are_not_checked,
        the_checkpoint_is_in_a_transaction_of_its_own,
        files_are_not_synced,
        an_answer_that_was_lost_is_taken_for_a_no,
        what_killed_workers_committed_is_not_published,
        states_are_not_rolled_back,
        checksums_are_not_looked_at,
    )
}
