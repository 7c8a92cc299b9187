"""How a refusal is told: a status, and one sentence that names the thing and the next step."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from etl.errors import EtlError, QueueFull, SourceLocked, StoreError, StoreFull, UsageError
from etl.server.models import ProblemDetail

__all__ = ["PROBLEMS", "Refused", "handle_problems", "refusal"]

STATUSES: tuple[tuple[type[EtlError], int], ...] = (
    (QueueFull, 429),
    (SourceLocked, 409),
    (StoreFull, 507),
    (StoreError, 503),
    (UsageError, 422),
)
"""The first that fits; any other error of ours is a 500."""

MEANINGS = {
    400: "The request cannot be read.",
    401: "The token is missing or wrong.",
    403: "A page of another site sent this.",
    404: "There is none.",
    408: "The body came too slowly.",
    409: "It is not as the request believes.",
    413: "A line or the body is too long.",
    415: "The body is of a kind that is not taken.",
    421: "The Host header names another server.",
    422: "The request asks for something that cannot be.",
    429: "The queue is full; try again after `Retry-After` seconds.",
    503: "Not now; try again after `Retry-After` seconds.",
    507: "The disk is full.",
}

PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": ProblemDetail, "description": text} for code, text in MEANINGS.items()
}
"""For OpenAPI, by status."""

RETRY = (429, 503)
RETRY_AFTER = "1"
"""Seconds; workers take a batch in less."""


class Refused(HTTPException):
    """A request that is not done, or only so far: `accepted` lines of it are stored."""

    def __init__(self, status_code: int, detail: str, *, accepted: int = 0) -> None:
        headers = {"Retry-After": RETRY_AFTER} if status_code in RETRY else None
        super().__init__(status_code, detail, headers)
        self.accepted = accepted


def refusal(error: HTTPException | EtlError, *, accepted: int = 0) -> Refused:
    """Return how an error is told to a client."""
    if isinstance(error, HTTPException):
        return Refused(error.status_code, error.detail, accepted=accepted)
    status = next((code for kind, code in STATUSES if isinstance(error, kind)), 500)
    text = str(error)
    if isinstance(error, SourceLocked):
        text = "another request with this Idempotency-Key is under way; try again"
    return Refused(status, text, accepted=accepted)


def handle_problems(app: FastAPI) -> None:
    """Answer all errors as a `ProblemDetail`; one that is not ours says nothing of itself."""

    async def on_problem(_request: Request, error: Exception) -> JSONResponse:
        known = isinstance(error, (HTTPException, EtlError))
        told = refusal(error) if known else Refused(500, "internal error; the log says more")  # type: ignore[arg-type]
        accepted = error.accepted if isinstance(error, Refused) else 0
        problem = ProblemDetail(error=told.detail, accepted=accepted)
        return JSONResponse(problem.model_dump(), told.status_code, told.headers)

    async def on_mistake(_request: Request, error: Exception) -> JSONResponse:
        mistakes = error.errors() if isinstance(error, RequestValidationError) else []
        told = [
            f"{'.'.join(map(str, one['loc'][1:] or one['loc']))}: {one['msg']}"
            for one in mistakes[:3]
        ]
        return JSONResponse(ProblemDetail(error="; ".join(told)).model_dump(), 422)

    async def on_hang_up(_request: Request, _error: Exception) -> JSONResponse:
        return JSONResponse(ProblemDetail(error="the client hung up").model_dump(), 400)

    app.add_exception_handler(ClientDisconnect, on_hang_up)
    app.add_exception_handler(HTTPException, on_problem)
    app.add_exception_handler(EtlError, on_problem)
    app.add_exception_handler(RequestValidationError, on_mistake)
    app.add_exception_handler(Exception, on_problem)
