"""What can be asked of a store: everything here only reads.

Endpoints are plain functions: FastAPI runs them in threads, so that reading the store holds
up no other request. Lists begin with the newest row; `offset` counts from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from etl.analysis.metrics import processors, rates
from etl.analysis.traces import traces
from etl.queue import DeadLetterFilter, Stats
from etl.server.models import (
    DeadLetter,
    DeadLetterId,
    ErrorRow,
    Group,
    Health,
    History,
    Name,
    Page,
    QueueNow,
    StatsNow,
    TraceRow,
    WorkerRow,
)
from etl.server.problems import PROBLEMS, Refused
from etl.server.prometheus import StoreCollector
from etl.server.service import CurrentService
from etl.settings import Settings

__all__ = ["router"]

MAX_ROWS = 500
MAX_OFFSET = 10_000
MAX_SHOWN_LENGTH = 2_000
"""Characters of a line in a list; `GET /dlq/{id}` shows all of it."""

router = APIRouter(responses={code: PROBLEMS[code] for code in (401, 421, 422, 503)})

Limit = Annotated[int, Query(ge=1, le=MAX_ROWS, description="Rows, at most.")]
Offset = Annotated[int, Query(ge=0, le=MAX_OFFSET, description="Rows that are passed over.")]
Processor = Annotated[Name | None, Query(description="Only of this processor.")]
Worker = Annotated[Name | None, Query(description="Only of this worker.")]
Source = Annotated[Name | None, Query(description="Only of this source.")]
Fingerprint = Annotated[Name | None, Query(description="Only this kind of failure.")]
Status = Annotated[
    Literal["open", "replaying", "replayed", "discarded", "any"], Query(description="What became.")
]


@router.get("/stats", tags=["observe"], response_model=StatsNow)
def stats(
    service: CurrentService,
    *,
    processor: Processor = None,
    worker: Worker = None,
    by_worker: Annotated[bool, Query(description="A row per worker and processor.")] = False,
) -> Any:
    """Live metrics: totals, rates, and a row per processor."""
    rows = processors.polars(service.queue, by_worker=by_worker or worker is not None).to_dicts()
    found = _having(rows, processor=processor, worker=worker)
    return _totals(service.queue.stats()) | rates(service.queue) | {"processors": found}


@router.get("/trace", tags=["observe"])
def trace(
    service: CurrentService,
    *,
    limit: Limit = 100,
    offset: Annotated[int, Query(ge=0, le=Settings.kept_traces)] = 0,
    processor: Annotated[Name | None, Query(description="Only lines that passed it.")] = None,
    state: Literal["done", "filtered", "dead"] | None = None,
    worker: Worker = None,
    source: Source = None,
) -> Page[TraceRow]:
    """The paths of the last lines, with the time at each hop; the last 1,000 are kept."""
    last = traces.polars(service.queue).reverse().to_dicts()
    rows = _having(last, state=state, worker=worker, source=source)
    if processor is not None:
        rows = [row for row in rows if processor in row["path"]]
    return _page(TraceRow, rows, limit, offset)


@router.get("/errors", tags=["observe"])
def errors(
    service: CurrentService,
    *,
    limit: Limit = 100,
    offset: Offset = 0,
    processor: Processor = None,
    worker: Worker = None,
    action: Literal["dead", "dropped", "retried"] | None = None,
) -> Page[ErrorRow]:
    """The last errors, whatever became of their lines; 1,000 are kept."""
    rows = service.queue.read("errors")[::-1]
    found = _having(rows, processor=processor, worker=worker, action=action)
    return _page(ErrorRow, found, limit, offset)


@router.get("/queue", tags=["observe"], response_model=QueueNow)
def queue(
    service: CurrentService, limit: Limit = 100, offset: Offset = 0, source: Source = None
) -> Any:
    """The totals, and the lines that wait, the oldest first; a source's among the first 10,000."""
    now = service.queue.stats()
    seen = service.queue.peek(MAX_OFFSET if source else offset + limit + 1)
    rows = _having(seen.to_dicts(), source=source)
    items = [_short(row) for row in rows[offset : offset + limit]]
    names = ("waiting_bytes", "waiting_batches", "leased_batches")
    own = {name: getattr(now, name) for name in names}
    return _totals(now) | own | {"items": items, "next": _next(rows, limit, offset)}


@router.get("/workers", tags=["observe"])
def workers(service: CurrentService, limit: Limit = 100, offset: Offset = 0) -> Page[WorkerRow]:
    """The workers that run, and the batch that each has."""
    return _page(WorkerRow, service.queue.read("workers"), limit, offset)


@router.get("/history", tags=["observe"], response_model=History)
def history(
    service: CurrentService,
    *,
    seconds: Annotated[int, Query(ge=1, le=3600, description="How far back.")] = 600,
    processor: Processor = None,
) -> Any:
    """The queue and the processors, second by second, oldest first; kept for an hour."""
    since = time.time() - seconds
    of_processors = _having(service.queue.read("processor_history"), processor=processor)
    return {
        "queue": _since(service.queue.read("queue_history", limit=seconds + 1), since),
        "processors": _since(of_processors, since),
    }


@router.get("/dlq", tags=["dead letters"])
def dead_letters(
    service: CurrentService,
    *,
    limit: Limit = 100,
    offset: Offset = 0,
    status: Status = "open",
    fingerprint: Fingerprint = None,
    processor: Processor = None,
    code: Annotated[Name | None, Query(description="Only with this code.")] = None,
    source: Source = None,
) -> Page[DeadLetter]:
    """The dead letters, the newest first; their lines are cut at 2,000 characters."""
    wanted = DeadLetterFilter(
        status=_status(status),
        fingerprint=fingerprint,
        processor=processor,
        code=code,
        source=source,
        limit=offset + limit + 1,
    )
    rows = service.queue.dead_letters(wanted)[::-1][offset:].to_dicts()
    items = [DeadLetter.model_validate(_short(_letter(row))) for row in rows[:limit]]
    return Page(items=items, next=_next(rows, limit, 0, start=offset))


@router.get("/dlq/groups", tags=["dead letters"])
def groups(
    service: CurrentService,
    *,
    limit: Limit = 100,
    offset: Offset = 0,
    status: Status = "open",
    processor: Processor = None,
    source: Source = None,
) -> Page[Group]:
    """The dead letters by kind of failure, the most frequent first."""
    wanted = DeadLetterFilter(status=_status(status), processor=processor, source=source)
    return _page(Group, service.queue.dead_letter_groups(wanted), limit, offset)


@router.get("/dlq/{id}", tags=["dead letters"], responses={404: PROBLEMS[404]})
def dead_letter(service: CurrentService, id: Annotated[DeadLetterId, Path()]) -> DeadLetter:
    """All that is known of one dead letter."""
    rows = service.queue.dead_letters(DeadLetterFilter(ids=[id], status=None)).to_dicts()
    if not rows:
        raise Refused(404, f"there is no dead letter {id}; GET /dlq lists them")
    return DeadLetter.model_validate(_letter(rows[0]))


@router.get(
    "/metrics",
    tags=["observe"],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def prometheus(service: CurrentService) -> Response:
    """The store's numbers for Prometheus, with labels queue, processor, worker."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StoreCollector(service.queue))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/healthz", tags=["health"])
async def healthz() -> Health:
    """Whether the server runs."""
    return Health(status="ok")


@router.get("/readyz", tags=["health"])
def readyz(service: CurrentService) -> Health:
    """Whether it can take lines: not while it drains, nor when the store cannot be written."""
    readiness_error = service.readiness_error()
    if readiness_error:
        raise Refused(503, f"not ready: {readiness_error}")
    return Health(status="ok")


def _totals(now: Stats) -> dict[str, Any]:
    more = {name: getattr(now, name) for name in ("conserved", "paused", "oldest_age")}
    return now.totals() | more


def _having(rows: Iterable[Mapping[str, Any]], **wanted: str | None) -> list[Any]:
    """Return the rows whose columns have the values that are given."""
    given = {name: value for name, value in wanted.items() if value is not None}
    return [row for row in rows if all(row[name] == value for name, value in given.items())]


def _since(rows: Iterable[Mapping[str, Any]], second: float) -> list[Any]:
    return [row for row in rows if row["second"] >= second]


def _page(model: Any, rows: Sequence[Any], limit: int, offset: int) -> Page[Any]:
    items = [model.model_validate(row) for row in rows[offset : offset + limit]]
    return Page(items=items, next=_next(rows, limit, offset))


def _next(rows: Sequence[Any], limit: int, offset: int, *, start: int = 0) -> int | None:
    return start + offset + limit if len(rows) > offset + limit else None


def _short(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"line": row["line"][:MAX_SHOWN_LENGTH]}


def _status(status: str) -> str | None:
    return None if status == "any" else status


def _letter(row: dict[str, Any]) -> dict[str, Any]:
    """Return a dead letter as it is shown."""
    raw, payload = row["raw"], row["payload"]
    return row | {
        "raw": raw.hex() if isinstance(raw, bytes) else None,
        "payload": json.loads(payload) if payload else None,
        "path": json.loads(row["path"]),
    }
