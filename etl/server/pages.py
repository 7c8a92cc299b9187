"""Two plain HTML pages, without any outside asset: what this is, and what can be asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from etl.queue import TOTALS
from etl.server.service import CurrentService

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem;
       color: #1d2530; background: #fff; }
code, pre { font: 14px/1.4 ui-monospace, monospace; background: #eef1f4; border-radius: 4px; }
code { padding: 0 .25rem; } pre { padding: .5rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
         border-bottom: 1px solid #d5dbe1; }
a { color: #0b57a4; }
@media (prefers-color-scheme: dark) {
  body { color: #dce3ea; background: #14181d; } code, pre { background: #242b33; }
  td, th { border-color: #353e48; } a { color: #7db8f2; }
}
"""


@router.get("/")
def front(request: Request, service: CurrentService) -> HTMLResponse:
    """Say what this is and where to go."""
    stats = service.queue.stats()
    law = " + ".join(f"{getattr(stats, name):,} {name}" for name in TOTALS[1:])
    rows = "".join(
        f"<tr><td>{method}</td><td>{_link(method, path)}</td>"
        f"<td>{escape(about['description'].splitlines()[0])}</td></tr>"
        for method, path, about in _operations(request)
    )
    store, here_url = escape(service.queue.url), escape(str(request.base_url))
    body = f"""
<h1>etl</h1>
<p>Log lines through a durable queue, a pipeline and a dead-letter queue. This server takes
lines, shows what became of them, and lets you steer.</p>
<p><strong>{stats.accepted:,} accepted = {law}{" · paused" if stats.paused else ""}</strong></p>
<table><tr><th></th><th>endpoint</th><th>what it does</th></tr>{rows}</table>
<p>All of it with parameters and examples: <a href="/docs">the API</a>, as
<a href="/openapi.json">OpenAPI</a>.</p>
<p>The control room, with charts and buttons: <code>etl app --store {store}</code>
as a web page, <code>etl lab</code> in JupyterLab.</p>
<pre>curl {here_url}logs -H 'Content-Type: text/plain' -T app.log -X POST</pre>
"""
    return _page("etl", body)


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """List every endpoint with its parameters, answers and examples."""
    schema = request.app.openapi()
    parts = [_section(schema, *operation) for operation in _operations(request)]
    return _page("etl: the API", '<p><a href="/">etl</a></p><h1>The API</h1>' + "".join(parts))


@router.get("/style.css")
async def style() -> Response:
    """Return how both pages look."""
    return Response(STYLE, media_type="text/css")


def _page(title: str, body: str) -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f'<link rel="stylesheet" href="/style.css"></head><body>{body}</body></html>'
    )


def _operations(request: Request) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in request.app.openapi()["paths"].items():
        for method, about in methods.items():
            yield method.upper(), path, about


def _link(method: str, path: str) -> str:
    if method == "GET" and "{" not in path:
        return f'<a href="{path}">{path}</a>'
    return f"<code>{escape(path)}</code>"


def _section(schema: dict[str, Any], method: str, path: str, about: dict[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{escape(one['name'])}</code></td><td>{one['in']}</td>"
        f"<td>{escape(one.get('description', ''))}</td></tr>"
        for one in about.get("parameters", ())
    )
    answers = "".join(
        f"<tr><td>{code}</td><td>{escape(answer['description'])}</td></tr>"
        for code, answer in about["responses"].items()
    )
    examples = "".join(f"<pre>{escape(text)}</pre>" for text in _examples(schema, about))
    return (
        f"<h2><code>{method} {escape(path)}</code></h2><p>{escape(about['description'])}</p>"
        f"<table>{parameters}</table>{examples}<table>{answers}</table>"
    )


def _examples(schema: dict[str, Any], about: dict[str, Any]) -> Iterator[str]:
    """Yield examples of what is sent and of what is answered."""
    for kind, content in about.get("requestBody", {}).get("content", {}).items():
        for example in content.get("examples", {}).values():
            yield f"{kind}\n{json.dumps(example['value'], ensure_ascii=False)}"
        if "example" in content:
            yield f"{kind}\n{content['example']}"
        yield from _of_model(schema, content.get("schema", {}), kind)
    for code in ("200", "202"):
        for kind, content in about["responses"].get(code, {}).get("content", {}).items():
            yield from _of_model(schema, content.get("schema", {}), f"{code} {kind}")


def _of_model(schema: dict[str, Any], place: dict[str, Any], title: str) -> Iterator[str]:
    name = place.get("$ref", "").rpartition("/")[2]
    model = schema["components"]["schemas"].get(name, {})
    for example in model.get("examples", ())[:1]:
        yield f"{title}\n{json.dumps(example, indent=2, ensure_ascii=False)}"
