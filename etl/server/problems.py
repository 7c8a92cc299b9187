"""Refusals: a status and a sentence, as problem details by RFC 9457.

The sentence names the thing, the value found and the next step. It is in `detail`, and for
scripts in `error`; `accepted` is the number of lines that were stored all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from etl.errors import (
    EtlError,
    IncompatibleStore,
    QueueFull,
    SourceLocked,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UsageError,
)
from etl.server.models import ProblemDetail

__all__ = ["PROBLEMS", "ProblemResponse", "Refused", "handle_problems", "refusal", "refused_by"]

ANSWERS: tuple[tuple[type[EtlError], int, str], ...] = (
    (QueueFull, 429, ""),
    (SourceLocked, 409, "another request with this Idempotency-Key is in progress; try again"),
    (StoreFull, 507, "the store has no room left, or its disk cannot be written; {log}"),
    (StoreUnavailable, 503, "the store cannot be reached at this moment; try again, {log}"),
    (IncompatibleStore, 503, "the store is of another version of etl; {log}"),
    (StoreError, 503, "the store cannot be used; {log}"),
    (UsageError, 422, ""),
)
"""The status of an error and what clients are told of it, by the first class that matches.

An empty text stands for the error's own, which says nothing but what the request asked for. All
others may name files, hosts and statements: those are for the log of this server only.
"""

LOG = "the log of the server says more"

UNKNOWN = "internal error; the log says more"

MEANINGS = {
    400: "Bad request: the request cannot be read.",
    401: "Unauthorized: the token is missing or wrong.",
    403: "Forbidden: a page of another site sent the request.",
    404: "Not found.",
    408: "Timeout: the body arrived too slowly.",
    409: "Conflict: the state has changed since.",
    413: "Too large: a line or the body is too long.",
    415: "Unsupported type: the body has a type or an encoding that is not accepted.",
    421: "Wrong server: the Host header names another server.",
    422: "Invalid: a parameter or the body is not valid.",
    429: "Queue full: try again after `Retry-After` seconds.",
    501: "Not installed: what reads such a body is not there.",
    503: "Unavailable: try again after `Retry-After` seconds.",
    507: "Disk full: the store has no room left.",
}

MEDIA_TYPE = "application/problem+json"

PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {
        "description": text,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetail"}}},
    }
    for code, text in MEANINGS.items()
}
"""The refusals for OpenAPI, by status."""

RETRY = (429, 503)
RETRY_AFTER = "1"
"""Seconds; workers take a batch in less."""


class Refused(HTTPException):
    """A request that is refused, or of which only the first `accepted` lines are stored."""

    def __init__(
        self,
        status_code: int,
        detail: str,
        *,
        accepted: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        retry = {"Retry-After": RETRY_AFTER} if status_code in RETRY else {}
        super().__init__(status_code, detail, retry | dict(headers or {}))
        self.accepted = accepted


class ProblemResponse(JSONResponse):
    """The answer to a request that is refused."""

    media_type = MEDIA_TYPE

    def __init__(self, refused: Refused) -> None:
        problem = ProblemDetail(
            title=HTTPStatus(refused.status_code).phrase,
            status=refused.status_code,
            detail=refused.detail,
            error=refused.detail,
            accepted=refused.accepted,
        )
        super().__init__(problem.model_dump(), refused.status_code, refused.headers)


def refusal(error: Exception, *, accepted: int = 0) -> Refused:
    """Return the refusal for an error; one that is not ours reveals nothing of itself."""
    match error:
        case Refused():
            return Refused(error.status_code, error.detail, accepted=accepted or error.accepted)
        case HTTPException():
            return Refused(
                error.status_code, error.detail, accepted=accepted, headers=error.headers
            )
        case RequestValidationError():
            found = [
                f"{'.'.join(map(str, one['loc'][1:] or one['loc']))}: {one['msg']}"
                for one in error.errors()[:3]
            ]
            return Refused(422, "; ".join(found))
        case ClientDisconnect():
            return Refused(400, "the client closed the connection")
        case EtlError():
            status, text = told(error)
            return Refused(status, text, accepted=accepted)
    return Refused(500, UNKNOWN)


def refused_by(request: Request, error: Exception) -> Refused:
    """Return the refusal for an error, and log what it does not tell of one of ours."""
    refused = refusal(error)
    cause = error.__cause__ if isinstance(error, Refused) else error
    if isinstance(cause, EtlError) and refused.detail != str(cause):
        request.app.state.service.log_error(cause)
    return refused


def told(error: EtlError) -> tuple[int, str]:
    """Return the status of an error, and what may be told of it to anyone who asks."""
    for kind, status, text in ANSWERS:
        if isinstance(error, kind):
            return status, text.format(log=LOG) or str(error)
    return 500, UNKNOWN


def handle_problems(app: FastAPI) -> None:
    """Make an application answer every error with a `ProblemDetail`, and log those of ours."""

    async def answer(request: Request, error: Exception) -> ProblemResponse:
        return ProblemResponse(refused_by(request, error))

    for kind in (ClientDisconnect, EtlError, Exception, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, answer)
