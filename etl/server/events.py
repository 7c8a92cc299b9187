"""`GET /events`: server-sent events for pages that show a store live.

    server      {"version"}: once, at the beginning
    overview    what `etl.analysis.overview` returns: at most four a second, at least one a second
    problem     {"error"}: why the store cannot be read now; the next overview may follow

It is read with `fetch`, since a page's EventSource cannot send the token.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

import etl
from etl.errors import UsageError
from etl.server.feed import Feed, message
from etl.server.problems import ProblemResponse, Refused
from etl.server.security import still_reads
from etl.server.service import CurrentService

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


@router.get("/events")
async def events(
    service: CurrentService, seconds: Literal["120", "900", "3600"] = "120"
) -> Response:
    """What the store looks like, with so many seconds of history, whenever it has changed."""
    return _EventStream(service.feed, int(seconds))


class _EventStream(Response):
    """The messages of a feed, until the client goes, stops reading, or the server ends."""

    def __init__(self, feed: Feed, seconds: int) -> None:
        super().__init__()
        self._feed = feed
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._feed.view(self._seconds) as news:

                async def texts() -> AsyncIterator[str]:
                    yield message("server", {"version": etl.__version__})
                    async for text in news:
                        if not still_reads(scope):
                            break
                        yield text

                stream = StreamingResponse(texts(), media_type="text/event-stream")
                await stream(scope, receive, send)
        except UsageError as error:
            await ProblemResponse(Refused(503, str(error)))(scope, receive, send)
