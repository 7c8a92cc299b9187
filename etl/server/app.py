"""The application: a store, and everything that can be asked of it over HTTP."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import FastAPI
from starlette.types import ASGIApp

import etl
from etl.server import control, ingest, observe, pages
from etl.server.problems import handle_problems
from etl.server.security import RequestLimits, SecurityMiddleware
from etl.server.service import Service

__all__ = ["create_app"]

ABOUT = """Log lines through a durable queue, a pipeline and a dead-letter queue.

Times are Unix seconds. Refusals are `{"error": "…"}`. If the server has a token, show it as
`Authorization: Bearer …`.
"""


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
        hosts: Names in the Host header that are taken for ours.
        token: What clients must show, or None.
        limits: What a request may cost.
    """
    limits = limits or RequestLimits()
    api = FastAPI(
        title="etl",
        version=etl.__version__,
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    api.state.service = service
    api.state.ingest = ingest.Ingest(service.queue, limits, service.log)
    for part in (ingest, observe, control, pages):
        api.include_router(part.router)
    handle_problems(api)
    return SecurityMiddleware(api, hosts=hosts, token=token, limits=limits)
