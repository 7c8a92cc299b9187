"""Endpoints that change a store: pause, resume, drain; replay, discard and reopen dead letters."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter

from etl.dlq.dead_letters import DeadLetters
from etl.errors import UsageError
from etl.queue import DeadLetterFilter, Queue
from etl.server.models import (
    MAX_IDS,
    Control,
    Discard,
    DiscardAnswer,
    Reopen,
    ReopenAnswer,
    Replay,
    ReplayAnswer,
)
from etl.server.problems import PROBLEMS, Refused
from etl.server.service import CurrentService, Service

__all__ = ["router"]

CODES = (400, 401, 403, 408, 409, 413, 415, 421, 422, 503, 507)

router = APIRouter(responses={code: PROBLEMS[code] for code in CODES})


@router.post("/pause", tags=["control"])
def pause(service: CurrentService) -> Control:
    """Pause all workers of the store, on every machine; lines are still stored."""
    service.pause()
    return _control(service)


@router.post("/resume", tags=["control"])
def resume(service: CurrentService) -> Control:
    """Resume all workers, and let this server take lines again."""
    service.resume()
    return _control(service)


@router.post("/drain", tags=["control"])
def drain(service: CurrentService) -> Control:
    """Stop taking lines here, and let the workers end when the queue is empty."""
    service.drain()
    return _control(service)


@router.post("/dlq/replay", tags=["dead letters"])
def replay(service: CurrentService, wanted: Replay) -> ReplayAnswer:
    """Put open dead letters back into the queue, all or none."""
    dead_letters = DeadLetters(service.queue)
    count = _change(wanted, lambda: dead_letters.replay(force=wanted.force, **wanted.which))
    service.log.info("replayed", lines=count)
    return ReplayAnswer(replayed=count)


@router.post("/dlq/discard", tags=["dead letters"])
def discard(service: CurrentService, wanted: Discard) -> DiscardAnswer:
    """Discard open dead letters, all or none; they still count as dead."""
    dead_letters = DeadLetters(service.queue)
    ids = wanted.ids or _ids(service.queue, wanted)
    which = wanted.which if ids is None else {**wanted.which, "ids": ids}
    count = _change(wanted, lambda: dead_letters.discard(**which))
    service.log.info("discarded", lines=count)
    return DiscardAnswer(discarded=count, ids=ids)


@router.post("/dlq/reopen", tags=["dead letters"])
def reopen(service: CurrentService, wanted: Reopen) -> ReopenAnswer:
    """Open discarded dead letters again, all or none; those deleted since are not there."""
    dead_letters = DeadLetters(service.queue)
    count = _change(wanted, lambda: dead_letters.reopen(**wanted.which))
    service.log.info("reopened", lines=count)
    return ReopenAnswer(reopened=count)


def _control(service: Service) -> Control:
    return Control(paused=service.queue.control().paused, draining=service.draining)


def _ids(queue: Queue, wanted: Discard) -> list[int] | None:
    """Return the ids of what is wanted, so that it can be undone; None if they are too many."""
    found = queue.dead_letters(DeadLetterFilter(limit=MAX_IDS + 1, **wanted.which))
    return found["id"].to_list() if found.height <= MAX_IDS else None


def _change(wanted: Discard, change: Callable[[], int]) -> int:
    """Return the number of changed dead letters; refuse a request that does not select any."""
    if bool(wanted.which) == wanted.all:
        raise Refused(
            422, "which dead letters? give ids, fingerprint, processor, code or source; or all"
        )
    try:
        return change()
    except UsageError as error:
        raise Refused(409, str(error)) from error
