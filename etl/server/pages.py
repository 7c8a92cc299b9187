"""The HTML pages: the dashboard, and the API's documentation, with assets of this server."""

from __future__ import annotations

import hashlib
from base64 import b64encode

from fastapi import APIRouter, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from etl.server.problems import Refused
from etl.server.security import CONTENT_POLICY
from etl.web import FOLDER

__all__ = ["ASSETS", "router"]

router = APIRouter(include_in_schema=False)

ASSETS = StaticFiles(packages=[("fastapi_swagger", "resources")])
"""Swagger UI's files, which are served under `/assets`."""

DASHBOARD_POLICY = f"{CONTENT_POLICY}; connect-src 'self'; script-src 'self'"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}

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


@router.get("/")
def dashboard() -> HTMLResponse:
    """Return the dashboard: a page without any data, which its script then asks for."""
    headers = {"content-security-policy": DASHBOARD_POLICY}
    return HTMLResponse((FOLDER / "dashboard.html").read_bytes(), headers=headers)


@router.get("/static/{name}")
def static(name: str) -> Response:
    """Return a script or a style sheet of the dashboard."""
    files = {path.name: path for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES}
    if name not in files:
        raise Refused(404, f"there is no file {name!r}; {', '.join(sorted(files))} are there")
    path = files[name]
    return Response(path.read_bytes(), media_type=MEDIA_TYPES[path.suffix])


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Return FastAPI's documentation page; its own script may run, and no other."""
    return HTMLResponse(DOCS, headers={"content-security-policy": DOCS_POLICY})
