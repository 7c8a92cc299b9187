"""`POST /v1/logs`: log records of OpenTelemetry, by OTLP over HTTP, in protobuf or JSON.

Answers are those of OTLP: an `ExportLogsServiceResponse` once the lines are durable, else a
`google.rpc.Status`; 429 and 503 are what a client tries again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from etl.errors import EtlError, UsageError
from etl.server.ingest import GROUPED, Block, Blocks, Ingest, Origin, read_origin, read_rest
from etl.server.problems import MEANINGS, Refused, refused_by
from etl.server.security import RequestLimits
from etl.sources.otlp import BadRecords, Exported, TooMuch, read_json, read_protobuf

PROTOBUF, JSON = "application/x-protobuf", "application/json"

EXPANDED = 4
"""How many times the longest body the text of its lines may have."""

REFUSALS: tuple[tuple[type[EtlError], int], ...] = (
    (BadRecords, 400),
    (TooMuch, 413),
    (UsageError, 501),
)
"""The status of what is wrong with a request, or with what reads it."""


async def _take_export(request: Request) -> Response:
    """Answer a request as OTLP says."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    ingest: Ingest = request.app.state.ingest
    try:
        exported = await _store(request, ingest, kind)
    except (ClientDisconnect, EtlError, HTTPException, RequestValidationError) as error:
        refused = refused_by(request, error)
        if refused.status_code not in (408, 413):
            await read_rest(request, ingest.limits)
        return _failed(refused, kind)
    return _answered(exported, kind, ingest.limits)


async def _store(request: Request, ingest: Ingest, kind: str) -> Exported:
    """Store the records of a request; return them, once they are durable."""
    if request.app.state.service.draining:
        raise Refused(503, "the server is draining; POST /resume lets it take records again")
    if kind not in (PROTOBUF, JSON):
        raise Refused(415, f"unknown Content-Type {kind!r}; send {PROTOBUF} or {JSON}")
    origin, key = read_origin(request, Origin(source="otlp"))
    body = await request.body()
    limits = ingest.limits
    read = partial(
        read_protobuf if kind == PROTOBUF else read_json,
        body,
        max_line=limits.line,
        max_text=EXPANDED * limits.otlp,
    )
    try:
        exported = read() if len(body) < GROUPED else await anyio.to_thread.run_sync(read)
    except EtlError as error:
        status = next((code for cause, code in REFUSALS if isinstance(error, cause)), 500)
        raise Refused(status, str(error)) from error
    if exported.text:
        await ingest.take(_one_block(exported.text, origin), origin, key)
    return exported


async def _one_block(text: bytes, origin: Origin) -> Blocks:
    yield Block(text, True, origin.options.context(modified=time.time()))


def _answered(exported: Exported, kind: str, limits: RequestLimits) -> Response:
    """Return the answer to records that were stored, but for some."""
    why = f"their lines would be longer than {limits.line:,} bytes; cut their bodies or attributes"
    if kind == JSON:
        partial_success = {"rejectedLogRecords": str(exported.rejected), "errorMessage": why}
        return JSONResponse({"partialSuccess": partial_success} if exported.rejected else {})
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as service

    answer = service.ExportLogsServiceResponse()
    if exported.rejected:
        answer.partial_success.rejected_log_records = exported.rejected
        answer.partial_success.error_message = why
    return Response(answer.SerializeToString(), media_type=PROTOBUF)


def _failed(refused: Refused, kind: str) -> Response:
    """Return the answer to a request that is refused: a Status, in the request's encoding."""
    # 507 is not among what a client of OTLP tries again
    status = 503 if refused.status_code == 507 else refused.status_code
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    headers |= dict(refused.headers or {})
    if kind == PROTOBUF:
        try:
            from google.rpc.status_pb2 import Status
        except ModuleNotFoundError:
            kind = JSON
        else:
            content = Status(message=refused.detail).SerializeToString()
            return Response(content, status, headers, PROTOBUF)
    return JSONResponse({"message": refused.detail}, status, headers)


class _Direct(APIRoute):
    """A route whose declaration is for OpenAPI only: bodies are protobuf, too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that answers a request."""
        return _take_export


STATUS_SCHEMA = {
    "type": "object",
    "properties": {"message": {"type": "string"}},
    "required": ["message"],
}
MEDIA_TYPES = {JSON: {"schema": STATUS_SCHEMA}, PROTOBUF: {"schema": {"type": "string"}}}

RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"description": MEANINGS[code], "content": MEDIA_TYPES}
    for code in (400, 408, 409, 413, 415, 422, 429, 501, 503)
}
RESPONSES[200] = {
    "description": "Stored; `partialSuccess` says how many records were not.",
    "content": {
        JSON: {"schema": {"type": "object", "properties": {"partialSuccess": {"type": "object"}}}},
        PROTOBUF: {"schema": {"type": "string"}},
    },
}

router = APIRouter(tags=["ingest"], route_class=_Direct)


@router.post(
    "/v1/logs",
    responses=RESPONSES,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": {
                        "type": "object",
                        "properties": {"resourceLogs": {"type": "array"}},
                    },
                    "example": {
                        "resourceLogs": [
                            {
                                "scopeLogs": [
                                    {"logRecords": [{"body": {"stringValue": "ready"}}]},
                                ]
                            }
                        ]
                    },
                },
                PROTOBUF: {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
)
async def post_otlp_logs() -> None:
    """Store log records that OpenTelemetry sends by OTLP/HTTP, and answer once they are durable.

    Each record is a line; its time, severity, body, attributes, resource, scope, trace and span
    are columns of it (format `otlp`). It needs `pip install -e '.[otlp]'`.
    """
