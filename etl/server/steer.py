"""What changes a store: pause, resume, drain; replay and discard dead letters."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter

from etl.dlq import DeadLetters
from etl.errors import UsageError
from etl.server.models import Control, Discard, DiscardAnswer, Replay, ReplayAnswer
from etl.server.problems import PROBLEMS, Refused
from etl.server.service import Here, Service

__all__ = ["router"]

CODES = (400, 401, 403, 408, 409, 413, 415, 421, 422, 503, 507)

router = APIRouter(responses={code: PROBLEMS[code] for code in CODES})


@router.post("/pause", tags=["steer"])
def pause(here: Here) -> Control:
    """Let no worker take another batch, wherever it runs; lines are still stored."""
    here.pause()
    return _control(here)


@router.post("/resume", tags=["steer"])
def resume(here: Here) -> Control:
    """Let workers take batches again, and this server lines."""
    here.resume()
    return _control(here)


@router.post("/drain", tags=["steer"])
def drain(here: Here) -> Control:
    """Take no more lines here, and let the workers end once nothing waits."""
    here.drain()
    return _control(here)


@router.post("/dlq/replay", tags=["dead letters"])
def replay(here: Here, wanted: Replay) -> ReplayAnswer:
    """Put open dead letters back into the queue, all or none."""
    letters = DeadLetters(here.queue)
    count = _do(wanted, lambda: letters.replay(force=wanted.force, **wanted.which))
    here.log.info("replayed", lines=count)
    return ReplayAnswer(replayed=count)


@router.post("/dlq/discard", tags=["dead letters"])
def discard(here: Here, wanted: Discard) -> DiscardAnswer:
    """Close open dead letters for good, all or none."""
    letters = DeadLetters(here.queue)
    count = _do(wanted, lambda: letters.discard(**wanted.which))
    here.log.info("discarded", lines=count)
    return DiscardAnswer(discarded=count)


def _control(here: Service) -> Control:
    return Control(paused=here.queue.control().paused, draining=here.draining)


def _do(wanted: Discard, change: Callable[[], int]) -> int:
    """Do it if it says which letters; tell that they are not as it believes."""
    if bool(wanted.which) == wanted.all:
        raise Refused(
            422, "which dead letters? give ids, fingerprint, processor, code or source; or all"
        )
    try:
        return change()
    except UsageError as error:
        raise Refused(409, str(error)) from error
