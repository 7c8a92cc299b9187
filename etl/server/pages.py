"""The HTML pages: a front page, and the API's documentation with assets of this server."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from html import escape

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from etl.queue import identity
from etl.server.security import CONTENT_POLICY
from etl.server.service import CurrentService

__all__ = ["ASSETS", "router"]

router = APIRouter(include_in_schema=False)

ASSETS = StaticFiles(packages=[("fastapi_swagger", "resources")])
"""Swagger UI's files, which are served under `/assets`."""

DOCS = get_swagger_ui_html(
    openapi_url="/openapi.json",
    title="etl: API",
    swagger_js_url="/assets/swagger-ui-bundle.js",
    swagger_css_url="/assets/swagger-ui.css",
    swagger_favicon_url="data:,",
).body
INLINE_SCRIPT = bytes(DOCS).partition(b"<script>")[2].partition(b"</script>")[0]
DOCS_POLICY = (
    f"{CONTENT_POLICY}; connect-src 'self'; "
    f"script-src 'self' 'sha256-{b64encode(hashlib.sha256(INLINE_SCRIPT).digest()).decode()}'"
)

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; }
pre { overflow-x: auto; }
"""


@router.get("/")
def front(request: Request, service: CurrentService) -> HTMLResponse:
    """Return the front page: the store's totals, and the endpoints."""
    stats = service.queue.stats()
    rows = "".join(
        f"<tr><td>{method.upper()}</td><td>{_link(method, path)}</td>"
        f"<td>{escape(about['description'].splitlines()[0])}</td></tr>"
        for path, methods in request.app.openapi()["paths"].items()
        for method, about in methods.items()
    )
    store, here = escape(service.queue.url), escape(str(request.base_url))
    return HTMLResponse(f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>etl</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<link rel="stylesheet" href="/style.css"></head><body>
<h1>etl</h1>
<p>This server stores log lines in a durable queue, shows how they are processed, and controls
the workers that process them.</p>
<p><strong>{identity(stats.totals())}{" · paused" if stats.paused else ""}</strong></p>
<table><tr><th></th><th>endpoint</th><th>what it does</th></tr>{rows}</table>
<p>With parameters and examples: <a href="/docs">the API</a>, also as
<a href="/openapi.json">OpenAPI</a>.</p>
<p>The control room, with charts and buttons: <code>etl app --store {store}</code>
as a web page, <code>etl lab</code> in JupyterLab.</p>
<pre>curl {here}logs -H 'Content-Type: text/plain' -T app.log -X POST</pre>
</body></html>""")


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Return FastAPI's documentation page; its own script may run, and no other."""
    return HTMLResponse(DOCS, headers={"content-security-policy": DOCS_POLICY})


@router.get("/style.css")
async def style() -> Response:
    """Return the front page's style sheet."""
    return Response(STYLE, media_type="text/css")


def _link(method: str, path: str) -> str:
    if method == "get" and "{" not in path:
        return f'<a href="{path}">{path}</a>'
    return f"<code>{escape(path)}</code>"
