"""The ASGI application: the HTTP endpoints of one store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

import etl
from etl.server import control, events, ingest, observe, otlp, pages
from etl.server.models import ProblemDetail
from etl.server.problems import handle_problems
from etl.server.security import RequestLimits, SecurityMiddleware
from etl.server.service import Service

__all__ = ["create_app"]

ABOUT = """Log lines through a durable queue, a pipeline and a dead-letter queue.

Times are Unix seconds. A request that is refused is answered with a `ProblemDetail`. If the
server has a token, send it as `Authorization: Bearer TOKEN`.
"""


class _Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI schema; every endpoint refers to `ProblemDetail`."""
        schema = super().openapi()
        schema["components"]["schemas"]["ProblemDetail"] = ProblemDetail.model_json_schema()
        return schema


def create_app(
    service: Service,
    *,
    hosts: Iterable[str] = (),
    token: str | None = None,
    limits: RequestLimits | None = None,
) -> ASGIApp:
    """Return an ASGI application over a store.

    Args:
        service: The store and its log; blocking calls to it are made in threads.
        hosts: Names in the Host header that are accepted.
        token: The token that clients must send, or None.
        limits: What a request may cost.
    """
    limits = limits or RequestLimits()
    api = _Api(
        title="etl",
        version=etl.__version__,
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    api.state.service = service
    api.state.ingest = ingest.Ingest(service.queue, limits, service.log)
    for part in (ingest, otlp, observe, control, events, pages):
        api.include_router(part.router)
    api.mount("/assets", pages.ASSETS)
    handle_problems(api)
    return SecurityMiddleware(api, hosts=hosts, token=token, limits=limits)
