"""Endpoints that read a store.

They are plain functions, which FastAPI runs in threads, so that reading the store holds up no
other request. They return rows as dicts, which the response model checks. Lists begin with the
newest row; `offset` counts from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from etl.analysis.metrics import processors, rates
from etl.analysis.traces import traces
from etl.queue import DeadLetterFilter, Stats
from etl.records.columns import TOTALS, Table
from etl.server import models
from etl.server.models import DeadLetterId, Health, Name
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

Limit = Annotated[int, Query(ge=1, le=MAX_ROWS, description="The maximum number of rows.")]
Offset = Annotated[int, Query(ge=0, le=MAX_OFFSET, description="The number of rows to skip.")]
Processor = Annotated[Name | None, Query(description="Only of this processor.")]
Worker = Annotated[Name | None, Query(description="Only of this worker.")]
Source = Annotated[Name | None, Query(description="Only of this source.")]
Fingerprint = Annotated[Name | None, Query(description="Only failures of this kind.")]
Status = Annotated[
    Literal["open", "replaying", "replayed", "discarded", "any"],
    Query(description="Only with this status."),
]


@router.get("/stats", tags=["observe"], response_model=models.StatsNow)
def stats(
    service: CurrentService,
    *,
    processor: Processor = None,
    worker: Worker = None,
    by_worker: Annotated[bool, Query(description="A row per worker and processor.")] = False,
) -> Any:
    """The totals, the rates, and a row per processor."""
    rows = processors.polars(service.queue, by_worker=by_worker or worker is not None).to_dicts()
    found = _having(rows, processor=processor, worker=worker)
    totals = _values(service.queue.stats(), TOTALS, models.STATE)
    return totals | rates(service.queue) | {"processors": found}


@router.get("/trace", tags=["observe"], response_model=models.TracePage)
def trace(
    service: CurrentService,
    *,
    limit: Limit = 100,
    offset: Annotated[int, Query(ge=0, le=Settings.kept_traces)] = 0,
    processor: Annotated[Name | None, Query(description="Only lines that passed it.")] = None,
    state: Literal["done", "filtered", "dead"] | None = None,
    worker: Worker = None,
    source: Source = None,
) -> Any:
    """The paths of the last lines, with the time at each hop; the last 1,000 are kept."""
    last = traces.polars(service.queue).reverse().to_dicts()
    rows = _having(last, state=state, worker=worker, source=source)
    if processor is not None:
        rows = [row for row in rows if processor in row["path"]]
    return _page(rows, limit, offset)


@router.get("/errors", tags=["observe"], response_model=models.ErrorPage)
def errors(
    service: CurrentService,
    *,
    limit: Limit = 100,
    offset: Offset = 0,
    processor: Processor = None,
    worker: Worker = None,
    action: Literal["dead", "dropped", "retried"] | None = None,
) -> Any:
    """The last errors, also of lines that succeeded later; the last 1,000 are kept."""
    rows = service.queue.read("errors")[::-1]
    found = _having(rows, processor=processor, worker=worker, action=action)
    return _page(found, limit, offset)


@router.get("/queue", tags=["observe"], response_model=models.QueueNow)
def queue(
    service: CurrentService, limit: Limit = 100, offset: Offset = 0, source: Source = None
) -> Any:
    """The totals, and the waiting lines, the oldest first; of a source, among the first 10,000."""
    now = service.queue.stats()
    seen = service.queue.peek(MAX_OFFSET if source else offset + limit + 1)
    rows = _having(seen.to_dicts(), source=source)
    totals = _values(now, TOTALS, models.STATE, models.SIZES)
    return totals | _page(rows, limit, offset, show=_short)


@router.get("/workers", tags=["observe"], response_model=models.WorkerPage)
def workers(service: CurrentService, limit: Limit = 100, offset: Offset = 0) -> Any:
    """The workers that run, and the batch that each has leased."""
    return _page(service.queue.read("workers"), limit, offset)


@router.get("/history", tags=["observe"], response_model=models.History)
def history(
    service: CurrentService,
    *,
    seconds: Annotated[int, Query(ge=1, le=3600, description="How many seconds back.")] = 600,
    processor: Processor = None,
) -> Any:
    """The queue and the processors, second by second, oldest first; kept for an hour."""
    since = time.time() - seconds
    of_processors = _having(service.queue.read("processor_history"), processor=processor)
    return {
        "queue": _since(service.queue.read("queue_history", limit=seconds + 1), since),
        "processors": _since(of_processors, since),
    }


@router.get("/dlq", tags=["dead letters"], response_model=models.DeadLetterPage)
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
    before: Annotated[
        DeadLetterId | None, Query(description="Only with a lower id: the page after another.")
    ] = None,
) -> Any:
    """The dead letters, the newest first; their lines are cut at 2,000 characters."""
    wanted = DeadLetterFilter(
        status=_status(status),
        fingerprint=fingerprint,
        processor=processor,
        code=code,
        source=source,
        before=before,
        limit=limit + 1,
        skip=offset,
    )
    rows = service.queue.dead_letters(wanted)[::-1].to_dicts()
    items = [_short(_decoded(row)) for row in rows[:limit]]
    return {"items": items, "next": offset + limit if len(rows) > limit else None}


@router.get("/dlq/groups", tags=["dead letters"], response_model=models.GroupPage)
def groups(
    service: CurrentService,
    *,
    limit: Limit = 100,
    offset: Offset = 0,
    status: Status = "open",
    processor: Processor = None,
    source: Source = None,
) -> Any:
    """The dead letters by kind of failure, the most frequent first."""
    wanted = DeadLetterFilter(status=_status(status), processor=processor, source=source)
    return _page(service.queue.dead_letter_groups(wanted), limit, offset)


@router.get(
    "/dlq/{id}",
    tags=["dead letters"],
    response_model=models.DeadLetter,
    responses={404: PROBLEMS[404]},
)
def dead_letter(service: CurrentService, id: Annotated[DeadLetterId, Path()]) -> Any:
    """One dead letter, with the whole line."""
    rows = service.queue.dead_letters(DeadLetterFilter(ids=[id], status=None)).to_dicts()
    if not rows:
        raise Refused(404, f"there is no dead letter {id}; GET /dlq lists them")
    return _decoded(rows[0])


@router.get(
    "/metrics",
    tags=["observe"],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def prometheus(service: CurrentService) -> Response:
    """The store's numbers for Prometheus, with labels queue and processor."""
    registry = CollectorRegistry(auto_describe=False)
    ready = service.readiness_error() is None
    registry.register(StoreCollector(service.queue, ready=ready))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/healthz", tags=["health"])
async def healthz() -> Health:
    """Whether the server runs."""
    return Health(status="ok")


@router.get("/readyz", tags=["health"])
def readyz(service: CurrentService) -> Health:
    """Whether the server can take lines: not while it drains or the store cannot be written."""
    readiness_error = service.readiness_error()
    if readiness_error:
        raise Refused(503, f"not ready: {readiness_error}")
    return Health(status="ok")


def _values(stats: Stats, *tables: Table) -> dict[str, Any]:
    return {name: getattr(stats, name) for table in tables for name in table.names}


def _having(rows: Iterable[Mapping[str, Any]], **wanted: str | None) -> list[Any]:
    """Return the rows that have the values given; None matches any value."""
    given = {name: value for name, value in wanted.items() if value is not None}
    return [row for row in rows if all(row[name] == value for name, value in given.items())]


def _since(rows: Iterable[Mapping[str, Any]], second: float) -> list[Any]:
    return [row for row in rows if row["second"] >= second]


def _page(
    rows: Sequence[dict[str, Any]],
    limit: int,
    offset: int,
    *,
    show: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> dict[str, Any]:
    end = offset + limit
    items = [show(row) for row in rows[offset:end]]
    return {"items": items, "next": end if len(rows) > end else None}


def _short(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"line": row["line"][:MAX_SHOWN_LENGTH]}


def _status(status: str) -> str | None:
    return None if status == "any" else status


def _decoded(row: dict[str, Any]) -> dict[str, Any]:
    """Return a dead letter with its bytes in hex, and its JSON columns as values."""
    return row | {
        "raw": row["raw"] and row["raw"].hex(),
        "payload": json.loads(row["payload"]) if row["payload"] else None,
        "path": json.loads(row["path"]),
    }
